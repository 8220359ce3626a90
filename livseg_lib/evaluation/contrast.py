"""Each tumour by itself: how large it is, how far it stands out from the liver around it, and whether a
prediction found it. Low-contrast tumours are what system B's networks miss.

Tumours are numbered as in `detection`: label 2, connected by voxel faces, ids 1..n.
"""

from __future__ import annotations

from collections.abc import Sequence

import edt
import numpy as np
import pandas as pd
from scipy.ndimage import find_objects

from livseg_lib.evaluation.lesions import LesionOverlap, detected_pairs
from livseg_lib.evaluation.masks import Box, require_label_volumes
from livseg_lib.labels import LIVER, structure_mask
from livseg_lib.postprocessing.components import label_components, widened

RIM_MM = 5.0
"""Liver within this distance of a tumour is what a reader compares it with."""

CONTRAST_EDGES_HU = (20.0, 40.0)
"""One and two standard deviations of the noise in abdominal CT, about 20 HU (18 to 20 in 3D-IRCADb and
CHAOS, 19 to 30 in LiTS, measured): below the first a tumour's mean lies within the noise of one voxel."""

CONTRAST_CLASSES = ("low", "middle", "high")
LESION_COLUMNS = ("lesion", "voxels", "volume_ml", "diameter_mm", "tumor_hu", "rim_hu", "contrast_hu")


def describe_lesions(
    hu: np.ndarray, labels: np.ndarray, spacing_mm: Sequence[float], rim_mm: float = RIM_MM
) -> pd.DataFrame:
    """A row a true tumour, LESION_COLUMNS, for a volume in HU and its labels 0/1/2, both integer (D, H, W).

    `diameter_mm` is that of the ball of the same volume. `rim_hu` is the mean of the liver (label 1) whose
    voxel centres lie within `rim_mm` of the tumour's, and `contrast_hu` is `rim_hu` minus the tumour's mean:
    positive where the tumour is darker. Both are NaN where no such liver is left; sizes and contrast are
    NaN where `spacing_mm` (D, H, W) is. Raises InputError for arrays of other kinds or shapes.
    """
    require_label_volumes(hu, labels)
    components, _ = label_components(structure_mask(labels, "tumor"))
    spacing = np.asarray(spacing_mm, float)
    rows = []
    for lesion, box in enumerate(find_objects(components), start=1):
        around = room_around(box, labels.shape, spacing, rim_mm)
        inside = components[around] == lesion
        rim = (labels[around] == LIVER) & within_reach(inside, spacing, rim_mm)
        rows.append({"lesion": lesion, **object_size(inside, spacing)})
        rows[-1] |= object_contrast(hu[around], inside, rim)
    return pd.DataFrame(rows, columns=list(LESION_COLUMNS), dtype=float).astype(
        {"lesion": int, "voxels": int}
    )


def room_around(box: Box, shape: tuple[int, ...], spacing_mm: np.ndarray, reach_mm: float) -> Box:
    """`box` with room for what lies within reach on every side; `box` itself where the spacing is unknown."""
    return box if np.isnan(spacing_mm).any() else widened(box, shape, spacing_mm, reach_mm)


def within_reach(inside: np.ndarray, spacing_mm: np.ndarray, reach_mm: float) -> np.ndarray:
    """Mask of the voxels whose centres lie within `reach_mm` of one of an object's, its own among them.

    Empty where the spacing is unknown (NaN).
    """
    if np.isnan(spacing_mm).any():
        return np.zeros_like(inside)
    return edt.edt(~inside, anisotropy=tuple(spacing_mm)) <= reach_mm


def object_size(inside: np.ndarray, spacing_mm: np.ndarray) -> dict[str, float]:
    """voxels, volume_ml and diameter_mm (of the ball of that volume) of a mask; NaN where spacing is."""
    voxels = int(inside.sum())
    volume_ml = voxels * float(spacing_mm.prod()) / 1000.0
    return {"voxels": voxels, "volume_ml": volume_ml, "diameter_mm": (6000.0 * volume_ml / np.pi) ** (1 / 3)}


def object_contrast(hu: np.ndarray, inside: np.ndarray, rim: np.ndarray) -> dict[str, float]:
    """tumor_hu (mean), rim_hu and contrast_hu, as `describe_lesions` gives them, of one object's masks."""
    tumor_hu = float(hu[inside].mean())
    rim_hu = float(hu[rim].mean()) if rim.any() else np.nan
    return {"tumor_hu": tumor_hu, "rim_hu": rim_hu, "contrast_hu": rim_hu - tumor_hu}


def contrast_class(contrast_hu: pd.Series, edges_hu: tuple[float, float] = CONTRAST_EDGES_HU) -> pd.Series:
    """ "low", "middle" or "high" by the size of the contrast, darker or brighter alike; NaN of NaN.

    A contrast on an edge belongs to the upper class.
    """
    bins = [0.0, *edges_hu, np.inf]
    return pd.cut(contrast_hu.abs(), bins, right=False, labels=list(CONTRAST_CLASSES)).astype(object)


def lesion_hits(lesions: LesionOverlap) -> pd.DataFrame:
    """A row a true tumour, in the order of its id: what a prediction found of it.

    `found_share` of its voxels are predicted, 0 to 1; it is `hit` where that is more than nothing, and
    `detected` where it belongs to a pair of IoU > 0.5 (as `detect_lesions` counts, system K).
    """
    found = lesions.table[1:, 1:].sum(axis=0) / lesions.reference_voxels[1:]
    pairs, _ = detected_pairs(lesions)
    detected = [lesion for pair in pairs for lesion in pair.reference_ids]
    ids = np.arange(1, lesions.n_reference + 1)
    return pd.DataFrame(
        {"lesion": ids, "found_share": found, "hit": found > 0, "detected": np.isin(ids, detected)}
    )


def count_false_alarms(lesions: LesionOverlap) -> int:
    """Predicted tumours that touch no true one."""
    return int((lesions.table[1:, 1:].sum(axis=1) == 0).sum())
