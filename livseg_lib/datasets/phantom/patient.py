"""A phantom patient, made of two numbers, and the same one scanned again: tumours grown, shrunk, gone or new.

The first scan stays as it was to the last bit; what is planted in the second is the truth that a follow-up
has to find.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from livseg_lib.datasets.phantom.anatomy import Anatomy, Grid, paint_anatomy, paint_vessels
from livseg_lib.datasets.phantom.body import (
    CODE,
    ORGAN_OF_TISSUE,
    PHASES,
    VOLUME_ML,
    Body,
    LiverShape,
    Organ,
    fit_volume,
    labels_of_organs,
)
from livseg_lib.datasets.phantom.lesions import (
    Lesion,
    draw_lesions,
    find_place,
    paint_lesion,
    paint_lesions,
    place_lesions,
)
from livseg_lib.datasets.phantom.scanner import PADDING_HU, SITES, Site, patient_hu, scan, scan_mr, site_of
from livseg_lib.errors import InputError

WITHOUT_TUMOR, WITH_CYST = 0.22, 0.4
PHASE_SHARES = (0.15, 0.25, 0.60)
"""Of PHASES; LiTS is mostly portal venous."""

_MARGIN_MM = ((14, 30), (10, 22))
"""Of the scan below and above the liver."""


SCANNERS = {"ct": scan, "mr": scan_mr}
"""By `Site.modality`."""

_SPREAD = 9
"""A stream of random numbers that belongs to no patient."""


@dataclass(frozen=True)
class PhantomPatient:
    """A scan with its truth."""

    voxels: np.ndarray
    """int16 HU, (D, H, W) LPS."""
    labels: np.ndarray
    """uint8 0 background, 1 liver, 2 tumour."""
    organs: np.ndarray
    """uint8 codes of `Organ`."""
    spacing_mm: tuple[float, float, float]
    site: Site
    phase: str
    """One of PHASES."""
    lesions: tuple[Lesion, ...]
    """Tumours and cysts."""


def make_phantom_patient(seed: int, index: int, site: str | None = None) -> PhantomPatient:
    """Patient number `index` (from 0) of the phantom `seed`; the same in any order on any number of cores.

    `site` is a key of SITES; by default patients go round the sites (`site_of`). Raises InputError
    for an unknown site.
    """
    painted = paint_patient(seed, index, site)
    return painted.as_patient(painted.scanned(painted.scan_rng), ORGAN_OF_TISSUE[painted.anatomy.tissues])


def make_phantom_organs(seed: int, index: int, site: str | None = None) -> np.ndarray:
    """`organs` of that patient, uint8 (D, H, W), without scanning him: in two thirds of the time."""
    return ORGAN_OF_TISSUE[paint_patient(seed, index, site).anatomy.tissues]


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
        scanner = SCANNERS[self.site.modality]
        return scanner(rng, self.site, self.anatomy, self.grid, self.hu, self.added_hu)

    def as_patient(self, voxels: np.ndarray, organs: np.ndarray) -> PhantomPatient:
        """With what was scanned and which organ lies where, both (D, H, W)."""
        return PhantomPatient(
            voxels=voxels,
            labels=labels_of_organs(organs),
            organs=organs,
            spacing_mm=self.grid.spacing_mm,
            site=self.site,
            phase=self.phase,
            lesions=self.lesions,
        )


def paint_patient(
    seed: int, index: int, site: str | None, paint: LesionPainter = paint_lesions
) -> PaintedPatient:
    """That patient before the scan; `paint` puts the drawn lesions into the liver. Errors as above."""
    if site is not None and site not in SITES:
        raise InputError("phantom", f"There is no site {site!r}.", f"Choose one of {', '.join(SITES)}.")
    where = site_of(index) if site is None else SITES[site]
    phase = PHASES[int(np.searchsorted(np.cumsum(PHASE_SHARES[:-1]), _spread(seed, index, 3), "right"))]
    streams = ([seed, index, purpose] for purpose in (1, 2, 3, 4))
    body_rng, organ_rng, lesion_rng, scan_rng = map(np.random.default_rng, streams)

    body = Body.draw(body_rng)
    wanted_ml = float(np.clip(body_rng.normal(1520 * body.relative_size, 190), *VOLUME_ML))
    liver, heights = fit_volume(body, LiverShape.draw(body_rng), wanted_ml)
    grid = _grid(body_rng, body, where, heights)
    anatomy = paint_anatomy(organ_rng, body, liver, grid)
    paint_vessels(organ_rng, body, grid, anatomy.tissues)

    hu = patient_hu(scan_rng, phase)
    has_tumor, has_cyst = _spread(seed, index, 2) >= WITHOUT_TUMOR, _spread(seed, index, 5) < WITH_CYST
    drawn = draw_lesions(lesion_rng, phase, hu[CODE["liver"]], has_tumor, has_cyst)
    lesions, added = paint(lesion_rng, drawn, anatomy, grid)
    return PaintedPatient(where, phase, grid, anatomy, hu, tuple(lesions), added, scan_rng)


def _spread(seed: int, index: int, prime: int) -> float:
    """0..1, evenly spread over consecutive patients, so that even a small set has every kind."""
    start = np.random.default_rng([seed, prime, _SPREAD]).random()
    return float((start + index * np.sqrt(prime)) % 1)


def _grid(rng: np.random.Generator, body: Body, site: Site, heights: tuple[float, float]) -> Grid:
    """A scan of the liver's heights and some more, with a field of view as wide as the body."""
    view_mm = body.outer_width_mm * rng.uniform(1.0, 1.07)
    pixel_mm = round(float(np.clip(view_mm / site.matrix, *site.pixel_mm)), 3)
    slice_mm = round(rng.uniform(*site.slice_mm) * 4) / 4
    (below, above) = (rng.uniform(*limits) for limits in _MARGIN_MM)
    z_mm = np.arange(heights[0] - below, heights[1] + above + slice_mm, slice_mm)
    middle_y = sum(body.front_and_back_y(body.fat_mm)) / 2
    return Grid(site.matrix, pixel_mm, z_mm, (rng.normal(0, 4) - middle_y, rng.normal(0, 4)))


