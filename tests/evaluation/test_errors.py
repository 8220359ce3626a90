"""Errors and tumours one by one: what was planted comes back with features known by hand."""

from functools import partial

import numpy as np
import pandas as pd
import pytest
from solids import NOWHERE, labelled

from livseg_lib.errors import InputError
from livseg_lib.evaluation import errors as module
from livseg_lib.evaluation.lesions import count_detections, lesion_overlap, tumor_overlap
from livseg_lib.postprocessing.components import label_components

SPACING_MM = (5.0, 1.0, 1.0)
SHAPE = (10, 60, 60)
NAMES = {0: "fat", 1: "liver", 2: "tumor", 3: "cyst", 4: "gallbladder"}
DARK, FAINT, BESIDE = np.s_[2:4, 10:20, 10:20], np.s_[6:8, 40:46, 40:46], np.s_[2:4, 10:20, 23:26]
CYST, OUTSIDE, ACROSS = np.s_[5:7, 12:16, 30:34], np.s_[4:5, 56:58, 20:30], np.s_[4:6, 30:34, 2:8]
labels_of = partial(labelled, SHAPE, liver=NOWHERE)


@pytest.fixture
def case() -> module.TrueCase:
    """A liver of 100 HU (rows and columns 4 to 54) in fat of -100, three tumours, a cyst beside nothing."""
    labels = np.zeros(SHAPE, np.uint8)
    labels[1:9, 4:55, 4:55] = 1
    hu = np.where(labels == 1, 100, -100).astype(np.int16)
    organs = labels.copy()
    for tumor, value in ((DARK, 60), (FAINT, 90), (BESIDE, 140)):
        labels[tumor], organs[tumor], hu[tumor] = 2, 2, value
    organs[CYST], hu[CYST] = 3, 10
    organs[4:5, 55:60, 15:35] = 4
    return module.TrueCase(labels, SPACING_MM, hu, organs, NAMES)


def prediction_of(case: module.TrueCase) -> np.ndarray:
    """DARK found by one voxel, the others missed; three inventions."""
    found = np.where(case.labels > 0, 1, 0).astype(np.uint8)
    found[2, 10, 10] = 2
    return np.maximum(found, labels_of(CYST, OUTSIDE, ACROSS))


def test_errors_are_those_that_share_no_voxel_at_all(case):
    errors = module.find_errors(prediction_of(case), case)
    counts = count_detections(tumor_overlap(prediction_of(case), case.labels), overlap=0)
    assert errors.objects.error.value_counts().to_dict() == {"false positive": 3, "false negative": 2}
    assert (counts.false_positives, counts.false_negatives) == (3, 2)
    assert list(errors.objects.columns) == ["error", "object", *module.OBJECT_FEATURES]
    assert errors.predicted == 4 and list(errors.tumors.hit) == [True, False, False]
    assert errors.tumors.found_share[0] == 1 / 200


def test_brightness_is_measured_against_the_liver_and_against_the_rim(case):
    objects = module.find_errors(prediction_of(case), case).objects.set_index("is_really")
    cyst, outside = objects.loc["cyst"], objects.loc["gallbladder"]
    assert (cyst.mean_hu, cyst.sd_hu, cyst.above_liver_hu) == (10, 0, -90)
    assert (cyst.rim_hu, cyst.contrast_hu) == (100, 90)
    assert outside.above_liver_hu == -200 and outside.rim_hu == 100  # two pixels beside the liver
    across = objects.loc["liver"]
    assert across.mean_hu == pytest.approx(100 * (4 - 2) / 6)  # four of its six columns are liver
    assert across.sd_hu == pytest.approx(np.std([100] * 4 + [-100] * 2))


def test_missed_tumours_have_the_contrast_of_tumours(case):
    errors = module.find_errors(prediction_of(case), case)
    assert list(errors.tumors.contrast_hu) == [40, -40, 10]  # BESIDE is in no rim
    assert errors.tumors.diameter_mm[0] == pytest.approx((6 * 1000 / np.pi) ** (1 / 3))  # of 1 ml
    missed = errors.objects[errors.objects.error == "false negative"]
    assert list(missed.contrast_hu) == [-40, 10] and list(missed.volume_ml) == [60 * 5 / 1000, 72 * 5 / 1000]


def test_place_is_the_way_to_the_border_and_the_share_outside(case):
    objects = module.find_errors(prediction_of(case), case).objects.set_index("is_really")
    assert objects.loc["cyst"].outside_share == 0
    # the border voxels above are those of row 4 and of slices 1 and 8: 8 mm to the row, 10 to a slice
    assert objects.loc["cyst"].border_distance_mm == 8
    outside = objects.loc["gallbladder"]
    assert (outside.outside_share, outside.border_distance_mm) == (1, 2)
    assert objects.loc["liver"].outside_share == pytest.approx(2 / 6)
    assert objects.loc["liver"].border_distance_mm == 0


