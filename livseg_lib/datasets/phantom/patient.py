"""A patient of the phantom, made of two numbers: tumours and cysts drawn, placed in the liver and painted.

The same patient may be scanned again: tumours grown, shrunk, gone or new. The first scan stays as it was to
the last bit; what is planted in the second is the truth that a follow-up has to find.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from livseg_lib.datasets.phantom.anatomy import Anatomy, Grid, paint_anatomy, paint_vessels
from livseg_lib.datasets.phantom.body import (
    CODE,
    LIVER_ORGANS,
    ORGAN_OF_TISSUE,
    PHASES,
    VOLUME_ML,
    WARP_LIMIT_MM,
    Body,
    LiverShape,
    Organ,
    fit_volume,
    labels_of_organs,
)
from livseg_lib.datasets.phantom.fields import SmoothNoise
from livseg_lib.datasets.phantom.scanner import PADDING_HU, SITES, Site, patient_hu, scan, scan_mr, site_of
from livseg_lib.errors import InputError

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
LIVER_SHARE = 0.35  # tumours together fill at most this share of the liver
IS_HEPATIC = np.isin(ORGAN_OF_TISSUE, [*LIVER_ORGANS, Organ.TUMOR])
"""Whether a lesion may grow here, for each tissue code."""


@dataclass(frozen=True)
class Lesion:
    """One tumour or cyst."""

    kind: str  # "tumor" or "cyst"
    diameter_mm: float  # of the sphere of the same volume, before the liver's border cuts it
    contrast_hu: float  # difference to the liver around it, before noise
    diffuse: bool
    center_mm: tuple[float, float, float] = (0.0, 0.0, 0.0)  # (D, H, W) from the first voxel's centre
    volume_ml: float = 0.0
    """Of its voxels when it was painted; a later lesion that overlaps it may have taken some."""


def draw_lesions(
    rng: np.random.Generator, phase: str, liver_hu: float, has_tumor: bool, has_cyst: bool
) -> list[Lesion]:
    """Cysts first, then tumours from large to small, not yet placed."""
    n_cysts = 1 + rng.poisson(1.0) if has_cyst else 0
    n_tumors = min(1 + rng.poisson(MEAN_TUMORS - 1) * rng.integers(1, 3), 10) if has_tumor else 0
    smallest = (TUMOR_DIAMETER_MM[0] if n else FIRST_TUMOR_MM for n in range(n_tumors))
    tumors = [_draw_tumor(rng, phase, smallest_mm) for smallest_mm in smallest]
    cysts = []
    for _ in range(n_cysts):
        diameter = float(np.clip(rng.lognormal(np.log(12), 0.5), *CYST_DIAMETER_MM))
        cysts.append(Lesion("cyst", diameter, float(rng.uniform(*CYST_HU) - liver_hu), diffuse=False))
    return cysts + sorted(tumors, key=lambda tumor: -tumor.diameter_mm)


def _draw_tumor(rng: np.random.Generator, phase: str, smallest_mm: float) -> Lesion:
    diameter = rng.lognormal(np.log(MEDIAN_DIAMETER_MM), LOG_SD)
    diameter = float(np.clip(diameter, smallest_mm, TUMOR_DIAMETER_MM[1]))
    bright = rng.random() < BRIGHT_SHARE[phase]
    contrast = rng.uniform(*BRIGHTER_HU[phase]) if bright else -rng.uniform(*DARKER_HU[phase])
    return Lesion("tumor", diameter, contrast, diffuse=bool(rng.random() < DIFFUSE))


def paint_lesions(
    rng: np.random.Generator, lesions: list[Lesion], anatomy: Anatomy, grid: Grid
) -> tuple[list[Lesion], np.ndarray]:
    """Place every lesion in the liver and paint it into `anatomy.tissues`. Returns the lesions that found a
    place, with centre and volume, and what they add to the liver's brightness, int16 HU (D, H, W)."""
    added = np.zeros(anatomy.tissues.shape, np.int16)
    return [lesion for lesion, _ in place_lesions(rng, lesions, anatomy, grid, added)], added


def place_lesions(
    rng: np.random.Generator, lesions: list[Lesion], anatomy: Anatomy, grid: Grid, added: np.ndarray
) -> Iterator[tuple[Lesion, np.random.Generator]]:
    """As `paint_lesions`, one after the other; each comes with a copy of the random stream that its shape was
    drawn from: `paint_lesion` draws the same shape from it again."""
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
    from_centre, box = [], ()
    for size, side_mm, centre in zip(added.shape, grid.spacing_mm, lesion.center_mm, strict=True):
        axis = np.arange(size) * side_mm
        box += (slice(*np.searchsorted(axis, (centre - reach, centre + reach))),)
        from_centre.append(axis[box[-1]] - centre)
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
    points = np.stack([z, y, x], -1).astype(np.float32) @ (rotation / stretch).astype(np.float32)
    bumps = SmoothNoise.draw(rng, max(0.8 * radius_mm, 2.5), 2.5 * radius_mm + 5)(*from_centre)
    height = (0.03 if smooth else 0.16) * radius_mm
    return radius_mm - np.sqrt((points**2).sum(-1)) + height * np.clip(bumps, -2, 2)


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


