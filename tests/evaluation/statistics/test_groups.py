"""Scores by groups of patients: who is in a group, what may be said of it, and what not."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import permutation_test

from livseg_lib.evaluation.statistics import DIFFERENCE_COLUMNS, bands, group_differences, group_means

PATIENTS = [f"p{number}" for number in range(9)]
FACTS = pd.DataFrame({"site": list("AAAABBBCC")}, index=PATIENTS)
SCORES = pd.DataFrame(
    {"unet": [0.9, 0.8, 0.85, 0.95, 0.5, 0.4, 0.45, 0.1, 0.2], "manet": [0.7] * 8 + [np.nan]}, index=PATIENTS
)


def test_bands_follow_their_numbers():
    found = bands(pd.Series([1.0, 2.5, 2.6, 5.0, 7.0, np.nan]), (2.5, 5), "mm")
    names = ["up to 2.5 mm", "2.5 to 5 mm", "over 5 mm"]
    assert found.tolist()[:5] == [names[0], names[0], names[1], names[1], names[2]]
    assert pd.isna(found.iloc[5]) and list(found.cat.categories) == names


def test_means_by_hand():
    table = group_means(SCORES, FACTS).set_index(["group", "system"])
    assert table.loc[("A", "unet"), "mean"] == pytest.approx(0.875)
    assert table.loc[("B", "unet"), ["n_patients", "mean"]].tolist() == pytest.approx([3, 0.45])
    assert table.loc[("A", "unet"), "low"] < 0.875 < table.loc[("A", "unet"), "high"]
    assert table.loc[("B", "manet"), ["low", "high"]].tolist() == pytest.approx([0.7, 0.7])
    assert table.loc[("C", "manet"), ["n_patients", "n_undefined", "mean"]].tolist() == [1, 1, 0.7]


def test_two_patients_have_a_mean_and_no_claim():
    means = group_means(SCORES, FACTS).query("group == 'C' and system == 'unet'").iloc[0]
    assert means["mean"] == pytest.approx(0.15) and np.isnan([means.low, means.high]).all()
    table = group_differences(SCORES.unet, FACTS)
    assert table[["first", "second"]].to_numpy().tolist() == [["A", "B"]]


def test_differences_are_those_of_an_exact_permutation():
    row = group_differences(SCORES.unet, FACTS).iloc[0]
    first, second = SCORES.unet[:4].to_numpy(), SCORES.unet[4:7].to_numpy()
    assert row.difference == pytest.approx(first.mean() - second.mean())
    assert row.difference_low < row.difference < row.difference_high
    by_means = permutation_test((first, second), lambda a, b: a.mean() - b.mean(), n_resamples=np.inf)
    assert row.p == pytest.approx(by_means.pvalue) == pytest.approx(2 / 35)
    assert row.p_holm == row.p == pytest.approx(row.smallest_p_holm), "the most extreme of 35 ways"


def test_more_questions_cost_more():
    facts = FACTS.assign(phase=["x", "y"] * 4 + ["x"])
    table = group_differences(SCORES.unet, facts)
    assert table.factor.tolist() == ["site", "phase"]
    assert table.p_holm.iloc[0] == pytest.approx(2 * table.p.iloc[0])
    assert (table.smallest_p_holm <= table.p_holm + 1e-12).all()


def test_unknown_patients_belong_nowhere_and_groups_keep_their_order():
    sizes = bands(pd.Series([40.0, 5.0, np.nan], PATIENTS[:3]), (10, 20), "mm")
    table = group_means(SCORES, pd.DataFrame({"size": sizes}))
    assert table.group.unique().tolist() == ["up to 10 mm", "over 20 mm"]
    assert table.n_patients.max() == 1
    strangers = pd.DataFrame({"site": ["A"]}, index=["nobody"])
    assert group_means(SCORES, strangers).empty and group_differences(SCORES.unet, strangers).empty


def test_nothing_known_gives_empty_tables_with_columns():
    facts = pd.DataFrame(index=PATIENTS)
    assert "mean" in group_means(SCORES, facts)
    assert list(group_differences(SCORES.unet, facts)) == list(DIFFERENCE_COLUMNS)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_neither_names_nor_order_matter(seed):
    rng = np.random.default_rng(seed)
    scores = pd.Series(rng.random(9), PATIENTS)
    table = group_differences(scores, FACTS)
    swapped = group_differences(scores, FACTS.replace({"A": "B", "B": "A"}))
    assert swapped.difference.iloc[0] == pytest.approx(-table.difference.iloc[0])
    assert swapped.p.iloc[0] == pytest.approx(table.p.iloc[0])
    shuffled = FACTS.sample(frac=1, random_state=int(rng.integers(1000)))
    pd.testing.assert_frame_equal(group_differences(scores, shuffled), table)
    shifted = group_differences(scores + 3, FACTS)
    np.testing.assert_allclose(shifted.difference, table.difference)
    means = group_means(scores.to_frame("unet"), FACTS)
    assert (means.n_patients * means["mean"]).sum() == pytest.approx(scores.sum())


def test_false_alarms_are_as_rare_as_they_should_be():
    """Groups drawn alike differ with p < 0.05 in about one of twenty tries."""
    rng = np.random.default_rng(0)
    facts = pd.DataFrame({"site": list("AAAAABBBBB")}, index=range(10))
    tries = [group_differences(pd.Series(rng.random(10)), facts).p.iloc[0] for _ in range(60)]
    assert np.mean(np.array(tries) < 0.05) < 0.13


def test_patients_are_matched_whatever_type_their_names_have():
    scores = pd.DataFrame({"net": [0.1, 0.2, 0.3, 0.7]}, index=[1, 2, 3, 4])
    facts = pd.DataFrame({"site": ["A", "A", "A", "B"]}, index=["1", "2", "3", "4"])
    assert group_means(scores, facts).set_index("group").n_patients.to_dict() == {"A": 3, "B": 1}
