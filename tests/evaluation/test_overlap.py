from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from sklearn import metrics

from livseg_lib.errors import InputError
from livseg_lib.evaluation import masks as o

SCORES = (o.dice, o.jaccard, o.voe, o.rvd, o.precision, o.recall, o.pixel_accuracy)
mask_pairs = array_shapes(min_dims=3, max_dims=3, max_side=5).flatmap(
    lambda shape: st.tuples(arrays(bool, shape), arrays(bool, shape))
)


def test_hand_values():
    prediction, reference = np.zeros((2, 1, 1, 10), bool)
    prediction[0, 0, :4], reference[0, 0, 1:7] = True, True  # 4 and 6 voxels, 3 in common, 3 in neither
    counts = o.overlap_counts(prediction, reference)
    assert counts == (3, 1, 3, 3)
    found = [score(counts) for score in SCORES]
    assert found == pytest.approx([6 / 10, 3 / 7, 4 / 7, -2 / 6, 3 / 4, 3 / 6, 6 / 10])
    assert all(isinstance(value, float) for value in found)


@settings(max_examples=60, deadline=None)
@given(mask_pairs)
def test_agrees_with_scikit_learn(pair):
    prediction, reference = pair
    counts = o.overlap_counts(prediction, reference)
    flat = reference.ravel(), prediction.ravel()
    expected = {
        o.dice: metrics.f1_score(*flat, zero_division=np.nan),
        o.jaccard: metrics.jaccard_score(*flat, zero_division=0)
        if counts.prediction + counts.reference
        else np.nan,
        o.precision: metrics.precision_score(*flat, zero_division=np.nan),
        o.recall: metrics.recall_score(*flat, zero_division=np.nan),
        o.pixel_accuracy: metrics.accuracy_score(*flat),
    }
    for score, value in expected.items():
        np.testing.assert_allclose(score(counts), value)


@settings(max_examples=60, deadline=None)
@given(mask_pairs)
def test_exchange_and_flips(pair):
    prediction, reference = pair
    counts, exchanged = o.overlap_counts(prediction, reference), o.overlap_counts(reference, prediction)
    flipped = o.overlap_counts(prediction[::-1, :, ::-1], reference[::-1, :, ::-1])
    for symmetric in (o.dice, o.jaccard, o.voe, o.pixel_accuracy):
        np.testing.assert_equal(symmetric(counts), symmetric(exchanged))
    np.testing.assert_equal(o.precision(counts), o.recall(exchanged))
    assert flipped == counts
    np.testing.assert_allclose(o.jaccard(counts), o.dice(counts) / (2 - o.dice(counts)))


def test_undefined_is_nan():
    empty, full = np.zeros((2, 2, 2), bool), np.ones((2, 2, 2), bool)
    both_empty = o.overlap_counts(empty, empty)
    assert [np.isnan(score(both_empty)) for score in SCORES] == [True] * 6 + [False]
    surplus, missed = o.overlap_counts(full, empty), o.overlap_counts(empty, full)
    assert np.isnan([o.recall(surplus), o.rvd(surplus), o.precision(missed)]).all()
    assert [o.dice(surplus), o.dice(missed), o.precision(surplus), o.recall(missed), o.rvd(missed)] == [
        0,
        0,
        0,
        0,
        -1,
    ]


def test_counts_along_axes_are_those_of_each_plane():
    rng = np.random.default_rng(0)
    prediction, reference = rng.random((2, 5, 6, 7)) < 0.4
    counts = o.overlap_counts(prediction, reference, axis=(1, 2))
    for k in range(5):
        assert o.overlap_counts(prediction[k], reference[k]) == tuple(c[k] for c in counts)
        assert o.dice(counts)[k] == o.dice(o.overlap_counts(prediction[k], reference[k]))


@pytest.mark.parametrize(
    ("prediction", "reference", "problem"),
    [
        (np.zeros((2, 2, 2), bool), np.zeros((2, 2, 3), bool), r"shape \(2, 2, 2\)"),
        (np.zeros((2, 2, 2), np.uint8), np.zeros((2, 2, 2), bool), "uint8, not a boolean"),
    ],
)
def test_other_arrays_are_refused(prediction, reference, problem):
    with pytest.raises(InputError, match=problem):
        o.overlap_counts(prediction, reference)