MOVED_MM = (4.0, 7.0, 9.0)
"""How much farther along D, H and W the patient lies the second time, in whole voxels."""

UNSCANNED = {"ct": PADDING_HU, "mr": 0}
"""What a scanner writes where there is nothing."""

SECOND_SCAN = 1
"""Its noise is drawn from a stream of its own."""


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

    def paint(
        rng: np.random.Generator, drawn: list[Lesion], anatomy: Anatomy, grid: Grid
    ) -> tuple[list[Lesion], np.ndarray]:
        added = np.zeros(anatomy.tissues.shape, np.int16)
        # Places depend on what was painted before, so the first scan's lesions are painted, too: aside.
        aside = replace(anatomy, tissues=anatomy.tissues.copy())
        before = list(place_lesions(rng, drawn, aside, grid, np.zeros_like(added)))
        _require_growth(growth, len(before))
        painted = []
        for number, (lesion, shape_rng) in enumerate(before, start=1):
            later = replace(lesion, diameter_mm=lesion.diameter_mm * growth.get(number, 1.0))
            if later.diameter_mm > 0:
                painted.append(paint_lesion(shape_rng, later, anatomy, grid, added))
        for lesion in new:
            others = [*painted, *(lesion for lesion, _ in before)]
            painted.append(_paint_new(rng, lesion, others, anatomy, grid, added))
        return painted, added

    painted = paint_patient(seed, index, site, paint)
    noise_rng = np.random.default_rng([seed, index, 4, SECOND_SCAN])
    voxels = painted.scanned(noise_rng)
    organs = _moved(ORGAN_OF_TISSUE[painted.anatomy.tissues], painted.grid, moved_mm, Organ.AIR)
    outside = UNSCANNED[painted.site.modality]
    return painted.as_patient(_moved(voxels, painted.grid, moved_mm, outside), organs)


def _require_growth(growth: Mapping[int, float], n_lesions: int) -> None:
    wrong = {
        number: factor for number, factor in growth.items() if not 1 <= number <= n_lesions or factor < 0
    }
    if wrong:
        problem = f"{wrong} is no growth of a patient with {n_lesions} lesions."
        remedy = "Give factors from 0 on for the lesions 1, 2, ... of the patient."
        raise InputError("growth", problem, remedy)


def _paint_new(
    rng: np.random.Generator,
    lesion: Lesion,
    others: list[Lesion],
    anatomy: Anatomy,
    grid: Grid,
    added: np.ndarray,
) -> Lesion:
    """Paint a lesion where none of the `others` is or was."""
    apart = [replace(other, kind="other") for other in others]
    centre = find_place(rng, lesion, apart, anatomy, grid)
    if centre is None:
        problem = f"has no room for a new lesion of {lesion.diameter_mm:g} mm."
        raise InputError("phantom", f"This patient's liver {problem}", "Plant a smaller one.")
    return paint_lesion(rng, replace(lesion, center_mm=centre), anatomy, grid, added)


def _moved(array: np.ndarray, grid: Grid, moved_mm: tuple[float, float, float], outside: int) -> np.ndarray:
    """`array` (D, H, W) shifted by whole voxels, with `outside` where nothing was scanned."""
    shifts = np.rint(np.divide(moved_mm, grid.spacing_mm)).astype(int)
    moved = np.full_like(array, outside)
    target = tuple(slice(max(s, 0), n + min(s, 0)) for s, n in zip(shifts, array.shape, strict=True))
    source = tuple(slice(max(-s, 0), n - max(s, 0)) for s, n in zip(shifts, array.shape, strict=True))
    moved[target] = array[source]
    return moved
