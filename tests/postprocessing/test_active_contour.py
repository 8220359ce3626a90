"""A contour leaves a perfect mask alone, mends a planted error, and never goes too far."""

from __future__ import annotations

import edt
import numpy as np
import pytest
from solids import ball, box, dice, scan

from livseg_lib.errors import InputError
from livseg_lib.postprocessing import components
from livseg_lib.postprocessing.components import refine_outlines

SPACINGS = {"even": (1.0, 1.0, 1.0), "thick slices": (4.0, 0.8, 0.8)}
EXTENT_MM = 52


def tumor_in_liver(spacing_mm, radius_mm: float = 12.0, noise_hu: float = 10.0, contrast_hu: float = 50):
    """The masks of a ball and of the liver around it, and the HU."""
    shape = tuple(int(EXTENT_MM / mm) for mm in spacing_mm)
    tumor = ball(shape, (24, 24, 24), radius_mm, spacing_mm)
    liver = ball(shape, (24, 24, 24), 23, spacing_mm)
    return tumor, liver, scan(liver, tumor, contrast_hu, noise_hu)


def moved(mask: np.ndarray, spacing_mm, by_mm: float) -> np.ndarray:
    """The mask with its surface `by_mm` farther out."""
    if by_mm < 0:
        return edt.edt(mask, anisotropy=spacing_mm) > -by_mm
    return edt.edt(~mask, anisotropy=spacing_mm) <= by_mm


@pytest.mark.parametrize("spacing_mm", SPACINGS.values(), ids=SPACINGS)
@pytest.mark.parametrize("contrast_hu", [50, -60])
def test_leaves_a_right_mask_alone_and_mends_one_that_is_too_small_or_too_large(spacing_mm, contrast_hu):
    tumor, liver, hu = tumor_in_liver(spacing_mm, contrast_hu=contrast_hu)
    assert dice(refine_outlines(tumor, liver, hu, spacing_mm), tumor) >= 0.99
    for by_mm in (-2.5, 2.5):
        wrong = moved(tumor, spacing_mm, by_mm)
        refined = refine_outlines(wrong, liver, hu, spacing_mm)
        assert dice(wrong, tumor) < 0.88 and dice(refined, tumor) > 0.94


@pytest.mark.parametrize("spacing_mm", SPACINGS.values(), ids=SPACINGS)
@pytest.mark.parametrize("reach_mm", [1.5, 3.0])
def test_changes_only_what_lies_within_reach(spacing_mm, reach_mm):
    tumor, liver, _ = tumor_in_liver(spacing_mm)
    noise = np.random.default_rng(0).integers(-200, 300, tumor.shape).astype(np.int16)
    noise[tumor] -= 60
    refined = refine_outlines(tumor, liver, noise, spacing_mm, reach_mm)
    assert (refined != tumor).any()
    assert not (refined & ~moved(tumor, spacing_mm, reach_mm)).any()
    assert not (moved(tumor, spacing_mm, -reach_mm) & ~refined).any()


@pytest.mark.parametrize("wild", [np.ones_like, np.zeros_like])
def test_a_wild_contour_is_held_within_reach_and_liver(monkeypatch, wild):
    monkeypatch.setattr(components, "_evolve", lambda smooth, inside, steps: wild(inside))
    spacing_mm, reach_mm = SPACINGS["even"], 3.0
    tumor, liver, hu = tumor_in_liver(spacing_mm)
    liver &= box(liver.shape, (0, 0, 0), (52, 52, 38))  # it ends 1 mm beyond the tumour on one side
    widest, least = moved(tumor, spacing_mm, reach_mm) & liver, moved(tumor, spacing_mm, -reach_mm)
    refined = refine_outlines(tumor, liver, hu, spacing_mm, reach_mm)
    np.testing.assert_array_equal(refined, widest if wild is np.ones_like else least)
    small, liver, hu = tumor_in_liver(spacing_mm, radius_mm=2.5)
    refined = refine_outlines(small, liver, hu, spacing_mm)
    assert refined.any() and (wild is np.ones_like or (refined == small).all())  # it vanished: taken back


def test_never_leaves_the_liver():
    spacing_mm = SPACINGS["even"]
    tumor, _, hu = tumor_in_liver(spacing_mm)
    half = box(tumor.shape, (0, 0, 0), (52, 52, 24))  # the tumour reaches over the liver's edge
    small = moved(tumor, spacing_mm, -2) & half
    refined = refine_outlines(small, half, hu, spacing_mm)
    assert not (refined & ~half).any() and dice(refined, tumor & half) > dice(small, tumor & half)
    assert not refine_outlines(tumor, np.zeros_like(tumor), hu, spacing_mm).any()


@pytest.mark.parametrize("voxels", [1, 2, 5])
@pytest.mark.parametrize("contrast_hu", [0, 50])
def test_tiny_masks_do_not_vanish(voxels, contrast_hu):
    spacing_mm = SPACINGS["thick slices"]
    tiny = np.zeros((13, 65, 65), bool)
    tiny[6, 30, 30 : 30 + voxels] = True
    liver = np.ones(tiny.shape, bool)
    assert refine_outlines(tiny, liver, scan(liver, tiny, contrast_hu, 5), spacing_mm).any()


def test_objects_without_contrast_or_surroundings_stay_as_they_are():
    spacing_mm = SPACINGS["even"]
    tumor, liver, flat = tumor_in_liver(spacing_mm, contrast_hu=0)
    np.testing.assert_array_equal(refine_outlines(tumor, liver, flat, spacing_mm), tumor)
    np.testing.assert_array_equal(refine_outlines(liver, liver, flat, spacing_mm), liver)


def test_neither_bone_beside_the_liver_nor_another_tumour_pulls():
    spacing_mm = SPACINGS["even"]
    shape = (40, 60, 60)
    liver = box(shape, (0, 0, 5), shape)
    first, second = ball(shape, (20, 30, 15), 8, spacing_mm), ball(shape, (20, 30, 33), 8, spacing_mm)
    hu = scan(liver, first | second, contrast_hu=50, noise_hu=5)
    hu[second], hu[~liver] = 0, 1000
    refined = refine_outlines(first | second, liver, hu, spacing_mm)
    assert dice(refined, first | second) > 0.98


def test_a_single_slice_works_and_unknown_spacing_is_refused():
    tumor, liver, hu = (each[24:25] for each in tumor_in_liver((1.0, 1.0, 1.0)))
    wrong = tumor & ~np.roll(~tumor, 2, axis=2)
    assert dice(refine_outlines(wrong, liver, hu, (5.0, 1.0, 1.0)), tumor) > dice(wrong, tumor)
    assert not refine_outlines(np.zeros_like(tumor), liver, hu, (5.0, 1.0, 1.0)).any()
    with pytest.raises(InputError, match="without a size in mm"):
        refine_outlines(tumor, liver, hu, (np.nan,) * 3)
