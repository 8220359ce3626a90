"""The vessels inside the liver: trees of tubes from the porta and from the vena cava."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from livseg_lib.datasets.phantom.anatomy import Grid
from livseg_lib.datasets.phantom.body import Body
from livseg_lib.datasets.phantom.fields import Coordinates, Point, segment_distance
from livseg_lib.datasets.phantom.liver import HEPATIC_CONFLUENCE, PORTA
from livseg_lib.datasets.phantom.tissues import CODE

THINNEST_MM, THINNEST_PIXELS = 0.9, 0.6
"""Vessels end at this radius: thinner ones do not show."""

BRANCHES, NARROWING, SHORTENING = 3, 0.72, 0.76
"""How many branches a branch ends in; their radius and length relative to it."""

TRUNKS = (
    # tissue, root, where the trunk heads, its length and first radius in mm
    ("portal branch", PORTA, Point(-90, 10, 8), 36, 5.2),
    ("portal branch", PORTA, Point(-85, -20, 40), 40, 4.5),
    ("portal branch", PORTA, Point(-95, 20, -60), 42, 4.5),
    ("portal branch", PORTA, Point(20, -50, 30), 42, 4.5),
    ("hepatic vein", HEPATIC_CONFLUENCE, Point(-105, 30, 20), 46, 4.6),
    ("hepatic vein", HEPATIC_CONFLUENCE, Point(-55, -50, 10), 46, 4.6),
    ("hepatic vein", HEPATIC_CONFLUENCE, Point(40, -55, 40), 44, 4.3),
)


@dataclass(frozen=True)
class Vessel:
    """One straight piece; ends are (x, y, z) in mm."""

    start: np.ndarray
    end: np.ndarray
    radii_mm: tuple[float, float]


def paint_vessels(rng: np.random.Generator, body: Body, grid: Grid, tissues: np.ndarray) -> None:
    """Write the vessel trees into `tissues`, only where it is liver."""
    thinnest = max(THINNEST_MM, THINNEST_PIXELS * grid.pixel_mm)
    for tissue, root, target, length_mm, radius_mm in TRUNKS:
        heading = np.subtract(target, root)
        tree = _grow(rng, np.asarray(root, float), heading, length_mm, radius_mm, thinnest)
        starts, ends = (
            body.to_patient(np.array([getattr(v, side) for v in tree])) for side in ("start", "end")
        )
        for vessel, start, end in zip(tree, starts, ends, strict=True):
            _paint(Vessel(start, end, vessel.radii_mm), CODE[tissue], grid, tissues)


def _grow(
    rng: np.random.Generator,
    start: np.ndarray,
    heading: np.ndarray,
    length_mm: float,
    radius_mm: float,
    thinnest_mm: float,
) -> list[Vessel]:
    """A branch of two bent pieces that ends in thinner branches, and so on."""
    if radius_mm < thinnest_mm:
        return []
    pieces = []
    for first, last in ((radius_mm, 0.88 * radius_mm), (0.88 * radius_mm, 0.76 * radius_mm)):
        heading = _bend(rng, heading, 0.25)
        end = start + heading * length_mm / 2
        pieces.append(Vessel(start, end, (first, last)))
        start = end
    for _ in range(BRANCHES):
        length = SHORTENING * length_mm * rng.uniform(0.8, 1.2)
        turned = _bend(rng, heading, 0.6)
        pieces += _grow(rng, start, turned, length, NARROWING * radius_mm, thinnest_mm)
    return pieces


def _bend(rng: np.random.Generator, heading: np.ndarray, angle: float) -> np.ndarray:
    """A unit vector about `angle` radians off `heading`."""
    turned = heading / np.sqrt(heading @ heading) + rng.normal(0, angle / np.sqrt(2), 3)
    return turned / np.sqrt(turned @ turned)


def _paint(vessel: Vessel, code: int, grid: Grid, tissues: np.ndarray) -> None:
    margin = max(vessel.radii_mm) + 1
    axes = grid.axes()
    limits = np.sort([vessel.start[::-1], vessel.end[::-1]], axis=0) + np.array([[-margin], [margin]])
    box = tuple(slice(*np.searchsorted(axis, ends)) for axis, ends in zip(axes, limits.T, strict=True))
    if not (tissues[box] == CODE["liver"]).any():
        return
    z, y, x = np.ix_(*(axis[part].astype(np.float32) for axis, part in zip(axes, box, strict=True)))
    distance, along = segment_distance(Coordinates(x, y, z), vessel.start, vessel.end)
    first, last = vessel.radii_mm
    inside = distance < first + (last - first) * along
    np.copyto(tissues[box], np.uint8(code), where=inside & (tissues[box] == CODE["liver"]))
