"""Intervals, paired tests and groups: against scipy, by hand, and whatever order patients come in."""

from itertools import product

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import permutation_test, ttest_1samp

from livseg_lib.errors import InputError
from livseg_lib.evaluation.statistics import (
    DIFFERENCE_COLUMNS,
    FLIPS,
    PAIR_COLUMNS,
    bands,
    bootstrap_interval,
    compare,
    compare_pairs,
    compare_systems,
    group_differences,
    group_means,
    holm,
    mean_with_interval,
    over_seeds,
    patient_scores,
    sign_flip_test,
    smallest_p,
    summarize,
    verdict,
    verdict_in_words,
)


@pytest.mark.parametrize("values", [[], [0.9], [0.9, np.nan], [np.nan, np.nan, np.nan]])
def test_fewer_than_two_patients_have_neither_interval_nor_p(values):
    assert np.isnan(bootstrap_interval(values)).all()
    assert np.isnan(sign_flip_test(values[:1])) and np.isnan(smallest_p(values[:1]))
    assert np.isnan(sign_flip_test([*values, np.nan]))


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
    happened = np.array([True] * 10 + [False] * 10)
    two = ["a"] * 10 + ["b"] * 10  # all of one patient, none of the other: as unsure as can be
    found = mean_with_interval("share", happened, two, pooled=True)
    assert found == {"share": 0.5, "share_low": 0, "share_high": 1}
    alike = list("abcdefghij") * 2  # one of each: whoever is drawn, it is half
    assert list(mean_with_interval("share", happened, alike, pooled=True).values()) == [0.5, 0.5, 0.5]
    of_none = mean_with_interval("share", happened[:0], [], pooled=True)
    assert np.isnan(list(of_none.values())).all()
    one = mean_with_interval("share", happened[:3], two[:3], pooled=True)
    assert one["share"] == 1 and np.isnan([one["share_low"], one["share_high"]]).all()


THINGS = pd.DataFrame({"system": list("bbbbbaa"), "patient": [1, 1, 1, 2, 3, 1, 2]})
THINGS["dice"] = [0.0, 0.3, 0.6, 0.9, np.nan, np.nan, 0.5]
THINGS["found"] = [True, True, False, True, False, True, True]


def test_a_summary_counts_patients_and_what_is_undefined():
    table = summarize(THINGS, "system", "dice", seed=3)
    assert list(table) == ["system", "dice", "dice_low", "dice_high", "n_patients", "n_undefined"]
    assert table.system.tolist() == ["b", "a"]
    assert table[["n_patients", "n_undefined"]].to_numpy().tolist() == [[2, 1], [1, 1]]
    assert table.dice.tolist() == pytest.approx([(0.3 + 0.9) / 2, 0.5])
    assert tuple(table.iloc[0, 2:4]) == pytest.approx(bootstrap_interval([0.3, 0.9], seed=3))
    assert table.iloc[1, 2:4].isna().all()


def test_a_pooled_summary_counts_every_thing_and_draws_patients():
    table = summarize(THINGS, ["system"], ["found", "dice"], pooled=True)
    assert table.found.tolist() == pytest.approx([3 / 5, 1]) and table.dice[0] == pytest.approx(1.8 / 4)
    assert table.n_patients.tolist() == [2, 1] and table.n_undefined.tolist() == [1, 1]
    counts = [[2, 3], [1, 1], [0, 1]]
    by_hand = bootstrap_interval(counts, lambda drawn, axis: np.divide(*drawn.sum(axis=axis).T))
    assert (table.found_low[0], table.found_high[0]) == pytest.approx(by_hand)


