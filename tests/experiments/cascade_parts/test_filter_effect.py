"""Before and after a filter of candidates, counted by hand."""

from __future__ import annotations

import numpy as np
import pytest

from livseg_lib.evaluation.cases import score_case
from livseg_lib.evaluation.lesions import detect_lesions
from livseg_lib.inference.evaluate import Evaluation
from livseg_lib.studies.cascades import MEASURES, compare_filter, filter_scores

SHAPE, SPACING_MM = (3, 40, 40), (3.0, 1.0, 1.0)


def liver() -> np.ndarray:
    return np.ones(SHAPE, np.uint8)


def with_boxes(*corners: tuple[int, int]) -> np.ndarray:
    """A liver with tumours of 1 x 4 x 4 voxels."""
    labels = liver()
    for row, column in corners:
        labels[1, row : row + 4, column : column + 4] = 2
    return labels


TRUTHS = {"a": with_boxes((5, 5), (20, 20)), "b": with_boxes((5, 5)), "healthy": liver()}
BEFORE = {
    "a": with_boxes((5, 5), (21, 23), (30, 5), (30, 15)),  # one detected, one only touched, two false alarms
    "b": with_boxes((5, 5), (30, 30)),
    "healthy": with_boxes((10, 10)),
}
AFTER = {"a": with_boxes((5, 5), (30, 5)), "b": with_boxes((5, 5)), "healthy": liver()}


def evaluation(system: str, predictions: dict[str, np.ndarray]) -> Evaluation:
    scores = [
        {"system": system, "patient": name, "case": name, **score_case(labels, TRUTHS[name], SPACING_MM)}
        for name, labels in predictions.items()
    ]
    return Evaluation(system, case_scores=scores)


def test_candidates_are_counted_as_detection_counts_them():
    table = filter_scores(evaluation("before", BEFORE)).set_index("patient")
    assert table.n_tumors.tolist() == [2, 1, 0] and table.false_alarms.tolist() == [2, 1, 1]
    assert table.false_positives.tolist() == [3, 1, 1]
    assert table.found["a"] == 1 and table.detected["a"] == 0.5
    assert np.isnan(table.found["healthy"]) and np.isnan(table.detected["healthy"])
    assert table.dice["a"] == pytest.approx(2 * (16 + 3) / (4 * 16 + 2 * 16))
    counted = detect_lesions(BEFORE["a"], TRUTHS["a"])
    assert counted.false_positives == table.false_positives["a"]


def test_differences_are_paired_over_patients_who_have_the_score():
    found = compare_filter(evaluation("before", BEFORE), evaluation("after", AFTER), seed=1)
    table = found.set_index("measure")
    assert list(table.index) == list(MEASURES)
    alarms = table.loc["false_alarms"]
    assert (alarms.before, alarms.after, alarms.difference) == pytest.approx((4 / 3, 1 / 3, -1))
    assert (alarms.difference_low, alarms.difference_high, alarms.n_patients) == (-1, -1, 3)
    of_tumors = table.loc["found"]
    assert (of_tumors.before, of_tumors.after, of_tumors.n_patients) == (1, 0.75, 2)
    # Three equal differences: p is 2 / 2^3, and five measures make it 1.
    assert alarms.p == 0.25 and (table.p_holm >= table.p).all() and alarms.p_holm == 1
    assert of_tumors.n_undefined == 1 and table.difference["dice"] > 0


def test_without_any_tumour_shares_are_undefined_and_false_alarms_are_not():
    healthy = [evaluation(name, {"healthy": each["healthy"]}) for name, each in (("x", BEFORE), ("y", AFTER))]
    table = compare_filter(*healthy, seed=1).set_index("measure")
    assert table.n_patients["found"] == 0 and np.isnan(table.before["found"])
    assert (table.before["false_alarms"], table.after["false_alarms"]) == (1, 0)
    assert np.isnan(table.difference_low["false_alarms"])  # one patient has no interval
