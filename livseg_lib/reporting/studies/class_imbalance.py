"""A study of losses in pictures and sentences: which tumours each finds, and what it invents.

Takes the tables of `livseg_lib.studies.losses`. Losses are drawn in the order they are
met, each in one colour throughout.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from livseg_lib.evaluation.statistics import SIGNIFICANT, verdict
from livseg_lib.reporting.style import BLACK, GREY, LIGHT_GREY, WIDTH, new_figure, styled, system_look
from livseg_lib.reporting.wording import p_words

BAR = {"color": BLACK, "linewidth": 1.6, "solid_capstyle": "butt"}


@styled
def recall_by_contrast_chart(recall: pd.DataFrame, summary: pd.DataFrame) -> Figure:
    """Share of tumours found by contrast class and loss; beside it what each loss invents. Bars: 95 %.

    `recall`: loss, contrast, n_tumors, recall, recall_low, recall_high. `summary`: loss and
    false_alarms_per_patient, with _low and _high.
    """
    fig = new_figure(WIDTH, 3.9)
    found, invented = fig.subplots(1, 2, width_ratios=(2.2, 1))
    classes, losses = list(dict.fromkeys(recall.contrast)), list(dict.fromkeys(recall.loss))
    for number, loss in enumerate(losses):
        rows = recall[recall.loss == loss].set_index("contrast").loc[classes]
        x = np.arange(len(classes)) + 0.2 * (number - (len(losses) - 1) / 2)
        _dots_with_intervals(found, x, rows, "recall", number, loss)
    sizes = recall.drop_duplicates("contrast").n_tumors
    names = [f"{name} contrast\n{count} tumours" for name, count in zip(classes, sizes, strict=True)]
    found.set_xticks(range(len(classes)), names, color=BLACK)
    found.set(ylim=(-0.03, 1.03), title="tumours found", ylabel="share of the true ones")
    for number, loss in enumerate(losses):
        rows = summary[summary.loss == loss]
        _dots_with_intervals(invented, [number], rows, "false_alarms_per_patient", number, loss)
    invented.set_xticks([])
    invented.set(title="tumours invented", ylabel="false alarms a patient", xlim=(-0.6, len(losses) - 0.4))
    invented.set_ylim(bottom=0)
    fig.legend(*found.get_legend_handles_labels(), loc="outside lower left", ncols=len(losses))
    return fig


def _dots_with_intervals(ax: Axes, x, rows: pd.DataFrame, name: str, number: int, loss: str) -> None:
    for place, low, high in zip(x, rows[f"{name}_low"], rows[f"{name}_high"], strict=True):
        ax.plot([place, place], [low, high], **BAR)
    ax.scatter(x, rows[name], s=70, color=system_look(number)["color"], label=loss, zorder=3)


@styled
def operating_curves(curve: pd.DataFrame, summary: pd.DataFrame) -> Figure:
    """Share of low-contrast tumours found against false alarms a patient: a line a loss, strict to loose.

    `curve`: loss, threshold, recall, false_alarms. `summary` (loss, false_negative_rate,
    false_alarms_per_patient) at the thresholds chosen is drawn as a ring. Where one line lies above another
    its loss finds more at the same price; where they are one line, a loss only moves along it.
    """
    fig = new_figure(0.62 * WIDTH, 4.2)
    ax = fig.subplots()
    for number, (loss, rows) in enumerate(curve.groupby("loss", sort=False)):
        rows = rows.sort_values("threshold", ascending=False)
        look = system_look(number)
        ax.plot(rows.false_alarms, rows.recall, label=loss, markersize=5, **look)
        point = summary[summary.loss == loss]
        ring = {"s": 150, "facecolors": "none", "edgecolors": look["color"], "linewidths": 1.8}
        ax.scatter(point.false_alarms_per_patient, 1 - point.false_negative_rate, zorder=3, **ring)
    thresholds = sorted(curve.threshold.unique(), reverse=True)
    ax.set_xlabel("false alarms a patient")
    ax.set_ylabel("low-contrast tumours found")
    ax.set_ylim(-0.03, 1.03)
    ax.set_xlim(left=-0.03 * max(1.0, curve.false_alarms.max()))
    ax.set_title(f"thresholds {', '.join(f'{each:g}' for each in thresholds)}; ring: chosen")
    ax.legend(loc="best")
    return fig


@styled
def size_against_contrast(lesions: pd.DataFrame, edges_hu: tuple[float, float]) -> Figure:
    """Every tumour by diameter and contrast, found (filled) or missed (ring), a panel a loss.

    `lesions`: loss, diameter_mm, contrast_hu (positive: darker than the liver), hit. Vertical lines are
    the edges of the contrast classes. Tumours without a contrast are counted in the title.
    """
    groups = list(lesions.groupby("loss", sort=False))
    fig = new_figure(WIDTH, 3.9)
    panels = fig.subplots(1, max(1, len(groups)), squeeze=False, sharex=True, sharey=True)[0]
    for number, (ax, (loss, rows)) in enumerate(zip(panels, groups, strict=False)):
        colour, undefined = system_look(number)["color"], int(rows.contrast_hu.isna().sum())
        for edge in (*edges_hu, *(-edge for edge in edges_hu)):
            ax.axvline(edge, color=LIGHT_GREY, linewidth=1)
        found, missed = rows[rows.hit], rows[~rows.hit]
        ax.scatter(missed.contrast_hu, missed.diameter_mm, s=34, facecolors="none", edgecolors=GREY)
        ax.scatter(found.contrast_hu, found.diameter_mm, s=34, color=colour, linewidth=0)
        left_out = f", {undefined} without contrast" if undefined else ""
        ax.set(title=f"{loss}\nfound {len(found)} of {len(rows)}{left_out}", xlabel="contrast (HU)")
    _room_for_edges(panels[0], lesions, edges_hu)
    panels[0].set_ylabel("diameter (mm)")
    fig.legend(
        [Line2D([], [], marker="o", linestyle="", color=GREY, fillstyle=style) for style in ("full", "none")],
        ["found", "missed"],
        loc="outside lower left",
        ncols=2,
    )
    return fig


def _room_for_edges(ax: Axes, lesions: pd.DataFrame, edges_hu: tuple[float, float]) -> None:
    """As far to either side as there are tumours, and at least to the edges of the low class."""
    low, high = lesions.contrast_hu.min(), lesions.contrast_hu.max()
    ax.set_xlim(np.nanmin([low, -edges_hu[0]]) - 5, np.nanmax([high, edges_hu[1]]) + 5)
    ax.set_yscale("log")
    ax.set_yticks(ticks := [5, 10, 20, 40, 80], [str(tick) for tick in ticks])
    ax.minorticks_off()


def conclude_losses(summary: pd.DataFrame, differences: pd.DataFrame) -> list[str]:
    """What may be said: of all, then of each loss against the baseline (`second` in `differences`).

    `summary` as `summarize_losses` gives it, `differences` as `differences_from`.
    """
    by_loss, sentences = summary.set_index("loss"), [_what_they_are_worth(summary)]
    measured = differences.set_index(["measure", "first"])
    for loss, baseline in differences[["first", "second"]].drop_duplicates().itertuples(index=False):
        ours, theirs = by_loss.loc[loss], by_loss.loc[baseline]
        missed, alarms, dice = (
            measured.loc[(measure, loss)] for measure in ("low_contrast_missed", "false_alarms", "dice")
        )
        sentences.append(
            f"{loss}: misses {ours.n_low_contrast_missed:.0f} of {ours.n_low_contrast:.0f} low-contrast "
            f"tumours, {baseline} {theirs.n_low_contrast_missed:.0f}. {_verdict(missed)} "
            f"False alarms a patient: {ours.false_alarms_per_patient:.1f} against "
            f"{theirs.false_alarms_per_patient:.1f} ({p_words(alarms.p_holm)}); "
            f"Dice {ours.dice_per_case:.3f} against {theirs.dice_per_case:.3f} "
            f"({p_words(dice.p_holm)})."
        )
    return sentences


def _what_they_are_worth(summary: pd.DataFrame) -> str:
    """How good these networks are at all: no reader should take a short training for a verdict."""
    if (summary.n_low_contrast_missed == summary.n_low_contrast).all():
        return "No network found any low-contrast tumour: there is nothing to compare. Train for longer."
    dice = summary.dice_per_case
    return (
        f"All of this holds for networks of this budget, whose Dice is {dice.min():.3f} to {dice.max():.3f} "
        "a patient; others may differ in another way."
    )


def _verdict(missed: pd.Series) -> str:
    """Whether the number of missed low-contrast tumours differs."""
    if not missed.n_patients:
        return "No patient has such a tumour: nothing can be said."
    if side := verdict(missed):
        return f"That is {'fewer' if side < 0 else 'more'} ({p_words(missed.p_holm)})."
    bound = missed.smallest_p_holm
    hopeless = pd.isna(bound) or bound >= SIGNIFICANT
    why = "; too few of them differ at all" if hopeless else ""
    who = f"{missed.n_patients} patients who have such tumours"
    return f"No difference is shown with {who} ({p_words(missed.p_holm)}{why})."
