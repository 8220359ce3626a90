"""Outlines of masks as SVG paths: traced on the scan's own voxels, a few bytes a point."""

from __future__ import annotations

import cv2
import numpy as np
from contourpy import contour_generator

from livseg_lib.labels import STRUCTURES, structure_mask

TOLERANCE = 1.0
"""Of an outline's simplification, in the paths' unit of half a voxel."""


def outline_path(mask: np.ndarray) -> str:
    """Closed SVG path around the True pixels of `mask` (H, W), holes included; "" where there are none.

    The unit is half a pixel with the origin at the picture's corner: a pixel in row r and column c covers
    x from 2c to 2c + 2 and y from 2r to 2r + 2. Corners are cut at pixel borders' midpoints (marching
    squares), and points are left out that move the line by less than half a voxel. Fill it by "evenodd".
    """
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if len(rows) == 0:
        return ""
    top, left = rows[0], columns[0]
    cut = np.pad(mask[top : rows[-1] + 1, left : columns[-1] + 1], 1)
    contours = contour_generator(z=cut.astype(np.float32)).lines(0.5)
    corner = np.array([2 * left - 1, 2 * top - 1])
    return "".join(_closed_path(np.rint(2 * contour).astype(np.int32) + corner) for contour in contours)


def outline_paths(labels: np.ndarray) -> dict[str, list[str]]:
    """Structure -> a path a slice, for `labels` 0/1/2 (D, H, W); a structure without a voxel has no entry."""
    masks = {structure: structure_mask(labels, structure) for structure in STRUCTURES}
    return {name: [outline_path(plane) for plane in mask] for name, mask in masks.items() if mask.any()}


def _closed_path(points: np.ndarray) -> str:
    """`points` int (N, 2) as (x, y); the last equals the first."""
    kept = cv2.approxPolyDP(points[:-1, None], TOLERANCE, True)[:, 0]
    if len(kept) < 3:  # a speck stays as it is
        kept = points[:-1]
    steps = " ".join(f"{x} {y}" for x, y in np.diff(kept, axis=0).tolist())
    return f"M{kept[0, 0]} {kept[0, 1]}l{steps}z".replace(" -", "-")
