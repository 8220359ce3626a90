"""Paired differences: the test against scipy and by hand, Holm's properties, and what is left out."""

from __future__ import annotations

from itertools import product

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ttest_1samp, wilcoxon

from livseg_lib.errors import InputError
from livseg_lib.evaluation.statistics import (
    COLUMNS,
    FLIPS,
    compare_pairs,
    compare_systems,
    holm,
    patient_scores,
    sign_flip_test,
    smallest_p,
    verdict,
)

DIFFERENCES = st.lists(st.floats(-1, 1).map(lambda value: round(value, 2)), min_size=2, max_size=7)


def by_hand(differences: list[float]) -> float:
    """Two-sided p by counting every way to flip."""
    means = [np.mean(np.multiply(differences, signs)) for signs in product((1, -1), repeat=len(differences))]
    return float(np.mean(np.abs(means) >= abs(np.mean(differences)) - 1e-12))


@settings(max_examples=40, deadline=None)
@given(DIFFERENCES)
def test_every_way_to_flip_is_counted(differences):
    assert sign_flip_test(differences) == pytest.approx(by_hand(differences))


@settings(max_examples=25, deadline=None)
@given(DIFFERENCES)
def test_the_question_may_be_put_the_other_way_round(differences):
    assert sign_flip_test(differences) == pytest.approx(sign_flip_test(np.negative(differences)))
    assert sign_flip_test(differences) >= smallest_p(differences) - 1e-12
    assert sign_flip_test(differences, "greater") >= smallest_p(differences, "greater") - 1e-12


@pytest.mark.parametrize("n", [2, 5, 8])
def test_all_patients_better_reach_the_smallest_p_there_is(n):
    differences = np.linspace(0.1, 0.2, n)
    assert sign_flip_test(differences) == smallest_p(differences) == 2 / 2**n
    assert sign_flip_test(differences, "greater") == smallest_p(differences, "greater") == 1 / 2**n
    assert sign_flip_test(-differences, "greater") == 1
    assert sign_flip_test(differences) == wilcoxon(differences).pvalue  # the extreme is the same in both


def test_patients_on_whom_both_score_alike_say_nothing():
    differences = [0.1, 0.2, 0.3, 0, 0, 0, 0, 0]
    assert sign_flip_test(differences) == smallest_p(differences) == 2 / 2**3
    assert sign_flip_test(np.zeros(8)) == smallest_p(np.zeros(8)) == 1


def test_many_patients_are_flipped_at_random_and_agree_with_the_t_test():
    differences = np.random.default_rng(0).normal(0.02, 0.06, 40)
    p = sign_flip_test(differences)
    assert p == pytest.approx(ttest_1samp(differences, 0).pvalue, abs=0.01)
    assert p == sign_flip_test(differences)  # deterministic
    assert sign_flip_test(np.full(40, 0.1)) == smallest_p(np.full(40, 0.1)) == pytest.approx(2 / (FLIPS + 1))


def test_false_alarms_are_as_rare_as_they_should_be():
    rng = np.random.default_rng(1)
    alarms = [sign_flip_test(rng.normal(size=7)) <= 0.05 for _ in range(400)]
    assert 0.01 <= np.mean(alarms) <= 0.075  # 3 of 64 levels of p lie at or below 0.05


@pytest.mark.parametrize("differences", [[], [0.3]])
def test_fewer_than_two_patients_have_no_p(differences):
    assert np.isnan(sign_flip_test(differences)) and np.isnan(smallest_p(differences))


def test_holm_by_hand():
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])
    np.testing.assert_allclose(holm([0.5, np.nan, 0.04]), [0.5, np.nan, 0.08])
    assert holm([]).shape == (0,) and holm([0.9, 0.8]).tolist() == [1, 1]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_keeps_the_order_and_lies_between_none_and_bonferroni(p_values):
    p_values, adjusted = np.array(p_values), holm(p_values)
    assert (adjusted >= p_values).all() and (
        adjusted <= np.minimum(1, len(p_values) * p_values) + 1e-12
    ).all()
    order = np.argsort(p_values)
    assert (np.diff(adjusted[order]) >= 0).all()


def rows(structure: str = "liver", **scores: list[float]) -> pd.DataFrame:
    """A row a system and patient."""
    return pd.DataFrame(
        [
            {"structure": structure, "system": system, "patient": patient, "case": patient, "dice": dice}
            for system, values in scores.items()
            for patient, dice in enumerate(values)
        ]
    )


def test_cases_of_one_patient_are_averaged_first():
    cases = rows(a=[0.2, 0.4, 0.9], b=[0.1, 0.1, 0.1]).assign(patient=["x", "x", "y"] * 2)
    scores = patient_scores(cases)
    assert scores.loc["x", "a"] == pytest.approx(0.3) and len(scores) == 2
    assert compare_pairs(scores, [("a", "b")])["difference"][0] == pytest.approx((0.2 + 0.8) / 2)


