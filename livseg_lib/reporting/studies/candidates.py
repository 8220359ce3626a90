"""The candidate filter in pictures and sentences: how sure it is, what it looks at, what it changes."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from livseg_lib.evaluation.statistics import verdict
from livseg_lib.postprocessing.candidates import FEATURES
from livseg_lib.reporting.style import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    LIGHT_GREY,
    ORANGE,
    PURPLE,
    VERMILLION,
    WIDTH,
    new_figure,
    styled,
)
from livseg_lib.reporting.wording import column_title, p_words

KIND_COLOURS = {"shape": BLUE, "intensity": GREEN, "texture": PURPLE}
MEASURES = {
    "false_alarms": "False alarms",
    "found": "Tumours found",
    "false_positives": "False positives at IoU 0.5",
    "detected": "Tumours detected at IoU 0.5",
    "dice": "Tumour Dice",
}
"""Of `studies.cascades` in words. Shares and Dice are 0 to 1, the others counts."""
COUNTS = ("false_alarms", "false_positives")


@styled
def candidate_probabilities(candidates: pd.DataFrame, threshold: float) -> Figure:
    """Every candidate by what the forest says of it, a row a split and truth, and where the filter cuts.

    `candidates`: probability (0 to 1), is_tumor (bool) and split. What is left of the line is dropped.
    """
    groups = list(candidates.groupby(["split", "is_tumor"], sort=False))
    fig = new_figure(WIDTH, 1.0 + 0.55 * max(1, len(groups)))
    ax = fig.subplots()
    names = []
    for line, ((split, is_tumor), rows) in enumerate(groups):
        dropped = int((rows.probability < threshold).sum())
        spread = line + 0.22 * (pd.Series(range(len(rows))) % 5 - 2) / 2
        ax.scatter(rows.probability, spread, s=30, color=BLUE if is_tumor else VERMILLION, alpha=0.6, lw=0)
        names.append(f"{split}\n{'true tumours' if is_tumor else 'false alarms'}")
        text = f"{dropped} of {len(rows)} dropped"
        ax.text(1.03, line, text, transform=ax.get_yaxis_transform(), va="center", fontsize=9, color=GREY)
    ax.axvline(threshold, color=BLACK, linewidth=1.6)
    ax.set_yticks(range(len(groups)), names, color=BLACK)
    ax.set(xlim=(-0.02, 1.02), ylim=(max(1, len(groups)) - 0.4, -0.6), xlabel="probability of a true tumour")
    ax.set_title(f"kept from {threshold:.2f} on")
    ax.grid(axis="y", visible=False)
    return fig


@styled
def feature_importance(importance: pd.DataFrame) -> Figure:
    """What shuffling each feature costs in ROC-AUC, a bar each in the order given, standard deviation beside.

    `importance` as `forest.permutation_importance` gives it: feature, auc_drop, auc_drop_std.
    """
    fig = new_figure(0.75 * WIDTH, 1.2 + 0.24 * len(importance))
    ax = fig.subplots()
    kinds = [FEATURES[feature].kind for feature in importance.feature]
    colours, lines = [KIND_COLOURS[kind] for kind in kinds], range(len(importance))
    ax.barh(lines, importance.auc_drop, height=0.66, color=colours)
    spread = {"fmt": "none", "ecolor": BLACK, "elinewidth": 1}
    ax.errorbar(importance.auc_drop, lines, xerr=importance.auc_drop_std, **spread)
    ax.set_yticks(lines, [column_title(feature) for feature in importance.feature], color=BLACK)
    ax.set_ylim(len(importance) - 0.4, -0.6)
    ax.set_xlabel("ROC-AUC lost when its values are shuffled")
    ax.grid(axis="y", visible=False)
    keys = [Patch(color=colour, label=kind) for kind, colour in KIND_COLOURS.items() if kind in kinds]
    fig.legend(handles=keys, loc="outside lower left", ncols=len(KIND_COLOURS), handlelength=1)
    return fig


@styled
def filter_effect(scores: pd.DataFrame, summary: pd.DataFrame) -> Figure:
    """Each test patient before and after the filter, a panel a measure; the mean is drawn bold.

    `scores`: system (two, the unfiltered one first), patient and a column a measure. `summary` as
    `studies.cascades.compare_filter` gives it; intervals are those of the difference.
    """
    fig = new_figure(WIDTH, 3.6)
    panels = fig.subplots(1, len(summary), squeeze=False)[0]
    for ax, row in zip(panels, summary.itertuples(), strict=True):
        pairs = scores.groupby(["patient", "system"], sort=False)[row.measure].mean().unstack()
        pairs = pairs[list(scores.system.unique())].dropna()
        _pairs(ax, pairs.to_numpy(), (row.before, row.after))
        ax.set_title(MEASURES[row.measure].replace(" at ", "\nat "))
        interval = f"{row.difference_low:+.2f} to {row.difference_high:+.2f}"
        ax.set_xlabel(f"{row.difference:+.2f}\n({interval})\n{row.n_patients} patients", fontsize=9)
        ax.set_ylim(0, None if row.measure in COUNTS else 1.0)
    return fig


def _pairs(ax: Axes, pairs, means: tuple[float, float]) -> None:
    look = {"marker": "o", "clip_on": False}
    for before, after in pairs:
        ax.plot([0, 1], [before, after], color=LIGHT_GREY, linewidth=1.2, markersize=4, **look)
    ax.plot([0, 1], means, color=ORANGE, linewidth=3, markersize=7, **look)
    ax.set_xticks([0, 1], ["without", "with"], color=BLACK)
    ax.set_xlim(-0.25, 1.25)


def conclude_filter(summary: pd.DataFrame) -> list[str]:
    """What may be said of each measure of `summary` (`compare_filter`), a sentence each."""
    sentences = []
    for row in summary.itertuples():
        name = MEASURES[row.measure]
        if not row.n_patients:
            sentences.append(f"{name}: undefined for every patient.")
            continue
        sentences.append(
            f"{name} a patient: {row.before:.2f} without the forest, {row.after:.2f} with it; "
            f"difference {row.difference:+.2f} (95 % interval {row.difference_low:+.2f} to "
            f"{row.difference_high:+.2f}, {p_words(row.p_holm)}, {row.n_patients} patients). {_verdict(row)}"
        )
    return sentences


def _verdict(row) -> str:
    if row.difference_low == row.difference_high == 0:
        return "The forest changed nothing."
    if pd.isna(row.difference_low):
        return "One patient has no interval."
    gain = -verdict(row) if row.measure in COUNTS else verdict(row)
    return {1: "The forest helps here.", -1: "The forest harms here.", 0: "No difference is shown."}[gain]
