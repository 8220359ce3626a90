"""Measures, cohorts and follow-ups: drawn as they were measured, and no more said than is shown."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from livseg_lib.evaluation.bland_altman import compare_with_reference
from livseg_lib.evaluation.follow_up import TimePoint, compare_scans
from livseg_lib.evaluation.statistics import describe_cohort
from livseg_lib.reporting.studies.cohort import cohort_distributions, conclude_cohort
from livseg_lib.reporting.studies.follow_up import (
    TwoScans,
    conclude_follow_up,
    follow_up_changes,
    follow_up_slices,
)
from livseg_lib.reporting.studies.measures import bland_altman_panels, conclude_agreement_with_truth

PATIENTS = pd.DataFrame(
    {
        "outlined_by": ["truth"] * 4 + ["net"] * 4,
        "patient": [1, 2, 3, 4] * 2,
        "liver_ml": [1500.0, 1600.0, 1700.0, 1800.0, 1409.0, 1500.0, 1610.0, 1701.0],
        "tumor_burden": [0.0, 0.1, 0.02, 0.0, 0.0, 0.09, 0.03, 0.0],
        "longest_diameter_mm": [np.nan, 30.0, 20.0, np.nan, 12.0, np.nan, np.nan, np.nan],
        "has_tumor": [0.0, 1.0, 1.0, 0.0, 1.0, 1.0, 1.0, 0.0],
        "tumor_ml": [0.0, 160.0, 34.0, 0.0, 1.0, 130.0, 40.0, 0.0],
    }
)
MEASURED = ["liver_ml", "tumor_burden", "longest_diameter_mm"]


def scan(*columns: tuple[int, int]) -> TimePoint:
    labels = np.zeros((5, 60, 70), np.uint8)
    labels[1:4, 5:55, 5:65] = 1
    for number, (start, length) in enumerate(columns):
        labels[2, 10 + 12 * number, start : start + length] = 2
    return TimePoint(labels, (1.0, 1.0, 1.0))


def test_each_patient_is_a_point_and_the_bias_a_line():
    table = compare_with_reference(PATIENTS, MEASURED)
    panels = bland_altman_panels(PATIENTS, table).axes
    assert [ax.get_title(loc="left") for ax in panels] == [
        "Liver volume (ml)",
        "Tumour burden",
        "Longest diameter (mm)",
    ]
    points = panels[0].collections[0].get_offsets()
    np.testing.assert_allclose(points[0], [1454.5, -91])
    heights = [line.get_ydata()[0] for line in panels[0].lines]
    assert table.bias[0] == pytest.approx(-95) and any(h == pytest.approx(-95) for h in heights)
    assert "undefined" in panels[2].texts[0].get_text() and not panels[2].collections


def test_bias_is_only_claimed_where_it_is_shown():
    few, burden, diameter = conclude_agreement_with_truth(compare_with_reference(PATIENTS, MEASURED))
    assert "bias -95.0 ml" in few and "no bias is shown" in few and "4 patients" in few  # p is 2 / 2^4
    assert "no bias is shown" in burden
    six = pd.concat([PATIENTS, PATIENTS.assign(patient=PATIENTS.patient + 4)])
    [liver] = conclude_agreement_with_truth(compare_with_reference(six, ["liver_ml"]))
    assert "p 0.0078 after correction), it measures too little" in liver and "8 patients" in liver
    assert "too few to compare" in diameter


def test_a_cohort_counts_what_it_cannot_draw():
    groups = dict(list(PATIENTS.groupby("outlined_by", sort=False)))
    panels = cohort_distributions(groups, ["liver_ml", "longest_diameter_mm", "tumor_ml"]).axes
    assert [label.get_text() for label in panels[0].get_yticklabels()] == ["truth", "net"]
    assert [len(each.get_offsets()) for each in panels[0].collections] == [4, 4]
    assert [text.get_text() for text in panels[1].texts] == ["2 undefined", "3 undefined"]
    assert [text.get_text() for text in panels[2].texts] == ["2 with 0", "1 with 0"]
    said = conclude_cohort(describe_cohort(groups, ["has_tumor", "liver_ml", "longest_diameter_mm"]))
    assert said[0].startswith("truth: 2 of 4 patients have a tumour") and "1650 ml" in said[0]
    assert "12 mm (of 1)" in said[1]
    nobody = describe_cohort({"liver only": PATIENTS.assign(has_tumor=np.nan)}, ["has_tumor"])
    assert conclude_cohort(nobody) == ["liver only: outlines no tumours."]


def test_a_follow_up_draws_every_group_and_its_targets_bold():
    found = compare_scans(scan((20, 20), (20, 5), (40, 8)), scan((20, 10), (20, 5)))
    nothing = compare_scans(scan(), scan())
    panels = follow_up_changes({"truth": found, "net": nothing}).axes
    assert panels[0].get_title(loc="left") == "truth\npartial response"
    assert [line.get_linewidth() for line in panels[0].lines] == [2.4, 1.2, 1.2]
    assert [text.get_text() for text in panels[0].texts] == ["−51 %", "0 %", "vanished"]
    assert not panels[1].lines
    tumors, livers = conclude_follow_up("truth", found)
    assert "2 matched, 1 vanished" in tumors and "partial response" in tumors and "(-51%)" in tumors
    assert "Dice 1.00" in livers
    assert "no tumour" in conclude_follow_up("net", nothing)[0]


def test_slices_at_both_times_with_and_without_a_second_outline():
    grey, labels = np.zeros((60, 70), np.uint8), scan((20, 20)).labels[2]
    row = TwoScans("matched, +1.0 ml", (grey, labels, labels), (grey, labels, None))
    panels = follow_up_slices([row, row]).axes
    assert len(panels) == 4 and panels[1].get_title(loc="left") == "matched, +1.0 ml, after"
