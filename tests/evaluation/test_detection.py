from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from livseg_lib.errors import InputError
from livseg_lib.evaluation.lesions import (
    LesionOverlap,
    LesionPair,
    count_detections,
    detect_lesions,
    detected_pairs,
    lesion_overlap,
)

SHAPE = (30, 30, 10)
FIRST, SECOND = np.s_[2:8, 2:8, 2:5], np.s_[15:25, 15:25, 2:6]
SPECK = np.s_[0, 28:30, 0]


def labels(*boxes) -> np.ndarray:
    volume = np.zeros(SHAPE, np.uint8)
    for box in boxes:
        volume[box] = 2
    return volume


def from_table(table: list[list[int]]) -> LesionOverlap:
    """Objects of which only the common voxels are known."""
    nowhere = np.zeros((1, 1, 1), int)
    return LesionOverlap(nowhere, nowhere, np.array(table))


VECTORS = {  # prediction, reference, as shipped, intended: the benchmark's own cases
    "equal": ((FIRST, SECOND), (FIRST, SECOND), (2, 0, 0), (2, 0, 0)),
    "nothing predicted": ((), (FIRST, SECOND), (0, 0, 2), (0, 0, 2)),
    "one more speck": ((FIRST, SECOND, SPECK), (FIRST, SECOND), (1, 2, 1), (2, 1, 0)),
    "one too small": ((FIRST, np.s_[15:25, 15:19, 2:6]), (FIRST, SECOND), (1, 1, 1), (1, 1, 1)),
    "one over two": (
        (np.s_[2:12, 2:6, 2:5],),
        (np.s_[2:6, 2:6, 2:5], np.s_[8:12, 2:6, 2:5]),
        (1, 0, 1),
        (1, 0, 1),
    ),
    "nothing to find": ((FIRST, SECOND, SPECK), (), (0, 3, 0), (0, 3, 0)),
    "nothing at all": ((), (), (0, 0, 0), (0, 0, 0)),
    "two in one": ((np.s_[2:6, 2:8, 2:5], np.s_[7:8, 2:8, 2:5]), (FIRST,), (1, 1, 0), (1, 1, 0)),
}


@pytest.mark.parametrize(("prediction", "reference", "as_shipped", "intended"), VECTORS.values(), ids=VECTORS)
def test_vectors(prediction, reference, as_shipped, intended):
    assert detect_lesions(labels(*prediction), labels(*reference), mode="lits_asis") == as_shipped
    assert detect_lesions(labels(*prediction), labels(*reference)) == intended


def test_counts_are_named_and_plain():
    found = detect_lesions(labels(FIRST), labels(FIRST, SECOND))
    assert (found.true_positives, found.false_positives, found.false_negatives) == (1, 0, 1)
    assert all(type(count) is int for count in found)


def test_only_label_two_counts():
    liver_only = np.where(labels(FIRST) == 2, 1, 0)
    assert detect_lesions(liver_only, labels(FIRST)) == (0, 0, 1)


def test_threshold_is_strict():
    half = np.s_[2:5, 2:8, 2:5]  # exactly half of FIRST
    assert detect_lesions(labels(half), labels(FIRST), overlap=0.5) == (0, 1, 1)
    assert detect_lesions(labels(half), labels(FIRST), overlap=0.49) == (1, 0, 0)
    beside = np.s_[2:8, 2:8, 5:8]  # touches FIRST, shares no voxel with it
    assert detect_lesions(labels(beside), labels(FIRST), overlap=0.0) == (0, 1, 1)


def test_equal_overlaps_go_to_the_lowest_id():
    bridge = lesion_overlap(
        labels(np.s_[2:12, 2:6, 2]) == 2, labels(np.s_[2:6, 2:6, 2:5], np.s_[8:12, 2:6, 2:5]) == 2
    )
    assert bridge.pairs == [LesionPair((1,), (1, 2))]
    twins = lesion_overlap(labels(np.s_[2:4, 2:4, 2], np.s_[6:8, 2:4, 2]) == 2, labels(FIRST) == 2)
    assert twins.pairs == [LesionPair((1, 2), (1,))]
    assert from_table([[0, 0, 0], [0, 5, 5], [0, 5, 0]]).pairs == [LesionPair((1, 2), (1, 2))]


def test_a_prediction_goes_to_one_reference_only():
    # Prediction 1 is all that touches reference 2, but has more of reference 1: reference 2 stays missed.
    lesions = from_table([[0, 0, 9], [0, 3, 2], [0, 5, 0]])
    assert lesions.pairs == [LesionPair((1, 2), (1,))]
    assert count_detections(lesions, overlap=0) == (1, 1, 1)
    assert lesions.common_voxels(lesions.pairs[0]) == 8 and lesions.union_voxels(lesions.pairs[0]) == 8 + 2


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
    assert (
        detected_pairs(lesions, 0.59, "lits_asis")[1] == 1
        and detected_pairs(lesions, 0.6, "lits_asis")[1] == 0
    )


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
@given(
    st.integers(0, 2**32 - 1), st.sampled_from([0.0, 0.3, 0.5]), st.sampled_from(["intended", "lits_asis"])
)
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


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 5))
def test_translation_changes_nothing(seed, shift):
    pair = np.zeros((2, 20, 12, 9), np.uint8)
    pair[:, 2:12, 2:10, 2:7] = 2 * (np.random.default_rng(seed).random((2, 10, 8, 5)) < 0.35)
    moved = np.roll(pair, (shift, -1), axis=(1, 2))
    for mode in ("intended", "lits_asis"):
        assert detect_lesions(*pair, overlap=0.2, mode=mode) == detect_lesions(*moved, overlap=0.2, mode=mode)


def test_bad_input_is_refused():
    with pytest.raises(InputError, match="float64, not integer labels"):
        detect_lesions(np.zeros(SHAPE), labels())
    with pytest.raises(InputError, match="bool, not integer labels"):
        detect_lesions(labels() == 2, labels())
    with pytest.raises(InputError, match="2 axes"):
        detect_lesions(labels()[0], labels()[0])
    with pytest.raises(InputError, match="shape"):
        detect_lesions(labels()[1:], labels())
    with pytest.raises(InputError, match="mode"):
        detect_lesions(labels(), labels(), mode="as_is")
