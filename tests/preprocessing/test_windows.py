import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from livseg_lib.errors import InputError
from livseg_lib.preprocessing.windows import (
    ADAPTIVE_WINDOWS,
    WINDOWS,
    Window,
    apply_window,
    window_bounds,
)


def hu(*values):
    return np.array(values, np.int16)


def test_level_and_width_give_the_bounds():
    assert (Window(50, 400).lower, Window(50, 400).upper) == (-150, 250)
    assert Window.between(-150, 250) == Window(50, 400)


def test_hand_computed_grey_levels():
    # 100 HU from black to white: one HU is 2.55 levels, 20 HU is 51, 70 HU is 178.5 and rounds up.
    grey = apply_window(hu(-1024, -1, 0, 1, 20, 70, 100, 101, 3071), Window(50, 100))
    assert grey.dtype == np.uint8
    assert grey.tolist() == [0, 0, 0, 3, 51, 179, 255, 255, 255]


@pytest.mark.parametrize("name", WINDOWS)
def test_every_window_is_black_at_its_lower_and_white_at_its_upper_bound(name):
    window = WINDOWS[name]
    assert window_bounds(name, np.zeros((1, 1, 1), np.int16)) == (window.lower, window.upper)
    bounds = hu(window.lower, window.upper)
    assert apply_window(bounds, window).tolist() == [0, 255]
    assert (np.diff(apply_window(np.arange(-2000, 2000, dtype=np.int16), window).astype(int)) >= 0).all()


def test_stored_grey_levels_stay_as_they_are():
    levels = np.arange(256, dtype=np.int16)
    assert np.array_equal(apply_window(levels, WINDOWS["stored"]), levels)


@given(st.lists(st.integers(-(2**15), 2**15 - 1), min_size=4, max_size=60))
def test_adaptive_bounds_agree_with_numpy(values):
    voxels = np.array(values, np.int16).reshape(len(values), 1, 1)

    def at_least_one_wide(low, high):
        return low, max(high, low + 1)

    assert window_bounds("min_max", voxels) == at_least_one_wide(min(values), max(values))
    percentiles = np.percentile(values, [0.5, 99.5], method="inverted_cdf")
    assert window_bounds("percentile", voxels) == at_least_one_wide(*percentiles)
    low, high = np.mean(values) - 3 * np.std(values), np.mean(values) + 3 * np.std(values)
    assert window_bounds("z_score", voxels) == pytest.approx(at_least_one_wide(low, high), abs=1e-6)


def test_percentiles_by_hand():
    thousand = np.arange(1000, dtype=np.int16).reshape(10, 10, 10)
    assert window_bounds("percentile", thousand) == (4, 994)  # the 5th and the 995th smallest


def test_percentile_window_ignores_a_handful_of_outliers():
    voxels = np.full((10, 10, 10), 40, np.int16)
    voxels[0, 0, :4], voxels[1] = 3071, np.linspace(0, 99, 100).reshape(10, 10)
    assert window_bounds("min_max", voxels) == (0, 3071)
    assert window_bounds("percentile", voxels)[1] < 100


@pytest.mark.parametrize("name", ADAPTIVE_WINDOWS)
def test_a_constant_volume_still_has_a_window(name):
    low, high = window_bounds(name, np.full((2, 3, 4), -7, np.int16))
    assert high - low >= 1
    assert np.isfinite(apply_window(hu(-7), Window.between(low, high))).all()


def test_an_unknown_window_is_named():
    with pytest.raises(InputError, match="lover"):
        window_bounds("lover", np.zeros((1, 1, 1), np.int16))
