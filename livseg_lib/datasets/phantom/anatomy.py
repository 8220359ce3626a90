"""All organs of the phantom, painted on a voxel grid: fields on a coarse one, tissues at full resolution."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np

from livseg_lib.datasets.phantom.body import (
    BODY_REACH_MM,
    CODE,
    GALLBLADDER_RADII,
    HEPATIC_CONFLUENCE,
    KIDNEY_RADII,
    KIDNEYS,
    PORTA,
    PORTAL_TRUNK,
    VENA_CAVA,
    VENA_CAVA_RADII,
    Body,
    LiverShape,
    Shell,
    liver_field,
    shell,
)
from livseg_lib.datasets.phantom.fields import (
    Coordinates,
    Place,
    Point,
    SmoothNoise,
    ellipsoid,
    extent,
    segment_distance,
    smooth_max,
    smooth_min,
    tube,
)

RIB_PITCH_MM, RIB_HALF_HEIGHT_MM, RIB_HALF_THICKNESS_MM, RIB_DEPTH_MM = 27.0, 6.0, 3.6, 5.5
RIB_SLOPE_MM = 50.0  # a rib falls this much per radian on its way from the back to the front
VERTEBRA_PITCH_MM, DISC_HALF_MM = 35.0, 4.5
TABLE_GAP_MM = 8.0
COMPACT_MM = 1.8  # thickness of compact bone around marrow
Parts = Iterator[tuple[str, np.ndarray]]
"""Tissues and the fields that they fill, in the order of painting: later ones cover earlier ones."""


def table_part(walls: Shell, y_mm: np.ndarray, x_mm: np.ndarray) -> Parts:
    """The thin shell of the patient table, just below the back; axes in mm, 1D."""
    back = y_mm[(walls.skin_mm > 0).any((0, 2))][-1]
    rise = x_mm[None] ** 2 / 1500
    shell = 1.8 - np.abs(y_mm[:, None] - back - TABLE_GAP_MM + rise)
    yield "table", np.broadcast_to(shell, walls.skin_mm.shape)


def wall_parts(walls: Shell, at: Coordinates, grain: np.ndarray) -> Parts:
    """The wall with its streaks of fat, and the fat of the cavity."""
    yield "skin", walls.skin_mm
    yield "fat", walls.skin_mm - 2
    muscle = walls.wall_mm - walls.outside_mm
    erector = (1 - np.hypot((np.abs(at.x) - 37) / 40, (at.y - 91) / 20)) * 20
    yield "muscle", smooth_max(muscle, np.minimum(erector, walls.skin_mm - 4), 4)
    yield "muscle streak", np.minimum(erector - 2, 4 * (0.16 - np.abs(grain - 0.4)))
    for depth in (0.38, 0.7):
        layer = np.minimum(0.9 - np.abs(walls.outside_mm - depth * walls.wall_mm), -at.z - 20)
        yield "muscle streak", np.where(walls.back_angle > 0.9, layer, -1)
    yield "fat", np.minimum(walls.cavity_mm, -walls.diaphragm_mm)


def chest_parts(walls: Shell, at: Coordinates, grain: np.ndarray, dome_mm: float) -> Parts:
    """Lungs above the diaphragm, the heart upon it, the diaphragm itself."""
    above = np.minimum(walls.cavity_mm, walls.diaphragm_mm)
    mediastinum = np.minimum(12 - np.abs(at.x - 2), at.y + 30)
    yield "lung", above
    yield "lung vessel", np.minimum(above - 6, 2.5 * (grain - 2.0))
    yield "fat", np.minimum(above, mediastinum)
    heart = ellipsoid(at, Point(20, -34, dome_mm + 26), Point(62, 46, 46))
    yield "fat", np.minimum(above, heart + 7)
    yield "heart muscle", np.minimum(above - 2, heart)
    for x, y, *radii in ((34, -46, 28, 20, 36), (-2, -44, 24, 24, 38), (8, -8, 32, 15, 34)):
        chamber = ellipsoid(at, Point(x, y, dome_mm + 28), Point(*radii))
        yield "heart chamber", np.minimum(above - 2, chamber)
    yield "diaphragm", np.minimum(walls.cavity_mm, 1.3 - np.abs(walls.diaphragm_mm - 0.4))


def spine_parts(walls: Shell, at: Coordinates) -> Parts:
    """Muscles beside the spine, vertebrae with discs, arches, processes and canal."""
    size = np.clip((-at.z + 5) * 0.22, 0, 21)
    psoas = size - np.hypot(np.abs(at.x) - 26 - 0.5 * size, at.y - 56)
    yield "muscle", np.where(size > 2, psoas, -1)
    yield "muscle", tube(at, [(-6, 28, -70), (-9, 24, 20), (-6, 16, 60)], [5, 6, 5])
    yield "muscle", tube(at, [(20, 34, -50), (24, 26, 20), (18, 14, 60)], [4, 6, 5])
    level = np.abs(np.mod(at.z + 12, VERTEBRA_PITCH_MM) - VERTEBRA_PITCH_MM / 2)
    waist = 1 - 0.1 * np.cos(level * 2 * np.pi / VERTEBRA_PITCH_MM)
    vertebra = (1 - np.hypot(at.x / 23, (at.y - 49) / 17.5) / waist) * 18
    yield "cartilage", vertebra
    body = np.minimum(vertebra, VERTEBRA_PITCH_MM / 2 - DISC_HALF_MM - level)
    yield from _bone(body)
    canal = np.hypot(at.x * 0.8, at.y - 75)
    arch = np.minimum(4.5 - np.abs(canal - 12.5), 13 - level)
    x = np.abs(at.x)
    spinous = np.minimum(2.8 - x, np.minimum(13 - np.abs(at.y - 95), 8 - level))
    sideways = np.minimum(38 - x, np.minimum(x - 12, 8 - level))
    transverse = np.minimum(4.2 - np.abs(at.y - 74 - 0.2 * (x - 14)), sideways)
    yield from _bone(np.maximum(np.maximum(arch, spinous), transverse))
    yield "spinal canal", 8.5 - canal


def rib_parts(walls: Shell, at: Coordinates) -> Parts:
    """Ribs that fall from the back to the front, where they turn into cartilage; the sternum's tip."""
    fallen = at.z + RIB_SLOPE_MM * walls.back_angle + 5 * np.sign(at.x)
    height = RIB_HALF_HEIGHT_MM - np.abs(np.mod(fallen, RIB_PITCH_MM) - RIB_PITCH_MM / 2)
    rib = np.minimum(height, RIB_HALF_THICKNESS_MM - np.abs(walls.outside_mm - RIB_DEPTH_MM))
    margin = -78 + 120 * np.clip((walls.back_angle - 1.2) / 1.5, 0, 1) ** 1.3
    rib = np.where((at.z > margin) & (walls.back_angle > 0.34), rib, -9)
    front = walls.back_angle > 2.15
    yield "cartilage", np.where(front, rib + 1.2, -9)
    yield from _bone(np.where(front, -9, rib))
    sternum = np.minimum(5 - np.abs(walls.outside_mm - 6), np.minimum(15 - np.abs(at.x), at.z - 62))
    yield from _bone(np.where(walls.back_angle > 2.4, sternum, -1))


