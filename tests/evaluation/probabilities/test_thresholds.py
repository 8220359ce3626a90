from __future__ import annotations

import numpy as np
import pytest

from livseg_lib.errors import InputError
from livseg_lib.evaluation.masks import dice, overlap_counts
from livseg_lib.evaluation.probabilities import (
    THRESHOLDS,
    ProbabilityHistogram,
    choose_threshold,
    dice_by_threshold,
    is_predicted,
)


def histogram(probabilities, reference) -> ProbabilityHistogram:
    result = ProbabilityHistogram()
    result.add(np.asarray(probabilities), np.asarray(reference, bool))
    return result


def patient(seed: int, best: float) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities that divide tumour from the rest about `best`."""
    rng = np.random.default_rng(seed)
    reference = rng.random((3, 20, 20)) < 0.2
    return np.clip(
        best + np.where(reference, 0.06, -0.06) + rng.normal(0, 0.03, reference.shape), 0, 1
    ), reference


def test_dice_at_each_threshold_is_that_of_the_mask():
    probabilities, reference = patient(0, 0.4)
    levels = np.rint(probabilities * 255).astype(np.uint8)
    expected = [dice(overlap_counts(is_predicted(levels, t), reference)) for t in THRESHOLDS]
    np.testing.assert_allclose(dice_by_threshold(histogram(levels, reference)), expected)


def test_patient_without_tumor_scores_one_only_where_nothing_is_predicted():
    healthy = histogram(np.full((1, 4, 4), 0.42), np.zeros((1, 4, 4)))
    np.testing.assert_array_equal(dice_by_threshold(healthy, (0.3, 0.4, 0.45, 0.9)), [0, 0, 1, 1])


@pytest.mark.parametrize("best", [0.2, 0.5, 0.75])
def test_finds_the_threshold_that_divides(best):
    chosen = choose_threshold([histogram(*patient(seed, best)) for seed in range(3)])
    assert abs(chosen - best) <= 0.051


def test_patients_count_alike_whatever_their_size():
    large = histogram(*(np.repeat(a, 50, axis=0) for a in patient(0, 0.25)))
    small = [histogram(*patient(seed, 0.7)) for seed in (1, 2)]
    assert abs(choose_threshold([large, *small]) - 0.7) <= 0.051


def test_among_equals_the_one_nearest_a_half():
    clear = histogram(np.array([[0.0, 1.0]]), np.array([[False, True]]))
    assert choose_threshold([clear]) == 0.5
    assert choose_threshold([clear], grid=(0.1, 0.2)) == 0.2


def test_grid_and_refusal():
    assert (THRESHOLDS[0], THRESHOLDS[4], THRESHOLDS[-1], len(THRESHOLDS)) == (0.1, 0.3, 0.9, 17)
    with pytest.raises(InputError, match="no validation patient"):
        choose_threshold([])


def test_a_little_better_is_better_however_far_from_a_half():
    found = ProbabilityHistogram()
    levels = np.array([255] * 999 + [230], np.uint8)  # all in the structure, one of them at 0.9
    found.add(levels, np.ones(1000, bool))
    found.add(np.array([130], np.uint8), np.zeros(1, bool))  # at 0.51: predicted at a half, not at 0.6
    assert choose_threshold([found], grid=(0.5, 0.6)) == 0.6  # Dice 1 against 2000 / 2001
