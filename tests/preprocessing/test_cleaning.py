import cv2
import numpy as np
import pytest

from livseg_lib.preprocessing.recipe import equalize, filter_noise


@pytest.fixture
def noisy():
    return np.random.default_rng(3).normal(60, 25, (64, 51)).astype(np.int16)


def test_none_changes_nothing(noisy):
    assert filter_noise(noisy, "none") is noisy
    assert equalize(noisy.astype(np.uint8), "none").dtype == np.uint8


@pytest.mark.parametrize("name", ["median", "gaussian"])
def test_noise_filters_halve_the_noise_and_keep_mean_and_type(noisy, name):
    filtered = filter_noise(noisy, name)
    assert filtered.dtype == np.int16 and filtered.shape == noisy.shape
    assert filtered.std() < 0.6 * noisy.std()
    assert filtered.mean() == pytest.approx(noisy.mean(), abs=1)


def test_median_removes_a_lone_outlier_and_gaussian_spreads_it():
    slice_hu = np.full((9, 9), -100, np.int16)
    slice_hu[4, 4] = 3000
    assert (filter_noise(slice_hu, "median") == -100).all()
    spread = filter_noise(slice_hu, "gaussian")
    # Peak of a unit Gaussian sampled on pixels: 1 / (2 pi) of the 3100 HU.
    assert spread[4, 4] == pytest.approx(-100 + 3100 / (2 * np.pi), rel=0.03)
    assert np.array_equal(spread, spread.T)


def test_global_equalization_spreads_the_levels_evenly():
    picture = np.repeat(np.arange(100, 108, dtype=np.uint8), 8).reshape(8, 8)
    # Eight levels of eight pixels: black for the lowest, then sevenths of 255.
    expected = np.rint(np.arange(8) * 255 / 7).astype(np.uint8)
    assert np.array_equal(np.unique(equalize(picture, "global")), expected)


def test_clahe_raises_local_contrast_but_less_than_global(noisy):
    picture = np.clip(noisy / 4 + 100, 0, 255).astype(np.uint8)
    deviations = [float(equalize(picture, name).std()) for name in ("none", "clahe", "global")]
    assert deviations == sorted(deviations) and deviations[0] * 1.3 < deviations[1] < deviations[2] * 0.9


def test_clahe_is_opencv_with_its_contrast_limited_to_2():
    picture = np.random.default_rng(0).normal(120, 8, (256, 256)).astype(np.uint8)
    limited = cv2.createCLAHE(clipLimit=2.0, tileGridSize=(8, 8)).apply(picture)
    np.testing.assert_array_equal(equalize(picture, "clahe"), limited)