def _bone(field: np.ndarray) -> Parts:
    yield "compact bone", field
    yield "marrow", field - COMPACT_MM


def vessel_parts(at: Coordinates) -> Parts:
    """Aorta with its upper branches, inferior vena cava, oesophagus."""
    yield "oesophagus", tube(at, [(14, -2, 140), (18, -6, 62), (30, -16, 48)], [8, 8, 8])
    yield "vena cava", tube(at, VENA_CAVA, VENA_CAVA_RADII)
    aorta = [(6, 22, -150), (8, 20, -30), (13, 20, 40), (20, 34, 140)]
    yield "aorta", tube(at, aorta, [8.5, 10, 11.5, 12])
    yield "aorta", tube(at, [(9, 14, 4), (6, -2, -12), (4, -8, -90)], [4.5, 4, 3.5])
    splenic = [(10, 14, 12), (8, 0, 14), (40, 14, 22), (80, 30, 30)]
    yield "aorta", tube(at, splenic, [4, 4, 3, 3])
    yield "vena cava", tube(at, [(-20, 22, -30), (8, 6, -28), (46, 38, -32)], [5, 5, 5])
    yield "vena cava", tube(at, [(-20, 22, -42), (-44, 38, -46)], [5, 5])


CORTEX_MM, STOMACH_WALL_MM, BOWEL_WALL_MM = 7.0, 4.0, 2.5
COLON = (
    [(-98, 12, -140), (-96, 8, -95), (-82, -18, -72), (-50, -62, -74), (0, -72, -84)],
    [(0, -72, -84), (48, -66, -62), (88, -38, -20), (104, 10, 2)],
    [(104, 10, 2), (110, 30, -40), (108, 30, -140)],
)


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
        start = (rng.uniform(-50, 90), rng.uniform(-60, 20), rng.uniform(-120, 20))
        path = [start, _jitter(rng, start, 14), _jitter(rng, start, 26)]
        yield "mesenteric vessel", np.minimum(inside, tube(at, path, [rng.uniform(1.6, 2.8)] * 3))


