"""Tumour candidates: the connected components of a predicted tumour mask, each described by a row of numbers.

System H (Chlebus et al. 2017, arXiv:1706.00842; 2018, doi:10.1038/s41598-018-33860-7) tells true tumours
from false alarms by such features with a random forest (`forest`). `FEATURES` says what each one means.

Masks are boolean (D, H, W), HU int16 of the same shape, `spacing_mm` (D, H, W) float64. Functions of one
object take a mask that is not empty. Voxels are little boxes, not points, so that one alone has a shape too;
a feature that a small object cannot have is NaN, as each function says.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import edt
import numpy as np
import pandas as pd
from scipy.ndimage import binary_erosion, find_objects, gaussian_filter
from skimage.feature import graycomatrix, graycoprops
from skimage.measure import marching_cubes, mesh_surface_area

from livseg_lib.errors import InputError
from livseg_lib.labels import bounding_box
from livseg_lib.postprocessing.components import known_spacing, label_components, require_volumes
from livseg_lib.preprocessing.geometry import box_around, widened


def principal_lengths_mm(inside: np.ndarray, spacing_mm: np.ndarray) -> np.ndarray:
    """Axes, longest first, of the ellipsoid whose second moments are those of the object; float64 (3,). The
    diameter, three times, for a ball; sqrt(5 / 3) times the sides for a box along the axes."""
    points_mm = np.argwhere(inside) * spacing_mm
    moments = np.cov(points_mm.T, bias=True) + np.diag(spacing_mm**2 / 12)
    return 2 * np.sqrt(5 * np.linalg.eigvalsh(moments)[::-1])


def sphericity(inside: np.ndarray, spacing_mm: np.ndarray) -> float:
    """Surface of the ball of the object's volume over its own surface, both of one triangle mesh: 0 to 1.

    (IBSI, doi:10.1148/radiol.2020191145.) The steps of a mask's surface make it rough: balls of more than
    a few voxels score 0.85 to 0.9.
    """
    vertices, faces, *_ = marching_cubes(np.pad(inside, 1).astype(np.float32), 0.5, spacing=tuple(spacing_mm))
    corners = vertices[faces] - vertices.mean(axis=0)
    volume_mm3 = abs(np.einsum("ni,ni->", corners[:, 0], np.cross(corners[:, 1], corners[:, 2]))) / 6
    return float((36 * np.pi * volume_mm3**2) ** (1 / 3) / mesh_surface_area(vertices, faces))


LOWEST_HU, HIGHEST_HU = -50, 250
"""HU are cut here for textures and gradients, or lung and bone beside the liver would rule them."""
GREY_LEVELS = 16  # of about 19 HU each: about the noise of one voxel
TEXTURE_STEP_MM = 2.0  # distance of the two pixels that a co-occurrence compares
EDGE_SMOOTHING_MM = 1.0  # standard deviation of the Gaussian filter before the gradient


def border_gradient(hu: np.ndarray, inside: np.ndarray, spacing_mm: np.ndarray) -> float:
    """Mean size of the HU gradient, in HU per mm, over an object's voxels with a face outside it.

    `hu` should reach some mm beyond the object. Axes of one voxel have no gradient. The mask's own faces on
    the volume's edge are no border; NaN where an object has no other.
    """
    border = inside & ~binary_erosion(inside, border_value=1)
    if not border.any():
        return float("nan")
    clipped = np.clip(hu, LOWEST_HU, HIGHEST_HU).astype(np.float32)
    smooth = gaussian_filter(clipped, EDGE_SMOOTHING_MM / spacing_mm, mode="nearest")
    slopes = [np.gradient(smooth, spacing_mm[axis], axis=axis) for axis in range(3) if hu.shape[axis] > 1]
    if not slopes:
        return float("nan")
    return float(np.sqrt(sum(np.square(slope[border], dtype=np.float64) for slope in slopes)).mean())


def texture_features(hu: np.ndarray, inside: np.ndarray, spacing_mm: np.ndarray) -> dict[str, float]:
    """Grey-level co-occurrence (Haralick 1973, doi:10.1109/TSMC.1973.4309314) of an object's largest slice.

    Pairs of its own pixels `TEXTURE_STEP_MM` apart, in four directions together. All NaN where it has no
    such pair.
    """
    names = ("contrast", "homogeneity", "energy", "correlation")
    largest = int(inside.sum(axis=(1, 2)).argmax())
    share = (np.clip(hu[largest], LOWEST_HU, HIGHEST_HU) - LOWEST_HU) / (HIGHEST_HU - LOWEST_HU)
    levels = 1 + np.minimum(share * GREY_LEVELS, GREY_LEVELS - 1).astype(np.uint8)
    levels[~inside[largest]] = 0  # an extra level for the outside, whose pairs are then left out
    step = max(1, round(TEXTURE_STEP_MM / float(spacing_mm[1:].mean())))
    angles = np.arange(4) * np.pi / 4
    counts = graycomatrix(levels, [step], angles, levels=GREY_LEVELS + 1, symmetric=True)
    pairs = counts[1:, 1:].sum(axis=(2, 3)).astype(np.float64)
    if not pairs.any():
        return {f"texture_{name}": float("nan") for name in names}
    shares = (pairs / pairs.sum())[:, :, None, None]
    return {f"texture_{name}": float(graycoprops(shares, name)[0, 0]) for name in names}


_RIM_MM = 5.0  # liver within this distance of a candidate is what it is compared with

FEATURES = {
    "volume_ml": ("shape", "ml", "Volume of its voxels"),
    "diameter_mm": ("shape", "mm", "Diameter of the ball of the same volume"),
    "longest_axis_mm": ("shape", "mm", "Longest axis of the ellipsoid of the same second moments"),
    "elongation": ("shape", "", "Middle over longest axis: 1 round, 0 a thread"),
    "flatness": ("shape", "", "Shortest over longest axis: 1 round, 0 a sheet or thread"),
    "extent": ("shape", "", "Share of its bounding box that it fills"),
    "sphericity": ("shape", "", "Surface of the ball of the same volume over its own: 1 a ball"),
    "depth_mm": ("shape", "mm", "Mean distance of its voxels from the outside of the liver"),
    "gap_mm": ("shape", "mm", "Smallest such distance: about one voxel where it touches the surface"),
    "mean_hu": ("intensity", "HU", "Mean of its voxels"),
    "std_hu": ("intensity", "HU", "Standard deviation of its voxels"),
    "p10_hu": ("intensity", "HU", "10th percentile of its voxels"),
    "median_hu": ("intensity", "HU", "Median of its voxels"),
    "p90_hu": ("intensity", "HU", "90th percentile of its voxels"),
    "rim_contrast_hu": ("intensity", "HU", "Mean of the liver within 5 mm minus its own: above 0 if darker"),
    "liver_contrast_hu": ("intensity", "HU", "Median of the liver outside all candidates minus its own mean"),
    "texture_contrast": ("texture", "", "Mean squared difference of levels of pixels 2 mm apart"),
    "texture_homogeneity": ("texture", "", "How often such pixels are alike: 1 always"),
    "texture_energy": ("texture", "", "How few kinds of pairs there are: 1 a single kind"),
    "texture_correlation": ("texture", "", "Correlation of such pixels: 1 smooth, 0 noise"),
    "border_gradient": ("texture", "HU/mm", "Mean size of the HU gradient along its border"),
}
"""The columns of `candidate_features`, in their order: kind, unit ("" for a bare number), meaning."""


def candidate_features(
    tumor_mask: np.ndarray, liver_mask: np.ndarray, hu: np.ndarray, spacing_mm: Sequence[float]
) -> tuple[pd.DataFrame, np.ndarray]:
    """A row a candidate (index "candidate", ids 1..n; columns FEATURES, float64), and their ids (D, H, W).

    `tumor_mask` and `liver_mask` are boolean (D, H, W), the liver with its tumours; `hu` int16 of the same
    shape; `spacing_mm` (D, H, W). Ids are unsigned, 0 outside, as `components.label_components` gives them.
    NaN where a candidate is too small for the feature: contrasts where no liver is left to compare with,
    textures where no two pixels lie 2 mm apart, depth where no surface of the liver is in the scan. A
    candidate outside the liver has depth 0. An empty mask gives no rows. Raises InputError for arrays of
    different shapes and for an unknown spacing.
    """
    require_volumes(tumor_mask=tumor_mask, liver_mask=liver_mask, hu=hu)
    spacing = known_spacing(spacing_mm)
    ids, count = label_components(tumor_mask)
    index = pd.RangeIndex(1, count + 1, name="candidate")
    if not count:
        return pd.DataFrame(index=index, columns=list(FEATURES), dtype=float), ids
    region = box_around(liver_mask | tumor_mask, spacing_mm, _RIM_MM)
    near, liver, hu = ids[region], liver_mask[region], hu[region]
    depth_mm = edt.edt(liver.copy(), anisotropy=tuple(spacing))  # edt takes nothing that is read-only
    depth_mm[np.isinf(depth_mm)] = np.nan  # the liver fills the scan, so that its surface is not to be seen
    healthy = liver & (near == 0)
    liver_hu = float(np.median(hu[healthy])) if healthy.any() else np.nan
    rows = []
    for candidate, box in enumerate(find_objects(near), start=1):
        around = widened(box, near.shape, spacing, _RIM_MM)
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
    tight = bounding_box(inside)
    voxels = int(inside.sum())
    volume_ml = voxels * float(spacing_mm.prod()) / 1000.0
    lengths = principal_lengths_mm(inside[tight], spacing_mm)
    values = hu[inside].astype(np.float64)
    low, middle, high = np.percentile(values, (10, 50, 90))
    rim = healthy & (edt.edt(~inside, anisotropy=tuple(spacing_mm)) <= _RIM_MM)
    rim_hu = float(hu[rim].mean()) if rim.any() else np.nan
    return {
        "volume_ml": volume_ml,
        "diameter_mm": (6000.0 * volume_ml / np.pi) ** (1 / 3),
        "longest_axis_mm": float(lengths[0]),
        "elongation": float(lengths[1] / lengths[0]),
        "flatness": float(lengths[2] / lengths[0]),
        "extent": float(voxels / inside[tight].size),
        "sphericity": sphericity(inside[tight], spacing_mm),
        "depth_mm": float(depth_mm[inside].mean()),
        "gap_mm": float(depth_mm[inside].min()),
        "mean_hu": float(values.mean()),
        "std_hu": float(values.std()),
        "p10_hu": float(low),
        "median_hu": float(middle),
        "p90_hu": float(high),
        "rim_contrast_hu": rim_hu - float(values.mean()),
        **texture_features(hu[tight], inside[tight], spacing_mm),
        "border_gradient": border_gradient(hu, inside, spacing_mm),
    }


LEAST_RECALL = 0.95


class ForestThreshold(NamedTuple):
    """A threshold and what it did to the candidates it was chosen on. A recall without true ones is NaN."""

    threshold: float  # candidates of at least this probability stay; 0 keeps all
    recall: float  # share of the true candidates that stay
    true_candidates: int
    false_before: int
    false_after: int  # false alarms among all candidates, and among those that stay
    note: str  # why no choice was possible; empty where there was one


def choose_forest_threshold(
    probability: np.ndarray, is_tumor: np.ndarray, least_recall: float = LEAST_RECALL
) -> ForestThreshold:
    """The threshold with fewest false alarms that keeps at least `least_recall` of the true candidates.

    `probability` float (n,) and `is_tumor` bool (n,) of validation candidates; 0 < `least_recall` <= 1. Of
    the thresholds that do the same, the one midway to the next lower candidate. Without candidates, or
    without true ones, nothing can be chosen: threshold 0, which keeps all, and a note that says so.
    """
    truth = np.asarray(is_tumor, bool)
    if not 0 < least_recall <= 1:
        raise InputError("least_recall", f"is {least_recall}.", "Give a share above 0, at most 1.")
    true_count, false_count = int(truth.sum()), int((~truth).sum())
    if not true_count:
        situation = f"no true tumour among {false_count} candidates" if false_count else "no candidate"
        note = f"There was {situation} to choose a threshold on, so every candidate stays."
        return ForestThreshold(0.0, np.nan, 0, false_count, false_count, note)
    ranked = np.sort(probability[truth])[::-1]
    needed = max(int(np.ceil(least_recall * true_count - 1e-9)), 1)
    lowest_kept = float(ranked[needed - 1])
    lower = probability[probability < lowest_kept]
    threshold = (lowest_kept + float(lower.max())) / 2 if lower.size else 0.0
    stays = probability >= threshold
    note = "" if false_count else "No candidate was a false alarm, so that there was nothing to filter."
    recall = float(stays[truth].mean())
    return ForestThreshold(threshold, recall, true_count, false_count, int(stays[~truth].sum()), note)


def filter_candidates(ids: np.ndarray, probability: np.ndarray, threshold: float) -> np.ndarray:
    """Boolean mask (D, H, W) of the candidates of at least `threshold`.

    `ids` (D, H, W) holds 1..n and 0 outside, `probability` (n,) one value for each. Raises InputError where
    there are more ids than probabilities.
    """
    if ids.max(initial=0) > len(probability):
        problem = f"has candidates up to {ids.max()}, but there are {len(probability)} probabilities."
        raise InputError("ids", problem, "Predict on the table that came with these ids.")
    return np.concatenate([[False], np.asarray(probability) >= threshold])[ids]
