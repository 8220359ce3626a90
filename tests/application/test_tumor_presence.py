"""Tumour or not, for a whole scan."""

from __future__ import annotations

import numpy as np
import pytest

from livseg_lib.application.predictor import SMALLEST_SHARE, presence_from_labels, presence_from_planes

SIZE = 64
AREA = round(SIZE * SIZE * SMALLEST_SHARE)
BOTH = {"liver": 0.5, "tumor": 0.4}


def planes_with(tumor_pixels: int, level: int, liver: bool = True) -> np.ndarray:
    """Three pictures of liver; the second has `tumor_pixels` pixels of tumour at `level`."""
    planes = np.zeros((3, SIZE, SIZE, 2), np.uint8)
    planes[..., 0] = 255 * liver
    planes[1, 10, :tumor_pixels, 1] = level
    return planes


@pytest.mark.parametrize(
    ("pixels", "level", "suspected", "probability"),
    [
        (AREA, 204, True, 0.8),
        (AREA - 1, 255, False, 0.0),  # a speck
        (9, 102, True, 0.4),  # 102 / 255 is the threshold
        (9, 101, False, 101 / 255),
    ],
)
def test_the_probability_is_that_of_the_smallest_area_that_counts(pixels, level, suspected, probability):
    assert AREA == 2
    found = presence_from_planes(planes_with(pixels, level), BOTH)
    assert found.suspected is suspected and found.probability == pytest.approx(probability)


def test_only_the_liver_counts_the_network_s_own_or_the_one_that_is_known():
    outside = planes_with(9, 255, liver=False)
    assert not presence_from_planes(outside, BOTH).suspected
    known = np.ones(outside.shape[:3], bool)
    found = presence_from_planes(outside, BOTH, known)
    assert found.suspected and "inside the liver" in found.how
    assert not presence_from_planes(outside, BOTH, ~known).suspected
    for_tumors_alone = presence_from_planes(outside[..., 1:], {"tumor": 0.5})
    assert for_tumors_alone.suspected and "inside the liver" not in for_tumors_alone.how
    for_livers = presence_from_planes(outside[..., :1], {"liver": 0.5})
    assert for_livers.suspected is None and np.isnan(for_livers.probability)


def test_labels_give_an_answer_without_a_probability():
    labels = np.ones((2, 4, 4), np.uint8)
    assert presence_from_labels(labels).suspected is False
    labels[0, 0, 0] = 2
    found = presence_from_labels(labels)
    assert found.suspected is True and np.isnan(found.probability) and "no probability" in found.how