def test_the_end_of_the_scan_is_no_border():
    labels = np.ones(SHAPE, np.uint8)
    labels[:, 30:] = 0
    case = module.TrueCase(labels, SPACING_MM, np.zeros(SHAPE, np.int16))
    found = module.find_errors(labels_of(np.s_[0:1, 0:2, 0:2]), case).objects.iloc[0]
    assert found.border_distance_mm == 28  # from row 1 to row 29


def test_neighbours_are_what_most_of_the_rim_is_besides_liver(case):
    errors = module.find_errors(prediction_of(case), case)
    objects = errors.objects.set_index("is_really")
    assert objects.loc["cyst"].neighbour == "none" and objects.loc["liver"].neighbour == "fat"
    assert objects.loc["gallbladder"].neighbour in ("gallbladder", "fat")
    tumors = errors.tumors
    assert list(tumors.is_beside_tumor) == [True, True, False]  # 3 mm apart; FAINT is by itself
    assert list(tumors.neighbour[:2]) == ["tumor", "tumor"] and (tumors.is_really == "tumor").all()


def test_a_blob_over_two_tumours_fuses_them_and_two_blobs_split_one(case):
    blob = labels_of(np.s_[2:4, 12:14, 12:26])
    errors = module.find_errors(blob, case)
    assert errors.fusing == 1 and list(errors.tumors.is_fused) == [True, True, False]
    assert not (errors.objects.error == "false positive").any()
    split = module.find_errors(labels_of(np.s_[2, 10:12, 10:20], np.s_[2, 15:17, 10:20]), case)
    assert list(split.tumors.pieces) == [2, 0, 0]
    assert split.fusing == 0 and not split.tumors.is_fused.any()


def test_nothing_predicted_and_nothing_to_find(case):
    nothing = module.find_errors(np.zeros(SHAPE, np.uint8), case)
    assert list(nothing.objects.error) == ["false negative"] * 3 and nothing.predicted == 0
    healthy = module.TrueCase(np.minimum(case.labels, 1), SPACING_MM, case.voxels)
    assert module.find_errors(healthy.labels, healthy).objects.empty
    invented = module.find_errors(labels_of(CYST), healthy)
    assert list(invented.objects.error) == ["false positive"] and invented.tumors.empty
    assert invented.objects.is_really.isna().all()  # nobody knows


def test_pictures_have_neither_hu_nor_millimetres(case):
    pictures = module.TrueCase(case.labels, (np.nan,) * 3)
    objects = module.find_errors(prediction_of(case), pictures).objects
    unknown = ["volume_ml", "diameter_mm", "longest_diameter_mm", "mean_hu", "contrast_hu", "above_liver_hu"]
    assert objects[[*unknown, "border_distance_mm", "is_beside_tumor", "neighbour"]].isna().all(axis=None)
    assert sorted(objects.outside_share) == [0, 0, 0, 2 / 6, 1] and (objects.voxels > 0).all()


def test_without_a_liver_there_is_no_border(case):
    bare = module.TrueCase(labels_of(DARK), SPACING_MM, case.voxels)
    assert bare.border_mm[DARK].min() == 0  # a tumour is liver too
    empty = module.TrueCase(np.zeros(SHAPE, np.uint8), SPACING_MM, case.voxels)
    found = module.find_errors(labels_of(CYST), empty).objects.iloc[0]
    assert np.isnan(found.above_liver_hu) and np.isnan(found.rim_hu) and found.outside_share == 1
    assert found.border_distance_mm == np.inf
    with pytest.raises(InputError, match="shape"):
        module.find_errors(np.zeros((2, 3, 4), np.uint8), case)


def test_the_rim_is_measured_in_millimetres_along_each_axis():
    labels, hu = np.ones((7, 21, 21), np.uint8), np.zeros((7, 21, 21), np.int16)
    labels[3, 10, 10] = 2
    hu[2, 10, 10], hu[1, 10, 10] = 300, 3000  # one slice away is 5 mm, two are 10
    hu[3, 10, 15], hu[3, 10, 16] = 60, 3000  # five pixels away are 5 mm, six are 6
    found = module.TrueCase(labels, SPACING_MM, hu).tumors.iloc[0]
    in_plane = sum(0 < y * y + x * x <= 25 for y in range(-5, 6) for x in range(-5, 6))
    assert found.rim_hu == pytest.approx((300 + 60) / (in_plane + 2))  # one voxel more on either side


def test_hits_and_false_alarms_against_hand_counts():
    # three tumours of 8 voxels: one found whole, one touched at a quarter, one missed; one invented
    reference = labels_of(np.s_[1:3, 2:4, 2:4], np.s_[1:3, 2:4, 10:12], np.s_[1:3, 10:12, 2:4])
    prediction = labels_of(np.s_[1:3, 2:4, 2:4], np.s_[1:3, 2, 11:15], np.s_[1:3, 16:18, 16:18])
    lesions = lesion_overlap(prediction == 2, reference == 2)
    hits = module.lesion_hits(lesions)
    assert list(hits.found_share) == [1, 0.25, 0]
    assert list(hits.hit) == [True, True, False] and list(hits.detected) == [True, False, False]
    assert lesions.untouched.sum() == 1
    assert hits.detected.sum() == count_detections(lesions).true_positives


