"""Pictures of the candidate filter: what is drawn is what was given."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from livseg_lib.postprocessing.candidates import FEATURES
from livseg_lib.reporting.studies.candidates import (
    MEASURES,
    candidate_probabilities,
    conclude_filter,
    feature_importance,
    filter_effect,
)


def summary(low: float = -3.0, high: float = -0.5, **columns) -> pd.DataFrame:
    row = {"before": 3.0, "after": 1.0, "difference": (low + high) / 2, "n_patients": 2, "p_holm": 0.01}
    rows = [row | {"measure": each, "difference_low": low, "difference_high": high} for each in MEASURES]
    return pd.DataFrame(rows).assign(**columns)


def test_candidates_left_of_the_threshold_are_counted_as_dropped():
    candidates = pd.DataFrame(
        {
            "split": "validation",
            "is_tumor": [True, True, False, False, False],
            "probability": [0.9, 0.3, 0.1, 0.2, 0.4],
        }
    )
    ax = candidate_probabilities(candidates, 0.3).axes[0]
    assert [text.get_text() for text in ax.texts] == ["0 of 2 dropped", "2 of 3 dropped"]
    assert sorted(ax.collections[1].get_offsets()[:, 0]) == [0.1, 0.2, 0.4]
    assert ax.lines[0].get_xdata() == [0.3, 0.3]
    candidate_probabilities(candidates.head(0), 0.0).canvas.draw()


def test_a_bar_for_each_feature_in_the_order_given():
    drops = np.linspace(0.2, -0.01, len(FEATURES))
    table = pd.DataFrame({"feature": list(FEATURES), "auc_drop": drops, "auc_drop_std": 0.01})
    figure = feature_importance(table)
    ax = figure.axes[0]
    np.testing.assert_allclose([bar.get_width() for bar in ax.patches], drops)
    assert ax.get_yticklabels()[0].get_text() == "Volume (ml)" and ax.yaxis_inverted()
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == ["shape", "intensity", "texture"]
    feature_importance(table.assign(auc_drop=np.nan, auc_drop_std=np.nan)).canvas.draw()


def test_each_patient_before_and_after_and_those_without_a_score_left_out():
    scores = pd.DataFrame({"system": ["before"] * 2 + ["after"] * 2, "patient": ["a", "b"] * 2})
    scores = scores.assign(**{measure: [4.0, 2.0, 1.0, 1.0] for measure in MEASURES})
    scores["found"] = [0.5, np.nan, 0.5, np.nan]
    panels = filter_effect(scores, summary()).axes
    lines = {
        measure: [list(line.get_ydata()) for line in ax.lines]
        for measure, ax in zip(MEASURES, panels, strict=True)
    }
    assert lines["false_alarms"] == [[4, 1], [2, 1], [3, 1]]  # two patients and the mean
    assert lines["found"] == [[0.5, 0.5], [3, 1]]
    assert "-3.00 to -0.50" in panels[0].get_xlabel()


@pytest.mark.parametrize(
    ("low", "high", "first", "last"),
    [
        (-3.0, -0.5, "helps", "harms"),
        (0.5, 2.0, "harms", "helps"),
        (-1.0, 0.5, "No difference", "No difference"),
        (0.0, 0.0, "changed nothing", "changed nothing"),
    ],
)
def test_fewer_false_alarms_help_and_less_dice_harms(low, high, first, last):
    sentences = conclude_filter(summary(low, high))
    assert first in sentences[0] and sentences[0].startswith("False alarms a patient: 3.00")
    assert last in sentences[-1] and sentences[-1].startswith("Tumour Dice")


def test_few_patients_show_nothing_whatever_their_interval():
    assert "No difference is shown" in conclude_filter(summary(-3.0, -0.5, p_holm=0.25))[0]


def test_nothing_is_said_of_what_is_undefined():
    assert "undefined for every patient" in conclude_filter(summary(n_patients=0))[1]
