"""Tumours found and missed: the benchmark's own cases, hand values, and the same once more by voxels."""

import io
from functools import partial

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from scipy.sparse import csr_array
from solids import NOWHERE, labelled

from livseg_lib.errors import InputError
from livseg_lib.evaluation import detect_lesions
from livseg_lib.evaluation.lesions import (
    MODES,
    SIZE_CLASSES,
    LesionOverlap,
    LesionPair,
    count_detections,
    detected_pairs,
    lesion_dice,
    lesion_overlap,
    lesion_rows,
    panoptic_quality,
    size_class,
    summarize_sizes,
)
from livseg_lib.postprocessing.components import label_components
from livseg_lib.postprocessing.measures import axial_diameters

SHAPE = (30, 30, 10)
FIRST, SECOND = np.s_[2:8, 2:8, 2:5], np.s_[15:25, 15:25, 2:6]
SPECK = np.s_[0, 28:30, 0]
APART = np.s_[2:6, 2:6, 2:5], np.s_[8:12, 2:6, 2:5]
labels = partial(labelled, SHAPE, liver=NOWHERE)


def from_table(table: list[list[int]]) -> LesionOverlap:
    """Objects of which only the common voxels are known."""
    nowhere = np.zeros((1, 1, 1), int)
    return LesionOverlap(nowhere, nowhere, csr_array(table))


VECTORS = {  # prediction, reference, as shipped, intended: the benchmark's own cases
    "equal": ((FIRST, SECOND), (FIRST, SECOND), (2, 0, 0), (2, 0, 0)),
    "nothing predicted": ((), (FIRST, SECOND), (0, 0, 2), (0, 0, 2)),
    "one more speck": ((FIRST, SECOND, SPECK), (FIRST, SECOND), (1, 2, 1), (2, 1, 0)),
    "one too small": ((FIRST, np.s_[15:25, 15:19, 2:6]), (FIRST, SECOND), (1, 1, 1), (1, 1, 1)),
    "one over two": ((np.s_[2:12, 2:6, 2:5],), APART, (1, 0, 1), (1, 0, 1)),
    "nothing to find": ((FIRST, SECOND, SPECK), (), (0, 3, 0), (0, 3, 0)),
    "nothing at all": ((), (), (0, 0, 0), (0, 0, 0)),
    "two in one": ((np.s_[2:6, 2:8, 2:5], np.s_[7:8, 2:8, 2:5]), (FIRST,), (1, 1, 0), (1, 1, 0)),
}


@pytest.mark.parametrize(("prediction", "reference", "as_shipped", "intended"), VECTORS.values(), ids=VECTORS)
def test_vectors(prediction, reference, as_shipped, intended):
    assert detect_lesions(labels(*prediction), labels(*reference), mode="lits_asis") == as_shipped
    assert detect_lesions(labels(*prediction), labels(*reference)) == intended


def test_threshold_is_strict():
    half = np.s_[2:5, 2:8, 2:5]  # exactly half of FIRST
    assert detect_lesions(labels(half), labels(FIRST), overlap=0.5) == (0, 1, 1)
    assert detect_lesions(labels(half), labels(FIRST), overlap=0.49) == (1, 0, 0)
    beside = np.s_[2:8, 2:8, 5:8]  # touches FIRST, shares no voxel with it
    assert detect_lesions(labels(beside), labels(FIRST), overlap=0.0) == (0, 1, 1)


def test_equal_overlaps_go_to_the_lowest_id():
    bridge = lesion_overlap(labels(np.s_[2:12, 2:6, 2]) == 2, labels(*APART) == 2)
    assert bridge.pairs == [LesionPair((1,), (1, 2))]
    twins = lesion_overlap(labels(np.s_[2:4, 2:4, 2], np.s_[6:8, 2:4, 2]) == 2, labels(FIRST) == 2)
    assert twins.pairs == [LesionPair((1, 2), (1,))]
    assert from_table([[0, 0, 0], [0, 5, 5], [0, 5, 0]]).pairs == [LesionPair((1, 2), (1, 2))]


def test_a_prediction_goes_to_one_reference_only():
    # Prediction 1 is all that touches reference 2, but has more of reference 1: reference 2 stays missed.
    lesions = from_table([[0, 0, 9], [0, 3, 2], [0, 5, 0]])
    assert lesions.pairs == [LesionPair((1, 2), (1,))]
    assert count_detections(lesions, overlap=0) == (1, 1, 1)
    assert [each.tolist() for each in lesions.pair_voxels] == [[8], [8 + 2]]


