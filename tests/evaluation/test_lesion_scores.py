"""Lesion-wise Dice and panoptic quality: hand values, and the same once more by voxels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.measure import label

from livseg_lib.evaluation.lesions import (
    LesionOverlap,
    lesion_dice,
    lesion_overlap,
    panoptic_quality,
    pool_panoptic,
)

SHAPE = (10, 20, 30)
NEAR, FAR = np.s_[1:5, 2:8, 2:8], np.s_[2:8, 10:18, 15:25]  # 144 and 480 voxels


def tumors(*boxes) -> np.ndarray:
    mask = np.zeros(SHAPE, bool)
    for box in boxes:
        mask[box] = True
    return mask


def test_hand_values():
    half, surplus = np.s_[2:8, 10:18, 15:21], np.s_[8:10, 2:4, 26:28]  # 288 voxels of FAR, 8 of nothing
    lesions = lesion_overlap(tumors(half, surplus), tumors(NEAR, FAR))
    dice = 2 * 288 / (288 + 480)
    assert lesion_dice(lesions) == pytest.approx(dice / 3)  # one pair, one surplus, one missed
    found = panoptic_quality(lesions)
    assert (found.matched, found.segmentation) == (1, pytest.approx(288 / 480))
    assert found.recognition == pytest.approx(1 / (1 + 0.5 + 0.5))
    assert found.quality == pytest.approx(found.segmentation * found.recognition)


def test_a_poor_pair_counts_for_dice_and_not_for_panoptic_quality():
    third = np.s_[2:4, 10:18, 15:25]
    lesions = lesion_overlap(tumors(third), tumors(FAR))
    assert lesion_dice(lesions) == pytest.approx(2 * 160 / (160 + 480))
    found = panoptic_quality(lesions)
    assert (found.matched, found.recognition, found.quality) == (0, 0, 0) and np.isnan(found.segmentation)


def test_half_the_union_is_not_enough():
    exactly_half = np.s_[2:8, 10:18, 15:20]
    assert panoptic_quality(lesion_overlap(tumors(exactly_half), tumors(FAR))).matched == 0


def test_fragments_are_joined_for_dice_and_all_but_one_are_surplus():
    left, right = np.s_[2:8, 10:18, 15:19], np.s_[2:8, 10:18, 20:25]  # 192 and 240 of 480
    lesions = lesion_overlap(tumors(left, right), tumors(FAR))
    assert lesion_dice(lesions) == pytest.approx(2 * 432 / (432 + 480) / 2)
    assert panoptic_quality(lesions).matched == 0  # no fragment alone has more than half


@pytest.mark.parametrize(
    ("predicted", "present", "dice"),
    [((), (), np.nan), ((NEAR,), (), 0), ((), (NEAR,), 0), ((FAR,), (NEAR,), 0), ((NEAR,), (NEAR,), 1)],
)
def test_empty_and_missed(predicted, present, dice):
    lesions = lesion_overlap(tumors(*predicted), tumors(*present))
    found = panoptic_quality(lesions)
    np.testing.assert_equal([lesion_dice(lesions), found.quality, found.recognition], [dice] * 3)
    np.testing.assert_equal(found.segmentation, 1.0 if dice == 1 else np.nan)


def random_tumors(seed: int) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    truth = np.zeros((8, 12, 14), bool)
    for corner in rng.integers(0, (6, 10, 12), (rng.integers(0, 6), 3)):
        truth[tuple(slice(a, a + s) for a, s in zip(corner, rng.integers(1, 5, 3), strict=True))] = True
    return [np.roll(truth, 1, axis=2) & (rng.random(truth.shape) < 0.95), truth]


def by_voxels(prediction: np.ndarray, reference: np.ndarray) -> tuple[int, float, int]:
    """Matches, the sum of their IoU, and all objects; every object against every other."""
    numbered = label(prediction, connectivity=1), label(reference, connectivity=1)
    matched, total = 0, 0.0
    for p in range(1, numbered[0].max() + 1):
        for g in range(1, numbered[1].max() + 1):
            one, other = numbered[0] == p, numbered[1] == g
            iou = (one & other).sum() / (one | other).sum()
            matched, total = matched + (iou > 0.5), total + iou * (iou > 0.5)
    return matched, total, numbered[0].max() + numbered[1].max()


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_panoptic_quality_agrees_with_voxels_and_is_symmetric(seed):
    pair = random_tumors(seed)
    found = panoptic_quality(lesion_overlap(*pair))
    matched, total, objects = by_voxels(*pair)
    assert found.matched == matched
    if objects:
        assert found.quality == pytest.approx(2 * total / objects)
        if matched:
            assert found.quality == pytest.approx(found.segmentation * found.recognition)
    assert panoptic_quality(lesion_overlap(*pair[::-1])) == pytest.approx(found, nan_ok=True)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 3))
def test_lesion_dice_is_a_share_that_place_does_not_change_and_surplus_lowers(seed, shift):
    prediction, reference = (np.pad(mask, 4) for mask in random_tumors(seed))
    found = lesion_dice(lesion_overlap(prediction, reference))
    moved = lesion_dice(
        lesion_overlap(*(np.roll(mask, shift, axis=(0, 2)) for mask in (prediction, reference)))
    )
    assert moved == pytest.approx(found, nan_ok=True)
    prediction[0, 0, 0] = True  # one that is not there
    worse = lesion_dice(lesion_overlap(prediction, reference))
    assert worse == 0 if np.isnan(found) else 0 <= worse <= found <= 1


def test_many_cases_pool_into_one():
    nowhere = np.zeros((1, 1, 1), int)
    cases = [LesionOverlap(nowhere, nowhere, np.array(t)) for t in ([[0, 0], [0, 5]], [[0, 0, 9], [1, 3, 0]])]
    parts = [panoptic_quality(case) for case in cases]
    assert [part.matched for part in parts] == [1, 1]
    pooled = pool_panoptic(2, 1 + 3 / 4, 1 + 1, 1 + 2)
    assert pooled.quality == pytest.approx(2 * 1.75 / 5) and pooled.segmentation == pytest.approx(1.75 / 2)
    assert np.isnan(pool_panoptic(0, 0.0, 0, 0).quality)
