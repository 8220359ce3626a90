"""The two diameters that readers report: the longest in an axial slice, and the one across it.

RECIST 1.1 (doi:10.1016/j.ejca.2008.10.026) adds up longest diameters in the plane of acquisition; the WHO
handbook (1979, ISBN 92-4-170048-3) multiplies them by the longest perpendicular ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from scipy.spatial import ConvexHull
from scipy.spatial.distance import pdist, squareform

REACH = 0.25
"""How far a pixel reaches beyond its centre, of its side. The centres inside an ellipse end half a pixel
too early on average, and the pixels' edges as much too late. Midway the longest diameter has hardly a bias,
and is never more than half a pixel (of the larger side) too long."""

SPECK = 512
"""Voxels of a mask up to which others may well look the same."""

FOUR_SIDES = REACH * np.array([[1, 0], [-1, 0], [0, 1], [0, -1]])


class AxialDiameters(NamedTuple):
    """Both diameters in mm: NaN for an empty mask, and where the size of a pixel is unknown."""

    slice: int | None
    """Where the longest one lies, the first of equals; None for an empty mask."""
    longest_mm: float
    perpendicular_mm: float
    longest_ends: np.ndarray
    """float64 (2, 2): row and column of both ends, in voxels; NaN for an empty mask."""
    perpendicular_ends: np.ndarray


def axial_diameters(mask: np.ndarray, spacing_mm: Sequence[float]) -> AxialDiameters:
    """The longest axial diameter of a boolean `mask` (D, H, W), and the longest one across it in its slice.

    The longest joins the farthest two points of a slice, whatever lies between them; the perpendicular one
    is the longest chord across it of the slice's convex hull. A row of n pixels is n - 1/2 pixels long.
    `spacing_mm` (D, H, W) may be NaN: then pixels are taken as squares, to find the slice and the ends.
    """
    sides = tuple(float(side) for side in spacing_mm[1:])
    # Specks look alike by the thousand: those are measured once.
    measure = _measured if mask.size <= SPECK else _measured.__wrapped__
    return measure(mask.shape, mask.tobytes(), sides)


@lru_cache(maxsize=4096)
def _measured(shape: tuple[int, ...], content: bytes, sides_mm: tuple[float, float]) -> AxialDiameters:
    """`axial_diameters` of a boolean mask of that shape, given as bytes; its arrays are for reading only."""
    mask, sides = np.frombuffer(content, bool).reshape(shape), np.array(sides_mm)
    known = np.isfinite(sides).all()
    assumed = sides if known else np.ones(2)
    nowhere = np.full((2, 2), np.nan)
    longest = AxialDiameters(None, 0.0, np.nan, nowhere, nowhere)
    bounds = _longest_possible(mask, assumed)
    for index in np.flatnonzero(bounds):
        if bounds[index] > longest.longest_mm:
            found = _diameters_of_slice(int(index), mask[index], assumed)
            longest = max(longest, found, key=lambda diameters: diameters.longest_mm)
    for ends in (longest.longest_ends, longest.perpendicular_ends):
        ends.setflags(write=False)
    if known and longest.slice is not None:
        return longest
    return longest._replace(longest_mm=np.nan, perpendicular_mm=np.nan)


def _longest_possible(mask: np.ndarray, sides_mm: np.ndarray) -> np.ndarray:
    """Diagonal of the box around each slice's pixels in mm, (D,); 0 for an empty slice."""
    extents = [_extent(mask.any(axis=axis)) for axis in (2, 1)]
    return np.hypot(*(extent * side for extent, side in zip(extents, sides_mm, strict=True)))


def _extent(occupied: np.ndarray) -> np.ndarray:
    """From the first to the last True of each row of (D, n), both included; 0 without any."""
    first, from_end = occupied.argmax(axis=1), occupied[:, ::-1].argmax(axis=1)
    return np.where(occupied.any(axis=1), occupied.shape[1] - first - from_end, 0)


def _diameters_of_slice(index: int, pixels: np.ndarray, sides_mm: np.ndarray) -> AxialDiameters:
    """Both diameters of a boolean slice (H, W) that is not empty."""
    hull = _hull(pixels) * sides_mm
    distances = squareform(pdist(hull))
    start, end = sorted(np.unravel_index(distances.argmax(), distances.shape))
    across = _longest_chord_across(hull, start, end)
    longest = hull[[start, end]]
    lengths = [float(np.linalg.norm(ends[1] - ends[0])) for ends in (longest, across)]
    return AxialDiameters(index, *lengths, longest / sides_mm, across / sides_mm)


def _hull(pixels: np.ndarray) -> np.ndarray:
    """Corners of the convex hull around a slice's pixels, float64 (n, 2), in their order around it."""
    rows = np.flatnonzero(pixels.any(axis=1))
    first = pixels[rows].argmax(axis=1)
    last = pixels.shape[1] - 1 - pixels[rows, ::-1].argmax(axis=1)
    centres = np.concatenate([np.stack([rows, columns], axis=1) for columns in (first, last)])
    points = (centres[:, None] + FOUR_SIDES).reshape(-1, 2)
    return points[ConvexHull(points).vertices]


def _longest_chord_across(hull: np.ndarray, start: int, end: int) -> np.ndarray:
    """Ends (2, 2) of the longest chord of `hull` at right angles to the line from its `start` to its `end`.

    Along that line the chord's length is linear between corners, so that it is longest at one of them; and
    no corner lies beyond the ends of the longest diameter.
    """
    along = (hull[end] - hull[start]) / np.linalg.norm(hull[end] - hull[start])
    axes = np.stack([along, [-along[1], along[0]]])
    turned = (hull - hull[start]) @ axes.T
    one_side = turned[start : end + 1]
    other_side = np.concatenate([turned[end:], turned[: start + 1]])[::-1]
    places = turned[:, 0]
    heights = np.stack([np.interp(places, *side.T) for side in (one_side, other_side)])
    widest = np.abs(heights[0] - heights[1]).argmax()
    ends = np.stack([[places[widest]] * 2, heights[:, widest]], axis=1)
    return ends @ axes + hull[start]