def test_as_shipped_true_positives_can_be_negative():
    # One thin plate crosses three tumours: one merged pair of small overlap, minus its three references.
    plate = np.s_[0:30, 3:5, 3:4]
    tumors = np.s_[1:7, 0:10, 0:8], np.s_[9:15, 0:10, 0:8], np.s_[17:23, 0:10, 0:8]
    assert detect_lesions(labels(plate), labels(*tumors), mode="lits_asis") == (1 - 3, 3, 5)
    assert detect_lesions(labels(plate), labels(*tumors)) == (0, 1, 3)


def test_as_shipped_a_failed_prediction_no_longer_stands_in_the_way():
    # Prediction 1 (50 voxels) shares one with reference 2 and fails; only then does prediction 2, which
    # would be measured against the voxels now called 2, those of prediction 1, find its reference alone.
    lesions = from_table([[0, 4, 9], [49, 0, 1], [0, 6, 0]])
    assert lesions.pairs == [LesionPair((1,), (2,)), LesionPair((2,), (1,))]
    assert detected_pairs(lesions, 0.5, "lits_asis") == ([LesionPair((2,), (1,))], 1)
    assert [detected_pairs(lesions, at, "lits_asis")[1] for at in (0.59, 0.6)] == [1, 0]


def by_voxels(prediction: np.ndarray, reference: np.ndarray, overlap: float, mode: str) -> tuple:
    """The rules of the benchmark once more, slowly, with renamed masks instead of a table."""
    predicted, n_predicted = ndimage.label(prediction == 2)
    present, n_present = ndimage.label(reference == 2)
    merged, merged_count = present.copy(), dict.fromkeys(range(1, n_present + 1), 1)
    for p in range(1, n_predicted + 1):
        mine = []
        for g in range(1, n_present + 1):
            shared = [np.sum((predicted == q) & (present == g)) for q in range(1, n_predicted + 1)]
            if max(shared) > 0 and shared.index(max(shared)) + 1 == p:
                mine.append(g)
        for g in mine:
            merged[present == g] = mine[0]
            merged_count[g] = len(mine)
    renamed, groups = np.zeros_like(predicted), {}
    for p in range(1, n_predicted + 1):
        shared = [np.sum((predicted == p) & (merged == g)) for g in range(1, n_present + 1)]
        if shared and max(shared) > 0:
            groups.setdefault(shared.index(max(shared)) + 1, []).append(p)
            renamed[predicted == p] = shared.index(max(shared)) + 1
    true_positives = len(groups)
    intersections = {g: np.sum((renamed == g) & (merged == g)) for g in groups}
    for g, members in sorted(groups.items(), key=lambda item: item[1]):
        looked_up = members[0] if mode == "lits_asis" else g
        union = np.sum((renamed == looked_up) | (merged == g))
        if intersections[g] / union <= overlap:
            true_positives -= merged_count[g] if mode == "lits_asis" else 1
            if mode == "lits_asis":
                renamed[renamed == g] = 0
    return true_positives, n_predicted - true_positives, n_present - true_positives


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0.0, 0.3, 0.5]), st.sampled_from(MODES))
def test_table_agrees_with_voxels(seed, overlap, mode):
    rng = np.random.default_rng(seed)
    pair = []
    for _ in range(2):
        volume = np.zeros((12, 10, 4), np.uint8)
        for corner in rng.integers(0, (11, 9, 3), (rng.integers(0, 8), 3)):
            size = rng.integers(1, 6, 3)
            volume[tuple(slice(a, a + s) for a, s in zip(corner, size, strict=True))] = 2
        volume[rng.random(volume.shape) < 0.03] = 0
        pair.append(volume)
    assert detect_lesions(*pair, overlap=overlap, mode=mode) == by_voxels(*pair, overlap, mode)


BAD = [(np.zeros(SHAPE), labels(), "float64 and uint8"), (labels() == 2, labels(), "bool and uint8")]
BAD += [(labels()[1:], labels(), "shape"), (labels()[0], labels()[0], "2 axes")]


@pytest.mark.parametrize(("prediction", "reference", "problem"), BAD)
def test_bad_input_is_refused(prediction, reference, problem):
    with pytest.raises(InputError, match=problem):
        detect_lesions(prediction, reference)
    with pytest.raises(InputError, match="mode"):
        detect_lesions(labels(), labels(), mode="as_is")


def tumors(*boxes) -> np.ndarray:
    return liver_with(*boxes) == 2


