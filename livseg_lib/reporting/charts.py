"""Charts and curves.

Charts of patients and slices: scores, class balance, split.

Lines: how a training went, and how well scores separate (ROC).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from livseg_lib.labels import SLICE_CLASSES
from livseg_lib.reporting.cells import format_number
from livseg_lib.reporting.style import (
    BLACK,
    BLUE,
    GREY,
    LIGHT_GREY,
    ORANGE,
    SERIES,
    SKY_BLUE,
    VERMILLION,
    WIDTH,
    new_figure,
    structure_name,
    styled,
)

SPLITS = ("train", "validation", "test")
TILES_A_ROW = 40

Intervals = Mapping[tuple[str, str], tuple[float, float]]


@styled
def dice_by_patient(scores: pd.DataFrame, intervals: Intervals | None = None) -> Figure:
    """A dot for every patient and the mean, one line per system and structure.

    `scores` has columns `system`, `structure`, `dice` (0 to 1). `intervals` maps (system, structure) to
    the 95 % interval of the mean over patients, drawn as a bar. Undefined scores are counted beside
    the line, not drawn.
    """
    scores = scores.sort_values("structure", kind="stable")
    groups = list(scores.groupby(["structure", "system"], sort=False)["dice"])
    fig = new_figure(WIDTH, 1.1 + 0.62 * max(1, len(groups)))
    ax = fig.subplots()
    colours = {structure: (BLUE, ORANGE)[structure == "tumor"] for (structure, _), _ in groups}
    for line, ((structure, system), dice) in enumerate(groups):
        interval = (intervals or {}).get((system, structure))
        _dots_and_mean(ax, line, dice.to_numpy(float), interval, colours[structure])
    names = [f"{system}\n{structure_name(structure)}" for (structure, system), _ in groups]
    ax.set_yticks(range(len(groups)), names, color=BLACK)
    ax.set(xlim=(-0.01, 1.01), ylim=(len(groups) - 0.4, -0.6), xlabel="Dice of a test patient")
    ax.grid(axis="y", visible=False)
    return fig


@styled
def class_balance(
    counts: Mapping[int, int], published: Mapping[int, int], title: str = "Slices by content"
) -> Figure:
    """Share of empty, liver-only and liver-and-tumour slices, ours above those of system C.

    Both map the slice classes 0, 1, 2 to numbers of slices.
    """
    fig = new_figure(WIDTH, 2.5)
    ax = fig.subplots()
    for line, numbers in enumerate((counts, published)):
        _shares(ax, line, [int(numbers.get(each, 0)) for each in SLICE_CLASSES])
    totals = [f"{sum(each.values()):,} slices".replace(",", " ") for each in (counts, published)]
    ax.set_yticks([0, 1], [f"this data\n{totals[0]}", f"system C\n{totals[1]}"], color=BLACK)
    ax.set(xlim=(0, 1), ylim=(1.5, -0.5), title=title)
    ax.xaxis.set_major_formatter(lambda share, _: f"{share:.0%}")
    ax.grid(axis="y", visible=False)
    _legend(fig, SLICE_CLASSES.values())
    return fig


@styled
def split_overview(splits: pd.DataFrame) -> Figure:
    """One tile a patient, in rows of train, validation and test; patients with tumour in orange.

    `splits` has columns `patient` and `split`, and may have `has_tumor` (bool); several cases of one
    patient make one tile.
    """
    patients = _patients(splits)
    names = [s for s in SPLITS if s in set(patients["split"])] + sorted(set(patients["split"]) - set(SPLITS))
    heights = [-(-int((patients["split"] == name).sum()) // TILES_A_ROW) for name in names]
    fig = new_figure(WIDTH, 0.9 + 0.3 * sum(heights) + 0.25 * len(names))
    axes = fig.subplots(max(1, len(names)), 1, squeeze=False, height_ratios=heights or None)[:, 0]
    for ax, name in zip(axes, names, strict=False):
        _tiles(ax, name, patients.loc[patients["split"] == name])
    if "has_tumor" in patients:
        _legend(fig, ("without tumour", "with tumour"), (SKY_BLUE, ORANGE))
    return fig


def _dots_and_mean(
    ax: Axes, line: int, dice: np.ndarray, interval: tuple[float, float] | None, colour: str
) -> None:
    defined = dice[~np.isnan(dice)]
    offsets = 0.22 * np.sin(2.4 * np.arange(len(defined)))  # spread, and the same in every run
    ax.scatter(defined, line + offsets, s=30, color=colour, alpha=0.55, linewidth=0, clip_on=False)
    undefined = f", {len(dice) - len(defined)} undefined" if len(defined) < len(dice) else ""
    text = f"n = {len(defined)}{undefined}"
    if len(defined):
        mean = defined.mean()
        ax.plot([mean, mean], [line - 0.33, line + 0.33], color=BLACK, linewidth=2.4)
        text = f"{mean:.3f}   {text}"
    if interval is not None and not np.isnan(interval).any():
        ax.plot(interval, [line, line], color=BLACK, linewidth=2.4, solid_capstyle="butt")
    ax.text(1.03, line, text, transform=ax.get_yaxis_transform(), va="center", fontsize=9, color=GREY)


def _shares(ax: Axes, line: int, numbers: list[int]) -> None:
    """One bar, cut into the three classes; shares too narrow for their number go without it."""
    left, total = 0.0, max(1, sum(numbers))
    for number, colour in zip(numbers, (LIGHT_GREY, SKY_BLUE, ORANGE), strict=True):
        share = number / total
        ax.barh(line, share, left=left, height=0.62, color=colour, edgecolor="white", linewidth=1.5)
        if share > 0.06:
            ax.text(
                left + share / 2, line, f"{number:,}\n{share:.0%}".replace(",", " "), ha="center", va="center"
            )
        left += share


def _patients(splits: pd.DataFrame) -> pd.DataFrame:
    """One row a patient and split, those with tumour first."""
    if "has_tumor" not in splits:
        return splits[["patient", "split"]].drop_duplicates()
    patients = splits.groupby(["patient", "split"], sort=False, as_index=False)["has_tumor"].max()
    return patients.sort_values("has_tumor", ascending=False, kind="stable")


def _tiles(ax: Axes, name: str, patients: pd.DataFrame) -> None:
    number = np.arange(len(patients))
    tumour = patients["has_tumor"].astype(bool) if "has_tumor" in patients else np.zeros(len(patients), bool)
    colours = np.where(tumour, ORANGE, SKY_BLUE if "has_tumor" in patients else SERIES[0])
    ax.scatter(number % TILES_A_ROW, number // TILES_A_ROW, s=130, marker="s", color=list(colours))
    rows = -(-len(patients) // TILES_A_ROW)
    ax.set(xlim=(-0.8, TILES_A_ROW - 0.2), ylim=(rows - 0.4, -0.6), title=f"{name}: {len(patients)} patients")
    ax.set_axis_off()


def _legend(fig: Figure, labels, colours=(LIGHT_GREY, SKY_BLUE, ORANGE)) -> None:
    keys = [Patch(color=colour, label=label) for label, colour in zip(labels, colours, strict=True)]
    fig.legend(handles=keys, loc="outside lower left", ncols=len(keys), handlelength=1)


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