def _loop(rng: np.random.Generator) -> list[Point]:
    """A wandering path in the left and middle of the lower belly."""
    path = [Point(rng.uniform(-70, 95), rng.uniform(-75, 10), rng.uniform(-140, -30))]
    for _ in range(5):
        last = _jitter(rng, path[-1], 22)
        path.append(Point(np.clip(last.x, -75, 100), np.clip(last.y, -78, 12), np.clip(last.z, -150, -25)))
    return path


def _jitter(rng: np.random.Generator, point: Place, sd_mm: float) -> Point:
    return Point(*(np.asarray(point) + rng.normal(0, sd_mm, 3)))


def stomach_parts(rng: np.random.Generator, walls: Shell, at: Coordinates) -> Parts:
    """The stomach from the left dome to the pylorus; its gas lies in front of its fluid."""
    size = rng.uniform(0.75, 1.15)
    middle = [(70, 14, 48), (72, -14, 26), (54, -44, -2), (12, -46, -24), (-18, -28, -22)]
    path = [_jitter(rng, point, 5) for point in middle]
    inside = np.minimum(walls.cavity_mm - 3, -walls.diaphragm_mm - 4)
    stomach = smooth_min(inside, tube(at, path, [34 * size, 32 * size, 25 * size, 18 * size, 9], 20), 4)
    lumen = stomach - STOMACH_WALL_MM
    yield "stomach wall", stomach
    yield "stomach fluid", lumen
    yield "stomach gas", np.minimum(lumen, rng.uniform(-62, -25) - at.y)


def solid_parts(rng: np.random.Generator, walls: Shell, at: Coordinates, ripple: np.ndarray) -> Parts:
    """Pancreas, spleen, kidneys, portal vein."""
    path = [(-30, 2, -42), (-18, -4, -22), (14, -10, -8), (48, 8, 4), (80, 28, 14)]
    yield "pancreas", tube(at, path, [13, 12, 9, 9, 7]) + 1.5 * ripple
    yield from _spleen(rng, walls, at, ripple)
    for centre in KIDNEYS:
        yield from _kidney(_jitter(rng, centre, 2), at)
    yield "portal vein", tube(at, [(4, -6, -110), *PORTAL_TRUNK], [5, 6.5, 7, 7])
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


COARSE_MATRIX = 112  # fields have about this many points along rows and columns; every 2.5 to 3.5 mm one
GRAIN_PITCH_MM = 5.0
PERFUSION_PITCH_MM = 25.0
"""Fat and blood are not spread evenly over a liver: smoothed over 10 mm its HU still vary by 3 to 7."""


@dataclass(frozen=True)
class Grid:
    """Voxel centres in mm relative to the body's middle."""

    matrix: int
    pixel_mm: float
    z_mm: np.ndarray  # height of every slice, upward
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

    tissues: np.ndarray  # tissue codes, uint8 (D, H, W)
    grain: np.ndarray
    """Unit noise over about 5 and 25 mm, float32 on the coarse grid: the texture of every tissue."""
    liver_depth_mm: np.ndarray
    """About how deep inside the liver, negative outside, float32 on the coarse grid."""


def paint_anatomy(rng: np.random.Generator, body: Body, liver: LiverShape, grid: Grid) -> Anatomy:
    """All organs of a body, without what is inside the liver."""
    axes = grid.axes(grid.coarsening)
    at = body.coordinates(*axes)
    walls, ripple = shell(body, at), body.ripple(*axes)
    grain = SmoothNoise.draw(rng, GRAIN_PITCH_MM, BODY_REACH_MM)(*axes)
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
    [own_rng] = rng.spawn(1)  # so that all that is drawn after this stays as it is
    slow = SmoothNoise.draw(own_rng, PERFUSION_PITCH_MM, BODY_REACH_MM)(*axes)
    return Anatomy(tissues, np.float32(0.8) * grain + np.float32(0.6) * slow, hepatic)


