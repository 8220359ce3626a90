"""Shapes as fields: positive inside, zero on the surface, roughly millimetres to the surface.

Every function takes and gives float32 arrays that broadcast to (D, H, W); coordinates are in
millimetres, x to the patient's left, y to the back, z to the head.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

SPLINE_SD = 0.692  # standard deviation of a cubic B-spline series of unit normal coefficients, per axis
Place = tuple[float, float, float]  # (x, y, z) in mm


class Point(NamedTuple):
    """A place in the body, in mm."""

    x: float
    y: float
    z: float


class Coordinates:
    """Where the voxels of a grid lie in the body: `x`, `y`, `z` in mm, each (D, H, W)."""

    def __init__(self, x: np.ndarray, y: np.ndarray, z: np.ndarray) -> None:
        self.x, self.y, self.z = x, y, z

    @cached_property
    def _ranges(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Lowest and highest coordinate of every plane, for the axes D (z), H (y) and W (x)."""
        other_axes = ((1, 2), (0, 2), (0, 1))
        return [(a.min(o), a.max(o)) for a, o in zip((self.z, self.y, self.x), other_axes, strict=True)]

    def box(self, low: Point, high: Point) -> tuple[slice, slice, slice]:
        """Index ranges outside which no voxel lies between `low` and `high`."""
        limits = zip((low.z, low.y, low.x), (high.z, high.y, high.x), strict=True)
        return tuple(
            extent((largest >= first) & (smallest <= last))
            for (smallest, largest), (first, last) in zip(self._ranges, limits, strict=True)
        )

    def __getitem__(self, box: tuple[slice, slice, slice]) -> Coordinates:
        return Coordinates(self.x[box], self.y[box], self.z[box])


def extent(flags: np.ndarray, margin: int = 0) -> slice:
    """From `margin` before the first true flag to as many behind the last; empty where there is none."""
    found = np.flatnonzero(flags)
    return slice(max(int(found[0]) - margin, 0), int(found[-1]) + 1 + margin) if found.size else slice(0, 0)


def ellipsoid(at: Coordinates, centre: Point, radii: Point) -> np.ndarray:
    """An ellipsoid with its axes along x, y and z."""
    x, y, z = ((axis - c) / r for axis, c, r in zip((at.x, at.y, at.z), centre, radii, strict=True))
    return (1 - np.sqrt(x**2 + y**2 + z**2)) * np.float32(min(radii))


def segment_distance(at: Coordinates, start: Place, end: Place) -> tuple[np.ndarray, np.ndarray]:
    """Distance in mm to the line from `start` to `end`, and the position 0..1 of its nearest point."""
    direction = np.subtract(end, start).astype(np.float32)
    x, y, z = (axis - np.float32(first) for axis, first in zip((at.x, at.y, at.z), start, strict=True))
    dx, dy, dz = direction
    along = (x * dx + y * dy + z * dz) / np.float32(direction @ direction + 1e-6)
    along = np.clip(along, 0, 1)
    return np.sqrt((x - along * dx) ** 2 + (y - along * dy) ** 2 + (z - along * dz) ** 2), along


FAR_MM = np.float32(-1000)  # the value of a tube's field wherever it is too far to matter


def tube(at: Coordinates, path: list[Place], radii_mm: list[float], reach_mm: float = 8) -> np.ndarray:
    """A tube through the points of `path`; `radii_mm` are its radii there. Exact within `reach_mm` of it."""
    field = np.full(at.x.shape, FAR_MM)
    for start, end, first, last in zip(path[:-1], path[1:], radii_mm[:-1], radii_mm[1:], strict=True):
        margin = max(first, last) + reach_mm
        low, high = np.minimum(start, end) - margin, np.maximum(start, end) + margin
        box = at.box(Point(*low), Point(*high))
        distance, along = segment_distance(at[box], start, end)
        field[box] = np.maximum(field[box], first + (last - first) * along - distance)
    return field


def smooth_min(a: np.ndarray, b: np.ndarray, width_mm: float) -> np.ndarray:
    """Intersection with its edge rounded where `a` and `b` differ by less than `width_mm`."""
    overlap = np.abs(np.subtract(a, b))
    np.maximum(np.subtract(width_mm, overlap, out=overlap), 0, out=overlap)
    return np.minimum(a, b) - overlap * overlap * np.float32(1 / (4 * width_mm))


def smooth_max(a: np.ndarray, b: np.ndarray, width_mm: float) -> np.ndarray:
    """Union with its edge rounded where `a` and `b` differ by less than `width_mm`."""
    return -smooth_min(-a, -b, width_mm)


@dataclass(frozen=True)
class SmoothNoise:
    """Random field of unit variance that varies over about `pitch_mm`: a cubic B-spline series. It is defined
    in space, not on a grid: the same place has the same value at every resolution."""

    coefficients: np.ndarray
    pitch_mm: float

    @classmethod
    def draw(cls, rng: np.random.Generator, pitch_mm: float, reach_mm: float) -> SmoothNoise:
        """A field that covers -reach_mm..reach_mm along each axis."""
        count = int(np.ceil(2 * reach_mm / pitch_mm)) + 4
        return cls(rng.standard_normal((count,) * 3, dtype=np.float32), pitch_mm)

    def __call__(self, z_mm: np.ndarray, y_mm: np.ndarray, x_mm: np.ndarray) -> np.ndarray:
        """Values, float32 (D, H, W), on the grid of the three axes (1D, mm)."""
        values = self.coefficients
        for axis, positions in enumerate((z_mm, y_mm, x_mm)):
            values = np.moveaxis(np.tensordot(self._weights(positions), values, (1, axis)), 0, axis)
        return values / np.float32(SPLINE_SD**3)

    def at(self, places: np.ndarray) -> np.ndarray:
        """Values (n,) at scattered places (n, 3: x, y, z in mm)."""
        values = self._weights(places[:, 2]) @ self.coefficients.reshape(len(self.coefficients), -1)
        values = values.reshape(len(places), len(self.coefficients), -1)
        values = np.einsum("nyx,ny,nx->n", values, self._weights(places[:, 1]), self._weights(places[:, 0]))
        return values / np.float32(SPLINE_SD**3)

    def _weights(self, positions_mm: np.ndarray) -> np.ndarray:
        """B-spline weights, (positions, coefficients); zero beyond the reach."""
        count = len(self.coefficients)
        knots = np.arange(count) - (count - 1) / 2
        t = np.abs(np.asarray(positions_mm)[:, None] / self.pitch_mm - knots[None])
        near, far = 2 / 3 - t**2 + t**3 / 2, (2 - t) ** 3 / 6
        return np.where(t < 1, near, np.where(t < 2, far, 0)).astype(np.float32)
