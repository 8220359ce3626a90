from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score, roc_curve

from livseg_lib.errors import InputError
from livseg_lib.evaluation.masks import overlap_counts
from livseg_lib.evaluation.probabilities import ProbabilityHistogram, is_predicted, level_of, quantize


def planes(seed: int, levels: int = 256) -> tuple[np.ndarray, np.ndarray]:
    """uint8 probabilities (4, 9, 8) that know something of the reference, and the reference."""
    rng = np.random.default_rng(seed)
    reference = rng.random((4, 9, 8)) < 0.3
    probabilities = np.clip(rng.normal(0.4 + 0.2 * reference, 0.25), 0, 1)
    return (np.rint(probabilities * (levels - 1)) * (255 // (levels - 1))).astype(np.uint8), reference


def histogram(probabilities, reference) -> ProbabilityHistogram:
    result = ProbabilityHistogram()
    result.add(probabilities, reference)
    return result


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([2, 4, 256]))
def test_auc_and_curve_are_those_of_scikit_learn(seed, levels):
    probabilities, reference = planes(seed, levels)
    found = histogram(probabilities, reference)
    assert found.auc() == pytest.approx(roc_auc_score(reference.ravel(), probabilities.ravel()), abs=1e-12)
    false_positive_rate, true_positive_rate, thresholds = roc_curve(
        reference.ravel(), probabilities.ravel(), drop_intermediate=False
    )
    curve = found.curve()
    at = (
        np.searchsorted(-curve.thresholds[1:], -thresholds[1:] / 255) + 1
    )  # scikit-learn lists only what occurs
    np.testing.assert_allclose(curve.false_positive_rate[at], false_positive_rate[1:])
    np.testing.assert_allclose(curve.true_positive_rate[at], true_positive_rate[1:])
    assert (curve.false_positive_rate[0], curve.true_positive_rate[0]) == (0, 0)
    assert (curve.false_positive_rate[-1], curve.true_positive_rate[-1]) == (1, 1)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0, 1))
def test_counts_are_those_of_thresholded_masks(seed, threshold):
    probabilities, reference = planes(seed)
    counts = histogram(probabilities, reference).counts_at([threshold, 0.5])
    for k, at in enumerate((threshold, 0.5)):
        expected = overlap_counts(is_predicted(probabilities, at), reference)
        assert tuple(int(count[k]) for count in counts) == expected


def test_slices_may_come_in_any_portions():
    probabilities, reference = planes(0)
    whole, in_turn = histogram(probabilities, reference), ProbabilityHistogram()
    for p, r in zip(probabilities, reference, strict=True):
        in_turn.add(p, r)
    summed = histogram(probabilities[:1], reference[:1]) + histogram(probabilities[1:], reference[1:])
    for other in (in_turn, summed):
        np.testing.assert_array_equal(other.foreground, whole.foreground)
        np.testing.assert_array_equal(other.background, whole.background)
    assert whole.foreground.sum() == reference.sum() and whole.background.sum() == (~reference).sum()


def test_auc_of_order_chance_and_reverse():
    reference = np.array([[True, True, False, False]])
    for levels, expected in (([200, 201, 9, 10], 1), ([7, 7, 7, 7], 0.5), ([9, 10, 200, 201], 0)):
        assert histogram(np.array([levels], np.uint8), reference).auc() == expected


@pytest.mark.parametrize("reference", [np.zeros((2, 3), bool), np.ones((2, 3), bool)])
def test_auc_needs_both_kinds_of_pixel(reference):
    assert np.isnan(histogram(np.full((2, 3), 9, np.uint8), reference).auc())
    assert np.isnan(ProbabilityHistogram().auc())


def test_a_threshold_is_reached_by_equality():
    assert [level_of(t) for t in (0, 0.2, 0.3, 0.5, 0.6, 1)] == [0, 51, 77, 128, 153, 255]
    assert is_predicted(np.array([50, 51], np.uint8), 0.2).tolist() == [False, True]
    for dtype in (np.float16, np.float32, np.float64):
        assert is_predicted(np.array([0.29, 0.3, 0.31], dtype), 0.3).tolist() == [False, True, True]


def test_every_level_reaches_its_own_probability():
    for level in range(256):
        assert level_of(level / 255) == level


def test_quantizing():
    np.testing.assert_array_equal(
        quantize(np.array([0, 0.5 / 255 + 1e-6, 0.5, 1], np.float32)), [0, 1, 128, 255]
    )
    levels = np.arange(256, dtype=np.uint8)
    np.testing.assert_array_equal(quantize(levels / 255), levels)
    for bad in (-0.1, 1.5, np.nan):
        with pytest.raises(InputError, match="between 0 and 1"):
            quantize(np.array([0.5, bad]))
    with pytest.raises(InputError, match="shape"):
        ProbabilityHistogram().add(levels, np.zeros(255, bool))