def _paint(tissues: np.ndarray, code: int, field: np.ndarray, factor: int) -> None:
    """Write `code` where the coarse field, interpolated, is positive."""
    inside = field > 0
    # One point more on each side, so that edges interpolate to the outside.
    rows, columns = extent(inside.any((0, 2)), 1), extent(inside.any((0, 1)), 1)
    fine = [slice(s.start * factor, min(s.stop, field.shape[1]) * factor) for s in (rows, columns)]
    for k in np.flatnonzero(inside.any((1, 2))):
        coarse = np.ascontiguousarray(field[k, rows, columns], np.float32)
        depth = cv2.resize(coarse, None, fx=factor, fy=factor, interpolation=cv2.INTER_LINEAR)
        np.copyto(tissues[k][*fine], np.uint8(code), where=depth > 0)


THINNEST_MM, THINNEST_PIXELS = 0.9, 0.6  # vessels end at this radius: thinner ones do not show
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


def paint_vessels(rng: np.random.Generator, body: Body, grid: Grid, tissues: np.ndarray) -> None:
    """Write the vessel trees into `tissues`, only where it is liver."""
    thinnest = max(THINNEST_MM, THINNEST_PIXELS * grid.pixel_mm)
    for tissue, root, target, *sizes_mm in TRUNKS:
        tree = _grow(rng, np.asarray(root, float), np.subtract(target, root), *sizes_mm, thinnest)
        starts, ends, radii_mm = zip(*tree, strict=True)
        starts, ends = (body.to_patient(np.array(points)) for points in (starts, ends))
        for piece in zip(starts, ends, radii_mm, strict=True):
            _paint_vessel(piece, CODE[tissue], grid, tissues)


Piece = tuple[np.ndarray, np.ndarray, tuple[float, float]]
"""Of a vessel, straight: its ends, (x, y, z) in mm, and the radii there."""


def _grow(
    rng: np.random.Generator,
    start: np.ndarray,
    heading: np.ndarray,
    length_mm: float,
    radius_mm: float,
    thinnest_mm: float,
) -> Iterator[Piece]:
    """A branch of two bent pieces that ends in thinner branches, and so on down to the thinnest."""
    if radius_mm < thinnest_mm:
        return
    for first, last in ((radius_mm, 0.88 * radius_mm), (0.88 * radius_mm, 0.76 * radius_mm)):
        heading = _bend(rng, heading, 0.25)
        end = start + heading * length_mm / 2
        yield start, end, (first, last)
        start = end
    for _ in range(BRANCHES):
        shorter_mm = SHORTENING * length_mm * rng.uniform(0.8, 1.2)
        turned = _bend(rng, heading, 0.6)
        yield from _grow(rng, start, turned, shorter_mm, NARROWING * radius_mm, thinnest_mm)


def _bend(rng: np.random.Generator, heading: np.ndarray, angle: float) -> np.ndarray:
    """A unit vector about `angle` radians off `heading`."""
    turned = heading / np.sqrt(heading @ heading) + rng.normal(0, angle / np.sqrt(2), 3)
    return turned / np.sqrt(turned @ turned)


def _paint_vessel(piece: Piece, code: int, grid: Grid, tissues: np.ndarray) -> None:
    start, end, (first, last) = piece
    margin, axes = max(first, last) + 1, grid.axes()
    limits = np.sort([start[::-1], end[::-1]], axis=0) + np.array([[-margin], [margin]])
    box = tuple(slice(*np.searchsorted(axis, ends)) for axis, ends in zip(axes, limits.T, strict=True))
    if not (tissues[box] == CODE["liver"]).any():
        return
    z, y, x = np.ix_(*(axis[part].astype(np.float32) for axis, part in zip(axes, box, strict=True)))
    distance, along = segment_distance(Coordinates(x, y, z), start, end)
    inside = distance < first + (last - first) * along
    np.copyto(tissues[box], np.uint8(code), where=inside & (tissues[box] == CODE["liver"]))
