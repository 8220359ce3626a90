import numpy as np
import pytest

from livseg_lib.errors import InputError
from livseg_lib.preprocessing.recipe import (
    EQUALIZATIONS,
    NOISE_FILTERS,
    Recipe,
    prepare_labels,
    prepare_slices,
    prepare_volume,
    restore_masks,
    restore_planes,
)
from livseg_lib.preprocessing.windows import WINDOWS, apply_window
from livseg_lib.volumes import Volume

SPACING_MM = (2.5, 0.8, 0.8)


@pytest.fixture(scope="module")
def volume():
    rng = np.random.default_rng(5)
    return Volume(rng.integers(-1024, 1500, (7, 101, 122)).astype(np.int16), SPACING_MM, native=None)


def blob(shape, center=(0.4, 0.45, 0.55), radius=0.3):
    grid = (np.indices(shape) + 0.5) / np.reshape(shape, (3, 1, 1, 1))
    return (((grid - np.reshape(center, (3, 1, 1, 1))) / radius) ** 2).sum(axis=0) <= 1


def dice(a, b):
    return 2 * (a & b).sum() / (a.sum() + b.sum())


def test_channels_are_the_windows_in_order(volume):
    square = Volume(volume.voxels[:, :100, :100].repeat(2, 1).repeat(2, 2), SPACING_MM, native=None)
    recipe = Recipe(windows=("bone", "liver"), size=200)
    pictures = prepare_volume(square, recipe)
    assert pictures.shape == (7, 200, 200, 2) and pictures.dtype == np.uint8
    for channel, window in enumerate(recipe.windows):
        assert np.array_equal(pictures[..., channel], apply_window(square.voxels, WINDOWS[window.name]))


@pytest.mark.parametrize("noise_filter", NOISE_FILTERS)
@pytest.mark.parametrize("equalization", EQUALIZATIONS)
def test_every_recipe_runs_and_streams_the_same_pictures(volume, noise_filter, equalization):
    recipe = Recipe(
        ("percentile", "z_score", "min_max", "lung"), noise_filter, equalization, (4, 1, 1.1), 128
    )
    streamed = np.array(list(prepare_slices(volume, recipe)))
    assert streamed.shape == (4, 128, 128, 4)  # 7 x 2.5 mm / 4 mm
    assert np.array_equal(streamed, prepare_volume(volume, recipe))


def test_equalization_does_not_count_the_padding():
    voxels = np.zeros((1, 64, 128), np.int16)
    voxels[0] = np.arange(128)
    narrow = prepare_volume(
        Volume(voxels, SPACING_MM, None), Recipe(("stored",), "none", "global", None, 128)
    )
    assert narrow[0, 0].max() == 0  # padding
    assert narrow[0, 64, :, 0].tolist() == np.rint(np.arange(128) * 255 / 127).astype(int).tolist()


def test_adaptive_bounds_come_from_the_whole_volume(volume):
    dark = volume.voxels.copy()
    dark[0] = -500
    picture = next(prepare_slices(Volume(dark, SPACING_MM, None), Recipe(("min_max",), size=128)))
    low, high = dark.min(), dark.max()
    assert picture[64, 64, 0] == pytest.approx((-500 - low) / (high - low) * 255, abs=1)


def test_a_stack_of_pictures_keeps_its_grey_levels():
    greys = np.random.default_rng(0).integers(0, 256, (3, 128, 128)).astype(np.int16)
    stack = Volume(greys, (np.nan,) * 3, native=None)
    assert np.array_equal(prepare_volume(stack, Recipe(("stored",), size=128))[..., 0], greys)
    with pytest.raises(InputError, match="spacing"):
        prepare_volume(stack, Recipe(("stored",), voxel_size_mm=(2, 1, 1), size=128))


def test_no_window_and_unknown_windows_are_refused(volume):
    with pytest.raises(InputError, match="at least one"):
        prepare_volume(volume, Recipe(()))
    with pytest.raises(InputError, match="lover"):
        prepare_volume(volume, Recipe(("lover",)))


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
@pytest.mark.parametrize("voxel_size_mm", [None, (4.0, 1.1, 1.3), (1.7, 0.9, 0.7)])
@pytest.mark.parametrize("shape", [(31, 101, 122), (31, 300, 271)])
def test_a_round_trip_keeps_shape_and_place(shape, voxel_size_mm, dtype):
    truth = blob(shape)
    recipe = Recipe(voxel_size_mm=voxel_size_mm, size=160)
    labels = prepare_labels(truth.astype(np.uint8), SPACING_MM, recipe)
    planes = labels.astype(dtype) * (255 if dtype == np.uint8 else 1)
    restored = restore_masks(planes, shape, SPACING_MM, recipe)
    assert restored.shape == shape and restored.dtype == bool
    assert dice(restored, truth) > 0.95
    shift_voxels = [a.mean() - b.mean() for a, b in zip(np.nonzero(restored), np.nonzero(truth), strict=True)]
    assert np.abs(shift_voxels).max() < 0.15


def test_threshold_means_the_same_for_both_types():
    recipe, shape = Recipe(size=128), (1, 128, 128)
    levels = np.linspace(0, 255, 128).astype(np.uint8)
    planes = np.broadcast_to(levels, (1, 128, 128))
    for threshold in (0.3, 0.5, 0.9):
        as_levels = restore_masks(planes, shape, SPACING_MM, recipe, threshold)
        as_probability = restore_masks(
            (planes / 255).astype(np.float32), shape, SPACING_MM, recipe, threshold
        )
        assert np.array_equal(as_levels, levels[None, None] >= threshold * 255 + np.zeros(shape))
        assert (as_levels != as_probability).sum() == 0


def test_planes_of_another_recipe_are_refused():
    with pytest.raises(ValueError, match="recipe makes"):
        restore_masks(np.zeros((3, 128, 128), np.uint8), (4, 99, 99), SPACING_MM, Recipe(size=128))


@pytest.mark.parametrize(
    ("planes", "threshold"),
    [(np.uint8(51), 0.2), (np.uint8(128), 128 / 255), (np.float32(0.5), 0.5), (np.uint8(0), 0.0)],
)
def test_what_just_reaches_the_threshold_belongs_to_the_mask(planes, threshold):
    shape, recipe = (2, 128, 128), Recipe(size=128)
    filled = np.full(shape, planes)
    assert restore_masks(filled, shape, SPACING_MM, recipe, threshold).all()
    assert not restore_masks(filled, shape, SPACING_MM, recipe, threshold + 0.003).any()  # a level is 0.0039