FIRST, SECOND = np.s_[2:4, 4:8, 4:8], np.s_[2:4, 20:24, 20:24]


def test_painted_lesions_find_their_tumour():
    components, _ = label_components(labels_of(FIRST, SECOND) == 2)
    painted = [
        (4, True, 10, 5.5, 5.5),
        (4, False, 10, 6.5, 6.5),
        (6, False, 10, 25, 22),
        (3, True, 0, 38, 38),
    ]
    names = ["diameter_mm", "diffuse", "center_d_mm", "center_h_mm", "center_w_mm"]
    rows = pd.DataFrame(painted, columns=names)
    found = module.match_painted(components, SPACING_MM, rows).set_index("object")
    assert list(found.painted) == [2, 1] and list(found.edge) == ["mixed", "sharp"]
    box = components[1:, 2:, 3:]
    cropped = module.match_painted(box, SPACING_MM, rows, corner=(1, 2, 3)).set_index("object")
    pd.testing.assert_frame_equal(cropped, found)
    none = module.match_painted(components, SPACING_MM, rows[:0])
    assert list(none.edge) == ["unknown", "unknown"] and list(none.painted) == [0, 0]
    assert module.match_painted(np.zeros(SHAPE, int), SPACING_MM, rows).empty


DEFAULTS = {"is_beside_tumor": False, "is_really": "liver", "neighbour": "none", "outside_share": 0.0}


def objects(*rows: dict) -> pd.DataFrame:
    filled = [{name: DEFAULTS.get(name, 10.0) for name in module.OBJECT_FEATURES} | row for row in rows]
    return pd.DataFrame(filled)


def invented(above_liver_hu: float, sd_hu: float, **others) -> dict:
    return {"error": "false positive", "above_liver_hu": above_liver_hu, "sd_hu": sd_hu, **others}


def missed(contrast_hu: float, **others) -> dict:
    return {"error": "false negative", "contrast_hu": contrast_hu, **others}


def test_system_bs_classes_take_edges_as_said():
    rows = [invented(20.0, 30.1), invented(19.9, 50), invented(40, 30.0), invented(np.nan, np.nan)]
    rows += [missed(-19.9), missed(20.0), missed(np.nan), missed(19.9, above_liver_hu=40.0, sd_hu=40.0)]
    classes = list(module.add_causes(objects(*rows)).error_class)
    assert classes[:4] == ["bright texture", "other", "other", "undefined"]
    assert classes[4:] == ["low contrast", "other", "undefined", "low contrast"]


def test_place_and_size_in_words():
    rows = [
        invented(0, 0, border_distance_mm=5.1, longest_diameter_mm=9.9),
        invented(0, 0, border_distance_mm=5.0, longest_diameter_mm=10.0),
        invented(0, 0, outside_share=0.5, border_distance_mm=0.0, longest_diameter_mm=50.0),
        invented(0, 0, outside_share=0.51, border_distance_mm=0.0, longest_diameter_mm=51.0),
        invented(0, 0, border_distance_mm=np.nan, longest_diameter_mm=np.nan, is_beside_tumor=None),
    ]
    table = module.add_causes(objects(*rows, invented(0, 0, outside_share=0.01)))
    assert table.place[5] == "across its border"
    contrast = module.contrast_class(pd.Series([0.0, -19.9, 20.0, -39.0, 40.0, -80.0, np.nan]))
    assert list(contrast[:6]) == ["low", "low", "middle", "middle", "high", "high"] and pd.isna(contrast[6])
    assert list(table.place[:4]) == ["deep in the liver", "at its border", "across its border", "outside it"]
    assert list(table["size"][:4]) == ["< 10 mm", "10 to 20 mm", "20 to 50 mm", "> 50 mm"]
    assert table.iloc[4][["place", "size", "beside"]].isna().all()


def test_shares_are_of_all_errors_and_of_the_kind_with_intervals_over_patients():
    errors = [invented(50, 50, patient="a"), invented(0, 0, patient="a"), invented(0, 0, patient="b")]
    errors += [missed(5, patient="b")]
    table = module.add_causes(objects(*errors)).assign(system="unet")
    tumors = pd.DataFrame({"system": ["unet", "silent"], "hit": [False, True]})
    tumors = tumors.assign(patient="b", contrast="low")
    found = module.count_classes(table, tumors, seed=1).set_index(["system", "error_class"])
    bright, low = found.loc[("unet", "bright texture")], found.loc[("unet", "low contrast")]
    assert (bright.n, bright.n_of_kind, bright.n_errors) == (1, 3, 4)
    assert (bright.share_of_errors, bright.share_of_kind) == (0.25, pytest.approx(1 / 3))
    assert (bright.share_of_kind_low, bright.share_of_kind_high) == (0, 0.5)  # b alone, a alone
    assert (low.share_of_errors, low.share_of_kind) == (0.25, 1) and np.isnan(low.share_of_kind_low)
    silent = found.loc[("silent", "bright texture")]
    assert silent.n == silent.n_errors == 0 and np.isnan(silent.share_of_errors)