NEAR_TUMOR, FAR_TUMOR = np.s_[1:5, 2:8, 2:8], np.s_[2:8, 10:18, 15:25]  # 144 and 480 voxels


def test_hand_values():
    half, surplus = np.s_[2:8, 10:18, 15:21], np.s_[8:10, 2:4, 26:28]  # 288 voxels of FAR_TUMOR, 8 of nothing
    lesions = lesion_overlap(tumors(half, surplus), tumors(NEAR_TUMOR, FAR_TUMOR))
    dice = 2 * 288 / (288 + 480)
    assert lesion_dice(lesions) == pytest.approx(dice / 3)  # one pair, one surplus, one missed
    found = panoptic_quality(lesions)
    assert (found.n_tumors_matched, found.segmentation_quality) == (1, pytest.approx(288 / 480))
    assert found.recognition_quality == pytest.approx(1 / (1 + 0.5 + 0.5))
    assert found.panoptic_quality == pytest.approx(found.segmentation_quality * found.recognition_quality)
    turned = lesion_overlap(tumors(NEAR_TUMOR, FAR_TUMOR), tumors(half, surplus))
    assert panoptic_quality(turned) == pytest.approx(found)


def test_fragments_are_joined_for_dice_and_all_but_one_are_surplus():
    left, right = np.s_[2:8, 10:18, 15:19], np.s_[2:8, 10:18, 20:25]  # 192 and 240 of 480
    lesions = lesion_overlap(tumors(left, right), tumors(FAR_TUMOR))
    assert lesion_dice(lesions) == pytest.approx(2 * 432 / (432 + 480) / 2)
    assert panoptic_quality(lesions).n_tumors_matched == 0  # no fragment alone has more than half
    exactly_half = lesion_overlap(tumors(np.s_[2:8, 10:18, 15:20]), tumors(FAR_TUMOR))
    assert panoptic_quality(exactly_half).n_tumors_matched == 0


SPACING = (5.0, 2.0, 1.0)
NEAR, FAR = np.s_[1:3, 2:5, 2:6], np.s_[4:8, 8:18, 10:30]
COLUMNS = ["kind", "lesion", "volume_ml", "longest_diameter_mm", "size_class"]
COLUMNS += ["detected", "touched", "iou", "dice"]
liver_with = partial(labelled, (10, 22, 40))


def test_rows_by_hand():
    half, surplus = np.s_[4:8, 8:18, 10:22], np.s_[8, 1, 1]
    rows = lesion_rows(liver_with(half, surplus), liver_with(NEAR, FAR), SPACING)
    assert list(rows) == COLUMNS
    assert rows.kind.tolist() == ["reference"] * 2 + ["prediction"] * 2
    assert rows.lesion.tolist() == [1, 2, 1, 2]
    assert rows.volume_ml.tolist() == pytest.approx([0.24, 8.0, 4.8, 0.01])
    assert rows.detected.tolist() == [False, True, True, False] == rows.touched.tolist()
    assert rows.iou.tolist() == pytest.approx([0, 0.6, 0.6, 0])
    assert rows.dice.tolist() == pytest.approx([0, 0.75, 0.75, 0])
    far = axial_diameters(liver_with(FAR) == 2, SPACING).longest_mm
    assert rows.longest_diameter_mm[1] == far == pytest.approx(np.hypot(9 * 2, 19), abs=2)
    assert rows.size_class.tolist() == ["< 10 mm", "20 to 50 mm", "20 to 50 mm", "< 10 mm"]


@pytest.mark.parametrize(
    ("diameter_mm", "expected"),
    [(0.5, 0), (9.99, 0), (10, 1), (19.99, 1), (20, 2), (50, 2), (50.01, 3), (300, 3)],
)
def test_edges_of_the_classes(diameter_mm, expected):
    assert size_class(diameter_mm) == SIZE_CLASSES[expected]


def test_one_blob_over_two_tumours_stands_for_the_one_it_shares_most_with():
    wide, narrow, blob = np.s_[2:4, 2:8, 2:14], np.s_[2:4, 2:8, 15:19], np.s_[2:4, 2:8, 2:19]
    rows = lesion_rows(liver_with(blob), liver_with(narrow, wide), SPACING)
    assert rows.detected.tolist() == [True, False, True] and rows.touched.all()
    assert rows.iou.tolist() == pytest.approx([192 / 204] * 3)
    assert detect_lesions(liver_with(blob), liver_with(narrow, wide)) == (1, 0, 1)


