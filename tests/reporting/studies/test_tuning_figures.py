"""Pictures of tuning: what is drawn is what was given."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from livseg_lib.reporting.studies.tuning import conclude_tuning, dice_by_fold, tuning_picture


def trials() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "trial": [0, 1, 2, 3, 4, 5],
            "state": ["stopped", "complete", "complete", "pruned", "complete", "pruned"],
            "dice": [np.nan, 0.6, 0.5, 0.3, 0.7, np.nan],
            "learning_rate": [1e-3, 1e-3, 3e-3, 1e-2, 2e-3, 1e-2],
            "batch_size": [8, 8, 4, 16, 8, 4],
            "loss": ["bce_dice", "bce_dice", "focal", "focal", "bce_dice", "focal"],
            "positive_weight": np.nan,
            "is_start": [True, True, False, False, False, False],
        }
    )


def points(ax) -> dict[str, list]:
    """Label -> heights of its marks."""
    return {mark.get_label(): mark.get_offsets()[:, 1].tolist() for mark in ax.collections}


def test_marks_by_state_and_the_best_so_far():
    history, *slices = tuning_picture(trials()).axes
    assert points(history) == {"complete": [0.6, 0.5], "pruned": [0.3], "best": [0.7], "start": [0.6]}
    assert list(history.lines[0].get_ydata()) == [0.6, 0.6, 0.6, 0.7]
    assert [ax.get_title(loc="left") for ax in slices] == ["learning rate", "batch size", "loss"]
    assert slices[0].get_xscale() == "log" and points(slices[0]) == points(history)
    assert [tick.get_text() for tick in slices[1].get_xticklabels()] == ["4", "8", "16"]


def test_trials_without_a_parameter_are_left_out_of_its_panel():
    table = trials().assign(positive_weight=[1, np.nan, np.nan, 5, 2, 5])
    weight = tuning_picture(table).axes[-1]
    assert weight.get_title(loc="left") == "class weight"
    assert points(weight) == {"pruned": [0.3], "best": [0.7]}


def test_importances_have_their_panel():
    _, bars, *_ = tuning_picture(trials(), {"learning_rate": 0.75, "loss": 0.25}).axes
    assert [bar.get_width() for bar in bars.patches] == [0.75, 0.25]


def test_a_study_of_one_pruned_trial_of_one_trial_and_of_none():
    for rows in (trials().iloc[3:4], trials().iloc[1:2], trials().iloc[:1]):
        tuning_picture(rows).canvas.draw()


def test_a_line_for_every_fold_and_one_for_all():
    scores = pd.DataFrame(
        {"fold": [1, 0, 0], "patient": list("abc"), "structure": "liver", "dice": [0.5, 0.7, 0.9]}
    )
    ax = dice_by_fold(scores, {"liver": (0.6, 0.8)}).axes[0]
    labels = [tick.get_text() for tick in ax.get_yticklabels()]
    assert labels == ["fold 0\nliver", "fold 1\nliver", "all folds\nliver"]
    assert (0.6, 0.8) in [tuple(line.get_xdata()) for line in ax.lines]
    assert "held out" in ax.get_xlabel()


def comparison(low: float, high: float) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "folds": ["searched", "fresh"],
            "n_patients": [10, 12],
            "difference": [0.1, (low + high) / 2],
            "difference_low": [0.05, low],
            "difference_high": [0.15, high],
            "p_holm": [0.01, 0.04],
        }
    )


@pytest.mark.parametrize(
    "low, high, meaning",
    [(0.01, 0.05, "gain holds"), (-0.02, 0.04, "no difference is shown"), (-0.05, -0.01, "worse")],
)
def test_the_conclusion_says_what_the_fresh_patients_say(low, high, meaning):
    text = conclude_tuning(comparison(low, high), trials())
    assert meaning in text and "best of 5 trials (2 pruned)" in text
    assert "+0.100 Dice on the 10 patients" in text and "On the 12 patients" in text


def test_no_conclusion_is_drawn_from_nothing():
    assert "No fold was left" in conclude_tuning(comparison(0.1, 0.2).head(1), trials())
    assert "its values stand" in conclude_tuning(comparison(0, 0), trials().head(3))
    assert "nothing to choose from" in conclude_tuning(comparison(0, 0), trials().iloc[3:4])
