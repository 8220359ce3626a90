from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from livseg_lib.evaluation.statistics import bootstrap_interval, share_with_interval


def test_coverage_of_a_normal_mean():
    rng = np.random.default_rng(0)
    covered = 0
    for seed in range(400):
        low, high = bootstrap_interval(rng.normal(3, 2, 40), resamples=400, seed=seed)
        covered += low <= 3 <= high
    # A percentile interval of 40 patients covers a little less than its 95 %: 93 to 94 %, give or take 1.2.
    assert 0.90 <= covered / 400 <= 0.975


def test_width_is_that_of_the_standard_error():
    values = np.random.default_rng(1).normal(0, 1, 400)
    low, high = bootstrap_interval(values)
    standard_error = values.std() / 20
    assert high - low == pytest.approx(2 * 1.96 * standard_error, rel=0.06)
    narrower = bootstrap_interval(values, level=0.5)
    assert narrower[1] - narrower[0] == pytest.approx(2 * 0.6745 * standard_error, rel=0.1)


def test_undefined_patients_are_left_out():
    values = [0.8, 0.9, np.nan, 0.7, np.nan, 0.95]
    assert bootstrap_interval(values) == bootstrap_interval([0.8, 0.9, 0.7, 0.95])


@pytest.mark.parametrize("values", [[], [0.9], [0.9, np.nan], [np.nan, np.nan, np.nan]])
def test_fewer_than_two_patients_have_no_interval(values):
    assert np.isnan(bootstrap_interval(values)).all()


def test_equal_patients_have_an_interval_of_no_width():
    assert bootstrap_interval([0.5] * 5) == (0.5, 0.5)


def test_same_seed_same_interval_other_seed_another():
    values = np.random.default_rng(2).random(20)
    assert bootstrap_interval(values, seed=5) == bootstrap_interval(values, seed=5)
    assert bootstrap_interval(values, seed=5) != bootstrap_interval(values, seed=6)


def test_other_statistics_and_pooled_ones():
    values = np.arange(101.0)
    low, high = bootstrap_interval(values, np.median)
    assert 30 < low < 50 < high < 70
    sizes = np.array([[1, 10], [9, 10], [500, 1000], [450, 1000]])  # intersection, sum of both sizes

    def dice_global(drawn, axis):
        totals = drawn.sum(axis=axis)
        return 2 * totals[..., 0] / totals[..., 1]

    low, high = bootstrap_interval(sizes, dice_global)
    assert 0.2 <= low < 2 * 960 / 2020 < high <= 1.8


def test_draws_without_a_statistic_are_left_out():
    counts = np.array([[3, 4], [0, 0], [0, 0], [1, 2]])  # found, tumours: two patients have none

    def recall(drawn, axis):
        found, tumors = np.moveaxis(drawn.sum(axis=axis), -1, 0)
        with np.errstate(invalid="ignore"):
            return found / tumors

    assert bootstrap_interval(counts, recall) == (0.5, 0.75)
    assert np.isnan(bootstrap_interval(counts[1:3], recall)).all()


def test_drawing_in_portions_changes_nothing(monkeypatch):
    values = np.random.default_rng(3).random((30, 4))

    def mean(drawn, axis):
        return drawn.mean(axis=axis).mean(axis=-1)

    whole = bootstrap_interval(values, mean)
    monkeypatch.setattr("livseg_lib.evaluation.statistics.NUMBERS_AT_ONCE", 1000)
    assert bootstrap_interval(values, mean) == whole


def test_a_share_of_things_is_resampled_by_patient():
    happened = pd.Series([True] * 10 + [False] * 10)
    two = pd.Series(["a"] * 10 + ["b"] * 10)  # all of one patient, none of the other: as unsure as can be
    assert share_with_interval(happened, two) == (0.5, (0, 1))
    alike = pd.Series(list("abcdefghij") * 2)  # one of each: whoever is drawn, it is half
    assert share_with_interval(happened, alike) == (0.5, (0.5, 0.5))
    share, interval = share_with_interval(happened[:0], two[:0])
    assert np.isnan([share, *interval]).all()
    assert np.isnan(share_with_interval(happened[:3], two[:3])[1]).all()  # one patient has no interval
