"""A patient measured twice: what became of each tumour from scan to scan, and whether two measurements agree.

The livers are laid over each other by their centres. The later scan is shifted, never turned, stretched or
bent: between two breath-holds a liver does all of that by some mm, so that small tumours may lie beside
themselves. After a resection, a large swelling or where a scan cuts the liver off, its centre means nothing,
and nothing here tells (`liver_dice` falls).

RECIST 1.1 (Eisenhauer et al. 2009, doi:10.1016/j.ejca.2008.10.026) looks at the whole patient: up to five
targets in all organs, other lesions, lymph nodes, and every earlier scan. Here is arithmetic, no assessment:
two scans and one organ, at most two targets, as the rules allow an organ, and the earlier scan stands for the
smallest sum so far. Where tumours merged, the diameter of what they became is set against the sum of theirs;
where one fell apart, the diameters of its parts are added.

Agreement is that of Bland & Altman 1986, doi:10.1016/S0140-6736(86)90837-8, and 1999,
doi:10.1177/096228029900800204. Correlation is none: who outlines twice the volume correlates perfectly.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.ndimage import center_of_mass
from scipy.optimize import linear_sum_assignment
from scipy.sparse.csgraph import connected_components
from scipy.spatial.distance import cdist
from scipy.special import ndtri, stdtrit

from livseg_lib.errors import InputError
from livseg_lib.evaluation.statistics import SIGNIFICANT, bootstrap_interval, holm, sign_flip_test
from livseg_lib.labels import structure_mask
from livseg_lib.postprocessing.components import known_spacing, label_components, require_volumes
from livseg_lib.postprocessing.measures import measure_liver, measure_tumors

SHRUNK_TO, GROWN_TO, GROWN_BY_MM = 0.7, 1.2, 5.0
"""Part of the earlier sum for a partial response and for progression, which also needs some mm."""


class SizeResponse(NamedTuple):
    """What the arithmetic says, and of what."""

    category: str
    """"no tumour", "complete response", "partial response", "stable disease", "progressive disease", or where
    tumours remain of which none was a target "neither response nor progression"."""
    targets: tuple[int, ...]  # earlier ids of the tumours that are added up, largest first
    sum_before_mm: float
    sum_after_mm: float
    change: float  # of the sum, relative to the earlier one; NaN without targets
    n_new: int


def choose_targets(tumors: pd.DataFrame, slice_spacing_mm: float) -> tuple[int, ...]:
    """Ids of the up to two longest tumours of `measure_tumors` that can be measured: of 10 mm or more, and on
    slices of more than 5 mm of twice their thickness or more."""
    large = tumors[tumors.longest_diameter_mm >= max(10.0, 2 * slice_spacing_mm)]
    return tuple(large.sort_values("longest_diameter_mm", ascending=False).tumor.head(2).tolist())


def categorize(
    targets: tuple[int, ...], sum_before_mm: float, sum_after_mm: float, n_new: int, n_after: int
) -> SizeResponse:
    """The category of a sum of diameters before and after, of `n_new` new tumours and `n_after` in all."""
    change = sum_after_mm / sum_before_mm - 1 if targets else math.nan
    # Rounded, so that a sum on an edge is over it whatever its last digit says.
    grown_to_mm = max(GROWN_TO * sum_before_mm, sum_before_mm + GROWN_BY_MM)
    grown = round(sum_after_mm - grown_to_mm, 6) >= 0
    shrunk = round(sum_after_mm - SHRUNK_TO * sum_before_mm, 6) <= 0
    if n_new or (targets and grown):
        category = "progressive disease"
    elif n_after == 0:
        category = "complete response"
    elif not targets:
        category = "neither response nor progression"
    else:
        category = "partial response" if shrunk else "stable disease"
    return SizeResponse(category, targets, sum_before_mm, sum_after_mm, change, n_new)


def doubling_days(volume_before: float, volume_after: float, days: float) -> float:
    """Days in which a tumour doubles its volume, growing exponentially between two scans `days` apart.

    Schwartz 1961, doi:10.1002/1097-0142(196111/12)14:6<1272::AID-CNCR2820140618>3.0.CO;2-H. NaN where it
    did not grow, where it is new, and where `days` is unknown.
    """
    if not (0 < volume_before < volume_after and days > 0):
        return math.nan
    return days * math.log(2) / math.log(volume_after / volume_before)


SHARED = 0.1
"""Tumours are the same where they share at least this part of the smaller one: neighbours that just touch
after an alignment that is a few mm off do not."""

NEARBY_MM = 10.0
"""Tumours that share nothing with any other are the same where their centres lie at most so far apart."""

MOST_TUMORS = 2000
"""In one scan: matching takes seconds for so many, and its time grows with the cube of their number."""


class TumorGroup(NamedTuple):
    """Tumours, by their ids, that are the same lesion or lesions at both times."""

    before: tuple[int, ...]
    after: tuple[int, ...]

    @property
    def kind(self) -> str:
        """One to one "matched", several to one "merged", one to several "split", several each "regrouped", to
        none "vanished", from none "new"."""
        if not self.before or not self.after:
            return "vanished" if self.before else "new"
        one_before, one_after = len(self.before) == 1, len(self.after) == 1
        if one_before and one_after:
            return "matched"
        return "merged" if one_after else "split" if one_before else "regrouped"


class TimePoint(NamedTuple):
    """The outlined liver and tumours of one scan: integers 0, 1, 2, (D, H, W)."""

    labels: np.ndarray
    spacing_mm: Sequence[float]


@dataclass(frozen=True)
class Matching:
    """Two scans laid over each other, and their tumours matched."""

    groups: tuple[TumorGroup, ...]
    """Every tumour of either scan is in just one; those with earlier tumours first, by their ids."""
    shift_mm: tuple[float, float, float]
    """How much farther along D, H, W the liver's centre lies in the later volume."""
    liver_dice: float  # of the two livers after the shift, 0 to 1: how well one fits the other


