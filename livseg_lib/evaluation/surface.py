"""Distances between the surfaces of two masks, in mm, and the share of the surfaces that lies close.

Definitions of the LiTS scorer (system K; Heimann et al. 2009): the surface is every voxel of the mask
that has one of its 18 face or edge neighbours outside; a voxel stands for its centre, and all count alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import edt
import numpy as np
from scipy.ndimage import binary_erosion, generate_binary_structure

from livseg_lib.errors import InputError
from livseg_lib.evaluation.arrays import foreground_box, require_masks

FACES_AND_EDGES = generate_binary_structure(3, 2)
SURFACE_TOLERANCE_MM = 3.0
"""What TotalSegmentator scores organs in CT with (arXiv:2208.05868): about one slice of a clinical scan, so
that a slice more or less at the end of a structure is no error."""
ROUNDING = 1e-6
"""Distances are worked out in float32: a relative slack keeps one that equals the tolerance within it."""


class SurfaceDistances(NamedTuple):
    """For every surface voxel of one mask the distance to the nearest of the other, float64 (n,) in mm."""

    prediction_to_reference: np.ndarray
    reference_to_prediction: np.ndarray

    @property
    def both(self) -> np.ndarray:
        """The two directions in one array."""
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
        raise InputError(
            "spacing_mm", f"is {tuple(spacing_mm)}.", "Give a positive size in mm for each axis."
        )
    box = foreground_box(prediction, reference)
    surfaces = surface_voxels(prediction[box]), surface_voxels(reference[box])
    return SurfaceDistances(
        _nearest_mm(surfaces[0], surfaces[1], spacing), _nearest_mm(surfaces[1], surfaces[0], spacing)
    )


def _nearest_mm(start: np.ndarray, target: np.ndarray, spacing: np.ndarray) -> np.ndarray:
    """Distance from each voxel of `start` to the nearest of `target`, float64 (n,)."""
    if np.isnan(spacing).any() or not target.any():
        return np.full(np.count_nonzero(start), np.nan)
    # A distance map costs the same however far apart the surfaces lie; a tree of points took half a
    # minute for a prediction that was wrong everywhere.
    return edt.edt(~target, anisotropy=tuple(spacing))[start].astype(np.float64)


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
    both, one_is_empty = distances.both, any(each.size == 0 for each in distances)
    if both.size == 0 or (np.isnan(both).any() and not one_is_empty):
        return np.nan
    return float(np.mean(both <= tolerance_mm * (1 + ROUNDING)))
