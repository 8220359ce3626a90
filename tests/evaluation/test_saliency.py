"""Scores of maps by hand, and where they are undefined."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from livseg_lib.errors import InputError
from livseg_lib.inference.explained_slice import (
    energy_share,
    map_similarity,
    pointing_hit,
    rank_correlation,
    warning_auc,
)

RAMP = np.arange(64, dtype=np.float32).reshape(8, 8) / 63
TRUTH = np.zeros((8, 8), bool)
TRUTH[7, 4:] = True


@given(power=st.floats(0.2, 5), seed=st.integers(0, 50))
@settings(max_examples=20, deadline=None)
def test_only_the_order_counts_in_rank_correlation(power, seed):
    heat = np.random.default_rng(seed).random((8, 8))
    assert rank_correlation(heat, heat**power) == pytest.approx(1)
    assert rank_correlation(heat, -(heat**power)) == pytest.approx(-1)


def test_equal_maps_are_alike_and_flat_ones_undefined():
    assert map_similarity(RAMP, RAMP) == pytest.approx(1)
    assert map_similarity(RAMP, 1 - RAMP) < 0.2
    flat = np.zeros((8, 8), np.float32)
    for score in (rank_correlation, map_similarity):
        assert np.isnan(score(RAMP, flat)) and np.isnan(score(flat, RAMP))


def test_pointing_and_energy_by_hand():
    assert pointing_hit(RAMP, TRUTH) == 1 and pointing_hit(1 - RAMP, TRUTH) == 0
    tie = TRUTH.astype(float)
    tie[0, :4] = 1
    assert pointing_hit(tie, TRUTH) == 0.5
    assert energy_share(tie, TRUTH) == 0.5
    assert energy_share(np.ones((8, 8)), TRUTH) == 4 / 64
    assert energy_share(RAMP, TRUTH) == pytest.approx((60 + 61 + 62 + 63) / np.arange(64).sum())


def test_pointing_and_energy_are_undefined_without_truth_or_heat():
    nothing = np.zeros((8, 8), bool)
    for score in (pointing_hit, energy_share):
        assert np.isnan(score(RAMP, nothing)) and np.isnan(score(np.zeros((8, 8)), TRUTH))


def test_warnings_by_hand():
    wrong = np.array([False, False, True, True])
    assert warning_auc(np.array([0.1, 0.2, 0.3, 0.4]), wrong) == 1
    assert warning_auc(np.array([0.4, 0.2, 0.3, 0.1]), wrong) == 0.25
    assert warning_auc(np.zeros(4), wrong) == 0.5
    assert np.isnan(warning_auc(np.zeros(4), np.zeros(4, bool)))
    assert np.isnan(warning_auc(np.zeros(0), np.zeros(0, bool)))


def test_other_shapes_are_refused():
    for score in (rank_correlation, map_similarity, pointing_hit, energy_share, warning_auc):
        with pytest.raises(InputError, match="shape"):
            score(RAMP, TRUTH[:4])
