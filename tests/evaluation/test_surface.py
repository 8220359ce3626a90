from __future__ import annotations

import numpy as np
import pytest
from evaluation.mask_pairs import random_pair
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import distance_transform_edt

from livseg_lib.errors import InputError
from livseg_lib.evaluation import masks as s

SHAPE = (12, 14, 16)
SPACING = (2.5, 0.7, 0.9)
FLOAT32 = 2e-7
"""One rounding of a float32, in which the distances are computed; 400 drawn pairs stayed below 1.2e-7."""
SCORES = (s.assd, s.rmsd, s.msd)


def box(*slices) -> np.ndarray:
    mask = np.zeros(SHAPE, bool)
    mask[slices] = True
    return mask


def scores(prediction, reference, spacing=SPACING) -> list[float]:
    distances = s.surface_distances(prediction, reference, spacing)
    return [score(distances) for score in SCORES]


def test_surface_of_a_cube_is_its_shell():
    cube = box(np.s_[2:7], np.s_[2:7], np.s_[2:7])
    assert s.surface_voxels(cube).sum() == 5**3 - 3**3
    np.testing.assert_array_equal(cube ^ s.surface_voxels(cube), box(np.s_[3:6], np.s_[3:6], np.s_[3:6]))


def test_eighteen_neighbours_decide_what_is_surface():
    block = np.ones((5, 5, 5), bool)
    for hole, expected in (((1, 1, 1), False), ((1, 1, 2), True), ((1, 2, 2), True)):  # corner, edge, face
        holed = block.copy()
        holed[hole] = False
        assert s.surface_voxels(holed)[2, 2, 2] == expected


def test_outside_the_volume_is_background():
    assert s.surface_voxels(np.ones((3, 3, 3), bool)).sum() == 26


@pytest.mark.parametrize(("axis", "steps"), [(0, 1), (1, 2), (2, 3)])
def test_two_voxels_apart_along_one_axis(axis, steps):
    one, other = np.zeros((2, *SHAPE), bool)
    one[5, 5, 5] = True
    other[tuple(5 + steps * (a == axis) for a in range(3))] = True
    assert scores(one, other) == pytest.approx([steps * SPACING[axis]] * 3)


def test_hand_values_of_a_plate_with_a_bump():
    plate = box(np.s_[3], np.s_[4:7], np.s_[4:7])  # 9 voxels, all surface
    bumped = plate | box(np.s_[5], np.s_[5], np.s_[5])  # one more, two slices of 2.5 mm above the middle
    # 10 + 9 surface voxels; the only distance is that of the bump, 5 mm.
    assert scores(bumped, plate) == pytest.approx([5 / 19, np.sqrt(25 / 19), 5])


def test_shifted_box_by_hand():
    # A bar of one voxel's cross-section, 4 voxels of 0.9 mm long, shifted by 2: two voxels of each stick out.
    bar, shifted = box(np.s_[1], np.s_[1], np.s_[2:6]), box(np.s_[1], np.s_[1], np.s_[4:8])
    out = np.array([0.9, 1.8, 0.9, 1.8])
    assert scores(bar, shifted) == pytest.approx([out.sum() / 8, np.sqrt((out**2).sum() / 8), 1.8])


def brute_force(prediction, reference, spacing) -> list[float]:
    """Every border voxel against every other; neighbours looked up one by one."""
    points = []
    for mask in (prediction, reference):
        padded = np.pad(mask, 1)
        offsets = [np.array(o) - 1 for o in np.ndindex(3, 3, 3) if np.abs(np.array(o) - 1).sum() <= 2]
        points.append([v for v in np.argwhere(mask) if not all(padded[tuple(v + 1 + o)] for o in offsets)])
    gaps = np.linalg.norm((np.array(points[0])[:, None] - np.array(points[1])[None]) * spacing, axis=-1)
    nearest = np.concatenate([gaps.min(axis=1), gaps.min(axis=0)])
    return [nearest.mean(), np.sqrt((nearest**2).mean()), nearest.max()]


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_agrees_with_brute_force(seed):
    pair = random_pair(seed)
    assert scores(*pair) == pytest.approx(brute_force(*pair, SPACING))


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_agrees_with_a_distance_transform(seed):
    prediction, reference = random_pair(seed)
    to_reference = distance_transform_edt(~s.surface_voxels(reference), sampling=SPACING)
    to_prediction = distance_transform_edt(~s.surface_voxels(prediction), sampling=SPACING)
    distances = s.surface_distances(prediction, reference, SPACING)
    found = np.sort(distances.prediction_to_reference), np.sort(distances.reference_to_prediction)
    np.testing.assert_allclose(found[0], np.sort(to_reference[s.surface_voxels(prediction)]), rtol=FLOAT32)
    np.testing.assert_allclose(found[1], np.sort(to_prediction[s.surface_voxels(reference)]), rtol=FLOAT32)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 4), st.permutations((0, 1, 2)))
def test_exchange_translation_flip_and_axis_order_change_nothing(seed, shift, axes):
    pair = random_pair(seed)
    expected = pytest.approx(scores(*pair))
    assert scores(*pair[::-1]) == expected
    assert scores(*pair[:, ::-1, :, ::-1]) == expected
    assert scores(*(np.pad(m, ((shift, 1), (0, shift), (2, 0))) for m in pair)) == expected
    assert scores(*(m.transpose(axes) for m in pair), spacing=[SPACING[a] for a in axes]) == expected
    assert scores(*pair, spacing=[2 * side for side in SPACING]) == pytest.approx(
        [2 * v for v in scores(*pair)]
    )


def test_equal_masks_are_at_zero():
    cube = box(np.s_[2:7], np.s_[2:7], np.s_[2:7])
    assert scores(cube, cube) == [0, 0, 0]


@pytest.mark.parametrize("which", ["prediction", "reference", "both"])
def test_empty_masks_have_no_distance(which):
    cube, empty = box(np.s_[2:7], np.s_[2:7], np.s_[2:7]), np.zeros(SHAPE, bool)
    prediction = empty if which != "reference" else cube
    reference = empty if which != "prediction" else cube
    assert np.isnan(scores(prediction, reference)).all()


def test_unknown_spacing_gives_nan_and_impossible_spacing_an_error():
    cube = box(np.s_[2:7], np.s_[2:7], np.s_[2:7])
    assert np.isnan(scores(cube, cube, (np.nan, 1, 1))).all()
    for spacing in ((0, 1, 1), (1, 1), (1, -1, 1)):
        with pytest.raises(InputError, match="spacing_mm"):
            s.surface_distances(cube, cube, spacing)
