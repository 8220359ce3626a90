from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from livseg_lib.datasets.phantom import Lesion, make_phantom_follow_up, make_phantom_patient
from livseg_lib.errors import InputError
from livseg_lib.evaluation.follow_up import (
    CHANGE_COLUMNS,
    RESPONSES,
    TimePoint,
    categorize,
    choose_targets,
    compare_scans,
    doubling_days,
    measurable_mm,
)

SPACING = (1.0, 1.0, 1.0)


def scan(*columns: tuple[int, int]) -> TimePoint:
    """A liver with bars in it, one pixel high and deep: (first column, length), each in a row of its own."""
    labels = np.zeros((5, 60, 70), np.uint8)
    labels[1:4, 5:55, 5:65] = 1
    for number, (start, length) in enumerate(columns):
        labels[2, 10 + 12 * number, start : start + length] = 2
    return TimePoint(labels, SPACING)


def test_bars_by_hand():
    found = compare_scans(scan((20, 20), (20, 12)), scan((20, 25), (20, 6)), days=100)
    assert list(found.changes) == list(CHANGE_COLUMNS)
    first, second = found.changes.itertuples()
    assert (first.kind, first.tumors_before, first.tumors_after) == ("matched", "1", "1")
    assert first.growth_ml == pytest.approx(0.005) and first.growth_percent == pytest.approx(25)
    assert first.diameter_before_mm == pytest.approx(19.5) and first.diameter_change_mm == pytest.approx(5)
    assert first.doubling_days == pytest.approx(100 / np.log2(1.25))
    assert second.diameter_change_percent == pytest.approx(100 * (5.5 / 11.5 - 1))
    assert np.isnan(second.doubling_days)
    assert found.response.targets == (1, 2)
    assert found.response.sum_before_mm == pytest.approx(31) and found.response.sum_after_mm == pytest.approx(
        30
    )
    assert found.response.category == "stable disease"


def test_a_new_and_a_vanished_tumour():
    found = compare_scans(scan((20, 20)), scan((35, 5), (20, 20)))
    assert found.response.category == "progressive disease" and found.response.n_new == 1
    gone = compare_scans(scan((20, 20)), scan())
    assert gone.response.category == "complete response"
    row = gone.changes.iloc[0]
    assert (row.volume_after_ml, row.diameter_after_mm, row.growth_percent) == (0, 0, -100)
    came = compare_scans(scan(), scan((20, 20)))
    assert came.changes.iloc[0].kind == "new" and np.isnan(came.changes.iloc[0].growth_percent)
    assert came.response.category == "progressive disease" and np.isnan(came.response.change)


def test_parts_are_added_and_what_merged_counts_once():
    whole, parts = scan((20, 30)), scan((20, 30))
    parts.labels[2, 10, 34:36] = 1  # 14 and 14 pixels
    split = compare_scans(whole, parts)
    assert list(split.changes.kind) == ["split"]
    assert split.response.sum_after_mm == pytest.approx(27) and split.response.sum_before_mm == pytest.approx(
        29.5
    )
    merged = compare_scans(parts, whole)
    assert list(merged.changes.kind) == ["merged"] and merged.response.targets == (1, 2)
    assert merged.response.sum_before_mm == pytest.approx(
        27
    ) and merged.response.sum_after_mm == pytest.approx(29.5)


def test_without_tumours_and_with_small_ones_only():
    assert compare_scans(scan(), scan()).response.category == "no tumour"
    small = compare_scans(scan((20, 5)), scan((20, 9)))
    assert small.response.category == "neither response nor progression" and np.isnan(small.response.change)


def test_livers_are_measured_at_both_times():
    found = compare_scans(scan((20, 20)), scan((20, 10))).livers.set_index("scan")
    assert found.liver_ml["before"] == found.liver_ml["after"] == pytest.approx(9.0)
    np.testing.assert_allclose(found.tumor_ml, [0.02, 0.01])


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(st.integers(8, 30), st.integers(3, 30)), max_size=4))
def test_nothing_changes_between_a_scan_and_itself(bars):
    found = compare_scans(scan(*bars), scan(*bars))
    assert (found.changes.kind == "matched").all() and (found.changes.growth_ml == 0).all()
    assert found.response.category in RESPONSES[:1] + RESPONSES[3:4] + RESPONSES[5:]


@pytest.mark.parametrize(
    ("before", "after", "n_new", "n_after", "category"),
    [
        (100.0, 70.0, 0, 2, "partial response"),
        (100.0, 70.1, 0, 2, "stable disease"),
        (100.0, 119.9, 0, 2, "stable disease"),
        (100.0, 120.0, 0, 2, "progressive disease"),
        (20.0, 24.9, 0, 1, "stable disease"),  # a quarter more, but less than 5 mm
        (20.0, 25.0, 0, 1, "progressive disease"),
        (100.0, 50.0, 1, 2, "progressive disease"),
        (100.0, 0.0, 0, 0, "complete response"),
        (100.0, 0.0, 0, 1, "partial response"),  # the targets are gone, another tumour is not
    ],
)
def test_the_edges_of_the_categories(before, after, n_new, n_after, category):
    assert categorize((1, 2), before, after, n_new, n_after).category == category


def test_targets_are_the_two_longest_that_can_be_measured():
    tumors = pd.DataFrame({"tumor": [1, 2, 3, 4], "longest_diameter_mm": [9.9, 12.0, 40.0, 15.0]})
    assert choose_targets(tumors) == (3, 4)
    assert choose_targets(tumors, 20.0) == (3,)
    assert choose_targets(tumors.iloc[:1]) == ()
    assert (measurable_mm(2.5), measurable_mm(5.0), measurable_mm(6.0)) == (10, 10, 12)


def test_doubling_time():
    assert doubling_days(1.0, 2.0, 90) == pytest.approx(90)
    assert doubling_days(1.0, 8.0, 90) == pytest.approx(30)
    for volumes in ((2.0, 1.0), (0.0, 1.0), (1.0, 1.0)):
        assert np.isnan(doubling_days(*volumes, 90))
    assert np.isnan(doubling_days(1.0, 2.0, np.nan))
    with pytest.raises(InputError, match="days"):
        compare_scans(scan(), scan(), days=0)


def test_planted_growth_on_a_phantom_patient():
    first = make_phantom_patient(2026, 8, "tiny")
    numbers = [n for n, lesion in enumerate(first.lesions, start=1) if lesion.kind == "tumor"]
    growth = {numbers[0]: 1.4, numbers[-1]: 0.0}
    second = make_phantom_follow_up(2026, 8, growth, [Lesion("tumor", 22.0, -40.0, False)], "tiny")
    found = compare_scans(
        TimePoint(first.labels, first.spacing_mm), TimePoint(second.labels, second.spacing_mm), days=60
    )
    assert found.matching.liver_dice > 0.95
    np.testing.assert_allclose(found.matching.shift_mm, [0, 8.3, 8.3], atol=3)
    assert list(found.changes.kind).count("new") == 1 and "vanished" in set(found.changes.kind)
    grown = found.changes.sort_values("volume_before_ml").iloc[-1]
    assert grown.growth_ml > 0 and grown.doubling_days < 100
    assert found.response.category == "progressive disease"
