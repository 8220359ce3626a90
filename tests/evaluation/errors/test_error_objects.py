"""Errors one by one: planted misses and inventions come back with features known by hand."""

from __future__ import annotations

import numpy as np
import pytest

from livseg_lib.errors import InputError
from livseg_lib.evaluation.contrast import describe_lesions
from livseg_lib.evaluation.errors import FEATURES, TrueCase, find_errors
from livseg_lib.evaluation.lesions import detect_lesions

SPACING_MM = (5.0, 1.0, 1.0)
SHAPE = (10, 60, 60)
NAMES = {0: "fat", 1: "liver", 2: "tumor", 3: "cyst", 4: "gallbladder"}

DARK, FAINT, BESIDE = np.s_[2:4, 10:20, 10:20], np.s_[6:8, 40:46, 40:46], np.s_[2:4, 10:20, 23:26]
CYST, OUTSIDE, ACROSS = np.s_[5:7, 12:16, 30:34], np.s_[4:5, 56:58, 20:30], np.s_[4:6, 30:34, 2:8]


def box(*boxes, value: int = 2) -> np.ndarray:
    labels = np.zeros(SHAPE, np.uint8)
    for each in boxes:
        labels[each] = value
    return labels


@pytest.fixture
def case() -> TrueCase:
    """A liver of 100 HU (rows and columns 4 to 54) in fat of -100, three tumours, a cyst beside nothing."""
    labels = np.zeros(SHAPE, np.uint8)
    labels[1:9, 4:55, 4:55] = 1
    hu = np.where(labels == 1, 100, -100).astype(np.int16)
    organs = labels.copy()
    for tumor, value in ((DARK, 60), (FAINT, 90), (BESIDE, 140)):
        labels[tumor], organs[tumor], hu[tumor] = 2, 2, value
    organs[CYST], hu[CYST] = 3, 10
    organs[4:5, 55:60, 15:35] = 4
    return TrueCase(labels, SPACING_MM, hu, organs, NAMES)


def prediction_of(case: TrueCase) -> np.ndarray:
    """DARK found by one voxel, the others missed; three inventions."""
    found = np.where(case.labels > 0, 1, 0).astype(np.uint8)
    found[2, 10, 10] = 2
    return np.maximum(found, box(CYST, OUTSIDE, ACROSS))


def test_errors_are_those_that_share_no_voxel_at_all(case):
    errors = find_errors(prediction_of(case), case)
    counts = detect_lesions(prediction_of(case), case.labels, overlap=0)
    assert errors.objects.error.value_counts().to_dict() == {"false positive": 3, "false negative": 2}
    assert (counts.false_positives, counts.false_negatives) == (3, 2)
    assert list(errors.objects.columns) == ["error", "object", *FEATURES]
    assert (errors.false_positives == (box(CYST, OUTSIDE, ACROSS) == 2)).all()
    assert errors.predicted == 4 and list(errors.tumors.hit) == [True, False, False]
    assert errors.tumors.found_share[0] == 1 / 200


def test_brightness_is_measured_against_the_liver_and_against_the_rim(case):
    objects = find_errors(prediction_of(case), case).objects.set_index("is_really")
    cyst, outside = objects.loc["cyst"], objects.loc["gallbladder"]
    assert (cyst.mean_hu, cyst.sd_hu, cyst.above_liver_hu) == (10, 0, -90)
    assert (cyst.rim_hu, cyst.contrast_hu) == (100, 90)
    assert outside.above_liver_hu == -200 and outside.rim_hu == 100  # two pixels beside the liver
    across = objects.loc["liver"]
    assert across.mean_hu == pytest.approx(100 * (4 - 2) / 6)  # four of its six columns are liver
    assert across.sd_hu == pytest.approx(np.std([100] * 4 + [-100] * 2))


def test_missed_tumours_have_the_contrast_that_lesions_have(case):
    errors = find_errors(prediction_of(case), case)
    described = describe_lesions(case.voxels, case.labels, SPACING_MM)
    assert list(errors.tumors.contrast_hu) == list(described.contrast_hu) == [40, -40, 10]
    missed = errors.objects[errors.objects.error == "false negative"]
    assert list(missed.contrast_hu) == [-40, 10] and list(missed.volume_ml) == [60 * 5 / 1000, 72 * 5 / 1000]