def test_too_few_units_have_no_interval_and_units_need_be_no_patients():
    table = summarize(THINGS.assign(slice=range(7)), "system", "dice", unit="slice", fewest=5)
    assert table.n_slices.tolist() == [4, 1] and table.dice[0] == pytest.approx(0.45)
    assert np.isnan(table.dice_low[0])
    four = summarize(THINGS.assign(slice=range(7)), "system", "dice", "slice", fewest=4)
    assert np.isfinite(four.dice_low[0])
    empty, full = (summarize(rows, "system", "dice") for rows in (THINGS[:0], THINGS))
    assert list(empty) == list(full)


DIFFERENCES = st.lists(st.floats(-1, 1).map(lambda value: round(value, 2)), min_size=2, max_size=7)


def by_hand(differences: list[float]) -> float:
    """Two-sided p by counting every way to flip."""
    means = [np.mean(np.multiply(differences, signs)) for signs in product((1, -1), repeat=len(differences))]
    return float(np.mean(np.abs(means) >= abs(np.mean(differences)) - 1e-12))


@settings(max_examples=40, deadline=None)
@given(DIFFERENCES)
def test_every_way_to_flip_is_counted(differences):
    p = sign_flip_test(differences)
    assert p == pytest.approx(by_hand(differences)) == pytest.approx(sign_flip_test(np.negative(differences)))
    assert p >= smallest_p(differences) - 1e-12
    assert sign_flip_test(differences, "greater") >= smallest_p(differences, "greater") - 1e-12


@settings(max_examples=15, deadline=None)
@given(st.lists(st.sampled_from([-1.0, -0.5, 0.0, 0.5, 1.0]), min_size=14, max_size=18), st.randoms())
def test_the_other_way_round_all_is_the_other_way_round(first, random):
    first[0] = 0.3  # the sum is not 0
    scores = pd.DataFrame({"a": first, "b": 0.0})
    backwards = pd.DataFrame({"a": random.sample(first, len(first)), "b": 0.0})
    one, other = compare_pairs(scores, [("a", "b")]).iloc[0], compare_pairs(backwards, [("b", "a")]).iloc[0]
    found = (other.difference, other.difference_low, other.difference_high, other.p)
    assert found == pytest.approx((-one.difference, -one.difference_high, -one.difference_low, one.p))


@pytest.mark.parametrize("n", [2, 5, 8])
@pytest.mark.parametrize("n_equal", [3, 20])
def test_all_patients_better_reach_the_smallest_p_there_is(n, n_equal):
    differences = np.append(np.linspace(0.1, 0.2, n), [0.0] * n_equal)  # equal scores say nothing
    assert sign_flip_test(differences) == smallest_p(differences) == 2 / 2**n
    assert sign_flip_test(differences, "greater") == smallest_p(differences, "greater") == 1 / 2**n
    assert sign_flip_test(-differences, "greater") == sign_flip_test(np.zeros(n)) == smallest_p([0, 0]) == 1


def test_many_patients_are_flipped_at_random_and_agree_with_the_t_test():
    differences = np.random.default_rng(0).normal(0.02, 0.06, 40)
    by_t_test = ttest_1samp(differences, 0).pvalue
    assert sign_flip_test(differences) == pytest.approx(by_t_test, abs=0.01)
    assert sign_flip_test(np.full(40, 0.1)) == smallest_p(np.full(40, 0.1)) == pytest.approx(2 / (FLIPS + 1))


def test_holm_by_hand():
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])
    np.testing.assert_allclose(holm([0.5, np.nan, 0.04]), [0.5, np.nan, 0.08])
    assert holm([]).shape == (0,) and holm([0.9, 0.8]).tolist() == [1, 1]


def rows(structure: str = "liver", **scores: list[float]) -> pd.DataFrame:
    """A row a system and patient."""
    table = pd.DataFrame(scores).rename_axis("patient").reset_index()
    table = table.melt("patient", var_name="system", value_name="dice")
    return table.assign(structure=structure, case=table.patient)


