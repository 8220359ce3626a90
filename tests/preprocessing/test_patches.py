"""Patches: what they cover, by hand; beyond the scan its edge comes again; alike whatever the spacing."""

from __future__ import annotations

import numpy as np
import pytest

from livseg_lib.errors import InputError
from livseg_lib.preprocessing.patches import PatchRecipe, grey_channels, place_patch

SCAN = np.random.default_rng(0).normal(100, 50, (9, 11, 13)).astype(np.float32)


def patch(array, center, spacing_mm, recipe) -> np.ndarray:
    place = place_patch(center, spacing_mm, recipe)
    return place.average(place.crop(array))


def test_on_the_scans_own_grid_a_patch_is_a_crop():
    recipe = PatchRecipe(size_mm=(9, 5, 5), voxels=(3, 5, 5))
    found = patch(SCAN, (4, 5, 6), (3, 1, 1), recipe)
    np.testing.assert_allclose(found, SCAN[3:6, 3:8, 4:9], rtol=1e-5)
    assert found[1, 2, 2] == pytest.approx(SCAN[4, 5, 6])


def test_half_a_voxel_aside_lies_the_mean_of_two():
    recipe = PatchRecipe(size_mm=(1, 1, 1), voxels=(1, 1, 1))
    found = patch(SCAN, (4, 5, 6.5), (1, 1, 1), recipe)
    assert found.item() == pytest.approx(SCAN[4, 5, 6:8].mean(), rel=1e-5)


def test_thick_slices_are_cut_into_several_and_small_pixels_averaged():
    recipe = PatchRecipe(size_mm=(12, 4, 4), voxels=(6, 2, 2))  # voxels of 2 mm
    found = patch(SCAN, (4, 4.5, 5.5), (4, 1, 1), recipe)
    for slice_of_patch, slice_of_scan in enumerate((3, 3, 4, 4, 5, 5)):
        means = SCAN[slice_of_scan, 3:7, 4:8].reshape(2, 2, 2, 2).mean(axis=(1, 3))
        np.testing.assert_allclose(found[slice_of_patch], means, rtol=1e-5)


def test_any_fraction_agrees_with_a_scan_cut_into_tiny_voxels():
    spacing_mm, recipe = (1.0, 0.8, 0.6), PatchRecipe(size_mm=(3.0, 2.6, 2.6), voxels=(2, 2, 2))
    start_mm = np.multiply((4.3, 5.1, 6.2), spacing_mm) + np.divide(spacing_mm, 2) - (1.5, 1.3, 1.3)
    step = 0.1  # mm; every border lies on a multiple of it, but for the centre's own shift
    places = [
        ((start + (np.arange(round(size / step)) + 0.5) * step) / mm).astype(int)
        for start, size, mm in zip(start_mm, recipe.size_mm, spacing_mm, strict=True)
    ]
    d, h, w = (len(place) // 2 for place in places)
    expected = SCAN[np.ix_(*places)].reshape(2, d, 2, h, 2, w).mean(axis=(1, 3, 5))
    np.testing.assert_allclose(patch(SCAN, (4.3, 5.1, 6.2), spacing_mm, recipe), expected, atol=8)


def test_beyond_the_scan_its_outermost_voxels_come_again():
    recipe = PatchRecipe(size_mm=(3, 3, 3), voxels=(3, 3, 3))
    found = patch(SCAN, (0, 10, 6), (1, 1, 1), recipe)
    np.testing.assert_allclose(found, SCAN[np.ix_([0, 0, 1], [9, 10, 10], [5, 6, 7])], rtol=1e-5)


def test_an_array_may_show_a_part_of_the_scan():
    place = place_patch((4, 5, 6), (1, 1, 1), PatchRecipe(size_mm=(3, 3, 3), voxels=(3, 3, 3)))
    np.testing.assert_array_equal(place.crop(SCAN[2:, 3:, 1:], (2, 3, 1)), place.crop(SCAN))


def test_greys_stand_around_the_liver():
    greys = grey_channels(np.array([[[-60.0, 40.0, 90.0, 140.0]]]), 90.0, PatchRecipe(widths_hu=(100, 300)))
    assert greys.shape == (1, 1, 4, 2) and greys.dtype == np.uint8
    assert greys[0, 0, :, 0].tolist() == [0, 0, 128, 255]
    assert greys[0, 0, :, 1].tolist() == [0, 85, 128, 170]


def test_a_recipe_comes_back_from_json():
    recipe = PatchRecipe((40.0, 30.0, 30.0), (8, 16, 16), (150.0,))
    lists = {name: list(value) for name, value in recipe.to_dict().items()}
    assert PatchRecipe.from_dict(lists) == recipe and PatchRecipe().channels == 4


@pytest.mark.parametrize(
    "wrong", [{"size_mm": (48, 48)}, {"voxels": (0, 8, 8)}, {"voxels": (8, 8, 9)}, {"widths_hu": ()}]
)
def test_sizes_that_are_none_are_refused(wrong):
    with pytest.raises(InputError, match=next(iter(wrong))):
        PatchRecipe(**wrong)
