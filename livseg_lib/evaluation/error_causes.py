"""Why does it go wrong? Errors sorted by what may explain them, and system B's two classes counted.

System B names two: a *bright texture* is a false positive whose mean lies at least BRIGHT_HU above the
patient's liver and whose voxels differ by more than TEXTURE_SD_HU; *low contrast* is a missed tumour whose
mean lies within CONTRAST_EDGES_HU[0] of the liver around it. Errors of unknown brightness or contrast are
"undefined", and counted. In tables every share stands with its 95 % interval over patients (_low, _high).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import product

import numpy as np
import pandas as pd

from livseg_lib.evaluation.errors import ERRORS, FALSE_NEGATIVE, FALSE_POSITIVE, TUMOR_RIM_MM
from livseg_lib.evaluation.lesions import LesionOverlap, size_class
from livseg_lib.evaluation.statistics import mean_with_interval

CONTRAST_EDGES_HU = (20.0, 40.0)
"""One and two standard deviations of the noise in abdominal CT, about 20 HU (18 to 20 in 3D-IRCADb and
CHAOS, 19 to 30 in LiTS, measured): below the first a tumour's mean lies within the noise of one voxel."""

CONTRAST_CLASSES = ("low", "middle", "high")

BRIGHT_HU = CONTRAST_EDGES_HU[0]
"""One standard deviation of the noise in abdominal CT above the liver: clearly brighter, as is a vessel."""

TEXTURE_SD_HU = 30.0
"""Most noise measured inside livers (19 to 30 HU in LiTS, 18 to 20 in 3D-IRCADb and CHAOS; phantom.tissues):
what varies more is no even tissue."""

BRIGHT_TEXTURE, LOW_CONTRAST, OTHER, UNDEFINED = "bright texture", "low contrast", "other", "undefined"
CLASS_OF_ERROR = {FALSE_POSITIVE: BRIGHT_TEXTURE, FALSE_NEGATIVE: LOW_CONTRAST}
"""System B's class of each kind of error."""

ERROR_PLACES = ("deep in the liver", "at its border", "across its border", "outside it")
"""Farther than TUMOR_RIM_MM from the border; nearer; up to half of it outside; more than half."""

CAUSES = ("brightness", "texture", "contrast", "size", "place", "beside", "is_really", "neighbour")
"""Columns of `add_causes` that sort errors."""


def contrast_class(contrast_hu: pd.Series, edges_hu: tuple[float, float] = CONTRAST_EDGES_HU) -> pd.Series:
    """ "low", "middle" or "high" by the size of the contrast, darker or brighter alike; NaN of NaN.

    A contrast on an edge belongs to the upper class.
    """
    bins = [0.0, *edges_hu, np.inf]
    return pd.cut(contrast_hu.abs(), bins, right=False, labels=list(CONTRAST_CLASSES)).astype(object)


def add_causes(objects: pd.DataFrame) -> pd.DataFrame:
    """`objects` (columns `error` and those of `describe_objects`) with CAUSES and `error_class` in words.

    None where a cause is undefined: without HU, spacing or knowledge of the organs.
    """
    above, sd, outside, border = (
        objects[name].astype(float)
        for name in ("above_liver_hu", "sd_hu", "outside_share", "border_distance_mm")
    )
    table = objects.assign(
        brightness=_first([above >= BRIGHT_HU, above < BRIGHT_HU], ("bright", "not bright")),
        texture=_first([sd > TEXTURE_SD_HU, sd <= TEXTURE_SD_HU], ("textured", "even")),
        contrast=contrast_class(objects.contrast_hu.astype(float)),
        size=objects.longest_diameter_mm.astype(float).map(size_class).replace("", None),
        place=_first(
            [outside > 0.5, outside > 0, border <= TUMOR_RIM_MM, border > TUMOR_RIM_MM], ERROR_PLACES[::-1]
        ),
        beside=objects.is_beside_tumor.map({True: "beside a true tumour", False: "by itself"}),
    )
    invented = table.error == FALSE_POSITIVE
    bright_texture = (table.brightness == "bright") & (table.texture == "textured")
    unknown = table.brightness.where(invented, table.contrast).isna()
    classes = [unknown, invented & bright_texture, ~invented & (table.contrast == "low")]
    names = (UNDEFINED, BRIGHT_TEXTURE, LOW_CONTRAST)
    return table.assign(error_class=_first(classes, names).fillna(OTHER))


def _first(holds: Sequence[pd.Series], names: Sequence[str]) -> pd.Series:
    """Of each row the name of the first condition that holds, else None."""
    return pd.Series(np.select(holds, names, ""), holds[0].index, dtype=object).replace("", None)


def count_bright_textures(lesions: LesionOverlap, hu: np.ndarray, liver_hu: float) -> int:
    """False positives of one comparison that are bright textures; `hu` on the same grid (D, H, W).

    Counts what `add_causes` would of `describe_objects`, without describing each object.
    """
    inside = lesions.prediction_components > 0
    ids, values = lesions.prediction_components[inside], hu[inside].astype(float)
    sums = [np.bincount(ids, values**power, lesions.n_prediction + 1)[1:] for power in (0, 1, 2)]
    mean = sums[1] / sums[0]
    sd = np.sqrt(np.maximum(sums[2] / sums[0] - mean**2, 0))
    return int((lesions.untouched & (mean - liver_hu >= BRIGHT_HU) & (sd > TEXTURE_SD_HU)).sum())


