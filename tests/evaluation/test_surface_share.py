"""HD95 and surface Dice: hand values, what must change nothing, and where they are undefined."""

from __future__ import annotations

import numpy as np
import pytest
from evaluation.mask_pairs import random_pair
from hypothesis import given, settings
from hypothesis import strategies as st

from livseg_lib.errors import InputError
from livseg_lib.evaluation.masks import hd95, msd, surface_dice, surface_distances

SPACING = (2.5, 0.7, 0.9)


def bar(start: int, length: int, size: int = 40) -> np.ndarray:
    """A bar of one voxel's cross-section along the last axis."""
    mask = np.zeros((3, 3, size), bool)
    mask[1, 1, start : start + length] = True
    return mask


def test_surface_dice_of_a_shifted_bar_by_hand():
    # Of 2 x 10 voxels, all surface, three of each stick out: by 0.9, 1.8 and 2.7 mm.
    distances = surface_distances(bar(5, 10), bar(8, 10), SPACING)
    for tolerance_mm, out in ((0.0, 3), (0.5, 3), (1.0, 2), (2.0, 1), (2.7, 0), (5.0, 0)):
        assert surface_dice(distances, tolerance_mm) == pytest.approx((20 - 2 * out) / 20)


def test_hd95_by_hand():
    # 100 voxels against the same and 10 more, 0.9 to 9 mm away: with 210 distances rank 0.95 * 209 = 198.55.
    distances = surface_distances(bar(5, 110, 130), bar(5, 100, 130), SPACING)
    assert np.count_nonzero(distances.both) == 10
    assert hd95(distances) == 0  # rank 199 of 210 is the last that is 0
    shorter = surface_distances(bar(5, 110, 130), bar(5, 99, 130), SPACING)
    assert 0 < hd95(shorter) < 0.9  # rank 197.6 of 209, between the last 0 and the first 0.9
    assert msd(shorter) == pytest.approx(11 * 0.9)


def test_a_distance_equal_to_the_tolerance_is_within_it():
    for step_mm, steps in ((0.6, 4), (0.8, 3), (0.8, 6), (0.85, 4)):  # in float32 a little more than that
        one, other = np.zeros((2, 1, 1, 30), bool)
        one[..., 3], other[..., 3 + steps] = True, True
        distances = surface_distances(one, other, (1.0, 1.0, step_mm))
        assert surface_dice(distances, step_mm * steps) == 1
        assert surface_dice(distances, step_mm * steps * 0.999) == 0


@pytest.mark.parametrize(("predicted", "present"), [(0, 0), (0, 5), (5, 0), (5, 5)])
@pytest.mark.parametrize("spacing", [SPACING, (np.nan, 1.0, 1.0)])
def test_empty_masks_and_unknown_spacing(predicted, present, spacing):
    distances = surface_distances(bar(3, predicted), bar(3, present), spacing)
    is_known = not np.isnan(spacing[0])
    both = predicted > 0 and present > 0
    np.testing.assert_equal(hd95(distances), 0.0 if both and is_known else np.nan)
    one = (predicted > 0) != (present > 0)
    np.testing.assert_equal(surface_dice(distances), 0.0 if one else 1.0 if both and is_known else np.nan)


@pytest.mark.parametrize("tolerance_mm", [-1.0, np.nan])
def test_a_tolerance_is_a_length(tolerance_mm):
    with pytest.raises(InputError, match="tolerance_mm"):
        surface_dice(surface_distances(bar(1, 3), bar(2, 3), SPACING), tolerance_mm)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 4), st.permutations((0, 1, 2)), st.floats(0, 8))
def test_exchange_translation_flip_and_axis_order_change_nothing(seed, shift, axes, tolerance_mm):
    pair = random_pair(seed)

    def scores(masks, spacing=SPACING):
        distances = surface_distances(*masks, spacing)
        return [hd95(distances), surface_dice(distances, tolerance_mm)]

    expected = pytest.approx(scores(pair))
    assert scores(pair[::-1]) == expected
    assert scores(pair[:, ::-1, :, ::-1]) == expected
    assert scores(np.pad(pair, ((0, 0), (shift, 1), (0, shift), (2, 0)))) == expected
    assert scores([mask.transpose(axes) for mask in pair], [SPACING[axis] for axis in axes]) == expected


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0, 6), st.floats(0, 6), st.floats(0.2, 5))
def test_order_and_scale(seed, first_mm, second_mm, factor):
    distances = surface_distances(*random_pair(seed), SPACING)
    shares = [surface_dice(distances, mm) for mm in sorted((first_mm, second_mm))]
    assert 0 <= shares[0] <= shares[1] <= 1 and surface_dice(distances, msd(distances)) == 1
    assert 0 <= hd95(distances) <= msd(distances)
    larger = surface_distances(*random_pair(seed), [factor * side for side in SPACING])
    assert hd95(larger) == pytest.approx(factor * hd95(distances))
