"""Tables of missed and invented tumours, counted by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from livseg_lib.studies.losses import (
    LossStudy,
    differences_from,
    operating_curve,
    recall_by_contrast,
    summarize_losses,
)

CONTRASTS = {"low": 10.0, "middle": 30.0, "none": np.nan}


def study(
    hits: dict[str, dict[str, list[tuple[str, bool]]]], false_alarms: dict[str, list[int]]
) -> LossStudy:
    """Loss -> patient -> (contrast, hit) of each tumour; loss -> false alarms of each patient."""
    lesions, patients = [], []
    for loss, of_patient in hits.items():
        for number, (patient, tumors) in enumerate(of_patient.items()):
            who = {"loss": loss, "patient": patient, "case": patient, "part": 0, "threshold": 0.5}
            alarms = {"false_alarms": false_alarms[loss][number], "bright_false_alarms": number}
            patients.append({**who, "dice": 0.5, **alarms})
            for lesion, (contrast, hit) in enumerate(tumors, start=1):
                lesions.append({**who, "lesion": lesion, "contrast_hu": CONTRASTS[contrast], "hit": hit})
                lesions[-1]["contrast"] = np.nan if contrast == "none" else contrast
    return LossStudy(pd.DataFrame(lesions), pd.DataFrame(patients), pd.DataFrame())


@pytest.fixture
def small() -> LossStudy:
    """Two losses, three patients; the third has no low-contrast tumour."""
    plain = {
        "a": [("low", False), ("low", False), ("low", True), ("middle", True)],
        "b": [("low", False)],
        "c": [("middle", False), ("none", True)],
    }
    bold = {
        "a": [("low", True), ("low", False), ("low", True), ("middle", True)],
        "b": [("low", True)],
        "c": [("middle", True), ("none", True)],
    }
    return study({"plain": plain, "bold": bold}, {"plain": [0, 1, 0], "bold": [3, 1, 2]})


def test_misses_and_false_alarms_are_counted(small):
    summary = summarize_losses(small, seed=0).set_index("loss")
    assert list(summary.index) == ["plain", "bold"]
    assert list(summary.n_low_contrast) == [4, 4] and list(summary.n_low_contrast_missed) == [3, 1]
    assert list(summary.false_negative_rate) == [0.75, 0.25]
    assert list(summary.n_tumors) == [7, 7] and list(summary.n_without_contrast) == [1, 1]
    assert summary.false_alarms_per_patient["bold"] == 2 and summary.n_patients["bold"] == 3
    assert summary.bright_false_alarms_per_patient["bold"] == 1  # 0, 1 and 2 in the three patients
    # patients a and b have low-contrast tumours: resamples are {a, a}, {a, b} or {b, b}
    assert summary.false_negative_rate_low["plain"] == pytest.approx(2 / 3)
    assert summary.false_negative_rate_high["plain"] == 1


def test_recall_by_class_has_every_class_and_nan_where_there_is_none(small):
    recall = recall_by_contrast(small, seed=0).set_index(["loss", "contrast"])
    assert recall.recall["plain", "low"] == 0.25 and recall.n_hit["bold", "middle"] == 2
    assert recall.n_tumors["plain", "high"] == 0 and np.isnan(recall.recall["plain", "high"])


def test_the_curve_pairs_recall_with_its_price(small):
    curve = operating_curve(small).set_index("loss")
    assert curve.recall["bold"] == 0.75 and curve.false_alarms["bold"] == 2
    assert curve.false_alarms["plain"] == pytest.approx(1 / 3)


def test_differences_are_paired_over_patients(small):
    table = differences_from("plain", small, seed=0).set_index("measure")
    assert list(table["first"]) == ["bold"] * 4 and list(table.second) == ["plain"] * 4
    assert table.difference["low_contrast_missed"] == -1 and table.n_patients["low_contrast_missed"] == 2
    assert table.difference["false_alarms"] == pytest.approx((3 + 0 + 2) / 3)
    assert table.n_patients["false_alarms"] == 3 and table.difference["dice"] == 0


def test_a_clear_difference_is_shown_by_enough_patients():
    names = [str(number) for number in range(8)]
    plain, bold = ({name: [("low", hit)] for name in names} for hit in (False, True))
    many = study({"plain": plain, "bold": bold}, {"plain": [0] * 8, "bold": [0] * 8})
    table = differences_from("plain", many, seed=0).set_index("measure")
    assert table.p_holm["low_contrast_missed"] == pytest.approx(2 / 2**8)
    assert table.p_holm["false_alarms"] == 1


def test_without_low_contrast_tumours_the_rate_is_undefined():
    clear = study({"plain": {"a": [("middle", True)]}}, {"plain": [0]})
    row = summarize_losses(clear, seed=0).iloc[0]
    assert row.n_low_contrast == 0 and np.isnan(row.false_negative_rate)
