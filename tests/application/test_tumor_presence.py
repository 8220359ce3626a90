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


def test_the_probability_is_that_of_the_smallest_area_that_counts():
    assert AREA == 2
    found = presence_from_planes(planes_with(AREA, 204), BOTH)
    assert found.suspected and found.probability == pytest.approx(0.8)
    speck = presence_from_planes(planes_with(AREA - 1, 255), BOTH)
    assert speck.suspected is False and speck.probability == 0.0


def test_suspected_and_probability_agree_on_the_threshold():
    assert presence_from_planes(planes_with(9, 102), BOTH).suspected  # 102 / 255 is 0.4
    assert not presence_from_planes(planes_with(9, 101), BOTH).suspected


def test_only_the_liver_counts_the_network_s_own_or_the_one_that_is_known():
    outside = planes_with(9, 255, liver=False)
    assert not presence_from_planes(outside, BOTH).suspected
    known = np.ones(outside.shape[:3], bool)
    found = presence_from_planes(outside, BOTH, known)
    assert found.suspected and "inside the liver" in found.how
    assert not presence_from_planes(outside, BOTH, ~known).suspected


def test_a_network_for_tumours_alone_is_asked_everywhere():
    found = presence_from_planes(planes_with(9, 255)[..., 1:], {"tumor": 0.5})
    assert found.suspected and "inside the liver" not in found.how


def test_a_system_for_livers_gives_no_answer():
    found = presence_from_planes(planes_with(9, 255)[..., :1], {"liver": 0.5})
    assert found.suspected is None and np.isnan(found.probability)


def test_labels_give_an_answer_without_a_probability():
    labels = np.ones((2, 4, 4), np.uint8)
    assert presence_from_labels(labels).suspected is False
    labels[0, 0, 0] = 2
    found = presence_from_labels(labels)
    assert found.suspected is True and np.isnan(found.probability) and "no probability" in found.how