def match_tumors(before: TimePoint, after: TimePoint) -> Matching:
    """Match the tumours of two scans.

    Ids are those of `components.label_components`. Tumours that overlap by SHARED of the smaller one
    belong together, and so do groups of them; of those left over the nearest within NEARBY_MM are pairs.
    Raises InputError where a scan shows no liver or more than MOST_TUMORS, or its spacing is unknown.
    """
    volumes, spacings = [before.labels, after.labels], [known_spacing(s.spacing_mm) for s in (before, after)]
    require_volumes(before=before.labels)
    require_volumes(after=after.labels)
    livers = [structure_mask(labels, "liver") for labels in volumes]
    for name, liver in zip(("earlier", "later"), livers, strict=True):
        if not liver.any():
            problem = "show no liver, so that the scans cannot be laid over each other."
            raise InputError(f"the {name} labels", problem, "Outline it.")
    centres = [np.array(center_of_mass(liver)) for liver in livers]
    tumors = [label_components(structure_mask(labels, "tumor")) for labels in volumes]
    if (most := max(count for _, count in tumors)) > MOST_TUMORS:
        problem = f"show {most:,} separate tumours in one scan; {MOST_TUMORS:,} can be matched."
        raise InputError("the labels", problem, "Remove the specks first; no liver has so many tumours.")
    indices = np.ix_(*_same_places(volumes[0].shape, volumes[1].shape, spacings, centres))
    # Nearest neighbours of the later scan on the grid of the earlier one; 0 outside.
    liver_after, ids_after = (np.pad(each, ((0, 1),) * 3)[indices] for each in (livers[1], tumors[1][0]))
    one_later = spacings[1].prod() / spacings[0].prod()  # its voxel, in voxels of the earlier scan
    voxels = [np.bincount(ids[ids > 0], minlength=count + 1)[1:] for ids, count in tumors]
    links = _overlapping(tumors[0][0], ids_after, (voxels[0], voxels[1] * one_later))
    of_tumors = [center_of_mass(ids > 0, ids, np.arange(1, count + 1)) for ids, count in tumors]
    from_liver_mm = [
        (np.reshape(each, (-1, 3)) - centre) * spacing
        for each, centre, spacing in zip(of_tumors, centres, spacings, strict=True)
    ]
    _link_nearest(links, *from_liver_mm)
    shift_mm = centres[1] * spacings[1] - centres[0] * spacings[0]
    common, (earlier, later) = np.count_nonzero(livers[0] & liver_after), map(np.count_nonzero, livers)
    later = max(round(later * one_later), np.count_nonzero(liver_after))  # in the earlier scan or not
    liver_dice = 2 * common / (earlier + later)
    return Matching(_linked_groups(links), tuple(shift_mm.tolist()), float(liver_dice))