def test_cases_of_one_patient_are_averaged_first():
    cases = rows(a=[0.2, 0.4, 0.9], b=[0.1, 0.1, 0.1]).assign(patient=["x", "x", "y"] * 2)
    scores = patient_scores(cases)
    assert scores.loc["x", "a"] == pytest.approx(0.3) and len(scores) == 2
    others = pd.CategoricalDtype(["x", "y", "a patient of another table"])
    assert len(patient_scores(cases.astype({"patient": others}))) == 2
    assert compare_pairs(scores, [("a", "b")])["difference"][0] == pytest.approx((0.2 + 0.8) / 2)


def test_undefined_scores_are_left_out_and_counted():
    scores = patient_scores(rows(a=[0.5, np.nan, 0.7, 0.9], b=[0.4, 0.6, np.nan, 0.6]))
    found = compare_pairs(scores, [("a", "b")]).iloc[0]
    assert (found.n_patients, found.n_undefined) == (2, 2)
    assert found.difference == pytest.approx(0.2)
    lone = patient_scores(rows(a=[np.nan], b=[1.0]))
    nothing = compare_pairs(lone, [("a", "b")]).iloc[0]
    assert nothing.n_patients == 0 and np.isnan([nothing.difference, nothing.p, nothing.p_holm]).all()
    assert np.isnan(nothing.smallest_p_holm)
    assert tuple(compare_pairs(scores, [])) == PAIR_COLUMNS[2:] and verdict(compare_pairs(scores, [])).empty
    with pytest.raises(InputError, match="no scores"):
        compare_pairs(scores, [("a", "nobody")])


def test_a_comparison_asks_each_group_by_itself_and_may_name_who_is_compared_with():
    parts = [rows(name, a=[0.9] * 8, b=[0.5, 0.6] * 4, c=[0.1, 0.3] * 4) for name in ("tumor", "liver")]
    cases = pd.concat(parts).rename(columns={"system": "loss", "dice": "iou"})
    table = compare(cases, "b", "iou", ["structure"], between="loss")
    assert tuple(table) == ("structure", *PAIR_COLUMNS[2:])
    asked = table[["structure", "first", "second"]].agg(" ".join, axis=1).tolist()
    assert asked == [f"{structure} {name} b" for structure in ("tumor", "liver") for name in "ac"]
    np.testing.assert_allclose(table.p_holm, 2 * 2 / 2**8)
    scores = patient_scores(parts[0])
    pairs = [("a", "b"), ("c", "a")]
    both = compare(parts[0], pairs, seed=1), compare_pairs(scores, pairs, seed=1)
    pd.testing.assert_frame_equal(*both)
    assert compare(parts[0], [], by=["structure"]).empty


def test_two_families_answer_two_questions():
    rng = np.random.default_rng(3)
    weak, strong = rng.random(8) * 0.2 + 0.5, rng.random(8) * 0.1 + 0.9
    parts = [rows(name, weak=weak, none=[0.1] * 8, strong=strong) for name in ("liver", "tumor")]
    table = compare_systems(pd.concat(parts), baseline="none")
    assert tuple(table) == PAIR_COLUMNS and (table.difference > 0).all()
    pairs = table[["structure", "family", "first", "second"]].agg(" ".join, axis=1).tolist()
    expected = ["baseline strong none", "baseline weak none", "systems strong weak"]
    assert pairs[:3] == [f"liver {each}" for each in expected]
    assert table.alternative.tolist() == ["greater", "greater", "two-sided"] * 2
    np.testing.assert_allclose(table.p_holm, [2 / 256, 2 / 256, 2 / 256] * 2)  # 2 x 1/256, and 1 x 2/256
    assert set(compare_systems(rows(a=[0.1, 0.2], b=[0.2, 0.4]), "none").family) == {"systems"}
    alone = compare_systems(rows(a=[0.1, 0.2]), "none")
    assert alone.empty and tuple(alone) == PAIR_COLUMNS


