"""Curves and counts, thresholds, presence and calibration: by hand and against scikit-learn."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn import metrics

from livseg_lib.errors import InputError
from livseg_lib.evaluation import probabilities as module
from livseg_lib.evaluation.masks import overlap_counts


def planes(seed: int, levels: int = 256) -> tuple[np.ndarray, np.ndarray]:
    """uint8 probabilities (4, 9, 8) that know something of the reference, and the reference."""
    rng = np.random.default_rng(seed)
    reference = rng.random((4, 9, 8)) < 0.3
    probabilities = np.clip(rng.normal(0.4 + 0.2 * reference, 0.25), 0, 1)
    return (np.rint(probabilities * (levels - 1)) * (255 // (levels - 1))).astype(np.uint8), reference


def counted(probabilities, reference) -> module.ProbabilityHistogram:
    result = module.ProbabilityHistogram()
    result.add(np.asarray(probabilities), np.asarray(reference, bool))
    return result


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([2, 4, 256]))
def test_auc_and_curve_are_those_of_scikit_learn(seed, levels):
    probabilities, reference = planes(seed, levels)
    found = counted(probabilities, reference)
    flat = reference.ravel(), probabilities.ravel()
    assert found.auc() == pytest.approx(metrics.roc_auc_score(*flat), abs=1e-12)
    false_positive_rate, true_positive_rate, thresholds = metrics.roc_curve(*flat, drop_intermediate=False)
    curve = found.curve()
    at = 1 + np.searchsorted(-curve.thresholds[1:], -thresholds[1:] / 255)  # theirs lists only what occurs
    np.testing.assert_allclose(curve.false_positive_rate[at], false_positive_rate[1:])
    np.testing.assert_allclose(curve.true_positive_rate[at], true_positive_rate[1:])
    assert (curve.false_positive_rate[0], curve.true_positive_rate[0]) == (0, 0)
    assert (curve.false_positive_rate[-1], curve.true_positive_rate[-1]) == (1, 1)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0, 1))
def test_counts_are_those_of_thresholded_masks(seed, threshold):
    probabilities, reference = planes(seed)
    counts = counted(probabilities, reference).counts_at([threshold, 0.5])
    for k, at in enumerate((threshold, 0.5)):
        expected = overlap_counts(module.is_predicted(probabilities, at), reference)
        assert tuple(int(count[k]) for count in counts) == expected


def test_a_threshold_is_reached_by_equality():
    assert [module.level_of(t) for t in (0, 0.2, 0.3, 0.5, 0.6, 1)] == [0, 51, 77, 128, 153, 255]
    assert all(module.level_of(level / 255) == level for level in range(256))
    assert module.is_predicted(np.array([50, 51], np.uint8), 0.2).tolist() == [False, True]
    for dtype in (np.float16, np.float32, np.float64):
        assert module.is_predicted(np.array([0.29, 0.3, 0.31], dtype), 0.3).tolist() == [False, True, True]


def test_quantizing():
    floats = np.array([0, 0.5 / 255 + 1e-6, 0.5, 1], np.float32)
    np.testing.assert_array_equal(module.quantize(floats), [0, 1, 128, 255])
    levels = np.arange(256, dtype=np.uint8)
    np.testing.assert_array_equal(module.quantize(levels / 255), levels)
    for bad in (-0.1, 1.5, np.nan):
        with pytest.raises(InputError, match="between 0 and 1"):
            module.quantize(np.array([0.5, bad]))
    with pytest.raises(InputError, match="shape"):
        module.ProbabilityHistogram().add(levels, np.zeros(255, bool))


def patient(seed: int, best: float) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities that divide tumour from the rest about `best`."""
    rng = np.random.default_rng(seed)
    reference = rng.random((3, 20, 20)) < 0.2
    shifted = best + np.where(reference, 0.06, -0.06) + rng.normal(0, 0.03, reference.shape)
    return np.clip(shifted, 0, 1), reference


def test_patient_without_tumor_scores_one_only_where_nothing_is_predicted():
    healthy = counted(np.full((1, 4, 4), 0.42), np.zeros((1, 4, 4)))
    np.testing.assert_array_equal(module.dice_by_threshold(healthy, (0.3, 0.4, 0.45, 0.9)), [0, 0, 1, 1])


def test_patients_count_alike_whatever_their_size():
    large = counted(*(np.repeat(a, 50, axis=0) for a in patient(0, 0.25)))
    small = [counted(*patient(seed, 0.7)) for seed in (1, 2)]
    assert abs(module.choose_threshold([large, *small]) - 0.7) <= 0.051


def test_among_equals_the_one_nearest_a_half():
    clear = counted(np.array([[0.0, 1.0]]), np.array([[False, True]]))
    assert module.choose_threshold([clear]) == 0.5
    assert module.choose_threshold([clear], grid=(0.1, 0.2)) == 0.2
    with pytest.raises(InputError, match="no validation patient"):
        module.choose_threshold([])


def test_a_little_better_is_better_however_far_from_a_half():
    inside = np.array([255] * 999 + [230], np.uint8)  # one of them at 0.9
    outside = np.array([130], np.uint8)  # at 0.51: predicted at a half, not at 0.6
    found = counted(inside, [True] * 1000) + counted(outside, [False])
    assert module.choose_threshold([found], grid=(0.5, 0.6)) == 0.6  # Dice 1 against 2000 / 2001


