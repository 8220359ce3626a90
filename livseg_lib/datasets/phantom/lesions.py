"""Tumours, and cysts that look like them: drawn, placed in the liver and painted."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass, replace

import numpy as np

from livseg_lib.datasets.phantom.anatomy import Anatomy, Grid
from livseg_lib.datasets.phantom.body import CODE, LIVER_ORGANS, ORGAN_OF_TISSUE, Organ
from livseg_lib.datasets.phantom.fields import SmoothNoise

FIRST_TUMOR_MM = 12.0
"""No tumour patient has only tumours smaller than this: they would be in the data by name only."""

TUMOR_DIAMETER_MM, CYST_DIAMETER_MM = (5.0, 60.0), (5.0, 32.0)
MEDIAN_DIAMETER_MM, LOG_SD = 18.0, 0.58
MEAN_TUMORS = 3.2
TOUCHING, DIFFUSE = 0.3, 0.3
"""Share of tumours that are placed against an earlier one, and of those with a diffuse edge."""

DARKER_HU = {"native": (10, 32), "arterial": (14, 50), "portal venous": (16, 60)}
"""How much darker than the liver most tumours are."""

BRIGHTER_HU = {"native": (0, 0), "arterial": (16, 50), "portal venous": (12, 35)}
BRIGHT_SHARE = {"native": 0.0, "arterial": 0.35, "portal venous": 0.08}
CYST_HU = (0.0, 15.0)
LIVER_SHARE = 0.35
"""Tumours together fill at most this share of the liver."""

IS_HEPATIC = np.isin(ORGAN_OF_TISSUE, [*LIVER_ORGANS, Organ.TUMOR])
"""Whether a lesion may grow here, for each tissue code."""


@dataclass(frozen=True)
class Lesion:
    """One tumour or cyst."""

    kind: str
    """"tumor" or "cyst"."""
    diameter_mm: float
    """Of the sphere of the same volume, before the liver's border cuts it."""
    contrast_hu: float
    """Difference to the liver around it, before noise."""
    diffuse: bool
    center_mm: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """(D, H, W) from the first voxel's centre."""
    volume_ml: float = 0.0
    """Of its voxels when it was painted; a later lesion that overlaps it may have taken some."""


def draw_lesions(
    rng: np.random.Generator, phase: str, liver_hu: float, has_tumor: bool, has_cyst: bool
) -> list[Lesion]:
    """Cysts first, then tumours from large to small, not yet placed."""
    cysts = 1 + rng.poisson(1.0) if has_cyst else 0
    tumors = min(1 + rng.poisson(MEAN_TUMORS - 1) * rng.integers(1, 3), 10) if has_tumor else 0
    smallest = (TUMOR_DIAMETER_MM[0] if n else FIRST_TUMOR_MM for n in range(tumors))
    drawn = [_draw_tumor(rng, phase, smallest_mm) for smallest_mm in smallest]
    return [_draw_cyst(rng, liver_hu) for _ in range(cysts)] + sorted(drawn, key=lambda t: -t.diameter_mm)


def _draw_cyst(rng: np.random.Generator, liver_hu: float) -> Lesion:
    diameter = float(np.clip(rng.lognormal(np.log(12), 0.5), *CYST_DIAMETER_MM))
    return Lesion("cyst", diameter, float(rng.uniform(*CYST_HU) - liver_hu), diffuse=False)


def _draw_tumor(rng: np.random.Generator, phase: str, smallest_mm: float) -> Lesion:
    diameter = rng.lognormal(np.log(MEDIAN_DIAMETER_MM), LOG_SD)
    diameter = float(np.clip(diameter, smallest_mm, TUMOR_DIAMETER_MM[1]))
    bright = rng.random() < BRIGHT_SHARE[phase]
    contrast = rng.uniform(*BRIGHTER_HU[phase]) if bright else -rng.uniform(*DARKER_HU[phase])
    return Lesion("tumor", diameter, contrast, diffuse=bool(rng.random() < DIFFUSE))


def paint_lesions(
    rng: np.random.Generator, lesions: list[Lesion], anatomy: Anatomy, grid: Grid
) -> tuple[list[Lesion], np.ndarray]:
    """Place every lesion in the liver and paint it into `anatomy.tissues`.

    Returns the lesions that found a place, with centre and volume, and what they add to the liver's
    brightness, int16 HU (D, H, W).
    """
    added = np.zeros(anatomy.tissues.shape, np.int16)
    return [lesion for lesion, _ in place_lesions(rng, lesions, anatomy, grid, added)], added


def place_lesions(
    rng: np.random.Generator, lesions: list[Lesion], anatomy: Anatomy, grid: Grid, added: np.ndarray
) -> Iterator[tuple[Lesion, np.random.Generator]]:
    """Paint one lesion after the other, as `paint_lesions` says; gives each that found a place, with a copy
    of the random stream that its shape was drawn from: `paint_lesion` draws the same shape from it again.
    """
    room = LIVER_SHARE * IS_HEPATIC[anatomy.tissues].sum() * np.prod(grid.spacing_mm) / 1000
    placed: list[Lesion] = []
    for lesion in lesions:
        centre = find_place(rng, lesion, placed, anatomy, grid)
        if centre is None or (lesion.kind == "tumor" and np.pi / 6000 * lesion.diameter_mm**3 > room):
            continue
        shape_rng = deepcopy(rng)
        painted = paint_lesion(rng, replace(lesion, center_mm=centre), anatomy, grid, added)
        if painted.volume_ml > 0:
            placed.append(painted)
            room -= painted.volume_ml if lesion.kind == "tumor" else 0
            yield painted, shape_rng