def _same_places(
    before_shape: tuple[int, ...], after_shape: tuple[int, ...], spacings: Sequence, centres: Sequence
) -> list[np.ndarray]:
    """For each index of the earlier volume, axis by axis, that of the same place in the later; -1 outside.
    Halves all go the shorter way: to even numbers, every other voxel would be passed over."""
    indices, (earlier_mm, later_mm) = [], np.multiply(centres, spacings)
    for axis, (size, later_size) in enumerate(zip(before_shape, after_shape, strict=True)):
        from_centre_mm = (np.arange(size) - centres[0][axis]) * spacings[0][axis]
        place = from_centre_mm / spacings[1][axis] + centres[1][axis]
        nearest = np.rint(place - np.copysign(1e-6, later_mm[axis] - earlier_mm[axis])).astype(int)
        indices.append(np.where((nearest >= 0) & (nearest < later_size), nearest, -1))
    return indices


def _overlapping(before: np.ndarray, after: np.ndarray, voxels: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Which tumours share enough: bool (n_before, n_after), of two volumes of ids on one grid. `voxels` of it
    are the sizes of all tumours, also of what lies outside."""
    shape = len(voxels[0]) + 1, len(voxels[1]) + 1
    crossed = np.ravel_multi_index((before.ravel(), after.ravel()), shape)
    common = np.bincount(crossed, minlength=shape[0] * shape[1]).reshape(shape)
    return common[1:, 1:] >= np.maximum(SHARED * np.minimum(voxels[0][:, None], voxels[1]), 1)


def _link_nearest(links: np.ndarray, before_mm: np.ndarray, after_mm: np.ndarray) -> None:
    """Link, in place, tumours that have no link yet: pairs that lie nearest to each other, all in all."""
    lonely = np.flatnonzero(~links.any(axis=1)), np.flatnonzero(~links.any(axis=0))
    distances_mm = cdist(before_mm[lonely[0]], after_mm[lonely[1]])
    # Too far is as bad as farther: else one hopeless tumour would part two good pairs.
    rows, columns = linear_sum_assignment(np.minimum(distances_mm, 2 * NEARBY_MM))
    near = distances_mm[rows, columns] <= NEARBY_MM
    links[lonely[0][rows[near]], lonely[1][columns[near]]] = True


def _linked_groups(links: np.ndarray) -> tuple[TumorGroup, ...]:
    """Tumours that hang together by `links`, bool (n_before, n_after)."""
    n_before, n_after = links.shape
    graph = np.zeros((n_before + n_after,) * 2, bool)
    graph[:n_before, n_before:] = links
    n_groups, group = connected_components(graph, directed=False)
    sides = group[:n_before], group[n_before:]
    ids = ([tuple((np.flatnonzero(s == n) + 1).tolist()) for s in sides] for n in range(n_groups))
    return tuple(sorted((TumorGroup(*each) for each in ids), key=lambda each: (not each.before, each)))


CHANGE_COLUMNS = (
    *("kind", "tumors_before", "tumors_after", "position"),
    *("volume_before_ml", "volume_after_ml", "growth_ml", "growth_percent", "doubling_days"),
    *("diameter_before_mm", "diameter_after_mm", "diameter_change_mm", "diameter_change_percent"),
    "is_target",
)


@dataclass(frozen=True)
class FollowUp:
    """What changed between two scans."""

    changes: pd.DataFrame
    """A row a group of tumours that are the same, CHANGE_COLUMNS; `position` in the earlier scan, if any."""
    tumors: tuple[pd.DataFrame, pd.DataFrame]  # `measure_tumors` of the earlier and of the later scan
    livers: pd.DataFrame  # a row a scan, "before" and "after": `measure_liver`
    matching: Matching
    response: SizeResponse
    days: float


def compare_scans(before: TimePoint, after: TimePoint, days: float = np.nan) -> FollowUp:
    """Match the tumours of two scans of one patient and measure what became of them.

    `days` lie between the scans (NaN: unknown). Ids of tumours are those of `measure_tumors`. Of a vanished
    tumour volume and diameter are 0 afterwards, of a new one before; its relative growth is undefined, NaN.
    Raises InputError for labels that cannot be measured, without a liver or without a known spacing, and
    for days that are not positive.
    """
    if days <= 0:
        raise InputError("days", f"is {days:g}.", "Give the days from the earlier to the later scan.")
    scans, matching = (before, after), match_tumors(before, after)
    measured = tuple(measure_tumors(None, scan.labels, scan.spacing_mm) for scan in scans)
    tumors = [table.set_index("tumor") for table in measured]
    livers = [measure_liver(None, scan.labels, scan.spacing_mm) for scan in scans]
    livers = pd.DataFrame(livers).drop(columns="liver_hu").assign(scan=("before", "after"))
    targets = choose_targets(measured[0], before.spacing_mm[0])
    rows = [_change(group, *tumors, targets, days) for group in matching.groups]
    changes = pd.DataFrame(rows, columns=list(CHANGE_COLUMNS))
    sum_before = float(tumors[0].longest_diameter_mm.loc[list(targets)].sum())
    sum_after = float(changes.diameter_after_mm[changes.is_target].sum())  # of what their groups became
    counts = int((changes.kind == "new").sum()), len(tumors[1])
    response = categorize(targets, sum_before, sum_after, *counts)
    if changes.empty:
        response = response._replace(category="no tumour")
    return FollowUp(changes, measured, livers, matching, response, days)


def _change(
    group: TumorGroup, before: pd.DataFrame, after: pd.DataFrame, targets: tuple[int, ...], days: float
) -> dict:
    """A row of CHANGE_COLUMNS."""
    earlier, later = before.loc[list(group.before)], after.loc[list(group.after)]
    volumes = float(earlier.volume_ml.sum()), float(later.volume_ml.sum())
    diameters = float(earlier.longest_diameter_mm.sum()), float(later.longest_diameter_mm.sum())
    largest = max((earlier if len(earlier) else later).itertuples(), key=lambda row: row.volume_ml)
    percent = [100 * (late / early - 1) if early else np.nan for early, late in (volumes, diameters)]
    values = (
        *(group.kind, *(" + ".join(map(str, ids)) for ids in group), largest.position),
        *(*volumes, volumes[1] - volumes[0], percent[0], doubling_days(*volumes, days)),
        *(*diameters, diameters[1] - diameters[0], percent[1]),
        bool(set(group.before) & set(targets)),
    )
    return dict(zip(CHANGE_COLUMNS, values, strict=True))


WITHIN_LIMITS = float(ndtri(1 - SIGNIFICANT / 2))
"""Standard deviations to either side of the bias that hold 95 % of normal differences: 1.96."""


def agreement_row(measured: ArrayLike, reference: ArrayLike, seed: int = 0) -> dict[str, float]:
    """Of paired measurements (n,) the mean difference measured - reference (`bias`), its standard deviation
    `sd`, the limits between which 95 % of differences lie, and the `concordance`, each with its interval.

    Differences are taken as normal and independent, one a patient. The limits' intervals use their variance
    s^2 (1 / n + 1.96^2 / (2 (n - 1))) of the paper of 1999; that of the concordance is a bootstrap's, and p
    that of the bias by `sign_flip_test`. n_undefined pairs are left out, as one of both is NaN. Everything
    but the bias is NaN below two pairs, and the bias of none.
    """
    pairs = np.stack([np.asarray(measured, float), np.asarray(reference, float)], axis=1)
    defined = pairs[~np.isnan(pairs).any(axis=1)]
    differences, n = defined[:, 0] - defined[:, 1], len(defined)
    bias = float(differences.mean()) if n else np.nan
    sd = float(differences.std(ddof=1)) if n > 1 else np.nan
    row = {"n": n, "n_undefined": len(pairs) - n}
    several = max(n, 2)  # of fewer sd is NaN, and so is all that follows
    quantile = float(stdtrit(several - 1, 1 - SIGNIFICANT / 2))
    reach = quantile * sd * np.sqrt(1 / several)
    limit_reach = quantile * sd * np.sqrt(1 / several + WITHIN_LIMITS**2 / (2 * (several - 1)))
    row |= _around("bias", bias, reach) | {"sd": sd}
    row |= _around("lower_limit", bias - WITHIN_LIMITS * sd, limit_reach)
    row |= _around("upper_limit", bias + WITHIN_LIMITS * sd, limit_reach)
    low, high = bootstrap_interval(defined, concordance, seed=seed)
    row |= {"concordance": float(concordance(defined)), "concordance_low": low, "concordance_high": high}
    return row | {"p": sign_flip_test(differences, seed=seed)}


def _around(name: str, value: float, reach: float) -> dict[str, float]:
    return {name: value, f"{name}_low": float(value - reach), f"{name}_high": float(value + reach)}


def concordance(pairs: ArrayLike, axis: int = 0) -> np.ndarray:
    """Lin's concordance correlation coefficient, -1 to 1, of `pairs` (..., n, 2) along the axis of n.

    1 where all pairs lie on the line of identity (Lin 1989, doi:10.2307/2532051; moments divided by n).
    NaN below two pairs, and where all numbers are one and the same. Pairs with NaN must be left out.
    """
    pairs = np.moveaxis(np.asarray(pairs, float), axis, -2)
    if pairs.shape[-2] < 2:
        return np.full(pairs.shape[:-2], np.nan)[()]
    first, second = pairs[..., 0], pairs[..., 1]
    difference = first.mean(axis=-1) - second.mean(axis=-1)
    deviations = pairs - pairs.mean(axis=-2, keepdims=True)
    together = 2 * deviations.prod(axis=-1).mean(axis=-1)
    spread = first.var(axis=-1) + second.var(axis=-1) + difference**2
    return np.divide(together, spread, out=np.full(np.shape(spread), np.nan), where=spread > 0)[()]


def compare_with_reference(patients: pd.DataFrame, measures: Sequence[str], seed: int = 0) -> pd.DataFrame:
    """A row a system and measure: system, measure, what `agreement_row` tells, and p_holm, which is p
    corrected for the number of systems.

    `patients` has `outlined_by`, `patient` and a column a measure, a row a case; cases of a patient are
    averaged. Systems are compared with the rows outlined by "truth", over the patients that have both.
    """
    rows = []
    for measure in measures:
        values = patients.groupby(["patient", "outlined_by"], sort=False)[measure].mean().unstack()
        for system in [name for name in patients.outlined_by.unique() if name != "truth"]:
            common = patients.patient[patients.outlined_by == system].unique()
            pairs = values.loc[common, [system, "truth"]].to_numpy()
            rows.append({"system": system, "measure": measure, **agreement_row(*pairs.T, seed=seed)})
    table = pd.DataFrame(rows, columns=["system", "measure", *agreement_row([], [])])
    return table.assign(p_holm=table.groupby("measure").p.transform(holm))
