"""One patient's tissues on a voxel grid: fields on a coarse grid, painted at full resolution."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np

from livseg_lib.datasets.phantom.body import REACH_MM, Body, shell
from livseg_lib.datasets.phantom.fields import SmoothNoise, ellipsoid
from livseg_lib.datasets.phantom.liver import GALLBLADDER_RADII, LiverShape, liver_field
from livseg_lib.datasets.phantom.tissues import CODE
from livseg_lib.datasets.phantom.trunk import (
    chest_parts,
    rib_parts,
    spine_parts,
    table_part,
    vessel_parts,
    wall_parts,
)
from livseg_lib.datasets.phantom.viscera import bowel_parts, solid_parts, stomach_parts

COARSE_MATRIX = 112
"""Fields have about this many points along rows and columns; every 2.5 to 3.5 mm one."""

GRAIN_PITCH_MM = 5.0


@dataclass(frozen=True)
class Grid:
    """Voxel centres in mm relative to the body's middle."""

    matrix: int
    pixel_mm: float
    z_mm: np.ndarray
    """Height of every slice, upward."""
    shift_mm: tuple[float, float] = (0.0, 0.0)
    """Where the body's middle lies from the picture's middle: rows, columns."""

    @property
    def coarsening(self) -> int:
        """Pixels per point of the coarse grid, along rows and columns; divides `matrix`."""
        return max(self.matrix // COARSE_MATRIX, 1)

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Spacing of (D, H, W)."""
        return float(self.z_mm[1] - self.z_mm[0]), self.pixel_mm, self.pixel_mm

    def axes(self, coarsening: int = 1) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Positions in mm along D, H and W; every `coarsening` pixels make one."""
        count = self.matrix // coarsening
        pixels = (np.arange(count) + 0.5 - count / 2) * coarsening * self.pixel_mm
        return self.z_mm, pixels - self.shift_mm[0], pixels - self.shift_mm[1]


@dataclass(frozen=True)
class Anatomy:
    """A painted body."""

    tissues: np.ndarray
    """Tissue codes, uint8 (D, H, W)."""
    grain: np.ndarray
    """Unit noise over about 5 mm, float32 on the coarse grid: the texture of every tissue."""
    liver_depth_mm: np.ndarray
    """About how deep inside the liver, negative outside, float32 on the coarse grid."""


def paint_anatomy(rng: np.random.Generator, body: Body, liver: LiverShape, grid: Grid) -> Anatomy:
    """All organs of a body, without what is inside the liver."""
    axes = grid.axes(grid.coarsening)
    at = body.coordinates(*axes)
    walls, ripple = shell(body, at), body.ripple(*axes)
    grain = SmoothNoise.draw(rng, GRAIN_PITCH_MM, REACH_MM)(*axes)
    hepatic = liver_field(body, walls, at, ripple, liver)

    def parts() -> Iterator[tuple[str, np.ndarray]]:
        yield from table_part(walls, *axes[1:])
        yield from wall_parts(walls, at, grain)
        yield from chest_parts(walls, at, grain, body.dome_mm)
        yield from spine_parts(walls, at)
        yield from bowel_parts(rng, walls, at, grain)
        yield from stomach_parts(rng, walls, at)
        yield from solid_parts(rng, walls, at, ripple)
        yield from vessel_parts(at)
        yield "liver", hepatic
        yield "gallbladder", ellipsoid(at, liver.gallbladder, GALLBLADDER_RADII) - rng.uniform(0, 5)
        yield from rib_parts(walls, at)

    tissues = np.zeros((len(grid.z_mm), grid.matrix, grid.matrix), np.uint8)
    for tissue, field in parts():
        _paint(tissues, CODE[tissue], field, grid.coarsening)
    return Anatomy(tissues, grain, hepatic)


def _paint(tissues: np.ndarray, code: int, field: np.ndarray, factor: int) -> None:
    """Write `code` where the coarse field, interpolated, is positive."""
    inside = field > 0
    rows, columns = _extent(inside.any((0, 2))), _extent(inside.any((0, 1)))
    fine_rows, fine_columns = (
        slice(s.start * factor, min(s.stop, field.shape[1]) * factor) for s in (rows, columns)
    )
    for k in np.flatnonzero(inside.any((1, 2))):
        coarse = np.ascontiguousarray(field[k, rows, columns], np.float32)
        fine = cv2.resize(coarse, None, fx=factor, fy=factor, interpolation=cv2.INTER_LINEAR)
        np.copyto(tissues[k, fine_rows, fine_columns], np.uint8(code), where=fine > 0)


def _extent(flags: np.ndarray) -> slice:
    """Range of the true flags and one more on each side, so that edges interpolate to the outside."""
    found = np.flatnonzero(flags)
    return slice(max(int(found[0]) - 1, 0), int(found[-1]) + 2) if found.size else slice(0, 0)
