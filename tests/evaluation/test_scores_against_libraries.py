"""The scores against libraries that others wrote: MedPy, SimpleITK and surface-distance (for tests only)."""

from __future__ import annotations

import numpy as np
import pytest
from evaluation.mask_pairs import random_pair
from hypothesis import given, settings
from hypothesis import strategies as st

from livseg_lib.evaluation import masks
from livseg_lib.evaluation.cases import score_case
from livseg_lib.evaluation.masks import assd, hd95, msd, surface_dice, surface_distances, surface_voxels

SPACING = (2.5, 0.7, 0.9)
FLOAT32 = 1e-6
WITH_EDGES = 2
"""MedPy's word for a surface of 18 neighbours."""


def ball(radius_mm: float, centre_mm, shape=(24, 70, 60), spacing=SPACING) -> np.ndarray:
    grid = np.ogrid[tuple(slice(n) for n in shape)]
    squares = (((g * s - c) / radius_mm) ** 2 for g, s, c in zip(grid, spacing, centre_mm, strict=True))
    return sum(squares) <= 1


seeds = given(st.integers(0, 2**32 - 1))


@settings(max_examples=25, deadline=None)
@seeds
def test_overlap_and_distances_are_those_of_medpy(seed):
    medpy = pytest.importorskip("medpy.metric.binary", reason="MedPy is not installed")
    prediction, reference = random_pair(seed, overlapping=True)
    counts = masks.overlap_counts(prediction, reference)
    assert masks.dice(counts) == pytest.approx(medpy.dc(prediction, reference))
    assert masks.jaccard(counts) == pytest.approx(medpy.jc(prediction, reference))
    assert masks.precision(counts) == pytest.approx(medpy.precision(prediction, reference))
    assert masks.recall(counts) == pytest.approx(medpy.recall(prediction, reference))
    assert masks.specificity(counts) == pytest.approx(medpy.specificity(prediction, reference))
    distances = surface_distances(prediction, reference, SPACING)
    for ours, theirs in ((assd, medpy.assd), (msd, medpy.hd), (hd95, medpy.hd95)):
        expected = theirs(prediction, reference, SPACING, WITH_EDGES)
        assert ours(distances) == pytest.approx(expected, rel=FLOAT32), theirs.__name__


def test_volume_difference_is_that_of_medpy_with_the_prediction_first():
    medpy = pytest.importorskip("medpy.metric.binary", reason="MedPy is not installed")
    prediction, reference = ball(8, (30, 25, 27)), ball(10, (30, 25, 27))
    ours = masks.rvd(masks.overlap_counts(prediction, reference))
    assert ours < 0  # too little was predicted
    assert ours == pytest.approx(medpy.ravd(prediction, reference))
    assert ours != pytest.approx(medpy.ravd(reference, prediction), abs=0.1)  # the order of other versions


def itk_surface(mask: np.ndarray) -> np.ndarray:
    itk = pytest.importorskip("SimpleITK", reason="SimpleITK is not installed")
    image = itk.GetImageFromArray(mask.astype(np.uint8))
    eroded = itk.BinaryErode(image, [1, 1, 1], itk.sitkBall, 0.0, 1.0, False)  # that ball is 18 neighbours
    return mask & (itk.GetArrayFromImage(eroded) == 0)


def itk_nearest_mm(start: np.ndarray, target: np.ndarray) -> np.ndarray:
    itk = pytest.importorskip("SimpleITK", reason="SimpleITK is not installed")
    image = itk.GetImageFromArray(target.astype(np.uint8))
    image.SetSpacing(SPACING[::-1])
    squares = itk.SignedMaurerDistanceMap(
        image, insideIsPositive=False, squaredDistance=True, useImageSpacing=True
    )
    return np.sqrt(np.abs(itk.GetArrayFromImage(squares)))[start]


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0.5, 1.0, 2.0, 3.3]))
def test_surface_dice_is_that_of_distance_maps_by_simpleitk(seed, tolerance_mm):
    prediction, reference = random_pair(seed, overlapping=True)
    surfaces = itk_surface(prediction), itk_surface(reference)
    np.testing.assert_array_equal(surfaces[0], surface_voxels(prediction))
    near = np.concatenate([itk_nearest_mm(*surfaces), itk_nearest_mm(*surfaces[::-1])]) <= tolerance_mm
    found = surface_dice(surface_distances(prediction, reference, SPACING), tolerance_mm)
    assert found == pytest.approx(near.mean())


def shifted_balls(radius_mm: float, shift_mm: float, spacing, shape) -> list[np.ndarray]:
    """A ball, and the same `shift_mm` further along the rows."""
    centre = [side * size / 2 for side, size in zip(spacing, shape, strict=True)]
    return [ball(radius_mm, (centre[0], centre[1] + s, centre[2]), shape, spacing) for s in (0, shift_mm)]


@pytest.mark.parametrize(("shift_mm", "tolerance_mm"), [(1.5, 1.0), (3.0, 2.0), (5.0, 3.0)])
def test_surface_dice_of_balls_is_near_that_weighted_by_area(shift_mm, tolerance_mm):
    library = pytest.importorskip("surface_distance", reason="surface-distance is not installed")
    spacing = (1.0, 0.8, 0.8)
    pair = shifted_balls(15, shift_mm, spacing, (50, 60, 60))
    by_area = library.compute_surface_distances(pair[1], pair[0], spacing)
    expected = library.compute_surface_dice_at_tolerance(by_area, tolerance_mm)
    found = surface_dice(surface_distances(*pair, spacing), tolerance_mm)
    assert found == pytest.approx(expected, abs=0.05)  # ours counts voxels, theirs weighs by area


def test_one_ball_around_another_is_everywhere_as_far_as_their_radii_differ():
    spacing, shape = (1.0, 0.8, 0.7), (50, 60, 66)
    outer, inner = (ball(radius, (24, 23, 22), shape, spacing) for radius in (18, 12))
    distances = surface_distances(outer, inner, spacing)
    for score in (assd, hd95, msd):
        assert score(distances) == pytest.approx(6, abs=1.0)  # a voxel's side
    assert (surface_dice(distances, 4.5), surface_dice(distances, 7.5)) == (0, 1)


@settings(max_examples=10, deadline=None)
@seeds
def test_a_whole_case_against_medpy(seed):
    medpy = pytest.importorskip("medpy.metric.binary", reason="MedPy is not installed")
    prediction, reference = (2 * mask.astype(np.uint8) for mask in random_pair(seed, overlapping=True))
    for labels in (prediction, reference):
        labels[0, 0, 0] = 1  # there is a liver around the tumour
    scores = score_case(prediction, reference, SPACING)
    livers, tumors = (prediction > 0, reference > 0), (prediction == 2, reference == 2)
    assert scores["liver_hd95"] == pytest.approx(medpy.hd95(*livers, SPACING, WITH_EDGES), rel=FLOAT32)
    assert scores["liver_msd"] == pytest.approx(medpy.hd(*livers, SPACING, WITH_EDGES), rel=FLOAT32)
    assert scores["tumor_dice"] == pytest.approx(medpy.dc(*tumors))
    assert scores["tumor_rvd"] == pytest.approx(medpy.ravd(*tumors))
    rates, pairs = medpy.obj_tpr(*tumors), medpy.obj_fpr(*tumors)  # other rules of matching, same objects
    assert 0 <= rates <= 1 and 0 <= pairs <= 1
