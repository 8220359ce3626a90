"""Two scans of a patient: who is whom, what grew, the words of RECIST; and whether two measurements agree."""

from functools import partial

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import zoom
from scipy.stats import ttest_1samp
from solids import labelled

from livseg_lib.errors import InputError
from livseg_lib.evaluation import follow_up
from livseg_lib.evaluation.follow_up import TimePoint

SPACING = (1.0, 1.0, 1.0)


def scan(*columns: tuple[int, int]) -> TimePoint:
    """A liver with bars in it, one pixel high and deep: (first column, length), each in a row of its own."""
    bars = (np.s_[2, 10 + 12 * n, first : first + length] for n, (first, length) in enumerate(columns))
    return TimePoint(labelled((5, 60, 70), *bars, liver=np.s_[1:4, 5:55, 5:65]), SPACING)


def test_bars_by_hand():
    found = follow_up.compare_scans(scan((20, 20), (20, 12)), scan((20, 25), (20, 6)), days=100)
    assert list(found.changes) == list(follow_up.CHANGE_COLUMNS)
    first, second = found.changes.itertuples()
    assert (first.kind, first.tumors_before, first.tumors_after) == ("matched", "1", "1")
    assert first.growth_ml == pytest.approx(0.005) and first.growth_percent == pytest.approx(25)
    assert first.diameter_before_mm == pytest.approx(19.5) and first.diameter_change_mm == pytest.approx(5)
    assert first.doubling_days == pytest.approx(100 / np.log2(1.25))
    assert second.diameter_change_percent == pytest.approx(100 * (5.5 / 11.5 - 1))
    assert np.isnan(second.doubling_days)
    assert found.response.targets == (1, 2)
    sums = found.response.sum_before_mm, found.response.sum_after_mm
    assert sums == pytest.approx((31, 30))
    assert found.response.category == "stable disease"


def test_a_new_and_a_vanished_tumour():
    found = follow_up.compare_scans(scan((20, 20)), scan((35, 5), (20, 20)))
    assert found.response.category == "progressive disease" and found.response.n_new == 1
    gone = follow_up.compare_scans(scan((20, 20)), scan())
    assert gone.response.category == "complete response"
    row = gone.changes.iloc[0]
    assert (row.volume_after_ml, row.diameter_after_mm, row.growth_percent) == (0, 0, -100)
    came = follow_up.compare_scans(scan(), scan((20, 20)))
    assert came.changes.iloc[0].kind == "new" and np.isnan(came.changes.iloc[0].growth_percent)
    assert came.response.category == "progressive disease" and np.isnan(came.response.change)


def test_parts_are_added_and_what_merged_counts_once():
    whole, parts = scan((20, 30)), scan((20, 30))
    parts.labels[2, 10, 34:36] = 1  # 14 and 14 pixels
    split = follow_up.compare_scans(whole, parts)
    assert list(split.changes.kind) == ["split"]
    assert (split.response.sum_before_mm, split.response.sum_after_mm) == pytest.approx((29.5, 27))
    merged = follow_up.compare_scans(parts, whole)
    assert list(merged.changes.kind) == ["merged"] and merged.response.targets == (1, 2)
    assert (merged.response.sum_before_mm, merged.response.sum_after_mm) == pytest.approx((27, 29.5))


def test_without_tumours_and_with_small_ones_only():
    assert follow_up.compare_scans(scan(), scan()).response.category == "no tumour"
    same = follow_up.compare_scans(scan((20, 20)), scan((20, 20)))
    assert (same.changes.kind == "matched").all() and (same.changes.growth_ml == 0).all()
    assert same.response.category == "stable disease"
    small = follow_up.compare_scans(scan((20, 5)), scan((20, 9)))
    assert small.response.category == "neither response nor progression" and np.isnan(small.response.change)


EDGES = {
    "stable disease": [(100, 70.1, 0, 2), (100, 119.9, 0, 2), (20, 24.9, 0, 1)],  # the last by less than 5 mm
    "progressive disease": [(100, 120, 0, 2), (11.4, 16.4, 0, 2), (20, 25, 0, 1), (100, 50, 1, 2)],
    "partial response": [(100, 70, 0, 2), (11, 7.7, 0, 2), (100, 0, 0, 1)],  # the last: targets are gone
    "complete response": [(100, 0, 0, 0)],
}
"""Sums of diameters before and after, new tumours, all tumours."""


