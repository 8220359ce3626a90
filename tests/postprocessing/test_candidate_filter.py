from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from livseg_lib.errors import InputError
from livseg_lib.postprocessing.candidates import choose_forest_threshold, filter_candidates

PROBABILITY = np.array([0.9, 0.8, 0.7, 0.6, 0.5, 0.3])
TRUTH = np.array([True, False, True, False, True, False])


@pytest.mark.parametrize(
    ("least_recall", "threshold", "recall", "false_after"),
    [(1.0, 0.4, 1, 2), (0.67, 0.4, 1, 2), (0.66, 0.65, 2 / 3, 1), (0.3, 0.85, 1 / 3, 0)],
)
def test_fewest_false_alarms_at_the_recall_asked_for(least_recall, threshold, recall, false_after):
    chosen = choose_forest_threshold(PROBABILITY, TRUTH, least_recall)
    assert (chosen.threshold, chosen.recall) == pytest.approx((threshold, recall))
    assert chosen[2:] == (3, 3, false_after, "")


rows = st.lists(st.tuples(st.sampled_from([0, 0.1, 0.25, 0.5, 0.9, 1.0]), st.booleans()), max_size=12)


@given(rows, st.sampled_from([0.2, 0.5, 0.95, 1.0]))
def test_no_other_threshold_does_better(candidates, least_recall):
    probability = np.array([p for p, _ in candidates], float)
    truth = np.array([t for _, t in candidates], bool)
    chosen = choose_forest_threshold(probability, truth, least_recall)
    if not truth.any():
        assert chosen.threshold == 0 and np.isnan(chosen.recall) and "every candidate stays" in chosen.note
        return
    assert chosen.recall >= least_recall
    assert chosen.false_after == (probability[~truth] >= chosen.threshold).sum()
    for cut in np.append(probability, 2):
        if (probability[truth] >= cut).mean() >= least_recall:
            assert (probability[~truth] >= cut).sum() >= chosen.false_after


def test_what_cannot_be_chosen_is_said():
    nothing = choose_forest_threshold(np.zeros(0), np.zeros(0, bool))
    assert nothing.threshold == 0 and nothing.note.startswith("There was no candidate ")
    false_only = choose_forest_threshold(PROBABILITY, np.zeros(6, bool))
    assert false_only.false_after == 6 and "no true tumour among 6 candidates" in false_only.note
    true_only = choose_forest_threshold(PROBABILITY, np.ones(6, bool))
    assert true_only.recall == 1 and "nothing to filter" in true_only.note
    with pytest.raises(InputError):
        choose_forest_threshold(PROBABILITY, TRUTH, 0)


def test_filtering_drops_whole_candidates_and_nothing_else():
    ids = np.array([[[0, 1, 1, 2], [3, 3, 0, 2]]], np.uint16)
    kept = filter_candidates(ids, np.array([0.2, 0.5, 0.9]), 0.5)
    np.testing.assert_array_equal(kept, ids >= 2)
    assert filter_candidates(ids, np.zeros(3), 0.0).sum() == (ids > 0).sum()
    with pytest.raises(InputError, match="up to 3, but there are 2"):
        filter_candidates(ids, np.zeros(2), 0.5)
    assert not filter_candidates(np.zeros((1, 2, 2), np.uint16), np.zeros(0), 0.5).any()