def find_place(
    rng: np.random.Generator, lesion: Lesion, placed: list[Lesion], anatomy: Anatomy, grid: Grid
) -> tuple[float, float, float] | None:
    """A centre (mm from the first voxel), deep enough, clear of other lesions or just touching a tumour."""
    radius = lesion.diameter_mm / 2
    tumors = [other for other in placed if other.kind == "tumor"]
    touch = lesion.kind == "tumor" and bool(tumors) and rng.random() < TOUCHING
    depth = anatomy.liver_depth_mm
    deepest = float(depth.max())
    candidates = np.argwhere(depth > min(rng.uniform(0.3, 1.0) * radius, 0.6 * deepest))
    spacing = np.array([grid.spacing_mm[0], *(grid.coarsening * s for s in grid.spacing_mm[1:])])
    offset = np.array([0, *((grid.coarsening - 1) / 2 * s for s in grid.spacing_mm[1:])])
    nearest, farthest = (-0.3 * radius, -0.05 * radius) if touch else (3.0, np.inf)
    for index in rng.permutation(len(candidates))[:400]:
        centre = candidates[index] * spacing + offset
        clear = all(_gap(centre, radius, other) > 3 for other in placed if other.kind != lesion.kind)
        gaps = [_gap(centre, radius, other) for other in placed if other.kind == lesion.kind]
        if clear and (not gaps or nearest < min(gaps) < farthest):
            return tuple(float(c) for c in centre)
    return None


def _gap(centre: np.ndarray, radius_mm: float, other: Lesion) -> float:
    return float(np.linalg.norm(centre - other.center_mm)) - radius_mm - other.diameter_mm / 2


def paint_lesion(
    rng: np.random.Generator, lesion: Lesion, anatomy: Anatomy, grid: Grid, added: np.ndarray
) -> Lesion:
    """Write one lesion, a dented ellipsoid, into the liver; gives it back with its volume."""
    radius = lesion.diameter_mm / 2
    edge = rng.uniform(0.25, 0.5) * radius if lesion.diffuse else 0.4
    reach = 1.45 * radius + edge
    axes = [np.arange(n) * s for n, s in zip(added.shape, grid.spacing_mm, strict=True)]
    box = tuple(
        slice(*np.searchsorted(axis, (c - reach, c + reach)))
        for axis, c in zip(axes, lesion.center_mm, strict=True)
    )
    from_centre = [axis[s] - c for axis, s, c in zip(axes, box, lesion.center_mm, strict=True)]
    depth = _dented_ellipsoid(rng, from_centre, radius, smooth=lesion.kind == "cyst")
    wanted_voxels = max(round(np.pi / 6 * lesion.diameter_mm**3 / np.prod(grid.spacing_mm)), 1)
    depth -= np.partition(depth, -wanted_voxels - 1, axis=None)[-wanted_voxels - 1]
    tissues = anatomy.tissues[box]
    hepatic = IS_HEPATIC[tissues]
    inside = hepatic & (depth > 0)
    np.copyto(tissues, np.uint8(CODE[lesion.kind]), where=inside)
    contrast = _profile(rng, lesion, depth, radius, edge)
    stronger = hepatic & (np.abs(contrast) > np.abs(added[box]))
    np.copyto(added[box], contrast.astype(np.int16), where=stronger)
    return replace(lesion, volume_ml=float(inside.sum() * np.prod(grid.spacing_mm) / 1000))


def _dented_ellipsoid(
    rng: np.random.Generator, from_centre: list[np.ndarray], radius_mm: float, smooth: bool
) -> np.ndarray:
    """Depth in mm below the surface of a random ellipsoid with bumps (few and low for a cyst)."""
    rotation = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    stretch = np.exp(rng.normal(0, 0.06 if smooth else 0.17, 3))
    stretch /= np.prod(stretch) ** (1 / 3)
    z, y, x = np.meshgrid(*from_centre, indexing="ij")
    places = np.stack([z, y, x], -1).astype(np.float32) @ (rotation / stretch).astype(np.float32)
    bumps = SmoothNoise.draw(rng, max(0.8 * radius_mm, 2.5), 2.5 * radius_mm + 5)(*from_centre)
    height = (0.03 if smooth else 0.16) * radius_mm
    return radius_mm - np.sqrt((places**2).sum(-1)) + height * np.clip(bumps, -2, 2)


def _profile(
    rng: np.random.Generator, lesion: Lesion, depth: np.ndarray, radius_mm: float, edge_mm: float
) -> np.ndarray:
    """What the lesion adds in HU at each depth: an edge, and in large tumours a darker core."""
    rise = np.clip(0.5 + depth / (2 * edge_mm), 0, 1)
    profile = lesion.contrast_hu * rise * rise * (3 - 2 * rise)
    if lesion.kind == "tumor" and radius_mm > 10 and rng.random() < 0.5:
        core = np.clip((depth - 0.45 * radius_mm) / (0.2 * radius_mm), 0, 1)
        profile = profile - rng.uniform(5, 22) * core
    return profile
