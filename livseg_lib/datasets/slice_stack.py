"""Slices in space: their order, what is missing between them, and the affine of the stack."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from livseg_lib.datasets.dicom_headers import SliceHeader
from livseg_lib.errors import InputError

SAME_DIRECTION = 1e-3
"""Largest difference of direction cosines and, relative, of pixel spacing within a series."""
SAME_POSITION_MM = 0.01
UNEVEN_STEPS = 0.25
"""A slice may lie this share of a step away from its place in an even stack."""
LARGEST_TILT_DEGREES = 1.0
"""Between the way from slice to slice and the normal of the slices; more is gantry tilt."""


def missing_slices(positions_mm: Sequence[float]) -> list[float]:
    """Where slices are missing: positions in mm along the normal, in rising order.

    The smallest step between neighbours is taken for the true one; a gap of n steps lacks n - 1 slices.
    Slices missing at either end leave no gap and cannot be told.
    """
    positions = np.sort(np.asarray(positions_mm, dtype=float))
    steps = np.diff(positions)
    if len(steps) == 0 or steps.min() <= SAME_POSITION_MM:
        return []
    gaps = zip(positions, steps, np.rint(steps / steps.min()).astype(int), strict=False)
    return [float(start + step * n / count) for start, step, count in gaps for n in range(1, count)]


def order_slices(slices: Sequence[SliceHeader], source: object) -> list[SliceHeader]:
    """Sort along the slice normal. Raises InputError if slices differ in grid, coincide or are missing."""
    first = slices[0]
    for one in slices[1:]:
        if not _same_grid(one, first):
            problem = f"Slices {first.name} and {one.name} differ in size, spacing or direction."
            raise InputError(source, problem, "Keep one scan a series.")
    height = {one.name: float(one.position_mm @ _normal(first)) for one in slices}
    ordered = sorted(slices, key=lambda one: height[one.name])
    for lower, upper in pairwise(ordered):
        if height[upper.name] - height[lower.name] <= SAME_POSITION_MM:
            problem = f"Slices {lower.name} and {upper.name} lie at the same place."
            raise InputError(source, problem, "Keep one phase and one reconstruction a series.")
    if missing := missing_slices(list(height.values())):
        places = ", ".join(f"{place:.1f}" for place in missing[:5]) + (", ..." if len(missing) > 5 else "")
        problem = f"{len(missing)} of {len(slices) + len(missing)} slices are missing, at {places} mm."
        raise InputError(source, problem, "Export or copy the whole series again.", code="missing-slices")
    return ordered


def stack_affine(ordered: Sequence[SliceHeader], source: object) -> np.ndarray:
    """4x4 from (column, row, slice) indices to RAS+ mm. Raises InputError for uneven or tilted stacks.

    DICOM speaks LPS, NIfTI RAS: x and y change sign (DICOM PS3.3 C.7.6.2.1.1).
    """
    first, step = ordered[0], _step_mm(ordered, source)
    along_row, down_column = first.directions
    between_rows, between_columns = first.pixel_spacing_mm
    affine = np.eye(4)
    affine[:3] = np.column_stack(
        [along_row * between_columns, down_column * between_rows, step, first.position_mm]
    )
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine
    if not np.isfinite(affine).all() or np.isclose(np.linalg.det(affine), 0.0):
        raise InputError(source, "Directions and spacing of the slices span no space.", "Export it again.")
    return affine


def _step_mm(ordered: Sequence[SliceHeader], source: object) -> np.ndarray:
    """Vector from each slice to the next."""
    normal = _normal(ordered[0])
    if len(ordered) == 1:
        if ordered[0].thickness_mm is None:
            raise InputError(
                source, "A single slice without a thickness has no volume.", "Give the whole series."
            )
        return normal * ordered[0].thickness_mm
    positions = np.array([one.position_mm for one in ordered])
    step = (positions[-1] - positions[0]) / (len(ordered) - 1)
    length_mm = np.linalg.norm(step)
    tilt = np.degrees(np.arccos(np.clip(step @ normal / length_mm, -1.0, 1.0)))
    if tilt > LARGEST_TILT_DEGREES:
        problem = f"The slices are tilted by {tilt:.1f} degrees against the table (gantry tilt)."
        raise InputError(source, problem, "Convert the series with dcm2niix, which straightens it.")
    even = positions[0] + step * np.arange(len(ordered))[:, None]
    if np.linalg.norm(positions - even, axis=1).max() > UNEVEN_STEPS * length_mm:
        raise InputError(source, "The slices are not evenly spaced.", "Reconstruct or resample them evenly.")
    return step


def _normal(one: SliceHeader) -> np.ndarray:
    return np.cross(*one.directions)


def _same_grid(one: SliceHeader, other: SliceHeader) -> bool:
    return (
        one.shape == other.shape
        and np.allclose(one.directions, other.directions, rtol=0, atol=SAME_DIRECTION)
        and np.allclose(one.pixel_spacing_mm, other.pixel_spacing_mm, rtol=SAME_DIRECTION, atol=0)
    )
