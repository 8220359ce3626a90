"""Pictures and sentences of a study of losses: what is drawn and said is what was given."""

from __future__ import annotations

import numpy as np
import pandas as pd

from livseg_lib.datasets.case import Case
from livseg_lib.reporting.pictures import lesion_picture
from livseg_lib.reporting.studies.class_imbalance import (
    conclude_losses,
    operating_curves,
    recall_by_contrast_chart,
    size_against_contrast,
)
from livseg_lib.volumes import Volume

SUMMARY = pd.DataFrame(
    {
        "loss": ["plain", "bold"],
        "n_low_contrast": [32, 32],
        "n_low_contrast_missed": [20, 9],
        "false_negative_rate": [0.625, 0.28125],
        "false_alarms_per_patient": [1.0, 3.5],
        "false_alarms_per_patient_low": [0.4, 2.0],
        "false_alarms_per_patient_high": [1.8, 5.0],
        "dice_per_case": [0.41, 0.39],
    }
)


def differences(p_missed: float, smallest: float, n_patients: int = 12) -> pd.DataFrame:
    rows = [("low_contrast_missed", -0.9, p_missed), ("false_alarms", 2.5, 0.01), ("dice", -0.02, 0.6)]
    table = pd.DataFrame(rows, columns=["measure", "difference", "p_holm"])
    table = table.assign(difference_low=table.difference - 0.01, difference_high=table.difference + 0.01)
    return table.assign(first="bold", second="plain", n_patients=n_patients, smallest_p_holm=smallest)


def test_sentences_say_what_the_numbers_allow():
    worth, shown = conclude_losses(SUMMARY, differences(0.004, 0.0005))
    assert "bold: misses 9 of 32" in shown and "That is fewer (p 0.004" in shown
    assert "3.5 against 1.0" in shown and "0.390 against 0.410" in shown
    _, open_one = conclude_losses(SUMMARY, differences(0.3, 0.0005))
    assert "No difference is shown with 12 patients" in open_one and "too few" not in open_one
    _, hopeless = conclude_losses(SUMMARY, differences(0.3, 0.25, 3))
    assert "too few of them differ" in hopeless
    _, nobody = conclude_losses(SUMMARY, differences(np.nan, np.nan, 0))
    assert "nothing can be said" in nobody
    assert "Dice is 0.390 to 0.410" in worth
    blind = SUMMARY.assign(n_low_contrast_missed=32)
    assert "nothing to compare" in conclude_losses(blind, differences(1.0, 1.0))[0]


def test_recall_and_false_alarms_stand_side_by_side():
    rows = [
        (loss, name, 5, recall)
        for loss in ("plain", "bold")
        for name, recall in (("low", 0.2), ("high", 0.8))
    ]
    recall = pd.DataFrame(rows, columns=["loss", "contrast", "n_tumors", "recall"])
    figure = recall_by_contrast_chart(recall.assign(recall_low=0.1, recall_high=0.9), SUMMARY)
    found, invented = figure.axes
    assert [t.get_text() for t in found.get_xticklabels()] == [
        f"{c} contrast\n5 tumours" for c in ("low", "high")
    ]
    assert list(found.collections[1].get_offsets()[:, 1]) == [0.2, 0.8]
    assert invented.collections[1].get_offsets()[0, 1] == 3.5
    figure.canvas.draw()


def test_curves_have_a_point_a_threshold_and_a_ring_where_chosen():
    curve = pd.DataFrame(
        {"loss": ["plain"] * 2, "threshold": [0.1, 0.9], "recall": [0.8, 0.1], "false_alarms": [4.0, 0.5]}
    )
    (ax,) = operating_curves(curve, SUMMARY).axes
    assert list(ax.lines[0].get_xdata()) == [0.5, 4.0]
    assert ax.collections[0].get_offsets().tolist() == [[1.0, 0.375]]


def test_found_and_missed_tumours_are_told_apart_and_undefined_ones_counted():
    lesions = pd.DataFrame(
        {
            "loss": ["plain"] * 3,
            "diameter_mm": [10.0, 20.0, 30.0],
            "contrast_hu": [15.0, -30.0, np.nan],
            "hit": [False, True, True],
        }
    )
    figure = size_against_contrast(lesions, (20.0, 40.0))
    (ax,) = figure.axes
    missed, found = ax.collections
    assert missed.get_offsets().tolist() == [[15, 10]] and [-30, 20] in found.get_offsets().tolist()
    assert ax.get_title(loc="left") == "plain\nfound 2 of 3, 1 without contrast"
    figure.canvas.draw()


def test_a_tumour_is_cut_out_around_its_middle():
    labels = np.ones((5, 60, 80), np.uint8)
    labels[1:4, 10:14, 40:44], labels[2, 30:40, 30:40], labels[3, 36:38, 36:38] = 2, 2, 2
    hu = np.where(labels == 2, 60, 100).astype(np.int16)
    case = Case("a", "a", (), lambda: Volume(hu, (5.0, 1.0, 2.0)), lambda _: labels)
    grey, cut, title = lesion_picture(case, 2, "ten pixels", field_mm=20)
    assert grey.shape == cut.shape == (21, 11) and grey.dtype == np.uint8 and title == "ten pixels"
    assert (cut == 2).sum() == 10 * 10  # rows 24 to 44 and columns 29 to 39 of slice 2
    whole, _, _ = lesion_picture(case, 1, "", field_mm=np.nan)
    assert whole.shape == (60, 80)
