"""Which tumours of two scans of a patient are the same: the livers are laid over each other by their centres.

The later scan is shifted, never turned, stretched or bent: between two breath-holds a liver does all of
that by some mm, so that small tumours may lie beside themselves. After a resection, a large swelling or
where a scan cuts the liver off, its centre means nothing, and nothing here tells (`liver_dice` falls).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.ndimage import center_of_mass
from scipy.optimize import linear_sum_assignment
from scipy.sparse.csgraph import connected_components
from scipy.spatial.distance import cdist

from livseg_lib.errors import InputError
from livseg_lib.evaluation.overlap import dice, overlap_counts
from livseg_lib.labels import structure_mask
from livseg_lib.postprocessing.boxes import known_spacing, require_volumes
from livseg_lib.postprocessing.components import label_components

SHARED = 0.1
"""Tumours are the same where they share at least this part of the smaller one: neighbours that just touch
after an alignment that is a few mm off do not."""

NEARBY_MM = 10.0
"""Tumours that share nothing with any other are the same where their centres lie at most so far apart."""

MOST_TUMORS = 2000
"""In one scan: matching takes seconds for so many, and its time grows with the cube of their number."""

KINDS = ("matched", "merged", "split", "regrouped", "vanished", "new")


class TumorGroup(NamedTuple):
    """Tumours, by their ids, that are the same lesion or lesions at both times."""

    before: tuple[int, ...]
    after: tuple[int, ...]

    @property
    def kind(self) -> str:
        """One of KINDS: one to one, several to one, one to several, several each, to none, from none."""
        if not self.before or not self.after:
            return "vanished" if self.before else "new"
        one_before, one_after = len(self.before) == 1, len(self.after) == 1
        if one_before and one_after:
            return "matched"
        return "merged" if one_after else "split" if one_before else "regrouped"


@dataclass(frozen=True)
class Matching:
    """Two scans laid over each other, and their tumours matched."""

    groups: tuple[TumorGroup, ...]
    """Every tumour of either scan is in just one; those with earlier tumours first, by their ids."""
    shift_mm: tuple[float, float, float]
    """How much farther along D, H, W the liver's centre lies in the later volume."""
    liver_dice: float
    """Of the two livers after the shift, 0 to 1: how well one fits the other."""


def match_tumors(
    before: np.ndarray,
    before_spacing_mm: Sequence[float],
    after: np.ndarray,
    after_spacing_mm: Sequence[float],
    shared: float = SHARED,
    nearby_mm: float = NEARBY_MM,
) -> Matching:
    """Match the tumours of two label volumes, integer (D, H, W) each with its spacing in mm (D, H, W).

    Ids are those of `components.label_components`. Tumours that overlap by `shared` of the smaller one
    belong together, and so do groups of them; of those left over the nearest within `nearby_mm` are pairs.
    Raises InputError where a volume shows no liver or more than MOST_TUMORS, or its spacing is unknown.
    """
    require_volumes(before=before)
    require_volumes(after=after)
    spacings = known_spacing(before_spacing_mm), known_spacing(after_spacing_mm)
    centres = _liver_centre(before, "the earlier labels"), _liver_centre(after, "the later labels")
    places = _same_places(before.shape, after.shape, spacings, centres)
    ids, counts = zip(
        *(label_components(structure_mask(each, "tumor")) for each in (before, after)), strict=True
    )
    if max(counts) > MOST_TUMORS:
        problem = f"show {max(counts):,} separate tumours in one scan; {MOST_TUMORS:,} can be matched."
        raise InputError("the labels", problem, "Remove the specks first; no liver has so many tumours.")
    links = _overlapping(ids[0], _taken(ids[1], places), counts, shared)
    _link_nearest(
        links,
        _centres_mm(ids[0], counts[0], centres[0], spacings[0]),
        _centres_mm(ids[1], counts[1], centres[1], spacings[1]),
        nearby_mm,
    )
    livers = structure_mask(before, "liver"), _taken(structure_mask(after, "liver"), places)
    shift_mm = centres[1] * spacings[1] - centres[0] * spacings[0]
    return Matching(_groups(links), tuple(shift_mm.tolist()), float(dice(overlap_counts(*livers))))


