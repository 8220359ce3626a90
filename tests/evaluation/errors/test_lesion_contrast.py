"""Tumours one by one: planted balls of known size and contrast come back."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from livseg_lib.errors import InputError
from livseg_lib.evaluation.contrast import contrast_class, count_false_alarms, describe_lesions, lesion_hits
from livseg_lib.evaluation.lesions import detect_lesions, lesion_overlap

SPACING_MM = (5.0, 1.0, 1.0)
SHAPE = (12, 60, 60)


def ball(center_mm: tuple[float, float, float], radius_mm: float) -> np.ndarray:
    """Mask of voxels whose centres lie within the radius, on the anisotropic grid."""
    axes = np.meshgrid(*(np.arange(n) * s for n, s in zip(SHAPE, SPACING_MM, strict=True)), indexing="ij")
    return sum((axis - c) ** 2 for axis, c in zip(axes, center_mm, strict=True)) <= radius_mm**2


@pytest.fixture
def planted():
    """A liver of 100 HU with a dark ball (70) and a bright one (115), beside a background of -100."""
    labels, hu = np.zeros(SHAPE, np.uint8), np.full(SHAPE, -100, np.int16)
    labels[:, 2:58, 2:58], hu[:, 2:58, 2:58] = 1, 100
    for center, radius, value in (((25, 20, 20), 10, 70), ((25, 40, 42), 6, 115)):
        mask = ball(center, radius)
        labels[mask], hu[mask] = 2, value
    return hu, labels


def test_planted_balls_have_their_size_and_contrast(planted):
    hu, labels = planted
    found = describe_lesions(hu, labels, SPACING_MM)
    assert list(found.lesion) == [1, 2]
    assert list(found.contrast_hu) == [100 - 70, 100 - 115]
    assert list(found.rim_hu) == [100, 100] and list(found.tumor_hu) == [70, 115]
    voxels = int(ball((25, 20, 20), 10).sum())
    assert found.voxels[0] == voxels and found.volume_ml[0] == pytest.approx(voxels * 5 / 1000)
    assert found.diameter_mm[0] == pytest.approx(20, rel=0.05)  # of a ball drawn in 5 mm slices
    assert found.diameter_mm[1] == pytest.approx(12, rel=0.08)


def test_the_rim_is_measured_in_millimetres_along_each_axis():
    labels, hu = np.ones((7, 21, 21), np.uint8), np.zeros((7, 21, 21), np.int16)
    labels[3, 10, 10] = 2
    hu[2, 10, 10], hu[1, 10, 10] = 300, 3000  # one slice away is 5 mm, two are 10
    hu[3, 10, 15], hu[3, 10, 16] = 60, 3000  # five pixels away are 5 mm, six are 6
    found = describe_lesions(hu, labels, SPACING_MM, rim_mm=5.0).iloc[0]
    in_plane = sum(0 < y * y + x * x <= 25 for y in range(-5, 6) for x in range(-5, 6))
    assert found.rim_hu == pytest.approx(
        (300 + 60) / (in_plane + 2)
    )  # its slice, and one voxel on either side


def test_other_tumours_and_what_is_no_liver_are_not_in_the_rim(planted):
    hu, labels = planted
    neighbour = ball((25, 20, 35), 3)
    neighbour &= labels == 1
    labels[neighbour], hu[neighbour] = 2, -500
    assert describe_lesions(hu, labels, SPACING_MM).contrast_hu.iloc[0] == 30
    labels[:, :, :12] = 0  # the liver now ends at the tumour's side, beyond it are -100 HU
    hu[:, :, :12][labels[:, :, :12] == 0] = -100
    assert describe_lesions(hu, labels, SPACING_MM).rim_hu.iloc[0] == 100


def test_without_liver_or_spacing_the_contrast_is_undefined():
    labels, hu = np.zeros((3, 9, 9), np.uint8), np.full((3, 9, 9), 50, np.int16)
    labels[1, 4, 4] = 2
    bare = describe_lesions(hu, labels, SPACING_MM).iloc[0]
    assert np.isnan(bare.rim_hu) and np.isnan(bare.contrast_hu) and bare.tumor_hu == 50
    labels[labels == 0] = 1
    pictures = describe_lesions(hu, labels, (np.nan, np.nan, np.nan)).iloc[0]
    assert np.isnan([pictures.contrast_hu, pictures.volume_ml, pictures.diameter_mm]).all()
    assert describe_lesions(hu, np.ones_like(labels), SPACING_MM).empty
    with pytest.raises(InputError, match="shape"):
        describe_lesions(hu[1:], labels, SPACING_MM)


def test_a_tumour_at_the_volumes_corner_is_described():
    labels, hu = np.ones((4, 8, 8), np.uint8), np.full((4, 8, 8), 90, np.int16)
    labels[0, 0, 0], hu[0, 0, 0] = 2, 40
    assert describe_lesions(hu, labels, SPACING_MM).contrast_hu.iloc[0] == 50


def test_contrast_classes_take_bright_and_dark_alike_and_edges_upwards():
    contrast = pd.Series([0.0, -19.9, 20.0, -39.0, 40.0, -80.0, np.nan])
    expected = ["low", "low", "middle", "middle", "high", "high"]
    assert list(contrast_class(contrast)[:6]) == expected and pd.isna(contrast_class(contrast)[6])


def boxes(*given) -> np.ndarray:
    labels = np.zeros((4, 20, 20), np.uint8)
    for box in given:
        labels[box] = 2
    return labels


def test_hits_and_false_alarms_against_hand_counts():
    # three tumours of 8 voxels: one found whole, one touched at a quarter, one missed; one invented
    reference = boxes(np.s_[1:3, 2:4, 2:4], np.s_[1:3, 2:4, 10:12], np.s_[1:3, 10:12, 2:4])
    prediction = boxes(np.s_[1:3, 2:4, 2:4], np.s_[1:3, 2, 11:15], np.s_[1:3, 16:18, 16:18])
    lesions = lesion_overlap(prediction == 2, reference == 2)
    hits = lesion_hits(lesions)
    assert list(hits.found_share) == [1, 0.25, 0]
    assert list(hits.hit) == [True, True, False] and list(hits.detected) == [True, False, False]
    assert count_false_alarms(lesions) == 1
    assert hits.detected.sum() == detect_lesions(prediction, reference).true_positives


def test_nothing_predicted_and_nothing_to_find():
    one = boxes(np.s_[1:3, 2:4, 2:4]) == 2
    nothing = np.zeros_like(one)
    missed = lesion_overlap(nothing, one)
    assert not lesion_hits(missed).hit.any() and count_false_alarms(missed) == 0
    invented = lesion_overlap(one, nothing)
    assert lesion_hits(invented).empty and count_false_alarms(invented) == 1
    assert lesion_hits(invented).hit.dtype == bool  # tables of several patients are joined


def test_hits_and_descriptions_number_tumours_alike(planted):
    hu, labels = planted
    only_second = np.where(ball((25, 40, 42), 6), 2, 0).astype(np.uint8)
    both = describe_lesions(hu, labels, SPACING_MM).merge(
        lesion_hits(lesion_overlap(only_second == 2, labels == 2)), on="lesion"
    )
    assert list(both.hit) == [False, True] and list(both.tumor_hu) == [70, 115]
