"""The organs of the belly other than the liver."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from livseg_lib.datasets.phantom.body import Shell
from livseg_lib.datasets.phantom.fields import Coordinates, Point, ellipsoid, smooth_min, tube
from livseg_lib.datasets.phantom.liver import KIDNEY_RADII, KIDNEYS, PORTAL_TRUNK

CORTEX_MM, STOMACH_WALL_MM, BOWEL_WALL_MM = 7.0, 4.0, 2.5
COLON = (
    [
        Point(-98, 12, -140),
        Point(-96, 8, -95),
        Point(-82, -18, -72),
        Point(-50, -62, -74),
        Point(0, -72, -84),
    ],
    [Point(0, -72, -84), Point(48, -66, -62), Point(88, -38, -20), Point(104, 10, 2)],
    [Point(104, 10, 2), Point(110, 30, -40), Point(108, 30, -140)],
)

Parts = Iterator[tuple[str, np.ndarray]]


def bowel_parts(rng: np.random.Generator, walls: Shell, at: Coordinates, grain: np.ndarray) -> Parts:
    """Colon with faeces and gas, loops of small bowel, and the vessels between them."""
    inside = np.minimum(walls.cavity_mm - 3, -walls.diaphragm_mm - 4)
    for path in (_loop(rng) for _ in range(24)):
        loop = np.minimum(inside, tube(at, path, [rng.uniform(10, 15)] * len(path)) + grain)
        yield "bowel wall", loop
        yield "bowel content", loop - BOWEL_WALL_MM
        yield "bowel gas", np.minimum(loop - BOWEL_WALL_MM - 1, 3 * (grain - 2.2))
    for path in COLON:
        path = [_jitter(rng, point, 7) for point in path]
        colon = np.minimum(inside, tube(at, path, [rng.uniform(14, 21)] * len(path)) + 1.5 * grain)
        yield "bowel wall", colon
        yield "faeces", colon - 2
        yield "bowel gas", np.minimum(colon - 3, 4 * (grain - rng.uniform(0.2, 1.1)))
    for _ in range(32):
        start = Point(rng.uniform(-50, 90), rng.uniform(-60, 20), rng.uniform(-120, 20))
        path = [start, _jitter(rng, start, 14), _jitter(rng, start, 26)]
        yield "mesenteric vessel", np.minimum(inside, tube(at, path, [rng.uniform(1.6, 2.8)] * 3))


def _loop(rng: np.random.Generator) -> list[Point]:
    """A wandering path in the left and middle of the lower belly."""
    path = [Point(rng.uniform(-70, 95), rng.uniform(-75, 10), rng.uniform(-140, -30))]
    for _ in range(5):
        last = _jitter(rng, path[-1], 22)
        path.append(Point(np.clip(last.x, -75, 100), np.clip(last.y, -78, 12), np.clip(last.z, -150, -25)))
    return path


def _jitter(rng: np.random.Generator, point: Point, sd_mm: float) -> Point:
    return Point(*(np.asarray(point) + rng.normal(0, sd_mm, 3)))


def stomach_parts(rng: np.random.Generator, walls: Shell, at: Coordinates) -> Parts:
    """The stomach from the left dome to the pylorus; its gas lies in front of its fluid."""
    size = rng.uniform(0.75, 1.15)
    path = [
        Point(70, 14, 48),
        Point(72, -14, 26),
        Point(54, -44, -2),
        Point(12, -46, -24),
        Point(-18, -28, -22),
    ]
    path = [_jitter(rng, point, 5) for point in path]
    inside = np.minimum(walls.cavity_mm - 3, -walls.diaphragm_mm - 4)
    stomach = smooth_min(inside, tube(at, path, [34 * size, 32 * size, 25 * size, 18 * size, 9], 20), 4)
    lumen = stomach - STOMACH_WALL_MM
    yield "stomach wall", stomach
    yield "stomach fluid", lumen
    yield "stomach gas", np.minimum(lumen, rng.uniform(-62, -25) - at.y)


def solid_parts(rng: np.random.Generator, walls: Shell, at: Coordinates, ripple: np.ndarray) -> Parts:
    """Pancreas, spleen, kidneys, portal vein."""
    path = [Point(-30, 2, -42), Point(-18, -4, -22), Point(14, -10, -8), Point(48, 8, 4), Point(80, 28, 14)]
    yield "pancreas", tube(at, path, [13, 12, 9, 9, 7]) + 1.5 * ripple
    yield from _spleen(rng, walls, at, ripple)
    for centre in KIDNEYS:
        yield from _kidney(_jitter(rng, centre, 2), at)
    yield "portal vein", tube(at, [Point(4, -6, -110), *PORTAL_TRUNK], [5, 6.5, 7, 7])
    yield "portal vein", tube(at, [PORTAL_TRUNK[0], Point(40, 16, -2), Point(84, 34, 18)], [5, 4.5, 4])


def _spleen(rng: np.random.Generator, walls: Shell, at: Coordinates, ripple: np.ndarray) -> Parts:
    """A cap against the wall and the diaphragm at the left back, hollow towards the stomach."""
    size = rng.uniform(0.85, 1.2)
    outer = ellipsoid(at, Point(100, 36, 18), Point(46 * size, 52 * size, 58 * size))
    hollow = ellipsoid(at, Point(46, -6, 18), Point(50, 54, 95))
    spleen = smooth_min(smooth_min(outer, -hollow, 6), walls.cavity_mm - 1.5, 4)
    yield "spleen", smooth_min(spleen, -walls.diaphragm_mm - 4, 4) + ripple


def _kidney(centre: Point, at: Coordinates) -> Parts:
    """Cortex, medulla, and the fat of the sinus that opens towards the spine."""
    side = np.sign(centre.x)
    lean = Coordinates(at.x + side * 0.15 * (at.z - centre.z), at.y, at.z)
    kidney = ellipsoid(lean, centre, KIDNEY_RADII)
    sinus = ellipsoid(lean, Point(centre.x - side * 16, centre.y - 7, centre.z), Point(15, 5.5, 24))
    yield "kidney cortex", smooth_min(kidney, -sinus, 3)
    yield "kidney medulla", smooth_min(kidney - CORTEX_MM, -sinus - 2, 3)