def _liver_centre(labels: np.ndarray, where: str) -> np.ndarray:
    """Mean index (D, H, W) of the liver with its tumours."""
    liver = structure_mask(labels, "liver")
    if not liver.any():
        raise InputError(
            where, "show no liver, so that the scans cannot be laid over each other.", "Outline it."
        )
    return np.array(center_of_mass(liver))


Places = tuple[np.ndarray, np.ndarray, np.ndarray]


def _same_places(
    before_shape: tuple[int, ...], after_shape: tuple[int, ...], spacings: Sequence, centres: Sequence
) -> Places:
    """For each index of the earlier volume, axis by axis, that of the same place in the later; -1 outside."""
    places = []
    for axis, (size, later_size) in enumerate(zip(before_shape, after_shape, strict=True)):
        from_centre_mm = (np.arange(size) - centres[0][axis]) * spacings[0][axis]
        index = np.rint(from_centre_mm / spacings[1][axis] + centres[1][axis]).astype(int)
        places.append(np.where((index >= 0) & (index < later_size), index, -1))
    return tuple(places)


def _taken(array: np.ndarray, places: Places) -> np.ndarray:
    """The values of the later volume at `places`, 0 outside: nearest neighbours on the earlier grid."""
    return np.pad(array, ((0, 1),) * 3)[np.ix_(*places)]


def _overlapping(before: np.ndarray, after: np.ndarray, counts: tuple[int, int], shared: float) -> np.ndarray:
    """Which tumours share enough: bool (n_before, n_after), of two volumes of ids on one grid."""
    shape = counts[0] + 1, counts[1] + 1
    crossed = np.ravel_multi_index((before.ravel(), after.ravel()), shape)
    common = np.bincount(crossed, minlength=shape[0] * shape[1]).reshape(shape)
    smaller = np.minimum(common.sum(axis=1)[1:, None], common.sum(axis=0)[1:])
    return common[1:, 1:] >= np.maximum(shared * smaller, 1)


def _centres_mm(ids: np.ndarray, count: int, liver_centre: np.ndarray, spacing_mm: np.ndarray) -> np.ndarray:
    """Centre of each tumour from the liver's, float64 (count, 3) in mm."""
    centres = center_of_mass(ids > 0, ids, np.arange(1, count + 1))
    return (np.reshape(centres, (count, 3)) - liver_centre) * spacing_mm


def _link_nearest(links: np.ndarray, before_mm: np.ndarray, after_mm: np.ndarray, nearby_mm: float) -> None:
    """Link, in place, tumours that have no link yet: pairs that lie nearest to each other, all in all."""
    lonely = np.flatnonzero(~links.any(axis=1)), np.flatnonzero(~links.any(axis=0))
    apart = cdist(before_mm[lonely[0]], after_mm[lonely[1]])
    # Too far is as bad as farther: else one hopeless tumour would part two good pairs.
    rows, columns = linear_sum_assignment(np.minimum(apart, 2 * nearby_mm))
    near = apart[rows, columns] <= nearby_mm
    links[lonely[0][rows[near]], lonely[1][columns[near]]] = True


def _groups(links: np.ndarray) -> tuple[TumorGroup, ...]:
    """Tumours that hang together by `links`, bool (n_before, n_after)."""
    n_before, n_after = links.shape
    graph = np.zeros((n_before + n_after,) * 2, bool)
    graph[:n_before, n_before:] = links
    n_groups, group = connected_components(graph, directed=False)
    members = [np.flatnonzero(group == number) for number in range(n_groups)]
    groups = [
        TumorGroup(
            tuple(int(i) + 1 for i in each if i < n_before),
            tuple(int(i) - n_before + 1 for i in each if i >= n_before),
        )
        for each in members
    ]
    return tuple(sorted(groups, key=lambda each: (not each.before, each)))