def test_without_spacing_matches_are_known_and_sizes_are_not():
    rows = lesion_rows(liver_with(FAR), liver_with(NEAR, FAR), (np.nan,) * 3)
    assert rows[["volume_ml", "longest_diameter_mm"]].isna().all(axis=None) and (rows.size_class == "").all()
    assert rows.detected.tolist() == [False, True, True]
    flat = lesion_rows(liver_with(FAR), liver_with(NEAR, FAR), (np.nan, 2.0, 1.0))
    assert flat.volume_ml.isna().all() and flat.longest_diameter_mm.notna().all()


@pytest.mark.parametrize("predicted", [(), (NEAR,)])
@pytest.mark.parametrize("present", [(), (FAR,)])
def test_rows_where_one_side_is_empty(predicted, present):
    rows = lesion_rows(liver_with(*predicted), liver_with(*present), SPACING)
    assert list(rows) == COLUMNS and len(rows) == len(predicted) + len(present)
    assert not rows.detected.any() and not rows.touched.any() and (rows.iou == 0).all()
    assert rows.detected.dtype == bool


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 3))
def test_rows_add_up_to_the_counts_of_the_benchmark_wherever_the_patient_lies(seed, shift):
    rng = np.random.default_rng(seed)
    pair = np.ones((2, 7, 12, 14), np.uint8)
    for volume in pair:
        for corner in np.random.default_rng(seed // 2).integers(0, (5, 9, 11), (5, 3)):
            box = tuple(slice(a, a + s) for a, s in zip(corner, rng.integers(1, 5, 3), strict=True))
            volume[box] = 2
    rows = lesion_rows(*pair, SPACING)
    truth, found = rows[rows.kind == "reference"], rows[rows.kind == "prediction"]
    count = detect_lesions(*pair)
    assert truth.detected.sum() == found.detected.sum() == count.true_positives
    assert (~truth.detected).sum() == count.false_negatives
    assert (~found.detected).sum() == count.false_positives
    assert (rows.detected <= (rows.iou > 0.5)).all() and ((rows.iou > 0) <= rows.touched).all()
    for side, volume in ((truth, pair[1]), (found, pair[0])):
        ids, n = label_components(volume == 2)
        voxels = np.bincount(ids.ravel(), minlength=n + 1)[1:]
        np.testing.assert_allclose(side.volume_ml, voxels * np.prod(SPACING) / 1000)
        longest_mm = [axial_diameters(ids == i, SPACING).longest_mm for i in side.lesion]
        assert longest_mm == pytest.approx(side.longest_diameter_mm.tolist())
    moved = np.pad(pair, ((0, 0), (shift, 1), (0, shift), (2, 0)))
    pd.testing.assert_frame_equal(lesion_rows(*moved, SPACING), rows)


def table(*rows) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["patient", "kind", "size_class", "detected", "touched"])


def test_shares_by_size():
    small, large = SIZE_CLASSES[0], SIZE_CLASSES[3]
    of_a = ("a", "reference", small, True, True), ("a", "reference", small, False, True)
    of_b = [("b", "reference", small, False, False)] * 2
    lesions = table(*of_a, *of_b, ("b", "prediction", large, False, True))
    found = summarize_sizes(lesions).set_index("size_class")
    assert found.index.tolist() == list(SIZE_CLASSES)
    counts = ["n_reference", "n_reference_detected", "n_reference_touched", "n_prediction"]
    assert found.loc[small, counts].tolist() == [4, 1, 2, 0]
    assert (found.loc[small, "recall"], found.loc[small, "recall_touched"]) == (0.25, 0.5)
    assert (found.loc[small, "recall_low"], found.loc[small, "recall_high"]) == (0, 0.5)  # of b and of a
    assert np.isnan(found.loc[small, "precision"]) and found.loc[large, "precision"] == 0
    assert found.loc[large, ["recall", "precision_low"]].isna().all()  # one patient: no interval


def test_unknown_sizes_have_a_row_of_their_own_also_when_read_from_a_file():
    lesions = table(("a", "reference", "", True, True), ("a", "reference", SIZE_CLASSES[1], False, False))
    stored = pd.read_csv(io.StringIO(lesions.to_csv(index=False)))
    for each in (lesions, stored):
        found = summarize_sizes(each).set_index("size_class")
        expected = dict.fromkeys(SIZE_CLASSES, 0) | {SIZE_CLASSES[1]: 1, "unknown size": 1}
        assert found.n_reference.to_dict() == expected
        assert found.recall["unknown size"] == 1
    assert (summarize_sizes(table()).n_reference == 0).all()
