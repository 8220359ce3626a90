"""Grey levels by hand, bounds measured as NumPy measures them, and MR scans on any scale."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from livseg_lib.errors import InputError
from livseg_lib.preprocessing.recipe import Recipe
from livseg_lib.preprocessing.windows import (
    ADAPTIVE_WINDOWS,
    WINDOWS,
    Window,
    apply_window,
    as_hu,
    as_window,
    choose_windows,
    measured,
)
from livseg_lib.volumes import Volume


def hu(*values):
    return np.array(values, np.int16)


def bounds(name, voxels):
    return measured(as_window(name), voxels)[1:]


def test_hand_computed_grey_levels():
    # 100 HU from black to white: one HU is 2.55 levels, 20 HU is 51, 70 HU is 178.5 and rounds up.
    grey = apply_window(hu(-1024, -1, 0, 1, 20, 70, 100, 101, 3071), Window.between(0, 100))
    assert grey.dtype == np.uint8
    assert grey.tolist() == [0, 0, 0, 3, 51, 179, 255, 255, 255]
    levels = np.arange(256, dtype=np.int16)
    assert np.array_equal(apply_window(levels, WINDOWS["stored"]), levels)


def test_a_window_is_a_name_or_bounds_or_both():
    assert as_window((-100, 200)) == Window.between(-100, 200) == ("-100..200", -100, 200)
    assert as_window("-100..200") == ("-100..200", -100, 200) and as_window("0.5..70") == ("0.5..70", 0.5, 70)
    assert as_window(["mine", 0, 70.5]) == ("mine", 0, 70.5) and as_window([None, 0, 1]) == ("0..1", 0, 1)
    assert as_window("abdomen") == ("abdomen", 50 - 400 / 2, 50 + 400 / 2)  # level 50, width 400
    assert as_window("bone")[1:] == (400 - 900, 400 + 900)
    assert as_window("lung")[1:] == (-600 - 750, -600 + 750)
    assert as_window(["z_score", None, None]) == as_window("z_score") == ("z_score", None, None)
    too_many, no_name, out_of_range = (1, 2, 3, 4), (7, 0, 1), (-(2**15) - 1, 0)
    no_windows = (-100, None, (5, 5), (1, "a"), ("liver", None, None), out_of_range, too_many, no_name)
    no_windows += ("200..-100", "1..2..3", "..", "5")
    for wrong in no_windows:
        with pytest.raises(InputError, match="windows"):
            as_window(wrong)


@settings(max_examples=25)
@given(st.lists(st.integers(-(2**15), 2**15 - 1), min_size=4, max_size=60))
def test_adaptive_bounds_agree_with_numpy(values):
    voxels = np.array(values, np.int16).reshape(len(values), 1, 1)

    def at_least_one_wide(low, high):
        return low, max(high, low + 1)

    assert bounds("min_max", voxels) == at_least_one_wide(min(values), max(values))
    percentiles = np.percentile(values, [0.5, 99.5], method="inverted_cdf")
    assert bounds("percentile", voxels) == at_least_one_wide(*percentiles)
    low, high = np.mean(values) - 3 * np.std(values), np.mean(values) + 3 * np.std(values)
    assert bounds("z_score", voxels) == pytest.approx(at_least_one_wide(low, high), abs=1e-6)


def test_percentiles_by_hand():
    thousand = np.arange(1000, dtype=np.int16).reshape(10, 10, 10)
    assert bounds("percentile", thousand) == (4, 994)  # the 5th and the 995th smallest
    assert bounds("mr_wide", hu(0, 0, 2, 14).reshape(1, 2, 2)) == (14, 15)  # mean 4: the 2 is no body


@pytest.mark.parametrize("name", ADAPTIVE_WINDOWS)
@pytest.mark.parametrize("value", [-7, 0])
def test_a_constant_volume_still_has_a_window(name, value):
    window = measured(as_window(name), np.full((2, 3, 4), value, np.int16))
    assert window.upper - window.lower >= 1
    assert np.isfinite(apply_window(hu(value), window)).all()


def mr_scan(scale: float = 1.0, air: int = 4000) -> np.ndarray:
    """Half air near zero, half body between 400 and 1099."""
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.integers(0, 20, air), rng.integers(400, 1100, 4000)])
    return np.rint(values * scale).astype(np.int16).reshape(-1, 10, 10)


@pytest.mark.parametrize("name, low, high", [("mr", 2, 98), ("mr_narrow", 10, 90), ("mr_wide", 0, 99.8)])
def test_mr_windows_are_percentiles_of_the_body_alone(name, low, high):
    voxels = mr_scan()
    body = voxels[voxels >= 400]
    assert bounds(name, voxels) == tuple(np.percentile(body, [low, high], method="inverted_cdf"))
    assert bounds(name, mr_scan(air=1000)) == pytest.approx(bounds(name, voxels), abs=30)


@pytest.mark.parametrize("scale", [0.5, 5.0, 25.0])
def test_the_scale_of_an_mr_scan_changes_no_picture_and_no_hu(scale):
    seen = [apply_window(scan, measured(as_window("mr"), scan)) for scan in (mr_scan(scale), mr_scan())]
    assert np.abs(np.subtract(*seen, dtype=int)).max() <= 1
    stretched = [as_hu(Volume(scan, (4, 1, 1)), "mr").voxels for scan in (mr_scan(scale), mr_scan())]
    assert np.abs(np.subtract(*stretched, dtype=int)).max() <= 2


def test_the_bodys_range_becomes_that_of_abdominal_hu():
    volume = Volume(mr_scan(), (4.0, 1.0, 1.0))
    stretched = as_hu(volume, "mr")
    assert stretched.spacing_mm == volume.spacing_mm and stretched.voxels.dtype == np.int16
    for value, expected in zip(bounds("mr", volume.voxels), (-100, 300), strict=True):
        assert set(stretched.voxels[volume.voxels == value]) == {expected}
    assert (np.diff(stretched.voxels.ravel()[np.argsort(volume.voxels, axis=None)]) >= 0).all()
    assert as_hu(volume, "ct") is volume
    with pytest.raises(InputError, match="modality"):
        as_hu(volume, "pet")


def test_the_modality_chooses_the_windows_and_refuses_hu_for_mr():
    assert choose_windows("auto", of_pictures=False, modality="mr") == ("mr", "mr_narrow", "mr_wide")
    assert choose_windows("auto", of_pictures=False) == ("liver", "liver_narrow", "liver_wide")
    assert choose_windows("auto", of_pictures=True, modality="mr") == ("stored",)
    assert choose_windows(["z_score"], of_pictures=False, modality="mr") == ("z_score",)
    with pytest.raises(InputError, match="liver_narrow: bounds in HU"):
        choose_windows(["mr", "liver_narrow"], of_pictures=False, modality="mr")
    with pytest.raises(InputError, match="modality"):
        choose_windows("auto", of_pictures=False, modality="pet")
    assert Recipe(windows=("mr", "mr_wide")).modality == "mr"
    assert Recipe().modality == Recipe(windows=("z_score",)).modality == "ct"
