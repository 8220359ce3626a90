import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from livseg_lib.errors import InputError
from livseg_lib.preprocessing.recipe import Recipe
from livseg_lib.preprocessing.windows import (
    ADAPTIVE_WINDOWS,
    WINDOWS,
    Window,
    apply_window,
    choose_windows,
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


def mr_scan(scale: float = 1.0, air: int = 4000) -> np.ndarray:
    """Half air near zero, half body between 400 and 1099."""
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.integers(0, 20, air), rng.integers(400, 1100, 4000)])
    return np.rint(values * scale).astype(np.int16).reshape(-1, 10, 10)


@pytest.mark.parametrize("name, low, high", [("mr", 2, 98), ("mr_narrow", 10, 90), ("mr_wide", 0, 99.8)])
def test_mr_windows_are_percentiles_of_the_body_alone(name, low, high):
    voxels = mr_scan()
    body = voxels[voxels >= 400]
    assert window_bounds(name, voxels) == tuple(np.percentile(body, [low, high], method="inverted_cdf"))
    assert window_bounds(name, mr_scan(air=1000)) == pytest.approx(window_bounds(name, voxels), abs=30)


@pytest.mark.parametrize("scale", [0.3, 5.0, 25.0])
def test_the_scale_of_an_mr_scan_changes_no_picture(scale):
    def picture(voxels):
        return apply_window(voxels, Window.between(*window_bounds("mr", voxels))).astype(int)

    difference = picture(mr_scan(scale)) - picture(mr_scan())
    assert np.abs(difference).max() <= 1


def test_mr_windows_of_an_empty_scan_are_a_window_still():
    assert window_bounds("mr", np.zeros((2, 2, 2), np.int16)) == (0, 1)


def test_the_modality_chooses_the_windows_and_refuses_hu_for_mr():
    assert choose_windows("auto", of_pictures=False, modality="mr") == ("mr", "mr_narrow", "mr_wide")
    assert choose_windows("auto", of_pictures=False) == ("liver", "liver_narrow", "liver_wide")
    assert choose_windows("auto", of_pictures=True, modality="mr") == ("stored",)
    assert choose_windows(["z_score"], of_pictures=False, modality="mr") == ("z_score",)
    with pytest.raises(InputError, match="liver_narrow: bounds in HU"):
        choose_windows(["mr", "liver_narrow"], of_pictures=False, modality="mr")
    with pytest.raises(InputError, match="modality"):
        choose_windows("auto", of_pictures=False, modality="pet")


def test_a_recipe_knows_what_it_is_for():
    assert Recipe(windows=("mr", "mr_wide")).modality == "mr"
    assert Recipe().modality == Recipe(windows=("z_score",)).modality == "ct"


def test_the_body_is_brighter_than_half_the_mean():
    voxels = np.array([[[0, 0, 2, 14]]], np.int16)  # mean 4: the 2 is no body
    assert window_bounds("mr_wide", voxels) == (14, 15)
