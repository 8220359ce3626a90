"""Labels come back from stretched, JPEG-smeared mask pictures."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from layouts import stretched

from livseg_lib.datasets.mask_levels import decode_mask
from livseg_lib.labels import slice_class

QUALITIES = st.integers(50, 95)
SEEDS = st.integers(0, 2**32 - 1)


def jpeg(picture: np.ndarray, quality: int) -> np.ndarray:
    encoded = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return cv2.imdecode(encoded, cv2.IMREAD_GRAYSCALE)


def blob(rng: np.random.Generator, size: int, share: float, smoothness: float) -> np.ndarray:
    """Random rounded shapes that cover `share` of the picture."""
    noise = cv2.GaussianBlur(rng.standard_normal((size, size)).astype(np.float32), (0, 0), smoothness)
    return noise > np.quantile(noise, 1 - share)


def dice(first: np.ndarray, second: np.ndarray) -> float:
    return 2 * (first & second).sum() / (first.sum() + second.sum())


@pytest.mark.parametrize("level", [0, 1, 2, 3, 127, 128, 255])
def test_constant_picture_is_empty_whatever_its_level(level):
    labels = decode_mask(np.full((32, 32), level, np.uint8))
    assert labels.dtype == np.uint8
    assert not labels.any()


@pytest.mark.parametrize("level", [5, 40, 128, 250])
@pytest.mark.parametrize("quality", [50, 75, 95])
def test_constant_jpeg_is_empty(level, quality):
    grey = jpeg(np.full((50, 70), level, np.uint8), quality)
    assert not decode_mask(grey).any()


def test_levels_up_to_two_are_labels():
    labels = np.array([[0, 1, 2], [2, 1, 0]], np.uint8)
    np.testing.assert_array_equal(decode_mask(labels), labels)


@pytest.mark.parametrize("level", [20, 64, 100, 127, 128, 191, 192, 254, 255])
def test_two_plateaus_are_liver_only_whatever_the_level(level):
    mask = np.zeros((40, 40), bool)
    mask[10:30, 5:20] = True
    np.testing.assert_array_equal(decode_mask((mask * level).astype(np.uint8)), mask.astype(np.uint8))


def test_three_plateaus_are_liver_and_tumor():
    labels = np.zeros((40, 40), np.uint8)
    labels[5:35, 5:35], labels[12:20, 12:20] = 1, 2
    np.testing.assert_array_equal(decode_mask(stretched(labels)), labels)


@pytest.mark.parametrize("times", [2, 3, 4])
def test_a_thin_mid_ring_is_smear_and_not_a_liver(times):
    mask = np.zeros((64, 64), np.uint8)
    cv2.circle(mask, (32, 32), 15, 255, -1)
    enlarged = cv2.resize(mask, None, fx=times, fy=times, interpolation=cv2.INTER_LINEAR)
    assert ((enlarged > 64) & (enlarged < 191)).sum() > 50, "the ring that this test is about"
    assert slice_class(decode_mask(enlarged)) == 1


def test_a_resized_speck_is_not_a_liver():
    """One stray pixel of a mask, enlarged twice, becomes a mid-grey patch of 2 x 2."""
    grey = np.zeros((64, 64), np.uint8)
    cv2.circle(grey, (24, 24), 12, 255, -1)
    grey[50:52, 50:52] = 137
    assert slice_class(decode_mask(grey)) == 1


@settings(max_examples=60, deadline=None)
@given(SEEDS, QUALITIES, st.floats(0.01, 0.4), st.floats(1.0, 10.0), st.integers(60, 255))
@example(0, 50, 0.25, 1.0, 128)
@example(0, 50, 0.25, 1.0, 157)
def test_jpeg_of_liver_only(seed, quality, share, smoothness, level):
    liver = blob(np.random.default_rng(seed), 128, share, smoothness)
    labels = decode_mask(jpeg((liver * level).astype(np.uint8), quality))
    assert slice_class(labels) == 1
    if smoothness >= 3:  # finer shapes are mostly border, where JPEG has lost the truth
        assert dice(labels >= 1, liver) > 0.97


@settings(max_examples=60, deadline=None)
@given(SEEDS, QUALITIES, st.floats(0.1, 0.4), st.floats(5.0, 12.0), st.integers(3, 12))
def test_jpeg_of_liver_and_tumor(seed, quality, share, smoothness, radius):
    rng = np.random.default_rng(seed)
    liver = blob(rng, 128, share, smoothness)
    labels = liver.astype(np.uint8)
    disc = np.zeros(liver.shape, np.uint8)
    column, row = rng.permutation(np.argwhere(liver))[0][::-1].tolist()
    cv2.circle(disc, (column, row), radius, 1, -1)
    labels[(disc == 1) & liver] = 2
    if (labels == 2).sum() < 16 or (labels == 1).sum() < 200:
        return  # a few pixels cannot survive JPEG
    decoded = decode_mask(jpeg(stretched(labels), quality))
    assert slice_class(decoded) == 2
    assert dice(decoded >= 1, liver) > 0.97
    assert dice(decoded == 2, labels == 2) > 0.75


def test_real_lits_masks_are_all_liver_only(real_ct):
    files = sorted((real_ct / "lits_slices" / "train_masks").iterdir())
    assert len(files) == 511
    for path in files:
        grey = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        np.testing.assert_array_equal(decode_mask(grey), grey > 127, err_msg=path.name)