@pytest.mark.parametrize("category", EDGES)
def test_the_edges_of_the_categories(category):
    found = [follow_up.categorize((1, 2), *numbers).category for numbers in EDGES[category]]
    assert found == [category] * len(found)


def test_targets_are_the_two_longest_that_can_be_measured():
    tumors = pd.DataFrame({"tumor": [1, 2, 3, 4], "longest_diameter_mm": [9.9, 12.0, 40.0, 15.0]})
    assert follow_up.choose_targets(tumors, 2.5) == follow_up.choose_targets(tumors, 5.0) == (3, 4)
    assert follow_up.choose_targets(tumors, 7.0) == (3, 4) and follow_up.choose_targets(tumors, 8.0) == (3,)
    assert follow_up.choose_targets(tumors.iloc[:1], 2.5) == ()


def test_doubling_time():
    assert follow_up.doubling_days(1.0, 2.0, 90) == pytest.approx(90)
    assert follow_up.doubling_days(1.0, 8.0, 90) == pytest.approx(30)
    for volumes in ((2.0, 1.0), (0.0, 1.0), (1.0, 1.0)):
        assert np.isnan(follow_up.doubling_days(*volumes, 90))
    assert np.isnan(follow_up.doubling_days(1.0, 2.0, np.nan))
    with pytest.raises(InputError, match="days"):
        follow_up.compare_scans(scan(), scan(), days=0)


THICK_SPACING = (2.0, 1.0, 1.0)


liver = partial(labelled, (30, 50, 60), liver=np.s_[5:25, 10:40, 10:50])  # with boxes of tumour in it


def box(slice_, row, column, *sides) -> tuple[slice, slice, slice]:
    return tuple(slice(start, start + side) for start, side in zip((slice_, row, column), sides, strict=True))


SMALL, LARGE, OTHER = box(7, 12, 12, 2, 3, 3), box(10, 20, 20, 6, 8, 8), box(18, 30, 40, 4, 5, 5)
LEFT_HALF, RIGHT_HALF = box(10, 20, 20, 6, 8, 3), box(10, 20, 25, 6, 8, 3)


def match(before, after, spacing=THICK_SPACING) -> follow_up.Matching:
    return follow_up.match_tumors(TimePoint(before, THICK_SPACING), TimePoint(after, spacing))


def kinds(before, after) -> list[tuple[str, tuple, tuple]]:
    return [(group.kind, group.before, group.after) for group in match(before, after).groups]


def test_each_kind_of_change():
    assert kinds(liver(SMALL, LARGE), liver(LARGE)) == [("vanished", (1,), ()), ("matched", (2,), (1,))]
    assert kinds(liver(LARGE), liver(SMALL, LARGE)) == [("matched", (1,), (2,)), ("new", (), (1,))]
    assert kinds(liver(LEFT_HALF, RIGHT_HALF), liver(LARGE)) == [("merged", (1, 2), (1,))]
    assert kinds(liver(LARGE), liver(LEFT_HALF, RIGHT_HALF)) == [("split", (1,), (1, 2))]
    stripes = [box(10, row, 20, 6, 3, 8) for row in (20, 25)]
    assert kinds(liver(LEFT_HALF, RIGHT_HALF), liver(*stripes)) == [("regrouped", (1, 2), (1, 2))]
    assert kinds(liver(), liver()) == []


def test_tumours_beside_themselves_are_paired_with_the_nearest(monkeypatch):
    before = liver(box(10, 20, 20, 1, 2, 2), box(10, 20, 26, 1, 2, 2))
    after = liver(box(10, 23, 21, 1, 2, 2), box(10, 23, 27, 1, 2, 2))
    assert kinds(before, after) == [("matched", (1,), (1,)), ("matched", (2,), (2,))]
    monkeypatch.setattr(follow_up, "NEARBY_MM", 3.0)
    assert [kind for kind, *_ in kinds(before, after)] == ["vanished"] * 2 + ["new"] * 2
    straight = liver(box(10, 23, 20, 1, 2, 2), box(10, 23, 26, 1, 2, 2))
    assert [kind for kind, *_ in kinds(before, straight)] == ["matched"] * 2  # 3 mm is near