def count_classes(objects: pd.DataFrame, tumors: pd.DataFrame, seed: int) -> pd.DataFrame:
    """A row a system and kind of error: how much of it is system B's class.

    `objects` (`add_causes`) and `tumors` (true ones with `contrast` and `hit`) have `system` and `patient`;
    `tumors` names every system, with errors or not. Columns: system, error, error_class, n_errors (of both
    kinds), n_of_kind, n (of the class), n_undefined, share_of_errors and share_of_kind (0 to 1).
    """
    share, rows = partial(mean_with_interval, pooled=True, seed=seed), []
    for system in tumors.system.unique():
        errors = objects[objects.system == system]
        for kind, name in CLASS_OF_ERROR.items():
            of_kind = errors[errors.error == kind]
            row = {"system": system, "error": kind, "error_class": name, "n_errors": len(errors)}
            row |= {"n_of_kind": len(of_kind), "n": int((of_kind.error_class == name).sum())}
            row |= {"n_undefined": int((of_kind.error_class == UNDEFINED).sum())}
            row |= share("share_of_errors", errors.error_class == name, errors.patient)
            rows.append(row | share("share_of_kind", of_kind.error_class == name, of_kind.patient))
    return pd.DataFrame(rows)


def missed_by_contrast(tumors: pd.DataFrame, seed: int) -> pd.DataFrame:
    """A row a system: are faint tumours missed more often than others?

    Columns: system, n_undefined (tumours of undefined contrast, which are left out), n_low_contrast,
    missed_low_contrast (share of those), n_other, missed_other.
    """
    rows = []
    for system, group in tumors.groupby("system", sort=False):
        low, undefined = group.contrast == "low", group.contrast.isna()
        row = {"system": system, "n_undefined": int(undefined.sum())}
        for name, part in (("low_contrast", group[low]), ("other", group[~low & ~undefined])):
            missed = ~part.hit.astype(bool)
            row[f"n_{name}"] = len(part)
            row |= mean_with_interval(f"missed_{name}", missed, part.patient, pooled=True, seed=seed)
        rows.append(row)
    return pd.DataFrame(rows)


def count_causes(objects: pd.DataFrame, seed: int) -> pd.DataFrame:
    """A row a system, kind of error, cause (of CAUSES) and its value: n, n_of_kind, share, its interval.

    Errors of an undefined cause are a value of their own, "undefined"; a cause that is undefined for all is
    left out.
    """
    rows = []
    known = [cause for cause in CAUSES if objects[cause].notna().any()]
    for system, kind, cause in product(objects.system.unique(), ERRORS, known):
        group = objects[(objects.system == system) & (objects.error == kind)]
        values = group[cause].fillna(UNDEFINED)
        for value, n in values.value_counts().items():
            row = {"system": system, "error": kind, "cause": cause, "value": value, "n": int(n)}
            share = mean_with_interval("share", values == value, group.patient, pooled=True, seed=seed)
            rows.append(row | {"n_of_kind": len(group)} | share)
    columns = ["system", "error", "cause", "value", "n", "n_of_kind", "share", "share_low", "share_high"]
    return pd.DataFrame(rows, columns=columns)


def count_fusions(tumors: pd.DataFrame, patients: pd.DataFrame, seed: int) -> pd.DataFrame:
    """A row a system: do touching tumours fuse (system C)?

    Columns: system, n_tumors, n_beside (another one within TUMOR_RIM_MM), n_fused (one predicted tumour
    covers it and another one), fused_share of n_tumors, n_fusing (predicted tumours that do), n_split
    (tumours that several predicted ones touch) and n_touching (painted on a phantom as several that touch,
    one object in the labels; NaN elsewhere). `patients` has system and fusing, a count a case.
    """
    rows = []
    for system, group in tumors.groupby("system", sort=False):
        row = {"system": system, "n_tumors": len(group)}
        row["n_beside"] = int((group.is_beside_tumor == True).sum())  # noqa: E712 (None where unknown)
        row["n_fused"] = int(group.is_fused.sum())
        row |= mean_with_interval("fused_share", group.is_fused, group.patient, pooled=True, seed=seed)
        row["n_fusing"] = int(patients.fusing[patients.system == system].sum())
        row["n_split"] = int((group.pieces > 1).sum())
        row["n_touching"] = (group.painted > 1).sum() if group.painted.notna().any() else np.nan
        rows.append(row)
    return pd.DataFrame(rows)


def volume_found(tumors: pd.DataFrame, seed: int) -> pd.DataFrame:
    """A row a system and kind of edge (diffuse, sharp): are diffuse edges under-segmented (system C)?

    Columns: system, edge, n_tumors, n_hit, hit_rate, and volume_found, the mean share of the volume of those
    hit that is found. Tumours of mixed or unknown edges are left out.
    """
    share, rows = partial(mean_with_interval, pooled=True, seed=seed), []
    for system, group in tumors.groupby("system", sort=False):
        for edge in ("diffuse", "sharp"):
            part = group[group.edge == edge]
            hit = part[part.hit.astype(bool)]
            row = {"system": system, "edge": edge, "n_tumors": len(part), "n_hit": len(hit)}
            row |= share("hit_rate", part.hit, part.patient)
            rows.append(row | share("volume_found", hit.found_share, hit.patient))
    return pd.DataFrame(rows)
