from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn import metrics

from livseg_lib.errors import InputError
from livseg_lib.evaluation import probabilities as p
from livseg_lib.evaluation.probabilities import is_predicted
from livseg_lib.evaluation.statistics import bootstrap_interval

answers = st.integers(1, 30).flatmap(lambda n: st.tuples(*[arrays(bool, n)] * 2))


@settings(max_examples=40, deadline=None)
@given(arrays(np.uint8, (2, 3, 4)), st.integers(1, 12), st.sampled_from((0.1, 0.5, 0.9)))
def test_the_nth_largest_probability_tells_whether_n_pixels_reach_a_threshold(planes, area, threshold):
    enough = is_predicted(planes, threshold).sum(axis=(1, 2)) >= area
    levels = p.presence_levels(planes, [area])[:, 0]
    np.testing.assert_array_equal(is_predicted(levels, threshold), enough)


def test_levels_by_hand():
    planes = np.array([[[9, 7], [7, 1]]], np.uint8)
    np.testing.assert_array_equal(p.presence_levels(planes, [1, 2, 3, 4, 5]), [[9, 7, 7, 1, 0]])
    assert p.presence_levels(planes[:0], [1, 2]).shape == (0, 2)


def test_scores_by_hand():
    truth = np.array([True, True, True, False, False, False, False, False])
    predicted = np.array([True, True, False, True, False, False, False, False])
    scores = p.presence_scores(predicted, truth)
    assert (scores["true_positives"], scores["false_positives"]) == (2, 1)
    assert (scores["false_negatives"], scores["true_negatives"], scores["n_pictures"]) == (1, 4, 8)
    assert scores["accuracy"] == 6 / 8 and scores["majority_share"] == 5 / 8
    assert scores["sensitivity"] == scores["precision"] == pytest.approx(2 / 3)
    assert scores["specificity"] == 4 / 5
    assert scores["balanced_accuracy"] == pytest.approx((2 / 3 + 4 / 5) / 2)


@settings(max_examples=60, deadline=None)
@given(answers)
def test_scores_are_those_of_scikit_learn(pair):
    predicted, truth = pair
    scores = p.presence_scores(predicted, truth)
    matrix = metrics.confusion_matrix(truth, predicted, labels=[False, True])
    names = ("true_negatives", "false_positives", "false_negatives", "true_positives")
    assert [scores[name] for name in names] == matrix.ravel().tolist()
    expected = {
        "accuracy": metrics.accuracy_score(truth, predicted),
        "sensitivity": metrics.recall_score(truth, predicted, zero_division=np.nan),
        "specificity": metrics.recall_score(truth, predicted, pos_label=False, zero_division=np.nan),
        "precision": metrics.precision_score(truth, predicted, zero_division=np.nan),
    }
    if 0 < truth.sum() < truth.size:
        expected["balanced_accuracy"] = metrics.balanced_accuracy_score(truth, predicted)
    np.testing.assert_allclose([scores[name] for name in expected], list(expected.values()))


def test_what_cannot_be_told_is_nan():
    healthy = np.zeros(3, bool)
    scores = p.presence_scores(healthy, healthy)
    assert scores["accuracy"] == scores["specificity"] == scores["majority_share"] == 1
    assert all(np.isnan(scores[name]) for name in ("sensitivity", "precision", "balanced_accuracy"))
    assert np.isnan(p.presence_scores(healthy[:0], healthy[:0])["accuracy"])


def test_the_rule_is_the_one_that_tells_pictures_apart():
    # Noise: one bright pixel anywhere. Tumours: eight pixels of probability 0.6.
    planes = np.zeros((20, 6, 6), np.uint8)
    planes[:, 0, 0] = 250
    planes[10:, 2:4, 1:5] = 153
    truth = np.arange(20) >= 10
    areas = (1, 4, 16)
    rule = p.choose_presence_rule(p.presence_levels(planes, areas), truth, areas)
    assert rule == p.PresenceRule(0.5, 4)


def test_rare_tumours_do_not_make_a_rule_that_finds_none():
    levels = np.array([[40]] * 90 + [[130]] * 5 + [[130]] * 5, np.uint8)
    truth = np.arange(100) >= 95  # half of the suspicious pictures: accuracy prefers silence, 0.95 = 0.95
    rule = p.choose_presence_rule(levels, truth, [1])
    assert is_predicted(levels[:, 0], rule.threshold).sum() == 10


def test_pictures_of_one_kind_choose_no_rule():
    for truth in (np.zeros(4, bool), np.ones(4, bool)):
        with pytest.raises(InputError, match="all alike"):
            p.choose_presence_rule(np.zeros((4, 1), np.uint8), truth, [1])


def test_the_interval_draws_patients_not_pictures():
    truth = np.zeros(400, bool)
    predicted = np.arange(400) >= 300  # one of four patients is wrong throughout
    patients = np.repeat(["a", "b", "c", "d"], 100)
    low, high = p.accuracy_interval(predicted, truth, patients, seed=1)
    assert low < 0.5 and high == 1.0  # pictures drawn one by one would give 0.71 to 0.79
    even = bootstrap_interval([1, 1, 1, 0], seed=1)  # patients of one size: a mean of means
    assert (low, high) == pytest.approx(even)


def test_a_patient_of_more_pictures_counts_more():
    predicted, truth = np.array([True] * 9 + [False]), np.ones(10, bool)
    patients = ["large"] * 9 + ["small"]
    assert p.accuracy_interval(predicted, truth, patients) == (0.0, 1.0)
    assert np.isnan(p.accuracy_interval(predicted, truth, ["one"] * 10)).all()