def test_a_tumour_too_far_from_all_parts_no_good_pair():
    before = liver(box(10, 20, 20, 1, 2, 2), box(10, 20, 28, 1, 2, 2))
    after = liver(box(10, 23, 26, 1, 2, 2), box(10, 23, 45, 1, 2, 2))
    # All in all 6.7 + 17.3 mm would be less than 25.2 + 3.6, but only the last is a good pair.
    assert kinds(before, after) == [("vanished", (1,), ()), ("matched", (2,), (1,)), ("new", (), (2,))]


@settings(max_examples=25, deadline=None)
@given(st.tuples(st.integers(-5, 5), st.integers(-10, 10), st.integers(-10, 10)))
def test_where_the_patient_lies_does_not_matter(shift):
    before, after = liver(SMALL, LEFT_HALF, RIGHT_HALF), liver(LARGE, OTHER)
    found = match(before, np.roll(after, shift, axis=(0, 1, 2)))
    assert found.groups == match(before, after).groups
    np.testing.assert_allclose(found.shift_mm, np.multiply(shift, THICK_SPACING), atol=1e-9)
    assert found.liver_dice == 1


def test_scans_of_other_spacing_and_size_are_laid_over_each_other():
    before, after = liver(SMALL, LARGE), liver(SMALL, LARGE, OTHER)
    finer = np.pad(after.repeat(2, axis=0).repeat(3, axis=2), ((0, 4), (3, 0), (0, 2)))
    found = match(before, finer, (1.0, 1.0, 1 / 3))
    assert found.groups == match(before, after).groups
    assert found.liver_dice == 1


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 18), st.integers(1, 5))
def test_a_cut_or_grown_liver_fits_as_badly_whichever_scan_comes_first(cut, columns):
    whole, part = liver(), liver()[5 : 25 - cut]
    wider = whole.copy()
    wider[5:25, 10:40, 50 : 50 + columns] = 1
    for other, share in ((part, (20 - cut) / 20), (wider, 40 / (40 + columns))):
        found = match(whole, other), match(other, whole)
        assert [each.liver_dice for each in found] == pytest.approx([2 * share / (1 + share)] * 2)


def test_without_a_liver_or_spacing_nothing_can_be_laid_over():
    with pytest.raises(InputError, match="later labels: show no liver"):
        match(liver(), np.zeros((3, 3, 3), np.uint8))
    specks = labelled((20, 60, 60), np.s_[::2, ::2, ::2])
    with pytest.raises(InputError, match="9,000 separate tumours"):
        match(specks, specks)
    with pytest.raises(InputError, match="spacing"):
        match(liver(), liver(), (np.nan,) * 3)


def test_a_part_of_the_smaller_tumour_counts_whichever_scan_it_is_in(monkeypatch):
    monkeypatch.setattr(follow_up, "NEARBY_MM", 0.0)
    small, large = box(10, 20, 20, 1, 2, 5), box(10, 21, 20, 4, 4, 10)  # 10 and 160 voxels, 5 in common
    for before, after in ((small, large), (large, small)):
        monkeypatch.setattr(follow_up, "SHARED", 0.5)
        assert kinds(liver(before), liver(after)) == [("matched", (1,), (1,))]  # 5 of 10
        monkeypatch.setattr(follow_up, "SHARED", 0.51)
        assert [kind for kind, *_ in kinds(liver(before), liver(after))] == ["vanished", "new"]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_which_scan_comes_first_changes_no_match(seed):
    """Also of tumours that the other scan cuts through; all links are those of shared voxels."""
    rng = np.random.default_rng(seed)
    scans = []
    for _ in range(2):
        labels = np.pad(np.ones(rng.integers(6, 12, 3), np.uint8), rng.integers(0, 3, (3, 2)))
        labels[(labels > 0) & (zoom(rng.random((4, 4, 4)), np.divide(labels.shape, 4), order=1) > 0.65)] = 2
        scans.append(labels)
    there, back = match(*scans).groups, match(*scans[::-1]).groups
    assert {(group.before, group.after) for group in there} == {(group.after, group.before) for group in back}


WRIGHT = [494, 395, 516, 434, 476, 557, 413, 442, 650, 433, 417, 656, 267, 478, 178, 423, 427]
MINI_WRIGHT = [512, 430, 520, 428, 500, 600, 364, 380, 658, 445, 432, 626, 260, 477, 259, 350, 451]
"""Peak flow (l/min) of 17 people, the first measurement with either meter: Bland & Altman 1986, table 1."""


