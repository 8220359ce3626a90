"""One phantom patient, from two numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from livseg_lib.datasets.phantom.anatomy import Anatomy, Grid, paint_anatomy
from livseg_lib.datasets.phantom.body import Body
from livseg_lib.datasets.phantom.lesions import Lesion, draw_lesions, paint_lesions
from livseg_lib.datasets.phantom.liver import VOLUME_ML, LiverShape, fit_volume
from livseg_lib.datasets.phantom.magnet import scan_mr
from livseg_lib.datasets.phantom.scanner import patient_hu, scan
from livseg_lib.datasets.phantom.sites import SITES, Site, site_of
from livseg_lib.datasets.phantom.tissues import CODE, ORGAN_OF_TISSUE, PHASES, labels_of_organs
from livseg_lib.datasets.phantom.vessels import paint_vessels
from livseg_lib.errors import InputError

WITHOUT_TUMOR, WITH_CYST = 0.22, 0.4
PHASE_SHARES = (0.15, 0.25, 0.60)
"""Of PHASES; LiTS is mostly portal venous."""

MARGIN_MM = ((14, 30), (10, 22))
"""Of the scan below and above the liver."""


SCANNERS = {"ct": scan, "mr": scan_mr}
"""By `Site.modality`."""

SPREAD = 9
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
    start = np.random.default_rng([seed, prime, SPREAD]).random()
    return float((start + index * np.sqrt(prime)) % 1)


def _grid(rng: np.random.Generator, body: Body, site: Site, heights: tuple[float, float]) -> Grid:
    """A scan of the liver's heights and some more, with a field of view as wide as the body."""
    view_mm = body.outer_width_mm * rng.uniform(1.0, 1.07)
    pixel_mm = round(float(np.clip(view_mm / site.matrix, *site.pixel_mm)), 3)
    slice_mm = round(rng.uniform(*site.slice_mm) * 4) / 4
    (below, above) = (rng.uniform(*limits) for limits in MARGIN_MM)
    z_mm = np.arange(heights[0] - below, heights[1] + above + slice_mm, slice_mm)
    middle_y = sum(body.front_and_back_y(body.fat_mm)) / 2
    return Grid(site.matrix, pixel_mm, z_mm, (rng.normal(0, 4) - middle_y, rng.normal(0, 4)))