NOT_SHOWN = [(0.05, 0.01, 0.2), (0.2, 0.01, 0.2), (np.nan, 0.01, 0.2)]  # p at the level is not below it
NOT_SHOWN += [(0.001, 0.0, 0.2), (0.001, -0.2, 0.0)]  # an interval that ends at zero holds it
NOT_SHOWN += [(0.001, -0.1, 0.2), (0.001, np.nan, np.nan)]
SHOWN = [(0.049, 0.01, 0.2, 1), (0.049, -0.2, -0.01, -1), *((*each, 0) for each in NOT_SHOWN)]


@pytest.mark.parametrize(("p_holm", "low", "high", "shown"), SHOWN)
def test_a_difference_is_shown_by_corrected_p_and_interval(p_holm, low, high, shown):
    row = {"p": 0.001, "p_holm": p_holm, "difference_low": low, "difference_high": high}
    table = pd.DataFrame([row, row])
    assert verdict(table.iloc[0]) == shown and verdict(table).tolist() == [shown, shown]
    assert verdict(table.astype(object)).tolist() == [shown, shown]
    assert verdict(next(table.itertuples())) == shown


def test_a_verdict_in_words_names_what_is_shown_and_when_nothing_could_have_been():
    scores = patient_scores(rows(a=[0.9] * 8, b=[0.5, 0.6] * 4, c=[0.55, 0.56] * 4))
    table = compare_pairs(scores, [("a", "b"), ("b", "c"), ("c", "a")])
    assert verdict(table).tolist() == [1, 0, -1]
    words = verdict_in_words(table)
    assert words.startswith("a minus b +0.35 (+0.") and "; c minus a -0.34 (-0." in words
    assert "p 0.023)" in words and "b minus c" not in words
    assert verdict_in_words(table[1:2]) == "none of 1 differences is shown"
    few = compare_pairs(scores[:3], [("a", "b")])
    assert verdict_in_words(few).endswith("is shown (with so few patients none could have been)")


PATIENTS = [f"p{number}" for number in range(9)]
FACTS = pd.DataFrame({"site": list("AAAABBBCC")}, index=PATIENTS)
SCORES = pd.DataFrame({"unet": [0.9, 0.8, 0.85, 0.95, 0.5, 0.4, 0.45, 0.1, 0.2]}, index=PATIENTS)
SCORES["manet"] = [0.7] * 8 + [np.nan]


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
    table = group_differences(SCORES.unet, FACTS.assign(phase=["x", "y"] * 4 + ["x"]))
    assert table.factor.tolist() == ["site", "phase"]
    assert table.p_holm.iloc[0] == pytest.approx(2 * table.p.iloc[0])
    assert table.smallest_p_holm.tolist() == pytest.approx([2 * 2 / 126] * 2)


def test_unknown_patients_belong_nowhere_and_groups_keep_their_order():
    sizes = bands(pd.Series([40.0, 5.0, np.nan], PATIENTS[:3]), (10, 20), "mm")
    table = group_means(SCORES, pd.DataFrame({"size": sizes}))
    assert table.group.unique().tolist() == ["up to 10 mm", "over 20 mm"]
    assert table.n_patients.max() == 1
    strangers = pd.DataFrame({"site": ["A"]}, index=["nobody"])
    assert "mean" in group_means(SCORES, strangers) and group_means(SCORES, strangers).empty
    assert list(group_differences(SCORES.unet, strangers)) == list(DIFFERENCE_COLUMNS)


N = 16  # patients: more than FLIPS has ways for, so that p values are drawn as well
NAMES = {
    "numpy": list(np.arange(1, N + 1)),
    "categories": pd.Categorical([str(number) for number in range(1, N + 1)]),
    "padded text": [f"{number:03d}" for number in range(1, N + 1)],
}


