"""Lines: how a training went, and how well scores separate (ROC)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from livseg_lib.reporting.cells import format_number
from livseg_lib.reporting.style import BLUE, GREY, LIGHT_GREY, SERIES, VERMILLION, WIDTH, new_figure, styled

NOT_METRICS = ("epoch", "learning_rate", "memory_mb", "seconds", "stage")
"""Columns of a history that no panel of training against validation is drawn for."""


@styled
def training_curves(history: pd.DataFrame, title: str) -> Figure:
    """One panel a metric, training against validation, and one for the learning rate.

    `history` has one row an epoch: `epoch`, `loss`, `val_loss`, any further metrics with their `val_`
    twins, `learning_rate`. The vertical line marks the epoch with the lowest validation loss.
    """
    metrics = [c for c in history if c not in NOT_METRICS and not c.startswith("val_")]
    panels = metrics + (["learning_rate"] if "learning_rate" in history else [])
    fig = new_figure(WIDTH, 3.4)
    fig.suptitle(title, x=0.01, ha="left", fontweight="bold")
    for ax, name in zip(fig.subplots(1, max(1, len(panels)), squeeze=False)[0], panels, strict=False):
        draw = _learning_rate if name == "learning_rate" else _training_against_validation
        draw(ax, history, name)
        ax.set_xlabel("epoch")
        ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    return fig


@styled
def roc_curves(curves: Mapping[str, tuple[np.ndarray, np.ndarray, float]]) -> Figure:
    """Name -> (false-positive rate, true-positive rate, area under the curve), each from 0 to 1.

    The right panel enlarges the upper left corner, where good systems differ.
    """
    fig = new_figure(WIDTH, 4.9)
    whole, corner = fig.subplots(1, 2)
    for ax in (whole, corner):
        _draw_roc(ax, curves)
    whole.set(xlim=(0, 1), ylim=(0, 1), title="ROC")
    corner.set(xlim=(0, 0.2), ylim=(0.8, 1), title="upper left corner, enlarged")
    corner.locator_params(nbins=5)
    if curves:
        whole.legend(loc="lower right")
    return fig


def _draw_roc(ax: Axes, curves: Mapping[str, tuple[np.ndarray, np.ndarray, float]]) -> None:
    ax.plot([0, 1], [0, 1], color=LIGHT_GREY, linestyle="dashed", linewidth=1.4)
    for number, (name, (false_positive_rate, true_positive_rate, area)) in enumerate(curves.items()):
        colour, label = SERIES[number % len(SERIES)], f"{name}   AUC {format_number('roc_auc', area)}"
        ax.plot(false_positive_rate, true_positive_rate, color=colour, label=label)
    ax.set(xlabel="false-positive rate", ylabel="true-positive rate", aspect="equal")


def best_epoch(history: pd.DataFrame) -> int | None:
    """Epoch with the lowest `val_loss`; None without one."""
    if "val_loss" not in history or history["val_loss"].isna().all():
        return None
    return int(_epochs(history)[history["val_loss"].idxmin()])


def metric_name(column: str) -> str:
    """Words for a column of the history: "tumor_dice" reads "tumour Dice"."""
    return column.replace("_", " ").replace("tumor", "tumour").replace("dice", "Dice").replace("iou", "IoU")


def _training_against_validation(ax: Axes, history: pd.DataFrame, name: str) -> None:
    ax.set_title(metric_name(name))
    for column, colour, label in ((name, BLUE, "training"), (f"val_{name}", VERMILLION, "validation")):
        if column in history:
            marker = "o" if len(history) < 3 else None  # a line of one epoch would not be seen
            ax.plot(_epochs(history), history[column], color=colour, label=label, marker=marker)
    best = best_epoch(history)
    if best is not None:
        ax.axvline(best, color=GREY, linewidth=1, linestyle="dotted", label=f"best, epoch {best}")
    ax.legend(loc="best")


def _learning_rate(ax: Axes, history: pd.DataFrame, name: str) -> None:
    ax.set_title("learning rate")
    ax.plot(_epochs(history), history[name], color=GREY, drawstyle="steps-mid")
    ax.set_yscale("log")
    ax.margins(y=0.3)


def _epochs(history: pd.DataFrame) -> pd.Series:
    return history["epoch"] if "epoch" in history else pd.Series(range(1, len(history) + 1), history.index)
