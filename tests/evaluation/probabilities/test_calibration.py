"""Calibration against data made to be calibrated or not, and against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss

from livseg_lib.evaluation.probabilities import (
    BINS,
    ProbabilityHistogram,
    brier_score,
    brier_skill,
    calibration_region,
    calibration_scores,
    expected_calibration_error,
    overconfidence,
    reliability_curve,
)


def histogram(levels, reference) -> ProbabilityHistogram:
    found = ProbabilityHistogram()
    found.add(np.asarray(levels, np.uint8), np.asarray(reference, bool))
    return found


def drawn(seed: int, truth=lambda probability: probability, size: int = 60_000) -> ProbabilityHistogram:
    """Pixels of all levels; each is in the structure with the chance `truth` of its probability."""
    rng = np.random.default_rng(seed)
    levels = rng.integers(0, 256, size)
    return histogram(levels, rng.random(size) < truth(levels / 255))


def exactly(said: float, share: float, pixels: int = 1000) -> ProbabilityHistogram:
    reference = np.arange(pixels) < round(share * pixels)
    return histogram(np.full(pixels, round(said * 255)), reference)


def test_what_is_calibrated_has_no_error_and_what_is_not_has_the_error_that_was_made():
    assert expected_calibration_error(drawn(0)) < 0.015
    assert abs(overconfidence(drawn(0))) < 0.01
    halved = drawn(1, lambda probability: probability / 2)
    assert expected_calibration_error(halved) == pytest.approx(0.25, abs=0.01)
    assert overconfidence(halved) == pytest.approx(0.25, abs=0.01)
    assert overconfidence(drawn(2, np.sqrt)) == pytest.approx(0.5 - 2 / 3, abs=0.01)


def test_by_hand():
    """Of 100 pixels given 0.8 60 are true, of 300 given 0.2 60: (100 x 0.2 + 300 x 0) / 400."""
    both = exactly(0.8, 0.6, 100) + exactly(0.2, 0.2, 300)
    assert expected_calibration_error(both) == pytest.approx(0.05)
    assert overconfidence(both) == pytest.approx(0.05)
    brier = (60 * 0.2**2 + 40 * 0.8**2 + 60 * 0.8**2 + 240 * 0.2**2) / 400
    assert brier_score(both) == pytest.approx(brier)
    assert brier_skill(both) == pytest.approx(1 - brier / (0.3 * 0.7))
    curve = reliability_curve(both)
    assert np.flatnonzero(curve.pixels).tolist() == [2, 11]
    assert curve.frequency[[2, 11]] == pytest.approx([0.2, 0.6])
    assert np.isnan(curve.probability[0]) and curve.pixels.sum() == 400


@pytest.mark.parametrize("bins", [1, 3, 5, 15, 17, 51, 85, 255])
def test_a_level_on_the_edge_of_a_bin_lies_below_it(bins):
    """255 is a multiple of each, so that every edge is a level: 255 k / bins closes bin k - 1."""
    edges = [255 * k // bins for k in range(1, bins + 1)]
    assert reliability_curve(histogram(edges, [1] * bins), bins).pixels.tolist() == [1] * bins
    above = [edge + 1 for edge in edges[:-1]]
    assert reliability_curve(histogram(above, [1] * len(above)), bins).pixels.tolist() == [0] + [1] * (
        bins - 1
    )


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([1, 5, 10, BINS, 17]))
@example(255, 17)
def test_curve_and_brier_score_are_those_of_scikit_learn(seed, bins):
    rng = np.random.default_rng(seed)
    levels = rng.choice([0, 17, 51, 85, 128, 255, *rng.integers(0, 256, 4)], 200)
    reference = rng.random(200) < rng.random()
    reference[0], reference[1] = True, False
    found = histogram(levels, reference)
    # A hair less: its edges in floating point, such as 9 * (1 / 17), lie on either side of 135 / 255.
    below_edges = np.maximum(levels / 255 - 1e-12, 0)
    frequency, probability = calibration_curve(reference, below_edges, n_bins=bins)
    curve = reliability_curve(found, bins)
    filled = curve.pixels > 0
    np.testing.assert_allclose(curve.frequency[filled], frequency)
    np.testing.assert_allclose(curve.probability[filled], probability)
    weights = curve.pixels[filled] / 200
    expected = (weights * np.abs(frequency - probability)).sum()
    assert expected_calibration_error(found, bins) == pytest.approx(expected)
    assert brier_score(found) == pytest.approx(brier_score_loss(reference, levels / 255))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_the_error_is_at_least_the_overconfidence_and_turns_with_the_question(seed):
    found = drawn(seed, lambda probability: probability**3, 500)
    assert expected_calibration_error(found) >= abs(overconfidence(found)) - 1e-12
    turned = ProbabilityHistogram()  # the probability of the background, against the background
    turned.foreground, turned.background = found.background[::-1].copy(), found.foreground[::-1].copy()
    assert overconfidence(turned) == pytest.approx(-overconfidence(found))
    assert brier_score(turned) == pytest.approx(brier_score(found))


def test_background_flatters_the_error_but_not_the_skill():
    network = drawn(3, lambda probability: probability / 2)
    diluted = network + histogram(np.zeros(20 * 60_000), np.zeros(20 * 60_000))
    assert expected_calibration_error(diluted) < expected_calibration_error(network) / 10
    constant = exactly(0.5, 0.1) + histogram(np.zeros(9000), np.zeros(9000))
    assert brier_score(constant) < 0.03 and brier_skill(constant) < 0


def test_patients_may_be_wrong_in_opposite_ways():
    patients = [exactly(0.4, 0.6), exactly(0.4, 0.2)] * 3
    scores = calibration_scores([*patients, ProbabilityHistogram()])
    assert scores["n_patients"] == 6
    assert scores["ece"] == pytest.approx(0, abs=1e-9)
    assert scores["ece_per_patient"] == pytest.approx(0.2)
    assert scores["ece_low"] == pytest.approx(0, abs=1e-9) and scores["ece_high"] > 0.05
    assert scores["ece_per_patient_low"] == pytest.approx(scores["ece_per_patient_high"])


def test_nobody_and_nothing_are_undefined():
    empty = ProbabilityHistogram()
    assert np.isnan([expected_calibration_error(empty), brier_score(empty), overconfidence(empty)]).all()
    assert np.isnan(brier_skill(exactly(0.5, 1.0)))
    scores = calibration_scores([empty])
    assert scores.pop("n_patients") == 0 and np.isnan(list(scores.values())).all()


def test_the_region_is_the_liver_for_tumours_and_the_box_around_it_for_the_liver():
    labels = np.zeros((4, 20, 40), np.uint8)
    labels[1:3, 5:9, 0:10] = 1
    labels[1, 6, 3] = 2
    np.testing.assert_array_equal(calibration_region(labels, "tumor"), labels > 0)
    box = np.zeros(labels.shape, bool)
    box[1:3, 3:11, 0:14] = True
    np.testing.assert_array_equal(calibration_region(labels, "liver"), box)
    for structure in ("liver", "tumor"):
        assert not calibration_region(np.zeros_like(labels), structure).any()
