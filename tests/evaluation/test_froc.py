"""FROC against tumours and candidates that can be counted by hand."""

import numpy as np
import pytest

from livseg_lib.errors import InputError
from livseg_lib.evaluation import froc


def candidates(found, false_positives, n_tumors) -> froc.TumorCandidates:
    return froc.TumorCandidates(np.array(found, np.uint8), np.array(false_positives, np.uint8), n_tumors)


def scene(*boxes: tuple[slice, slice, float]) -> np.ndarray:
    """A map (4, 20, 20) with a box of rows and columns at each probability, in slices 1 and 2."""
    found = np.zeros((4, 20, 20))
    for rows, columns, value in boxes:
        found[1:3, rows, columns] = value
    return found


S = slice
TUMORS = scene((S(0, 4), S(0, 4), 1), (S(8, 12), S(8, 12), 1)) > 0


def test_candidates_by_hand():
    """One tumour found at 0.9, one at 0.4; a false alarm at 0.7; a whisper of 0.05 is no candidate."""
    said = scene((S(0, 4), S(0, 3), 0.9), (S(9, 12), S(8, 12), 0.4), (S(0, 2), S(15, 18), 0.7))
    said[1, 18, 18] = 0.05
    found = froc.find_tumor_candidates(said, TUMORS)
    assert sorted(found.found / 255) == pytest.approx([0.4, 0.9], abs=0.002) and found.n_tumors == 2
    assert found.false_positives / 255 == pytest.approx([0.7], abs=0.002)
    uneven = scene((S(0, 4), S(0, 2), 0.2), (S(0, 4), S(2, 4), 0.8))
    assert froc.find_tumor_candidates(uneven, TUMORS).found / 255 == pytest.approx([0.5], abs=0.005)
    everything = froc.find_tumor_candidates(np.full(TUMORS.shape, 0.8), TUMORS)
    assert len(everything.found) == 0 and len(everything.false_positives) == 1


def test_one_candidate_finds_one_tumour_and_one_tumour_takes_one_candidate():
    bridge = scene((S(0, 4), S(0, 4), 0.9), (S(8, 12), S(8, 12), 0.9), (S(0, 9), S(3, 4), 0.9))
    bridge[1:3, 8, 3:9] = 0.9
    joined = froc.find_tumor_candidates(bridge, TUMORS)
    assert len(joined.found) == 1 and len(joined.false_positives) == 0
    halves = scene((S(0, 2), S(0, 4), 0.9), (S(3, 4), S(0, 4), 0.6))
    split = froc.find_tumor_candidates(halves, TUMORS)
    assert split.found / 255 == pytest.approx([0.9], abs=0.002), "the larger overlap finds it"
    assert len(split.false_positives) == 0, "the other half is neither right nor wrong"
    crumb = scene((S(0, 1), S(0, 1), 0.9))
    assert len(froc.find_tumor_candidates(crumb, TUMORS).false_positives) == 1, "IoU 1/16"


def test_pairs_have_the_highest_overlap_together():
    """The middle candidate overlaps both tumours; the left tumour has no other, so it must take it."""
    tumors = scene((S(0, 2), S(0, 6), 1), (S(0, 2), S(7, 13), 1)) > 0
    said = scene((S(0, 2), S(3, 10), 0.5), (S(0, 2), S(11, 13), 0.9))
    found = froc.find_tumor_candidates(said, tumors)
    assert len(found.found) == 2


def test_masks_are_certain_and_levels_pass():
    assert froc.find_tumor_candidates(TUMORS, TUMORS).found.tolist() == [255, 255]
    levels = TUMORS * np.uint8(77)
    assert froc.find_tumor_candidates(levels, TUMORS).found.tolist() == [77, 77]
    nothing = froc.find_tumor_candidates(np.zeros(TUMORS.shape, np.uint8), TUMORS)
    assert (len(nothing.found), len(nothing.false_positives), nothing.n_tumors) == (0, 0, 2)
    healthy = froc.find_tumor_candidates(TUMORS, np.zeros_like(TUMORS))
    assert (len(healthy.found), len(healthy.false_positives), healthy.n_tumors) == (0, 2, 0)


PATIENTS = [
    candidates([250, 100], [200], 3),
    candidates([150], [], 1),
    candidates([], [220, 120, 90], 0),  # a patient without tumours
    candidates([], [], 0),
]


def test_curve_by_hand():
    curve = froc.froc_curve(PATIENTS)
    at = {level: 256 - level for level in (256, 250, 220, 200, 150, 100, 90, 0)}
    assert curve.recall[list(at.values())] == pytest.approx([0, 0.25, 0.25, 0.25, 0.5, 0.75, 0.75, 0.75])
    expected = [0, 0, 0.25, 0.5, 0.5, 0.75, 1, 1]
    assert curve.false_positives[list(at.values())] == pytest.approx(expected)
    both = PATIENTS[0] + PATIENTS[1]
    assert (both.found.tolist(), both.false_positives.tolist(), both.n_tumors) == ([250, 100, 150], [200], 4)
    assert (np.diff(curve.recall) >= 0).all() and (np.diff(curve.false_positives) >= 0).all()


def test_recall_at_rates_by_hand():
    """Until 1/4 a patient (1 in all) one of four tumours, until 1/2 two, from 3/4 on three."""
    by_rate = [0.25, 0.25, 0.5, 0.75, 0.75, 0.75, 0.75]
    assert froc.recall_at(PATIENTS) == pytest.approx(by_rate)
    assert froc.recall_with_interval(PATIENTS)[0] == pytest.approx(np.mean(by_rate))
    assert froc.recall_with_interval(PATIENTS, (0.5,))[0] == 0.5


def test_only_healthy_patients_have_no_recall_but_false_positives():
    healthy = [candidates([], [200], 0)] * 3
    assert np.isnan(froc.recall_with_interval(healthy)).all()
    assert froc.froc_curve(healthy).false_positives[-1] == 1
    with pytest.raises(InputError, match="no FROC curve"):
        froc.froc_curve([])


def test_the_interval_is_over_patients():
    """Ten tumours of one patient are one witness: the interval stays wide."""
    one_rich = [candidates([255] * 10, [], 10), candidates([], [], 10)] * 2
    score, low, high = froc.recall_with_interval(one_rich)
    assert score == 0.5 and low == 0 and high == 1
    uneven = [candidates([255], [], 1), candidates([], [], 3)]
    assert froc.recall_with_interval(uneven) == (0.25, 0, 1), "each draw by its own tumours"