def test_undefined_scores_are_left_out_and_counted():
    scores = patient_scores(rows(a=[0.5, np.nan, 0.7, 0.9], b=[0.4, 0.6, np.nan, 0.6]))
    found = compare_pairs(scores, [("a", "b")]).iloc[0]
    assert (found.n_patients, found.n_undefined) == (2, 2)
    assert found.difference == pytest.approx(0.2)
    nothing = compare_pairs(patient_scores(rows(a=[np.nan], b=[1.0])), [("a", "b")]).iloc[0]
    assert nothing.n_patients == 0 and np.isnan([nothing.difference, nothing.p, nothing.p_holm]).all()
    assert np.isnan(nothing.smallest_p_holm)


def test_swapping_a_pair_swaps_signs_and_nothing_else():
    rng = np.random.default_rng(2)
    scores = patient_scores(rows(a=rng.random(9), b=rng.random(9)))
    there, back = (compare_pairs(scores, [pair]).iloc[0] for pair in (("a", "b"), ("b", "a")))
    assert there.difference == -back.difference and there.p == pytest.approx(back.p)
    assert there.difference_low == pytest.approx(-back.difference_high, abs=0.02)


def test_correction_counts_the_pairs():
    scores = patient_scores(
        rows(a=[0.9] * 8, b=list(np.linspace(0.5, 0.6, 8)), c=list(np.linspace(0.1, 0.3, 8)))
    )
    found = compare_pairs(scores, [("a", "b"), ("a", "c"), ("b", "c")])
    np.testing.assert_allclose(found.p_holm, 3 * 2 / 2**8)
    np.testing.assert_allclose(found.smallest_p_holm, 3 * 2 / 2**8)


def test_two_families_answer_two_questions():
    rng = np.random.default_rng(3)
    parts = [
        rows(name, weak=rng.random(8) * 0.2 + 0.5, none=[0.1] * 8, strong=rng.random(8) * 0.1 + 0.9)
        for name in ("liver", "tumor")
    ]
    table = compare_systems(pd.concat(parts), baseline="none")
    assert tuple(table) == COLUMNS and (table.difference > 0).all()
    pairs = table[["structure", "family", "first", "second"]].agg(" ".join, axis=1).tolist()
    assert pairs[:3] == [
        "liver baseline strong none",
        "liver baseline weak none",
        "liver systems strong weak",
    ]
    assert table.alternative.tolist() == ["greater", "greater", "two-sided"] * 2
    np.testing.assert_allclose(table.p_holm, [2 / 256, 2 / 256, 2 / 256] * 2)  # 2 x 1/256, and 1 x 2/256


def test_without_a_baseline_or_a_second_system_there_is_less_to_say():
    assert set(compare_systems(rows(a=[0.1, 0.2], b=[0.2, 0.4]), "none").family) == {"systems"}
    alone = compare_systems(rows(a=[0.1, 0.2]), "none")
    assert alone.empty and tuple(alone) == COLUMNS


def test_an_unknown_system_is_refused():
    with pytest.raises(InputError, match="no scores"):
        compare_pairs(patient_scores(rows(a=[0.1, 0.2])), [("a", "nobody")])


@pytest.mark.parametrize(
    ("p_holm", "low", "high", "shown"),
    [
        (0.049, 0.01, 0.2, 1),
        (0.049, -0.2, -0.01, -1),
        (0.05, 0.01, 0.2, 0),  # p at the level is not below it
        (0.001, 0.0, 0.2, 0),  # an interval that ends at zero holds it
        (0.001, -0.2, 0.0, 0),
        (0.001, -0.1, 0.2, 0),
        (0.2, 0.01, 0.2, 0),
        (np.nan, 0.01, 0.2, 0),
        (0.001, np.nan, np.nan, 0),
    ],
)
def test_a_difference_is_shown_by_corrected_p_and_interval(p_holm, low, high, shown):
    row = {"p": 0.001, "p_holm": p_holm, "difference_low": low, "difference_high": high}
    table = pd.DataFrame([row, row])
    assert verdict(table.iloc[0]) == shown and verdict(table).tolist() == [shown, shown]
    assert verdict(table.astype(object)).tolist() == [shown, shown]
    assert verdict(next(table.itertuples())) == shown


def test_no_pairs_make_an_empty_table_of_which_nothing_is_shown():
    table = compare_pairs(patient_scores(rows(a=[0.1, 0.2])), [])
    assert tuple(table) == COLUMNS[2:] and verdict(table).empty