def chances(names: list, order: np.ndarray) -> np.ndarray:
    """Intervals and p values of tables of the same numbers, of patients so named, in this order."""
    liver, tumor = np.random.default_rng(5).random((2, N))
    table = pd.DataFrame({"patient": names, "liver": liver, "tumor": tumor}).iloc[order]
    table = table.melt("patient", var_name="system", value_name="dice")
    scores = patient_scores(table)
    facts = pd.DataFrame({"site": list("AB" * (N // 2))}, index=[str(name) for name in names])
    tables = [compare_systems(table.assign(structure="liver"), "nobody"), group_means(scores, facts)]
    tables.append(group_differences(scores.tumor, facts))
    wanted = [each.filter(regex=r"(^|_)(low|high|p|p_holm)$").to_numpy(float).ravel() for each in tables]
    return np.concatenate(wanted)


@pytest.mark.parametrize("kind", NAMES)
def test_order_and_type_of_names_change_no_interval_and_no_p(kind):
    asked = chances(list(range(1, N + 1)), np.arange(N))
    assert np.isfinite(asked).all()
    order = np.random.default_rng(len(kind)).permutation(N)
    np.testing.assert_allclose(chances(NAMES[kind], order), asked, rtol=1e-12)


def test_eight_values_in_either_order_by_hand():
    values = [0.1, 0.9, 0.3, 0.7, 0.5, 0.2, 0.8, 0.6]
    rng = np.random.default_rng(0)
    drawn = np.sort(values)[rng.integers(8, size=(2000, 8))].mean(axis=1)
    expected = tuple(np.quantile(drawn, [0.025, 0.975]))
    assert bootstrap_interval(values) == bootstrap_interval(values[::-1]) == pytest.approx(expected)


def test_an_interval_over_seeds_and_patients_is_as_wide_as_what_varies():
    patients = np.linspace(0.2, 0.8, 12)
    alike = over_seeds("dice", np.tile(patients, (3, 1)))
    low, high = bootstrap_interval(patients)
    assert alike["dice"] == pytest.approx(0.5)  # seeds that agree leave the interval over patients
    assert (alike["dice_low"], alike["dice_high"]) == pytest.approx((low, high), abs=0.03)
    assert alike["dice_of_worst_seed"] == alike["dice_of_best_seed"] == pytest.approx(0.5)
    shifted = over_seeds("dice", patients + np.array([[-0.2], [0.0], [0.2]]))
    assert shifted["dice_low"] < alike["dice_low"] - 0.05 and shifted["dice_high"] > alike["dice_high"] + 0.05
    assert (shifted["dice_of_worst_seed"], shifted["dice_of_best_seed"]) == pytest.approx((0.3, 0.7))
    of_seeds = over_seeds("dice", np.array([[0.1] * 5, [0.4] * 5]))  # of two seeds a quarter of draws is one
    assert (of_seeds["dice_low"], of_seeds["dice"], of_seeds["dice_high"]) == pytest.approx((0.1, 0.25, 0.4))


def test_neither_the_order_of_seeds_nor_of_patients_moves_an_interval():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(4, 8))
    first = over_seeds("dice", values)
    other_way = over_seeds("dice", -values)
    assert (other_way["dice_low"], other_way["dice_high"]) == pytest.approx(
        (-first["dice_high"], -first["dice_low"])
    )
    for _ in range(5):
        found = over_seeds("dice", values[rng.permutation(4)][:, rng.permutation(8)])
        assert found == pytest.approx(first, abs=1e-12)


def test_a_patient_without_a_score_by_one_seed_counts_for_none():
    found = over_seeds("dice", [[0.2, np.nan, 0.4], [0.4, 1.0, 0.6]])
    assert found["dice"] == pytest.approx(0.4) and found["dice_of_worst_seed"] == pytest.approx(0.3)
    for too_few in ([[0.2, 0.4]], [[0.2], [0.4]], [[np.nan], [0.4]]):
        found = over_seeds("dice", too_few)
        assert np.isnan(found["dice_low"]) and np.isnan(found["dice_high"])