WITHOUT_TUMOR, WITH_CYST = 0.22, 0.4
PHASE_SHARES = (0.15, 0.25, 0.60)  # of PHASES; LiTS is mostly portal venous
_MARGIN_MM = ((14, 30), (10, 22))  # of the scan below and above the liver
_SPREAD = 9  # a stream of random numbers that belongs to no patient


@dataclass(frozen=True)
class PhantomPatient:
    """A scan with its truth."""

    voxels: np.ndarray  # int16 HU, (D, H, W) LPS
    labels: np.ndarray  # uint8 0 background, 1 liver, 2 tumour
    organs: np.ndarray  # uint8 codes of `Organ`
    spacing_mm: tuple[float, float, float]
    site: Site
    phase: str  # one of PHASES
    lesions: tuple[Lesion, ...]  # tumours and cysts


def make_phantom_patient(seed: int, index: int, site: str | None = None) -> PhantomPatient:
    """Patient number `index` (from 0) of the phantom `seed`; the same in any order on any number of cores.

    `site` is a key of SITES; by default patients go round the sites (`site_of`). Raises InputError
    for an unknown site.
    """
    painted = paint_patient(seed, index, site, paint_lesions)
    return painted.as_patient(painted.scanned(painted.scan_rng), ORGAN_OF_TISSUE[painted.anatomy.tissues])


LesionPainter = Callable[[np.random.Generator, list[Lesion], Anatomy, Grid], tuple[list[Lesion], np.ndarray]]
"""As `paint_lesions`."""


class PaintedPatient(NamedTuple):
    """A patient on the scanner's table."""

    site: Site
    phase: str
    grid: Grid
    anatomy: Anatomy
    hu: np.ndarray
    lesions: tuple[Lesion, ...]
    added_hu: np.ndarray
    scan_rng: np.random.Generator

    def scanned(self, rng: np.random.Generator) -> np.ndarray:
        """The voxels, int16 (D, H, W), that the site's scanner gives with the noise of `rng`."""
        scanner = scan_mr if self.site.modality == "mr" else scan
        return scanner(rng, self.site, self.anatomy, self.grid, self.hu, self.added_hu)

    def as_patient(self, voxels: np.ndarray, organs: np.ndarray) -> PhantomPatient:
        """With what was scanned and which organ lies where, both (D, H, W)."""
        facts = (self.grid.spacing_mm, self.site, self.phase, self.lesions)
        return PhantomPatient(voxels, labels_of_organs(organs), organs, *facts)


def paint_patient(seed: int, index: int, site: str | None, paint: LesionPainter) -> PaintedPatient:
    """That patient before the scan; `paint` puts the drawn lesions into the liver. Errors as above."""
    if site is not None and site not in SITES:
        raise InputError("phantom", f"There is no site {site!r}.", f"Choose one of {', '.join(SITES)}.")
    where = site_of(index) if site is None else SITES[site]
    phase = PHASES[int(np.searchsorted(np.cumsum(PHASE_SHARES[:-1]), _spread(seed, index, 3), "right"))]
    streams = ([seed, index, purpose] for purpose in (1, 2, 3, 4))
    body_rng, organ_rng, lesion_rng, scan_rng = map(np.random.default_rng, streams)

    body = Body.draw(body_rng)
    relative_size = body.half_width_mm * body.half_depth_mm / (127 * 94)
    wanted_ml = float(np.clip(body_rng.normal(1520 * relative_size, 190), *VOLUME_ML))
    liver, heights = fit_volume(body, LiverShape.draw(body_rng), wanted_ml)
    grid = _grid(body_rng, body, where, heights)
    anatomy = paint_anatomy(organ_rng, body, liver, grid)
    paint_vessels(organ_rng, body, grid, anatomy.tissues)

    hu = patient_hu(scan_rng, phase)
    has_tumor, has_cyst = _spread(seed, index, 2) >= WITHOUT_TUMOR, _spread(seed, index, 5) < WITH_CYST
    drawn_lesions = draw_lesions(lesion_rng, phase, hu[CODE["liver"]], has_tumor, has_cyst)
    lesions, added = paint(lesion_rng, drawn_lesions, anatomy, grid)
    return PaintedPatient(where, phase, grid, anatomy, hu, tuple(lesions), added, scan_rng)