@settings(max_examples=40, deadline=None)
@given(arrays(np.uint8, (2, 3, 4)), st.integers(1, 12), st.sampled_from((0.1, 0.5, 0.9)))
def test_the_nth_largest_probability_tells_whether_n_pixels_reach_a_threshold(planes, area, threshold):
    enough = module.is_predicted(planes, threshold).sum(axis=(1, 2)) >= area
    levels = module.presence_levels(planes, [area])[:, 0]
    np.testing.assert_array_equal(module.is_predicted(levels, threshold), enough)
    levels = module.presence_levels(np.array([[[9, 7], [7, 1]]], np.uint8), [1, 2, 3, 4, 5])
    assert levels.tolist() == [[9, 7, 7, 1, 0]]


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 30).flatmap(lambda n: st.tuples(*[arrays(bool, n)] * 2)))
def test_scores_are_those_of_scikit_learn(pair):
    predicted, truth = pair
    scores = module.presence_scores(predicted, truth)
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
    assert scores["majority_share"] == max(truth.mean(), 1 - truth.mean())
    assert scores["n_pictures"] == len(truth)
    nothing = module.presence_scores(truth[:0], truth[:0])
    assert np.isnan([nothing["accuracy"], nothing["majority_share"], nothing["balanced_accuracy"]]).all()


def test_the_rule_is_the_one_that_tells_pictures_apart():
    # Noise: one bright pixel anywhere. Tumours: eight pixels of probability 0.6.
    planes = np.zeros((20, 6, 6), np.uint8)
    planes[:, 0, 0] = 250
    planes[10:, 2:4, 1:5] = 153
    truth = np.arange(20) >= 10
    areas = (1, 4, 16)
    rule = module.choose_presence_rule(module.presence_levels(planes, areas), truth, areas)
    assert rule == module.PresenceRule(0.5, 4)


def test_rare_tumours_do_not_make_a_rule_that_finds_none():
    levels = np.array([[40]] * 90 + [[130]] * 5 + [[130]] * 5, np.uint8)
    truth = np.arange(100) >= 95  # half of the suspicious pictures: accuracy prefers silence, 0.95 = 0.95
    rule = module.choose_presence_rule(levels, truth, [1])
    assert module.is_predicted(levels[:, 0], rule.threshold).sum() == 10
    for alike in (np.zeros(100, bool), np.ones(100, bool)):
        with pytest.raises(InputError, match="all alike"):
            module.choose_presence_rule(levels, alike, [1])


def exactly(said: float, share: float, pixels: int = 1000) -> module.ProbabilityHistogram:
    reference = np.arange(pixels) < round(share * pixels)
    return counted(np.full(pixels, round(said * 255), np.uint8), reference)


def test_by_hand():
    """Of 100 pixels given 0.8 60 are true, of 300 given 0.2 60: (100 x 0.2 + 300 x 0) / 400."""
    both = exactly(0.8, 0.6, 100) + exactly(0.2, 0.2, 300)
    assert module.expected_calibration_error(both) == pytest.approx(0.05)
    assert module.overconfidence(both) == pytest.approx(0.05)
    brier = (60 * 0.2**2 + 40 * 0.8**2 + 60 * 0.8**2 + 240 * 0.2**2) / 400
    assert module.brier_score(both) == pytest.approx(brier)
    assert module.brier_skill(both) == pytest.approx(1 - brier / (0.3 * 0.7))
    curve = module.reliability_curve(both)
    assert np.flatnonzero(curve.pixels).tolist() == [2, 11]
    assert curve.frequency[[2, 11]] == pytest.approx([0.2, 0.6])
    assert np.isnan(curve.probability[0]) and curve.pixels.sum() == 400


@pytest.mark.parametrize("bins", [1, 3, 5, 15, 17, 51, 85, 255])
def test_a_level_on_the_edge_of_a_bin_lies_below_it(bins):
    """255 is a multiple of each, so that every edge is a level: 255 k / bins closes bin k - 1."""
    edges = np.array([255 * k // bins for k in range(1, bins + 1)], np.uint8)
    assert module.reliability_curve(counted(edges, [1] * bins), bins).pixels.tolist() == [1] * bins
    above = module.reliability_curve(counted(edges[:-1] + np.uint8(1), [1] * (bins - 1)), bins)
    assert above.pixels.tolist() == [0] + [1] * (bins - 1)


def test_patients_may_be_wrong_in_opposite_ways():
    patients = [exactly(0.4, 0.6), exactly(0.4, 0.2)] * 3
    scores = module.calibration_scores([*patients, module.ProbabilityHistogram()])
    assert scores["n_patients"] == 6
    assert scores["ece"] == pytest.approx(0, abs=1e-9)
    assert scores["ece_per_patient"] == pytest.approx(0.2)
    assert scores["ece_low"] == pytest.approx(0, abs=1e-9) and scores["ece_high"] > 0.05
    assert scores["ece_per_patient_low"] == pytest.approx(scores["ece_per_patient_high"])


def test_nobody_and_nothing_are_undefined():
    empty = module.ProbabilityHistogram()
    for score in (module.expected_calibration_error, module.brier_score, module.overconfidence):
        assert np.isnan(score(empty))
    ones, zeros = exactly(0.5, 1.0), exactly(0.5, 0.0)
    assert np.isnan([module.brier_skill(ones), ones.auc(), zeros.auc()]).all()
    scores = module.calibration_scores([empty])
    assert scores.pop("n_patients") == 0 and np.isnan(list(scores.values())).all()


def test_the_region_is_the_liver_for_tumours_and_the_box_around_it_for_the_liver():
    labels = np.zeros((4, 20, 40), np.uint8)
    labels[1:3, 5:9, 0:10] = 1
    labels[1, 6, 3] = 2
    np.testing.assert_array_equal(module.calibration_region(labels, "tumor"), labels > 0)
    box = np.zeros(labels.shape, bool)
    box[1:3, 3:11, 0:14] = True
    np.testing.assert_array_equal(module.calibration_region(labels, "liver"), box)
    for structure in ("liver", "tumor"):
        assert not module.calibration_region(np.zeros_like(labels), structure).any()