def agreement(measured, reference) -> pd.Series:
    return pd.Series(follow_up.agreement_row(measured, reference))


def test_the_flow_meters_of_1986():
    found = agreement(WRIGHT, MINI_WRIGHT)
    # As the paper prints them: mean -2.1, standard deviation 38.8, interval of the bias -22.0 to 17.8.
    assert found.bias == pytest.approx(-2.1, abs=0.05) and found.sd == pytest.approx(38.8, abs=0.05)
    assert (found.bias_low, found.bias_high) == pytest.approx((-22.0, 17.8), abs=0.15)
    # It rounds 1.96 to 2 for the limits, -79.7 and 75.5, and takes 3 / n for the variance of a limit, so
    # that its intervals, -114.3 to -45.1 and 40.9 to 110.1, are a little wider.
    assert found.lower_limit == pytest.approx(-79.7, abs=0.05 * 38.8)
    assert found.upper_limit == pytest.approx(75.5, abs=0.05 * 38.8)
    assert (found.lower_limit_low, found.lower_limit_high) == pytest.approx((-114.3, -45.1), abs=4)
    assert (found.upper_limit_low, found.upper_limit_high) == pytest.approx((40.9, 110.1), abs=4)


def test_three_differences_by_hand():
    found = agreement([1.0, 3.0, 8.0, np.nan], [1.0, 2.0, 6.0, 5.0])  # 0, 1, 2
    assert (found.n, found.n_undefined, found.bias, found.sd) == (3, 1, 1.0, 1.0)
    nobody, one = agreement([], []), agreement([3.0], [1.0])
    assert nobody.n == 0 and np.isnan([nobody.bias, nobody.concordance]).all()
    assert one.bias == 2 and one.drop(["n", "n_undefined", "bias"]).isna().all()
    assert found.upper_limit == pytest.approx(2.95996, abs=1e-5)
    by_t_test = tuple(ttest_1samp([0, 1, 2], 0).confidence_interval())
    assert (found.bias_low, found.bias_high) == pytest.approx(by_t_test)
    reach = 4.302653 * np.sqrt(1 / 3 + 1.959964**2 / 4)
    ends = 2.959964 - reach, 2.959964 + reach
    assert (found.upper_limit_low, found.upper_limit_high) == pytest.approx(ends, abs=1e-4)


def test_identities_of_the_concordance():
    values = np.array([1.0, 2.0, 5.0, 9.0])
    assert follow_up.concordance(np.stack([values, values], axis=1)) == 1
    centred = values - values.mean()
    assert follow_up.concordance(np.stack([centred, -centred], axis=1)) == pytest.approx(-1)
    assert follow_up.concordance(np.stack([values, values + 3], axis=1)) < 1
    assert follow_up.concordance(np.stack([values, 2 * values], axis=1)) < 1
    assert follow_up.concordance(np.stack([values, np.full(4, 2.0)], axis=1)) == 0
    for undefined in (np.ones((4, 2)), np.ones((0, 2)), np.array([[1.0, 2.0]])):
        assert np.isnan(follow_up.concordance(undefined))
    stacked = np.random.default_rng(0).normal(size=(5, 7, 2))
    apart = [follow_up.concordance(pairs) for pairs in stacked]
    np.testing.assert_allclose(follow_up.concordance(stacked, axis=1), apart)


def test_a_row_a_system_and_measure_over_the_patients_that_both_have():
    whose = {"outlined_by": ["truth"] * 4 + ["net"] * 4, "patient": [1, 2, 3, 4, 1, 2, 3, 3]}
    patients = pd.DataFrame(whose).assign(
        liver_ml=[10.0, 20.0, 30.0, 40.0, 11.0, 21.0, 30.0, 32.0],
        longest_diameter_mm=[np.nan, 5.0, 6.0, 7.0, 3.0, 5.0, 6.0, 8.0],
    )
    table = follow_up.compare_with_reference(patients, ["liver_ml", "longest_diameter_mm"])
    assert list(table) == ["system", "measure", *follow_up.agreement_row([], []), "p_holm"]
    assert list(table.measure) == ["liver_ml", "longest_diameter_mm"] and (table.system == "net").all()
    np.testing.assert_allclose(table.bias, [1.0, 0.5])  # the two scans of patient 3 count as one
    assert list(table.n) == [3, 2] and list(table.n_undefined) == [0, 1]
