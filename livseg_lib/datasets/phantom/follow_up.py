"""A phantom patient scanned again: the same body on the same scanner, its tumours grown, shrunk, gone or new.

The first scan is the one of `make_phantom_patient`, to the last bit; what is planted here is the truth that
a follow-up has to find.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from livseg_lib.datasets.phantom.anatomy import Anatomy, Grid
from livseg_lib.datasets.phantom.lesions import Lesion, find_place, paint_lesion, place_lesions
from livseg_lib.datasets.phantom.patient import PhantomPatient, paint_patient
from livseg_lib.datasets.phantom.scanner import PADDING_HU
from livseg_lib.datasets.phantom.tissues import ORGAN_OF_TISSUE, Organ
from livseg_lib.errors import InputError

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
        raise InputError(
            "growth", problem, "Give factors from 0 on for the lesions 1, 2, ... of the patient."
        )


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