def test_size_in_millimetres(case):
    cyst = find_errors(prediction_of(case), case).objects.set_index("is_really").loc["cyst"]
    assert cyst.voxels == 32 and cyst.volume_ml == pytest.approx(32 * 5 / 1000)
    assert cyst.diameter_mm == pytest.approx((6 * 160 / np.pi) ** (1 / 3))
    assert cyst.longest_diameter_mm == pytest.approx(np.hypot(4, 4), abs=1.5)  # 4 x 4 pixels of 1 mm


def test_place_is_the_way_to_the_border_and_the_share_outside(case):
    objects = find_errors(prediction_of(case), case).objects.set_index("is_really")
    assert objects.loc["cyst"].outside_share == 0
    # the border voxels above are those of row 4 and of slices 1 and 8: 8 mm to the row, 10 to a slice
    assert objects.loc["cyst"].border_distance_mm == 8
    assert (
        objects.loc["gallbladder"].outside_share == 1 and objects.loc["gallbladder"].border_distance_mm == 2
    )
    assert objects.loc["liver"].outside_share == pytest.approx(2 / 6)
    assert objects.loc["liver"].border_distance_mm == 0


def test_the_end_of_the_scan_is_no_border():
    labels = np.ones(SHAPE, np.uint8)
    labels[:, 30:] = 0
    case = TrueCase(labels, SPACING_MM, np.zeros(SHAPE, np.int16))
    found = find_errors(box(np.s_[0:1, 0:2, 0:2]), case).objects.iloc[0]
    assert found.border_distance_mm == 28  # from row 1 to row 29


def test_neighbours_are_what_most_of_the_rim_is_besides_liver(case):
    errors = find_errors(prediction_of(case), case)
    objects = errors.objects.set_index("is_really")
    assert objects.loc["cyst"].neighbour == "none" and objects.loc["liver"].neighbour == "fat"
    assert objects.loc["gallbladder"].neighbour in ("gallbladder", "fat")
    tumors = errors.tumors
    assert list(tumors.is_beside_tumor) == [True, True, False]  # 3 mm apart; FAINT is by itself
    assert list(tumors.neighbour[:2]) == ["tumor", "tumor"] and (tumors.is_really == "tumor").all()


def test_a_blob_over_two_tumours_fuses_them_and_two_blobs_split_one(case):
    blob = box(np.s_[2:4, 12:14, 12:26])
    errors = find_errors(blob, case)
    assert errors.fusing == 1 and list(errors.tumors.is_fused) == [True, True, False]
    assert not (errors.objects.error == "false positive").any()
    split = find_errors(box(np.s_[2, 10:12, 10:20], np.s_[2, 15:17, 10:20]), case)
    assert list(split.tumors.pieces) == [2, 0, 0]
    assert split.fusing == 0 and not split.tumors.is_fused.any()


def test_nothing_predicted_and_nothing_to_find(case):
    nothing = find_errors(np.zeros(SHAPE, np.uint8), case)
    assert list(nothing.objects.error) == ["false negative"] * 3 and nothing.predicted == 0
    healthy = TrueCase(np.minimum(case.labels, 1), SPACING_MM, case.voxels)
    assert find_errors(healthy.labels, healthy).objects.empty
    invented = find_errors(box(CYST), healthy)
    assert list(invented.objects.error) == ["false positive"] and invented.tumors.empty
    assert invented.objects.is_really.isna().all()  # nobody knows


def test_pictures_have_neither_hu_nor_millimetres(case):
    pictures = TrueCase(case.labels, (np.nan,) * 3)
    objects = find_errors(prediction_of(case), pictures).objects
    unknown = ["volume_ml", "diameter_mm", "longest_diameter_mm", "mean_hu", "contrast_hu", "above_liver_hu"]
    assert objects[[*unknown, "border_distance_mm", "is_beside_tumor", "neighbour"]].isna().all(axis=None)
    assert sorted(objects.outside_share) == [0, 0, 0, 2 / 6, 1] and (objects.voxels > 0).all()


def test_without_a_liver_there_is_no_border(case):
    bare = TrueCase(box(DARK), SPACING_MM, case.voxels)
    assert bare.border_mm[DARK].min() == 0  # a tumour is liver too
    empty = TrueCase(np.zeros(SHAPE, np.uint8), SPACING_MM, case.voxels)
    found = find_errors(box(CYST), empty).objects.iloc[0]
    assert np.isnan(found.above_liver_hu) and np.isnan(found.rim_hu) and found.outside_share == 1
    assert found.border_distance_mm == np.inf


def test_other_shapes_are_refused(case):
    with pytest.raises(InputError, match="shape"):
        find_errors(np.zeros((2, 3, 4), np.uint8), case)
