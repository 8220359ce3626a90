"""From a volume to pictures and back: every step by hand, and nothing moves on the round trip."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from livseg_lib.errors import InputError
from livseg_lib.preprocessing.recipe import (
    EQUALIZATIONS,
    NOISE_FILTERS,
    NetworkInput,
    Recipe,
    prepare_labels,
    prepare_slices,
    restore_masks,
    restore_planes,
    with_masks,
    with_neighbours,
)
from livseg_lib.preprocessing.windows import WINDOWS, apply_window
from livseg_lib.volumes import Volume

SPACING_MM = (2.5, 0.8, 0.8)
NOISY = np.random.default_rng(3).normal(60, 25, (64, 51)).astype(np.int16)
VOLUME = Volume(np.random.default_rng(5).integers(-1024, 1500, (7, 101, 122)).astype(np.int16), SPACING_MM)


def pictures_of(volume, recipe):
    return np.array(list(prepare_slices(volume, recipe)))


def test_median_removes_a_lone_outlier_and_gaussian_spreads_it():
    hu = np.full((9, 9), -100, np.int16)
    hu[4, 4] = 3000
    assert (NOISE_FILTERS["median"](hu) == -100).all()
    spread = NOISE_FILTERS["gaussian"](hu)
    assert spread.dtype == NOISE_FILTERS["median"](hu).dtype == np.int16
    # Peak of a unit Gaussian sampled on pixels: 1 / (2 pi) of the 3100 HU.
    assert spread[4, 4] == pytest.approx(-100 + 3100 / (2 * np.pi), rel=0.03)
    assert np.array_equal(spread, spread.T)


def test_global_equalization_spreads_the_levels_evenly_and_clahe_less():
    picture = np.repeat(np.arange(100, 108, dtype=np.uint8), 8).reshape(8, 8)
    # Eight levels of eight pixels: black for the lowest, then sevenths of 255.
    expected = np.rint(np.arange(8) * 255 / 7).astype(np.uint8)
    assert np.array_equal(np.unique(EQUALIZATIONS["global"](picture)), expected)
    noise = np.clip(NOISY / 4 + 100, 0, 255).astype(np.uint8)
    deviations = [float(EQUALIZATIONS[name](noise).std()) for name in ("none", "clahe", "global")]
    assert deviations == sorted(deviations) and deviations[0] * 1.3 < deviations[1] < deviations[2] * 0.9
    limited = cv2.createCLAHE(clipLimit=2.0, tileGridSize=(8, 8)).apply(noise)
    np.testing.assert_array_equal(EQUALIZATIONS["clahe"](noise), limited)


def grey_pictures(count: int, channels: int = 1) -> list[np.ndarray]:
    return [np.full((2, 3, channels), number, np.uint8) for number in range(count)]


@given(st.integers(0, 9), st.integers(0, 4))
def test_each_picture_stands_between_its_neighbours_and_the_ends_come_again(count, reach):
    found = [picture[0, 0].tolist() for picture in with_neighbours(iter(grey_pictures(count)), reach)]
    wanted = np.arange(count)[:, np.newaxis] + np.arange(-reach, reach + 1)
    assert found == wanted.clip(0, max(count - 1, 0)).tolist()
    coloured = [np.array([[[number, 10 + number]]], np.uint8) for number in range(3)]
    assert next(with_neighbours(coloured, 1)).ravel().tolist() == [0, 10, 0, 10, 1, 11]


def test_the_liver_is_the_last_channel_of_a_network_that_sees_it():
    inputs, liver = NetworkInput(neighbours=1, sees_liver=True), np.zeros((2, 2, 3), bool)
    liver[1, 0, 2] = True
    first, second = inputs.compose(grey_pictures(2, 3), liver)
    assert first.shape == second.shape == (2, 3, inputs.channels(3)) == (2, 3, 10)
    assert not first[..., -1].any() and second[0, 2, -1] == 255 and second[..., -1].sum() == 255
    with pytest.raises(InputError, match="no liver was found before"):
        inputs.compose(grey_pictures(1))


def test_masks_are_the_last_channels_liver_before_tumour():
    found = with_masks(np.full((1, 1, 3, 2), 7, np.uint8), np.array([[[0, 1, 2]]], np.uint8))
    assert found[0, 0].tolist() == [[7, 7, 0, 0], [7, 7, 255, 0], [7, 7, 255, 255]]


def blob(shape, center=(0.4, 0.45, 0.55), radius=0.3):
    grid = (np.indices(shape) + 0.5) / np.reshape(shape, (3, 1, 1, 1))
    return (((grid - np.reshape(center, (3, 1, 1, 1))) / radius) ** 2).sum(axis=0) <= 1


def test_channels_are_the_windows_in_order():
    square = Volume(VOLUME.voxels[:, :100, :100].repeat(2, 1).repeat(2, 2), SPACING_MM)
    recipe = Recipe(windows=("bone", (-100, 200), "liver"), size=200)
    pictures = pictures_of(square, recipe)
    assert pictures.shape == (7, 200, 200, 3) and pictures.dtype == np.uint8
    assert [window.name for window in recipe.windows] == ["bone", "-100..200", "liver"]
    for channel, window in enumerate(recipe.windows):
        assert np.array_equal(pictures[..., channel], apply_window(square.voxels, window))
    assert recipe.windows[0] == WINDOWS["bone"] and Recipe.from_dict(recipe.to_dict()) == recipe


@pytest.mark.parametrize("noise_filter", NOISE_FILTERS)
@pytest.mark.parametrize("equalization", EQUALIZATIONS)
def test_filters_come_before_windows_and_equalization_after(noise_filter, equalization):
    recipe = Recipe(("percentile", "min_max"), noise_filter, equalization, size=122)
    picture = pictures_of(Volume(VOLUME.voxels[:, :, :101], SPACING_MM), recipe)[3, ..., 1]
    hu = NOISE_FILTERS[noise_filter](VOLUME.voxels[3, :, :101])
    window = recipe.windows[1]._replace(lower=VOLUME.voxels.min(), upper=VOLUME.voxels[..., :101].max())
    expected = EQUALIZATIONS[equalization](apply_window(hu, window))
    np.testing.assert_array_equal(picture, cv2.resize(expected, (122, 122), interpolation=cv2.INTER_LINEAR))
    resampled = Recipe(("z_score",), noise_filter, equalization, (4, 1, 1.1), 128)
    assert pictures_of(VOLUME, resampled).shape == (4, 128, 128, 1)  # 7 x 2.5 mm / 4 mm


def test_equalization_does_not_count_the_padding():
    voxels = np.zeros((1, 64, 128), np.int16)
    voxels[0] = np.arange(128)
    recipe = Recipe(("stored",), equalization="global", size=128)
    [narrow] = pictures_of(Volume(voxels, SPACING_MM), recipe)
    assert narrow[0].max() == 0  # padding
    assert narrow[64, :, 0].tolist() == np.rint(np.arange(128) * 255 / 127).astype(int).tolist()


def test_a_stack_of_pictures_keeps_its_grey_levels():
    greys = np.random.default_rng(0).integers(0, 256, (3, 128, 128)).astype(np.int16)
    stack = Volume(greys, (np.nan,) * 3)
    assert np.array_equal(pictures_of(stack, Recipe(("stored",), size=128))[..., 0], greys)
    with pytest.raises(InputError, match="spacing"):
        pictures_of(stack, Recipe(("stored",), voxel_size_mm=(2, 1, 1), size=128))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"windows": ()}, "at least one"),
        ({"windows": ("lover",)}, "no window 'lover'"),
        ({"windows": [(200, -100)]}, "low below high"),
        ({"noise_filter": "mean"}, "noise_filter: is 'mean'"),
        ({"equalization": ["clahe"]}, "equalization: is"),
        ({"size": 31}, "32 to 512"),
        ({"size": 513}, "32 to 512"),
        ({"size": 64.0}, "32 to 512"),
        ({"size": "64"}, "32 to 512"),
        ({"voxel_size_mm": (0, 1, 1)}, "0.01 to 1000"),
        ({"voxel_size_mm": (1, 1)}, "three sides"),
    ],
)
def test_what_no_recipe_can_be_is_refused(wrong, said):
    with pytest.raises(InputError, match=said):
        pictures_of(VOLUME, Recipe(**wrong))


@pytest.mark.parametrize("shape", [(7, 128, 128), (5, 101, 128), (4, 128, 77)])
def test_restoring_is_exact_when_no_size_changes(shape):
    labels = np.random.default_rng(2).integers(0, 3, shape).astype(np.uint8)
    recipe = Recipe(size=128)
    prepared = prepare_labels(labels, SPACING_MM, recipe)
    for structure in ((labels >= 1), (labels == 2)):
        planes = (prepare_labels(structure.astype(np.uint8), SPACING_MM, recipe) * 255).astype(np.uint8)
        assert np.array_equal(restore_masks(planes, shape, SPACING_MM, recipe), structure)
    assert np.array_equal(np.array(list(restore_planes(prepared, shape, SPACING_MM, recipe))), labels)


@pytest.mark.parametrize("dtype", [np.float32, np.uint8])
@pytest.mark.parametrize(
    ("shape", "voxel_size_mm"),
    [((31, 101, 122), None), ((31, 150, 131), (4.0, 1.1, 1.3)), ((31, 101, 122), (1.7, 0.9, 0.7))],
)
def test_a_round_trip_keeps_shape_and_place(shape, voxel_size_mm, dtype):
    truth = blob(shape)
    recipe = Recipe(voxel_size_mm=voxel_size_mm, size=160)
    labels = prepare_labels(truth.astype(np.uint8), SPACING_MM, recipe)
    planes = labels.astype(dtype) * (255 if dtype == np.uint8 else 1)
    restored = restore_masks(planes, shape, SPACING_MM, recipe)
    assert restored.shape == shape and restored.dtype == bool
    assert 2 * (restored & truth).sum() / (restored.sum() + truth.sum()) > 0.95
    shift_voxels = [a.mean() - b.mean() for a, b in zip(np.nonzero(restored), np.nonzero(truth), strict=True)]
    assert np.abs(shift_voxels).max() < 0.15


@pytest.mark.parametrize(
    ("planes", "threshold"),
    [(np.uint8(51), 0.2), (np.uint8(128), 128 / 255), (np.float32(0.5), 0.5), (np.uint8(0), 0.0)],
)
def test_what_just_reaches_the_threshold_belongs_to_the_mask(planes, threshold):
    shape, recipe = (2, 128, 128), Recipe(size=128)
    filled = np.full(shape, planes)
    assert restore_masks(filled, shape, SPACING_MM, recipe, threshold).all()
    assert not restore_masks(filled, shape, SPACING_MM, recipe, threshold + 0.003).any()  # a level is 0.0039
    with pytest.raises(ValueError, match="recipe makes"):
        restore_masks(filled, (3, 99, 99), SPACING_MM, recipe)
