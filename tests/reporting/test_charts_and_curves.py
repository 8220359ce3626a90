"""Charts and curves: what is drawn is what was given."""

from __future__ import annotations

import numpy as np
import pandas as pd

from livseg_lib.reporting.charts import (
    best_epoch,
    class_balance,
    dice_by_patient,
    roc_curves,
    split_overview,
    training_curves,
)


def history(epochs: int = 4) -> pd.DataFrame:
    loss = np.linspace(1, 0.2, epochs)
    return pd.DataFrame(
        {
            "epoch": range(1, epochs + 1),
            "loss": loss,
            "val_loss": [0.9, 0.3, 0.5, 0.6][:epochs],
            "tumor_dice": 1 - loss,
            "val_tumor_dice": 0.9 - loss,
            "learning_rate": 1e-3,
        }
    )


def test_a_panel_for_every_metric_and_the_learning_rate():
    figure = training_curves(history(), "U-Net")
    assert [ax.get_title(loc="left") for ax in figure.axes] == ["loss", "tumour Dice", "learning rate"]
    assert list(figure.axes[0].lines[1].get_ydata()) == [0.9, 0.3, 0.5, 0.6]


def test_training_curves_of_one_epoch_and_of_none():
    for epochs in (1, 0):
        training_curves(history(epochs), "short").canvas.draw()


def test_best_epoch_is_the_lowest_validation_loss():
    assert best_epoch(history()) == 2
    assert best_epoch(history()[["epoch", "loss"]]) is None
    assert best_epoch(history().assign(val_loss=np.nan)) is None


def test_roc_curves_print_the_area_and_a_dash_where_undefined():
    line = np.array([0.0, 1.0])
    figure = roc_curves({"a": (line, line, 0.87654), "b": (line, line, float("nan"))})
    assert [t.get_text() for t in figure.axes[0].get_legend().get_texts()] == ["a   AUC 0.877", "b   AUC –"]


def test_dice_by_patient_counts_undefined_scores_and_draws_the_interval():
    scores = pd.DataFrame({"system": "unet", "structure": "tumor", "dice": [0.5, 0.7, np.nan]})
    ax = dice_by_patient(scores, {("unet", "tumor"): (0.4, 0.75)}).axes[0]
    assert sorted(ax.collections[0].get_offsets()[:, 0]) == [0.5, 0.7]
    assert "0.600   n = 2, 1 undefined" in [t.get_text() for t in ax.texts]
    assert (0.4, 0.75) in [tuple(line.get_xdata()) for line in ax.lines]


def test_dice_by_patient_without_any_defined_score():
    scores = pd.DataFrame({"system": ["unet"], "structure": ["liver"], "dice": [np.nan]})
    ax = dice_by_patient(scores).axes[0]
    assert [t.get_text() for t in ax.texts] == ["n = 0, 1 undefined"]


def test_class_balance_shares():
    ax = class_balance({0: 50, 1: 25, 2: 25}, {0: 19777, 1: 6948, 2: 2631}).axes[0]
    widths = [bar.get_width() for bar in ax.patches]
    np.testing.assert_allclose(widths[:3], [0.5, 0.25, 0.25])
    np.testing.assert_allclose(sum(widths[3:]), 1)
    ends = [bar.get_x() for bar in ax.patches]  # each begins where the one before ends
    np.testing.assert_allclose(ends, [0, 0.5, 0.75, 0, 19777 / 29356, 26725 / 29356])
    assert [round(bar.get_y() + bar.get_height() / 2, 6) for bar in ax.patches] == [0, 0, 0, 1, 1, 1]
    assert {(text.get_position()[0], text.get_text()) for text in ax.texts[:3]} == {
        (0.25, "50\n50%"),
        (0.625, "25\n25%"),
        (0.875, "25\n25%"),
    }
    assert [t.get_text() for t in ax.get_yticklabels()][1] == "system C\n29 356 slices"
    class_balance({}, {}).canvas.draw()


def test_split_overview_has_one_tile_a_patient():
    splits = pd.DataFrame(
        {
            "patient": ["a", "a", "b", "c"],
            "split": ["train", "train", "train", "test"],
            "has_tumor": [False, True, False, False],
        }
    )
    train, test = split_overview(splits).axes
    assert train.get_title(loc="left") == "train: 2 patients" and len(train.collections[0].get_offsets()) == 2
    assert test.get_title(loc="left") == "test: 1 patients"
    assert len({tuple(c) for c in train.collections[0].get_facecolor()}) == 2  # a has a tumour, b has none
    split_overview(splits[["patient", "split"]]).canvas.draw()