def _spread(seed: int, index: int, prime: int) -> float:
    """0..1, evenly spread over consecutive patients, so that even a small set has every kind."""
    start = np.random.default_rng([seed, prime, _SPREAD]).random()
    return float((start + index * np.sqrt(prime)) % 1)


def _grid(rng: np.random.Generator, body: Body, site: Site, heights: tuple[float, float]) -> Grid:
    """A scan of the liver's heights and some more, with a field of view as wide as the body."""
    outer_mm = 2 * (body.half_width_mm + 12 + 1.2 * body.fat_mm + WARP_LIMIT_MM)
    view_mm = outer_mm * rng.uniform(1.0, 1.07)
    pixel_mm = round(float(np.clip(view_mm / site.matrix, *site.pixel_mm)), 3)
    slice_mm = round(rng.uniform(*site.slice_mm) * 4) / 4
    below, above = (rng.uniform(*limits) for limits in _MARGIN_MM)
    z_mm = np.arange(heights[0] - below, heights[1] + above + slice_mm, slice_mm)
    middle_y = sum(body.front_and_back_y(body.fat_mm)) / 2
    return Grid(site.matrix, pixel_mm, z_mm, (rng.normal(0, 4) - middle_y, rng.normal(0, 4)))


MOVED_MM = (4.0, 7.0, 9.0)
"""How much farther along D, H and W the patient lies the second time, in whole voxels."""
SECOND_SCAN = 1  # its noise is drawn from a stream of its own


def make_phantom_follow_up(
    seed: int,
    index: int,
    growth: Mapping[int, float],
    new: Sequence[Lesion] = (),
    site: str | None = None,
    moved_mm: tuple[float, float, float] = MOVED_MM,
) -> PhantomPatient:
    """The second scan of `make_phantom_patient(seed, index, site)`.

    `growth` maps the number of a lesion (from 1, in the order of that patient's `lesions`) to the factor
    on its diameter: 1 leaves it as it is, as for lesions that are not named, 0 lets it vanish. A lesion
    keeps its centre and axes; its dents change as it grows. `new` lesions are placed beside the others.
    The returned `lesions` are those still there, then the new ones.

    Raises InputError for an unknown site, for a number that no lesion has or a factor below 0, and where
    a new lesion finds no place.
    """

    def paint(rng, drawn: list[Lesion], anatomy: Anatomy, grid: Grid) -> tuple[list[Lesion], np.ndarray]:
        added = np.zeros(anatomy.tissues.shape, np.int16)
        # Places depend on what was painted before, so the first scan's lesions are painted, too: aside.
        aside = replace(anatomy, tissues=anatomy.tissues.copy())
        before = list(place_lesions(rng, drawn, aside, grid, np.zeros_like(added)))
        wrong = {n: factor for n, factor in growth.items() if not 1 <= n <= len(before) or factor < 0}
        if wrong:
            problem = f"{wrong} is no growth of a patient with {len(before)} lesions."
            remedy = "Give factors of at least 0 for the lesions 1, 2, ... of the patient."
            raise InputError("growth", problem, remedy)
        painted = []
        for number, (lesion, shape_rng) in enumerate(before, start=1):
            later = replace(lesion, diameter_mm=lesion.diameter_mm * growth.get(number, 1.0))
            if later.diameter_mm > 0:
                painted.append(paint_lesion(shape_rng, later, anatomy, grid, added))
        for lesion in new:  # where none is or was
            obstacles = [replace(other, kind="other") for other in (*painted, *(each for each, _ in before))]
            centre = find_place(rng, lesion, obstacles, anatomy, grid)
            if centre is None:
                problem = f"This patient's liver has no room for a new lesion of {lesion.diameter_mm:g} mm."
                raise InputError("phantom", problem, "Plant a smaller one.")
            painted.append(paint_lesion(rng, replace(lesion, center_mm=centre), anatomy, grid, added))
        return painted, added

    painted = paint_patient(seed, index, site, paint)
    voxels = painted.scanned(np.random.default_rng([seed, index, 4, SECOND_SCAN]))
    shifts = np.rint(np.divide(moved_mm, painted.grid.spacing_mm)).astype(int)
    organs = _moved(ORGAN_OF_TISSUE[painted.anatomy.tissues], shifts, Organ.AIR)
    outside = 0 if painted.site.modality == "mr" else PADDING_HU
    return painted.as_patient(_moved(voxels, shifts, outside), organs)


def _moved(array: np.ndarray, shifts: np.ndarray, outside: int) -> np.ndarray:
    """`array` (D, H, W) shifted by whole voxels, with `outside` where nothing was scanned."""
    moved = np.full_like(array, outside)
    target = tuple(slice(max(s, 0), n + min(s, 0)) for s, n in zip(shifts, array.shape, strict=True))
    source = tuple(slice(max(-s, 0), n - max(s, 0)) for s, n in zip(shifts, array.shape, strict=True))
    moved[target] = array[source]
    return moved
