"""Tumour candidates: the connected components of a predicted tumour mask, each described by a row of numbers.

System H (Chlebus et al. 2017, arXiv:1706.00842; 2018, doi:10.1038/s41598-018-33860-7) tells true tumours
from false alarms by such features with a random forest (`forest`). `FEATURES` says what each one means.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import edt
import numpy as np
import pandas as pd
from scipy.ndimage import find_objects

from livseg_lib.errors import InputError
from livseg_lib.postprocessing.boxes import known_spacing, require_volumes, widened
from livseg_lib.postprocessing.candidate_shape import shape_features
from livseg_lib.postprocessing.candidate_texture import border_gradient, intensity_features, texture_features
from livseg_lib.postprocessing.components import label_components
from livseg_lib.preprocessing.region import box_around

RIM_MM = 5.0
"""Liver within this distance of a candidate is what it is compared with."""


class Feature(NamedTuple):
    """How a feature is told to people."""

    kind: str
    """"shape", "intensity" or "texture"."""
    unit: str
    """Empty for a bare number."""
    meaning: str


FEATURES = {
    "volume_ml": Feature("shape", "ml", "Volume of its voxels"),
    "diameter_mm": Feature("shape", "mm", "Diameter of the ball of the same volume"),
    "longest_axis_mm": Feature("shape", "mm", "Longest axis of the ellipsoid of the same second moments"),
    "elongation": Feature("shape", "", "Middle over longest axis: 1 round, 0 a thread"),
    "flatness": Feature("shape", "", "Shortest over longest axis: 1 round, 0 a sheet or thread"),
    "extent": Feature("shape", "", "Share of its bounding box that it fills"),
    "sphericity": Feature("shape", "", "Surface of the ball of the same volume over its own: 1 a ball"),
    "depth_mm": Feature("shape", "mm", "Mean distance of its voxels from the outside of the liver"),
    "gap_mm": Feature("shape", "mm", "Smallest such distance: about one voxel where it touches the surface"),
    "mean_hu": Feature("intensity", "HU", "Mean of its voxels"),
    "std_hu": Feature("intensity", "HU", "Standard deviation of its voxels"),
    "p10_hu": Feature("intensity", "HU", "10th percentile of its voxels"),
    "median_hu": Feature("intensity", "HU", "Median of its voxels"),
    "p90_hu": Feature("intensity", "HU", "90th percentile of its voxels"),
    "rim_contrast_hu": Feature(
        "intensity", "HU", f"Mean of the liver up to {RIM_MM:g} mm around it minus its own: above 0 if darker"
    ),
    "liver_contrast_hu": Feature(
        "intensity", "HU", "Median of the liver outside all candidates minus its own mean"
    ),
    "texture_contrast": Feature("texture", "", "Mean squared difference of levels of pixels 2 mm apart"),
    "texture_homogeneity": Feature("texture", "", "How often such pixels are alike: 1 always"),
    "texture_energy": Feature("texture", "", "How few kinds of pairs there are: 1 a single kind"),
    "texture_correlation": Feature("texture", "", "Correlation of such pixels: 1 smooth, 0 noise"),
    "border_gradient": Feature("texture", "HU/mm", "Mean size of the HU gradient along its border"),
}
"""The columns of `candidate_features`, in their order."""


def candidate_features(
    tumor_mask: np.ndarray, liver_mask: np.ndarray, hu: np.ndarray, spacing_mm: Sequence[float]
) -> tuple[pd.DataFrame, np.ndarray]:
    """A row a candidate (index "candidate", ids 1..n; columns FEATURES, float64), and their ids (D, H, W).

    `tumor_mask` and `liver_mask` are boolean (D, H, W), the liver with its tumours; `hu` int16 of the same
    shape; `spacing_mm` (D, H, W). Ids are unsigned, 0 outside, as `components.label_components` gives them.
    NaN where a candidate is too small for the feature: contrasts where no liver is left to compare with,
    textures where no two pixels lie 2 mm apart, depth where no surface of the liver is in the scan. A
    candidate outside the liver has depth 0. An empty mask
    gives no rows. Raises InputError for arrays of different shapes and for an unknown spacing.
    """
    require_volumes(tumor_mask=tumor_mask, liver_mask=liver_mask, hu=hu)
    spacing = known_spacing(spacing_mm)
    ids, count = label_components(tumor_mask)
    index = pd.RangeIndex(1, count + 1, name="candidate")
    if not count:
        return pd.DataFrame(index=index, columns=list(FEATURES), dtype=float), ids
    region = box_around(liver_mask | tumor_mask, spacing_mm, RIM_MM).slices
    near, liver, hu = ids[region], liver_mask[region], hu[region]
    depth_mm = edt.edt(liver, anisotropy=tuple(spacing))
    depth_mm[np.isinf(depth_mm)] = np.nan  # the liver fills the scan, so that its surface is not to be seen
    healthy = liver & (near == 0)
    liver_hu = float(np.median(hu[healthy])) if healthy.any() else np.nan
    rows = []
    for candidate, box in enumerate(find_objects(near), start=1):
        around = widened(box, near.shape, spacing, RIM_MM)
        inside = near[around] == candidate
        row = _describe(inside, healthy[around], hu[around], depth_mm[around], spacing)
        rows.append({**row, "liver_contrast_hu": liver_hu - row["mean_hu"]})
    return pd.DataFrame(rows, index=index, columns=list(FEATURES), dtype=float), ids


def match_candidates(ids: np.ndarray, reference: np.ndarray, overlap: float = 0.5) -> np.ndarray:
    """Which candidates are true tumours, bool (n,): more than `overlap` (0 to 1) of their voxels are tumour.

    `ids` (D, H, W) as `candidate_features` gives them (0 outside, 1..n), `reference` the true tumours, a
    boolean mask of the same shape. Overlap 0 takes every candidate that touches a tumour.
    Raises InputError for different shapes or an overlap that no candidate could exceed.
    """
    require_volumes(ids=ids, reference=reference)
    if not 0 <= overlap < 1:
        raise InputError("overlap", f"is {overlap}.", "Give the share of a candidate's voxels, 0 to below 1.")
    voxels = np.bincount(ids.ravel())[1:]
    common = np.bincount(ids[reference], minlength=len(voxels) + 1)[1:]
    return common > overlap * voxels


def _describe(
    inside: np.ndarray, healthy: np.ndarray, hu: np.ndarray, depth_mm: np.ndarray, spacing_mm: np.ndarray
) -> dict[str, float]:
    """All features but "liver_contrast_hu" of one candidate in its box."""
    [tight] = find_objects(inside.view(np.uint8))
    intensity = intensity_features(hu, inside)
    rim = healthy & (edt.edt(~inside, anisotropy=tuple(spacing_mm)) <= RIM_MM)
    rim_hu = float(hu[rim].mean()) if rim.any() else np.nan
    return {
        **shape_features(inside[tight], spacing_mm),
        "depth_mm": float(depth_mm[inside].mean()),
        "gap_mm": float(depth_mm[inside].min()),
        **intensity,
        "rim_contrast_hu": rim_hu - intensity["mean_hu"],
        **texture_features(hu[tight], inside[tight], spacing_mm),
        "border_gradient": border_gradient(hu, inside, spacing_mm),
    }
