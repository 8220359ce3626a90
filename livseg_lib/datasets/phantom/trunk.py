"""The trunk: skin, fat, muscle, bones, lungs, heart and the great vessels."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from livseg_lib.datasets.phantom.body import Shell
from livseg_lib.datasets.phantom.fields import Coordinates, Point, ellipsoid, smooth_max, tube
from livseg_lib.datasets.phantom.liver import VENA_CAVA, VENA_CAVA_RADII

RIB_PITCH_MM, RIB_HALF_HEIGHT_MM, RIB_HALF_THICKNESS_MM, RIB_DEPTH_MM = 27.0, 6.0, 3.6, 5.5
RIB_SLOPE_MM = 50.0
"""A rib falls this much per radian on its way from the back to the front."""

VERTEBRA_PITCH_MM, DISC_HALF_MM = 35.0, 4.5
TABLE_GAP_MM = 8.0
COMPACT_MM = 1.8
"""Thickness of compact bone around marrow."""

Parts = Iterator[tuple[str, np.ndarray]]


def table_part(walls: Shell, y_mm: np.ndarray, x_mm: np.ndarray) -> Parts:
    """The thin shell of the patient table, just below the back; axes in mm, 1D."""
    back = y_mm[(walls.skin_mm > 0).any((0, 2))][-1]
    rise = x_mm[None] ** 2 / 1500
    shell = 1.8 - np.abs(y_mm[:, None] - back - TABLE_GAP_MM + rise)
    yield "table", np.broadcast_to(shell, walls.skin_mm.shape)


def wall_parts(walls: Shell, at: Coordinates, grain: np.ndarray) -> Parts:
    """Skin, fat under it, the muscle wall with its streaks of fat, and the fat of the cavity."""
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
    for x, y, radii in (
        (34, -46, Point(28, 20, 36)),
        (-2, -44, Point(24, 24, 38)),
        (8, -8, Point(32, 15, 34)),
    ):
        yield "heart chamber", np.minimum(above - 2, ellipsoid(at, Point(x, y, dome_mm + 28), radii))
    yield "diaphragm", np.minimum(walls.cavity_mm, 1.3 - np.abs(walls.diaphragm_mm - 0.4))


def spine_parts(walls: Shell, at: Coordinates) -> Parts:
    """Muscles beside the spine, vertebrae with discs, arches, processes and canal."""
    size = np.clip((-at.z + 5) * 0.22, 0, 21)
    psoas = size - np.hypot(np.abs(at.x) - 26 - 0.5 * size, at.y - 56)
    yield "muscle", np.where(size > 2, psoas, -1)
    yield "muscle", tube(at, [Point(-6, 28, -70), Point(-9, 24, 20), Point(-6, 16, 60)], [5, 6, 5])
    yield "muscle", tube(at, [Point(20, 34, -50), Point(24, 26, 20), Point(18, 14, 60)], [4, 6, 5])
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
    transverse = np.minimum(
        4.2 - np.abs(at.y - 74 - 0.2 * (x - 14)), np.minimum(38 - x, np.minimum(x - 12, 8 - level))
    )
    yield from _bone(np.maximum(np.maximum(arch, spinous), transverse))
    yield "spinal canal", 8.5 - canal


def rib_parts(walls: Shell, at: Coordinates) -> Parts:
    """Ribs that fall from the back to the front, where they turn into cartilage; the sternum's tip."""
    phase = (
        np.mod(at.z + RIB_SLOPE_MM * walls.back_angle + 5 * np.sign(at.x), RIB_PITCH_MM) - RIB_PITCH_MM / 2
    )
    rib = np.minimum(
        RIB_HALF_HEIGHT_MM - np.abs(phase),
        RIB_HALF_THICKNESS_MM - np.abs(walls.outside_mm - RIB_DEPTH_MM),
    )
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
    yield "oesophagus", tube(at, [Point(14, -2, 140), Point(18, -6, 62), Point(30, -16, 48)], [8, 8, 8])
    yield "vena cava", tube(at, VENA_CAVA, VENA_CAVA_RADII)
    aorta = [Point(6, 22, -150), Point(8, 20, -30), Point(13, 20, 40), Point(20, 34, 140)]
    yield "aorta", tube(at, aorta, [8.5, 10, 11.5, 12])
    yield "aorta", tube(at, [Point(9, 14, 4), Point(6, -2, -12), Point(4, -8, -90)], [4.5, 4, 3.5])
    yield (
        "aorta",
        tube(at, [Point(10, 14, 12), Point(8, 0, 14), Point(40, 14, 22), Point(80, 30, 30)], [4, 4, 3, 3]),
    )
    yield "vena cava", tube(at, [Point(-20, 22, -30), Point(8, 6, -28), Point(46, 38, -32)], [5, 5, 5])
    yield "vena cava", tube(at, [Point(-20, 22, -42), Point(-44, 38, -46)], [5, 5])
