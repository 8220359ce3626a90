"""Scores of two masks: overlap, and the distances between their surfaces in mm.

Overlap scores take the counts of one pair of masks, or arrays of counts (one element a slice or patient), and
return float64 of the same shape. Undefined (0/0) is NaN: what an empty mask means is the caller's. Formulas
and surfaces are those of the LiTS benchmark (Bilic et al. 2022, system K): a surface is every voxel of the
mask that has one of its 18 face or edge neighbours outside; a voxel stands for its centre, all count alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import edt
import numpy as np
from scipy.ndimage import binary_erosion, generate_binary_structure

from livseg_lib.errors import InputError
from livseg_lib.labels import LIVER, require_labels, structure_mask

BoxSlices = tuple[slice, ...]


def require_same_shape(prediction: np.ndarray, reference: np.ndarray) -> None:
    """Raise InputError unless both arrays have one shape."""
    if prediction.shape != reference.shape:
        problem = f"has shape {prediction.shape}, but the reference has {reference.shape}."
        raise InputError("prediction", problem, "Compare arrays of the same grid.")


def require_masks(prediction: np.ndarray, reference: np.ndarray) -> None:
    """Raise InputError unless both are boolean arrays of one shape."""
    require_same_shape(prediction, reference)
    if not prediction.dtype == reference.dtype == bool:
        problem = f"are {prediction.dtype} and {reference.dtype}, not boolean masks."
        raise InputError("masks", problem, "Say which labels count, such as labels == 2.")


def require_label_volumes(prediction: np.ndarray, reference: np.ndarray) -> None:
    """Raise InputError unless both are integer arrays (D, H, W) of one shape that hold 0, 1 and 2 alone."""
    require_same_shape(prediction, reference)
    kinds = {prediction.dtype.kind, reference.dtype.kind}
    if not kinds <= {"i", "u"} or prediction.ndim != 3:
        kinds = f"{prediction.dtype} and {reference.dtype}"
        problem = f"are {kinds} of {prediction.ndim} axes, not integer volumes."
        raise InputError("labels", problem, "Give labels 0, 1 and 2, (D, H, W).")
    require_labels(prediction, "prediction")
    require_labels(reference, "reference")


def foreground_box(*arrays: np.ndarray) -> BoxSlices:
    """Slices of the smallest box that holds every nonzero element of all `arrays` (of one shape).

    An empty box (all slices 0:0) where there is none.
    """
    box: list[slice] = []
    for axis in range(arrays[0].ndim):
        other_axes = tuple(a for a in range(arrays[0].ndim) if a != axis)
        occupied = np.flatnonzero(np.any([a[tuple(box)].any(axis=other_axes) for a in arrays], axis=0))
        if occupied.size == 0:
            return (slice(0, 0),) * arrays[0].ndim
        # Each axis is cropped before the next is searched: the later passes read little.
        box.append(slice(int(occupied[0]), int(occupied[-1]) + 1))
    return tuple(box)


class OverlapCounts(NamedTuple):
    """Voxels (or pixels) by agreement; integers or integer arrays."""

    true_positives: int | np.ndarray
    false_positives: int | np.ndarray
    false_negatives: int | np.ndarray
    true_negatives: int | np.ndarray

    @property
    def prediction(self) -> int | np.ndarray:
        return self.true_positives + self.false_positives

    @property
    def reference(self) -> int | np.ndarray:
        return self.true_positives + self.false_negatives


def overlap_counts(
    prediction: np.ndarray, reference: np.ndarray, axis: tuple[int, ...] | None = None
) -> OverlapCounts:
    """Count two boolean arrays of one shape against each other, over all axes or over those in `axis`.

    Raises InputError where the shapes differ or an array is not boolean.
    """
    require_masks(prediction, reference)
    shared = np.count_nonzero(prediction & reference, axis=axis)
    predicted = np.count_nonzero(prediction, axis=axis)
    present = np.count_nonzero(reference, axis=axis)
    total = prediction.size // max(np.size(shared), 1)
    return OverlapCounts(shared, predicted - shared, present - shared, total - predicted - present + shared)


def _ratio(numerator, denominator) -> np.ndarray:
    """Elementwise quotient in float64; NaN wherever the denominator is 0."""
    numerator, denominator = np.asarray(numerator, float), np.asarray(denominator, float)
    undefined = np.full(np.broadcast_shapes(numerator.shape, denominator.shape), np.nan)
    return np.divide(numerator, denominator, out=undefined, where=denominator != 0)[()]


def dice(counts: OverlapCounts):
    """2 |P and R| / (|P| + |R|), 0 to 1; NaN where both are empty."""
    return _ratio(2 * counts.true_positives, counts.prediction + counts.reference)


def jaccard(counts: OverlapCounts):
    """|P and R| / |P or R| (IoU), 0 to 1; NaN where both are empty."""
    return _ratio(counts.true_positives, counts.prediction + counts.false_negatives)


def rvd(counts: OverlapCounts):
    """Relative volume difference (|P| - |R|) / |R|, signed, from -1; NaN where the reference is empty."""
    return _ratio(counts.prediction - counts.reference, counts.reference)


def precision(counts: OverlapCounts):
    """Share of the predicted voxels that are right, 0 to 1; NaN where nothing is predicted."""
    return _ratio(counts.true_positives, counts.prediction)


def recall(counts: OverlapCounts):
    """Share of the reference that is found, 0 to 1; NaN where the reference is empty."""
    return _ratio(counts.true_positives, counts.reference)


def specificity(counts: OverlapCounts):
    """Share of what is not in the reference that is not predicted either, 0 to 1; NaN where it fills all."""
    return _ratio(counts.true_negatives, counts.true_negatives + counts.false_positives)


def pixel_accuracy(counts: OverlapCounts):
    """Share of all voxels, background too, on which both agree, 0 to 1 (system D)."""
    return _ratio(counts.true_positives + counts.true_negatives, sum(counts))


BOTH_EMPTY = {"liver": 0.0, "tumor": 1.0}
"""Every patient has a liver; one without tumours, in whom none is found, is right (system K)."""


def defined_dice(counts: OverlapCounts, structure: str) -> float:
    """`dice` of one pair of masks of "liver" or "tumor", and BOTH_EMPTY where there is neither."""
    found = dice(counts)
    return BOTH_EMPTY[structure] if np.isnan(found) else float(found)


def predicted_mask(labels: np.ndarray, structure: str) -> np.ndarray:
    """Bool mask of "liver" or "tumor" in predicted labels 0/1/2; no liver without any label 1 (system K)."""
    mask = structure_mask(labels, structure)
    return mask if structure == "tumor" or (labels == LIVER).any() else np.zeros_like(mask)


def structure_dice(prediction: np.ndarray, reference: np.ndarray, structure: str) -> float:
    """Dice of "liver" or "tumor", 0 to 1, of two label volumes 0/1/2 of one shape, as `score_case` has it."""
    pair = predicted_mask(prediction, structure), structure_mask(reference, structure)
    return defined_dice(overlap_counts(*pair), structure)


FACES_AND_EDGES = generate_binary_structure(3, 2)
SURFACE_TOLERANCE_MM = 3.0
"""What TotalSegmentator scores organs in CT with (arXiv:2208.05868): about one slice of a clinical scan, so
that a slice more or less at the end of a structure is no error."""


class SurfaceDistances(NamedTuple):
    """For every surface voxel of one mask the distance to the nearest of the other, float64 (n,) in mm."""

    prediction_to_reference: np.ndarray
    reference_to_prediction: np.ndarray

    @property
    def both(self) -> np.ndarray:
        return np.concatenate(self)


def surface_voxels(mask: np.ndarray) -> np.ndarray:
    """Boolean mask of the surface of a boolean volume (D, H, W); outside the array is background."""
    return mask ^ binary_erosion(mask, FACES_AND_EDGES)


def surface_distances(
    prediction: np.ndarray, reference: np.ndarray, spacing_mm: Sequence[float]
) -> SurfaceDistances:
    """Nearest distances between the surfaces of two boolean volumes (D, H, W), `spacing_mm` (D, H, W).

    Where either mask is empty or a spacing is NaN, no distance is defined: all are NaN. Raises InputError
    where the shapes differ or a spacing is not positive.
    """
    require_masks(prediction, reference)
    spacing = np.asarray(spacing_mm, float)
    if spacing.shape != (prediction.ndim,) or (spacing <= 0).any():
        raise InputError("spacing_mm", f"is {tuple(spacing_mm)}.", "Give a positive size for each axis.")
    box = foreground_box(prediction, reference)
    surfaces = surface_voxels(prediction[box]), surface_voxels(reference[box])
    first, second = surfaces
    return SurfaceDistances(_nearest_mm(first, second, spacing), _nearest_mm(second, first, spacing))


def _nearest_mm(start: np.ndarray, target: np.ndarray, spacing: np.ndarray) -> np.ndarray:
    """Distance from each voxel of `start` to the nearest of `target`, float64 (n,)."""
    if np.isnan(spacing).any() or not target.any():
        return np.full(np.count_nonzero(start), np.nan)
    # A distance map costs the same however far apart the surfaces lie; a tree of points took half a
    # minute for a prediction that was wrong everywhere.
    return np.sqrt(edt.edtsq(~target, anisotropy=tuple(spacing))[start]).astype(np.float64)


def assd(distances: SurfaceDistances) -> float:
    """Average symmetric surface distance: the mean over the voxels of both surfaces; NaN if undefined."""
    return float(distances.both.mean()) if distances.both.size else np.nan


def rmsd(distances: SurfaceDistances) -> float:
    """Root mean square symmetric surface distance over the voxels of both surfaces; NaN if undefined."""
    return float(np.sqrt(np.square(distances.both).mean())) if distances.both.size else np.nan


def msd(distances: SurfaceDistances) -> float:
    """Maximum symmetric surface distance (Hausdorff); NaN if undefined."""
    return float(distances.both.max()) if distances.both.size else np.nan


def hd95(distances: SurfaceDistances) -> float:
    """95th percentile of the distances of both surfaces' voxels together; NaN if undefined.

    As MedPy has it. Others take the larger of the two directed percentiles (Metrics Reloaded,
    doi:10.1038/s41592-023-02151-z), which is no smaller: compare only what was computed alike.
    """
    return float(np.percentile(distances.both, 95)) if distances.both.size else np.nan


def surface_dice(distances: SurfaceDistances, tolerance_mm: float = SURFACE_TOLERANCE_MM) -> float:
    """Share of both surfaces that lies within `tolerance_mm` of the other, 0 to 1 (normalized surface Dice).

    Nikolov et al. 2018 (arXiv:1809.04430), who weigh surface by its area; here voxels are counted, as in all
    distances above. One empty mask gives 0: nothing is near to what is not there. Two empty masks give NaN,
    and so does an unknown spacing. Raises InputError for a tolerance that is no length.
    """
    if not tolerance_mm >= 0:
        raise InputError("tolerance_mm", f"is {tolerance_mm}.", "Give a length in mm, such as 3.")
    distances_mm, one_is_empty = distances.both, any(each.size == 0 for each in distances)
    if distances_mm.size == 0 or (np.isnan(distances_mm).any() and not one_is_empty):
        return np.nan
    # Distances are worked out in float32: a slack keeps one that equals the tolerance within it.
    return float(np.mean(distances_mm <= tolerance_mm * (1 + 1e-6)))
