import sys

import cv2
import numpy as np
import pytest

from livseg_lib.errors import InputError
from livseg_lib.sampling import augmentation
from livseg_lib.sampling.augmentation import AUGMENTATIONS, augment_batch

ACTIVE = [name for name in AUGMENTATIONS if name != "none"]


def squares(batch: int = 16, size: int = 128, channels: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Liver squares (label 1, grey 120) with a tumour square (label 2, grey 220), and pictures of them."""
    masks = np.zeros((batch, size, size), np.uint8)
    masks[:, size // 4 : size * 3 // 4, size // 5 : size * 3 // 4] = 1
    masks[:, size // 3 : size // 2, size // 3 : size * 3 // 5] = 2
    grey = np.array([20, 120, 220], np.uint8)[masks]
    return np.repeat(grey[..., np.newaxis], channels, axis=-1), masks


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    return (a & b).sum() / (a | b).sum()


@pytest.mark.parametrize("size", [128, 256])
@pytest.mark.parametrize("recipe", [name for name in ACTIVE if name != "livers"])
def test_image_and_mask_move_together_and_masks_stay_labels(recipe, size):
    images, masks = squares(size=size)
    moved_images, moved_masks = augment_batch(images, masks, recipe, seed=3)
    assert moved_masks.dtype == moved_images.dtype == np.uint8
    assert set(np.unique(moved_masks)) == {0, 1, 2}
    bends_greys = recipe in ("sorting", "strong")
    liver_overlap, tumor_overlap = (0.8, 0.8) if bends_greys else (0.95, 0.9)
    for image, mask, before in zip(moved_images[..., 0], moved_masks, masks, strict=True):
        background, liver, tumor = (np.median(image[mask == label]) for label in (0, 1, 2))
        assert overlap(image > (background + liver) / 2, mask >= 1) > liver_overlap
        assert overlap(image > (liver + tumor) / 2, mask == 2) > tumor_overlap
        assert overlap(mask >= 1, before >= 1) < 0.999  # it did move


def test_livers_differ_from_strong_inside_livers_alone():
    images, masks = squares(batch=24)
    images[:] = 40 + 80 * (masks[..., np.newaxis] > 0)
    strong, labels = augment_batch(images, masks, "strong", 5)
    livers, same_labels = augment_batch(images, masks, "livers", 5)
    np.testing.assert_array_equal(labels, same_labels)
    far = np.stack([cv2.dilate((each > 0).astype(np.uint8), np.ones((9, 9))) == 0 for each in labels])
    np.testing.assert_array_equal(strong[far], livers[far])
    changes = livers.astype(int) - strong
    changed = np.abs(changes).max(axis=(1, 2, 3)) > 5
    assert 8 <= changed.sum() <= 22 and changes.min() < -30


@pytest.mark.parametrize("recipe", ["light", "strong", "lits"])
def test_borders_of_image_and_mask_are_filled_alike(recipe):
    _, masks = squares()
    masks[:, 100:, :] = 1  # liver that touches the border
    images = np.where(masks[..., None] > 0, 200, 50).astype(np.uint8)
    images, masks = augment_batch(images, masks, recipe, seed=0)
    for image, mask in zip(images[..., 0], masks, strict=True):
        if (mask == 0).any():
            middle = (np.median(image[mask > 0]) + np.median(image[mask == 0])) / 2
            assert overlap(image > middle, mask > 0) > 0.95


@pytest.mark.parametrize("recipe", AUGMENTATIONS)
def test_a_function_of_arguments_and_seed_alone(recipe):
    images, masks = squares(4)
    kept_images, kept_masks = images.copy(), masks.copy()
    first = augment_batch(images, masks, recipe, seed=7)
    np.random.seed(0)
    augment_batch(images, masks, recipe, seed=2**32 - 1)
    again = augment_batch(images, masks, recipe, seed=7)
    np.testing.assert_array_equal(first[0], again[0])
    np.testing.assert_array_equal(first[1], again[1])
    np.testing.assert_array_equal(images, kept_images)
    np.testing.assert_array_equal(masks, kept_masks)


@pytest.mark.parametrize("recipe", [name for name in ACTIVE if name != "livers"])
def test_every_step_does_what_imgaug_does_by_itself(recipe):
    images, masks = squares(12, size=96)
    images = (images + np.random.default_rng(0).integers(-20, 20, images.shape)).astype(np.uint8)
    augmenters = augmentation._import_augmenters()
    pipeline = augmenters.Sequential(AUGMENTATIONS[recipe](augmenters, 96))
    for step in pipeline:
        if isinstance(step, augmenters.Affine):
            step._mode_segmentation_maps = "edge"
    for seed in range(3):
        pipeline.seed_(seed)
        expected, labels = pipeline(images=images, segmentation_maps=masks[..., np.newaxis])
        found, found_labels = augment_batch(images, masks, recipe, seed)
        np.testing.assert_array_equal(found, expected)
        np.testing.assert_array_equal(found_labels, labels[..., 0])


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("recipe", ACTIVE)
def test_channels_stay_alike_however_many(recipe, channels):
    images, masks = augment_batch(*squares(6, channels=channels), recipe, seed=5)
    assert images.shape == (6, 128, 128, channels) and masks.shape == (6, 128, 128)
    assert (images == images[..., :1]).all()


@pytest.mark.parametrize("recipe", ["light", "basic"])
def test_grey_shifts_in_images_only(recipe):
    images, masks = np.full((8, 128, 128, 1), 100, np.uint8), np.ones((8, 128, 128), np.uint8)
    images, masks = augment_batch(images, masks, recipe, seed=0)
    assert len(np.unique(images)) > 3 and (masks == 1).all()
    assert all(len(np.unique(image)) == 1 for image in images)


def test_light_keeps_left_and_right_and_lits_flips_both():
    images, masks = np.zeros((40, 128, 128, 1), np.uint8), np.zeros((40, 128, 128), np.uint8)
    masks[:, 20:60, 10:50] = 1  # upper left

    def quadrants(recipe: str) -> set[tuple[bool, bool]]:
        _, moved = augment_batch(images, masks, recipe, seed=0)
        centres = [np.argwhere(mask).mean(axis=0) > 63.5 for mask in moved]
        return {(bool(lower), bool(right)) for lower, right in centres}

    assert quadrants("light") == {(False, False)}
    assert len(quadrants("lits")) == len(quadrants("basic")) == 4


@pytest.mark.parametrize("size", [128, 256])
def test_elastic_deformation_bends_as_far_as_stated(size):
    ramp = np.broadcast_to(np.arange(size, dtype=np.uint8)[:, None], (30, size, size, 1)).copy()
    step = augmentation._elastic(augmentation._import_augmenters(), size)
    step.seed_(0)
    shifts = step(images=ramp).astype(float) - ramp  # grey is a place, so its change is a shift
    deviations = shifts.std(axis=(1, 2, 3)) / (augmentation.ELASTIC_SHIFT * size)
    assert 0.8 < deviations.max() < 1.1 and deviations.min() < 0.2
    neighbours = np.abs(np.diff(shifts, axis=2))
    assert np.quantile(neighbours, 0.99) <= 1  # smooth: no pixel jumps


def test_unknown_recipe_is_refused():
    with pytest.raises(InputError, match="none, light, strong, livers, basic"):
        augment_batch(*squares(1), "heavy", seed=0)


def test_without_imgaug_the_message_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "imgaug", None)
    monkeypatch.setitem(sys.modules, "imgaug.augmenters", None)
    with pytest.raises(InputError, match=r"pip install --no-deps imgaug==0\.4\.0"):
        augment_batch(*squares(1), "light", seed=0)
    augment_batch(*squares(1), "none", seed=0)


def test_sorting_filters_some_pictures_and_equalizes_some():
    ramp = np.tile(np.linspace(100, 140, 128).astype(np.uint8), (128, 1))
    images = np.repeat(ramp[None, :, :, None], 60, axis=0)
    images[:, ::2] += 6  # a fine pattern, which a Gaussian filter takes away
    changed, _ = augment_batch(images, np.zeros((60, 128, 128), np.uint8), "sorting", seed=0)
    grey = changed[:, 32:-32, 32:-32, 0].astype(float)
    light, _ = augment_batch(images, np.zeros((60, 128, 128), np.uint8), "light", seed=0)
    equalized = np.ptp(changed.astype(int), axis=(1, 2, 3)) > 150
    assert np.ptp(light.astype(int), axis=(1, 2, 3)).max() < 150
    assert 0.1 < equalized.mean() < 0.5
    pattern = np.abs(np.diff(grey[~equalized], axis=1)).mean(axis=(1, 2))
    assert 0.1 < (pattern < 1).mean() < 0.5 and (pattern > 2).mean() > 0.4


@pytest.mark.parametrize("recipe", AUGMENTATIONS)
def test_all_slices_of_a_block_are_varied_alike(recipe):
    images, masks = squares(3, size=64)
    images, masks = (np.repeat(array[:, np.newaxis], 5, axis=1) for array in (images, masks))
    images[:, 2], masks[:, 2] = images[:, 2] // 2, 2 * (masks[:, 2] > 0)  # a slice unlike the others
    moved_images, moved_masks = augment_batch(images, masks, recipe, seed=4)
    assert moved_images.shape == images.shape and moved_masks.shape == masks.shape
    assert moved_images.dtype == moved_masks.dtype == np.uint8
    for k in (1, 3, 4):
        np.testing.assert_array_equal(moved_images[:, k], moved_images[:, 0])
        np.testing.assert_array_equal(moved_masks[:, k], moved_masks[:, 0])
    np.testing.assert_array_equal(moved_masks[:, 2], 2 * (moved_masks[:, 0] > 0))
    assert (moved_images[:, 2] != moved_images[:, 0]).any()
    if recipe != "none":
        assert len({mask.tobytes() for mask in moved_masks}) == 3  # each block in its own way
