"""Scores of slices and of names given to them."""

from __future__ import annotations

import numpy as np
import pytest

from livseg_lib.errors import InputError
from livseg_lib.evaluation.slices import (
    MACRO,
    accuracy,
    class_scores,
    confusion_matrix,
    score_slices,
    summarize_slices,
    threshold_for_recall,
)

PROBABILITIES = np.array(
    [
        [[0.9, 0.6], [0.2, 0.1]],  # two predicted, one of them right, none missed
        [[0.4, 0.1], [0.1, 0.1]],  # present by 0.30 but not predicted by 0.5; there is something
        [[0.1, 0.1], [0.1, 0.1]],  # nothing, rightly
        [[0.35, 0.0], [0.0, 0.0]],  # present by 0.30, but there is nothing
    ]
)
REFERENCE = np.zeros((4, 2, 2), bool)
REFERENCE[0, 0, 0] = REFERENCE[1, 0] = True


@pytest.mark.parametrize(
    "planes", [PROBABILITIES, np.rint(PROBABILITIES * 255).astype(np.uint8)], ids=["float", "uint8"]
)
def test_hand_values(planes):
    rows = score_slices(planes, REFERENCE, threshold=0.5)
    nan = np.nan
    expected = {
        "dice": [2 / 3, 0, nan, nan],
        "iou": [1 / 2, 0, nan, nan],
        "pixel_accuracy": [3 / 4, 1 / 2, 1, 1],
        "precision": [1 / 2, nan, nan, nan],
        "recall": [1, 0, nan, nan],
        "n_reference": [1, 2, 0, 0],
        "n_predicted": [2, 0, 0, 0],
        "present_reference": [True, True, False, False],
        "present_predicted": [True, True, False, True],
    }
    assert list(rows) == list(expected)
    for column, values in expected.items():
        np.testing.assert_allclose(rows[column].astype(float), values, err_msg=column)


def test_summary_counts_what_is_undefined():
    summary = summarize_slices(score_slices(PROBABILITIES, REFERENCE, threshold=0.5))
    assert (summary["n_slices"], summary["n_slices_present"], summary["presence_accuracy"]) == (4, 2, 0.75)
    assert (summary["dice"], summary["n_undefined_dice"]) == (pytest.approx(1 / 3), 2)
    assert (summary["precision"], summary["n_undefined_precision"]) == (0.5, 3)
    assert (summary["pixel_accuracy"], summary["n_undefined_pixel_accuracy"]) == (pytest.approx(13 / 16), 0)
    nothing = summarize_slices(score_slices(PROBABILITIES[:0], REFERENCE[:0], 0.5))
    assert nothing["n_slices"] == 0 and np.isnan([nothing["dice"], nothing["presence_accuracy"]]).all()
    with pytest.raises(InputError, match="shape"):
        score_slices(PROBABILITIES, REFERENCE[:2], 0.5)


CLASSES = ("chest", "liver", "pelvis")


def test_confusion_by_hand():
    truth = ["chest"] * 3 + ["liver"] * 5 + ["pelvis"] * 2
    called = ["chest", "chest", "liver", "liver", "liver", "liver", "chest", "pelvis", "pelvis", "pelvis"]
    confusion = confusion_matrix(truth, called, CLASSES)
    np.testing.assert_array_equal(confusion, [[2, 1, 0], [1, 3, 1], [0, 0, 2]])
    assert accuracy(confusion) == 0.7
    scores = class_scores(confusion).set_index("class")
    assert scores.loc["liver", ["precision", "recall", "specificity", "f1"]].tolist() == pytest.approx(
        [3 / 4, 3 / 5, 4 / 5, 6 / 9]
    )
    assert scores.loc["chest", "specificity"] == pytest.approx(6 / 7)
    assert scores.loc[MACRO, "recall"] == pytest.approx((2 / 3 + 3 / 5 + 1) / 3)
    assert scores.n_slices.tolist() == [3, 5, 2, 10]


def test_undefined_is_nan_and_counted_never_zero():
    scores = class_scores(confusion_matrix(["liver"] * 3, ["liver"] * 3, CLASSES)).set_index("class")
    assert scores.loc["chest", ["precision", "recall", "f1"]].isna().all()
    assert scores.loc["chest", "specificity"] == 1 and np.isnan(scores.loc["liver", "specificity"])
    assert scores.loc[MACRO, ["precision", "recall", "specificity", "f1"]].tolist() == [1, 1, 1, 1]
    assert scores.n_undefined.tolist() == [3, 1, 3, 7]
    never_called = class_scores(confusion_matrix(["chest"], ["liver"], CLASSES)).set_index("class")
    assert np.isnan(never_called.loc["chest", "precision"]) and never_called.loc["chest", "recall"] == 0
    assert np.isnan(accuracy(confusion_matrix([], [], CLASSES)))


def test_names_that_do_not_fit_are_refused():
    with pytest.raises(InputError, match="2 names for 1 truths"):
        confusion_matrix(["liver"], ["liver", "liver"], CLASSES)
    with pytest.raises(InputError, match="lack 'spleen'"):
        confusion_matrix(["liver"], ["spleen"], CLASSES)


def test_thresholds_by_hand():
    scores, truth = np.array([0.9, 0.8, 0.3, 0.2, 0.95]), np.array([True, True, True, True, False])
    assert [threshold_for_recall(scores, truth, r) for r in (1.0, 0.75, 0.7, 0.25)] == [0.2, 0.3, 0.3, 0.9]
    with pytest.raises(InputError, match="nothing to find"):
        threshold_for_recall(scores, ~truth & False, 0.99)
    with pytest.raises(InputError, match="recall"):
        threshold_for_recall(scores, truth, 0.0)
