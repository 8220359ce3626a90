"""How far measures by a system agree with those by the truth, in pictures and sentences."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from livseg_lib.evaluation.statistics import verdict
from livseg_lib.reporting.style import BLACK, BLUE, GREY, SKY_BLUE, WIDTH, new_figure, styled
from livseg_lib.reporting.wording import p_words

MEASURES = {
    "liver_ml": ("Liver volume", "ml"),
    "tumor_ml": ("Tumour volume", "ml"),
    "longest_diameter_mm": ("Longest diameter", "mm"),
    "tumor_burden": ("Tumour burden", ""),
    "n_tumors": ("Tumours", ""),
    "largest_tumor_ml": ("Largest tumour", "ml"),
    "has_tumor": ("Patients with a tumour", ""),
    "volume_ml": ("Volume", "ml"),
    "perpendicular_diameter_mm": ("Diameter across", "mm"),
    "contrast_hu": ("Darker than the liver by", "HU"),
    "distance_to_border_mm": ("Distance from the border", "mm"),
}
"""Columns of measures_patients.csv and measures_tumors.csv -> what people call them, and their unit."""


@styled
def bland_altman_panels(patients: pd.DataFrame, table: pd.DataFrame, reference: str = "truth") -> Figure:
    """Difference from the reference over the mean of both: a row a system, a column a measure.

    `patients`: outlined_by, patient and the measures; `table` as `bland_altman.compare_with_reference` gives
    it. The line is the bias, dashed lines are the limits of agreement; bars at the right edge their intervals
    at 95 %: of the bias in the middle, of the upper limit left of it, of the lower one right.
    """
    systems, measures = list(table.system.unique()), list(table.measure.unique())
    fig = new_figure(WIDTH, 0.5 + 2.5 * len(systems))
    axes = fig.subplots(len(systems), len(measures), squeeze=False)
    for line, system in enumerate(systems):
        for column, measure in enumerate(measures):
            row = table[(table.system == system) & (table.measure == measure)].iloc[0]
            pairs = patients.groupby(["patient", "outlined_by"], sort=False)[measure].mean().unstack()
            ax = axes[line, column]
            _panel(ax, pairs[[system, reference]].dropna(), row)
            name, unit = MEASURES[measure]
            ax.set_title(f"{name}{f' ({unit})' if unit else ''}" if line == 0 else "")
        axes[line, 0].set_ylabel(f"{system}\nminus {reference}", color=BLACK)
    words = "solid: bias, dashed: limits of agreement, bars at the right: their 95 % intervals"
    fig.supxlabel(f"mean of system and {reference}  ({words})", fontsize=10, color=GREY)
    return fig


def _panel(ax: Axes, pairs: pd.DataFrame, row: pd.Series) -> None:
    """Points, bias and limits; nothing but words where no patient has both values."""
    ax.margins(x=0.08, y=0.12)
    ax.axhline(0, color=GREY, linewidth=0.8)
    if pairs.empty:
        ax.text(0.5, 0.6, "undefined for\nevery patient", transform=ax.transAxes, ha="center", color=GREY)
        return
    lines = (("bias", "solid", 1.03), ("lower_limit", "dashed", 1.06), ("upper_limit", "dashed", 1.0))
    for name, look, place in lines:
        if np.isfinite(row[name]):
            ax.axhline(row[name], color=BLUE, linewidth=1.6, linestyle=look)
        ends = [row[f"{name}_low"], row[f"{name}_high"]]
        if np.isfinite(ends).all():
            ax.plot([place] * 2, ends, color=SKY_BLUE, transform=ax.get_yaxis_transform(), clip_on=False)
    ax.scatter(pairs.mean(axis=1), pairs.iloc[:, 0] - pairs.iloc[:, 1], s=26, color=BLACK, zorder=3)
    ax.text(0.97, 0.03, f"n = {len(pairs)}", transform=ax.transAxes, ha="right", fontsize=8.5, color=GREY)


def conclude_agreement_with_truth(table: pd.DataFrame) -> list[str]:
    """What may be said of each row of `compare_with_reference`, a sentence each."""
    return [_sentence(row) for row in table.itertuples()]


def _sentence(row) -> str:
    name, unit = MEASURES[row.measure]
    what = f"{row.system}, {name[0].lower()}{name[1:]}"
    if row.n < 2:
        return f"{what}: {row.n} patients have it by both, too few to compare."

    def told(value: float) -> str:
        return f"{value:+.1f} {unit}" if unit else f"{value:+.3f}"

    bias = pd.Series({"difference_low": row.bias_low, "difference_high": row.bias_high, "p_holm": row.p_holm})
    said = {1: "it measures too much", -1: "it measures too little", 0: "no bias is shown"}[verdict(bias)]
    return (
        f"{what}: bias {told(row.bias)} ({told(row.bias_low)} to {told(row.bias_high)}, "
        f"{p_words(row.p_holm)}), {said}; "
        f"95 % of differences between {told(row.lower_limit)} and {told(row.upper_limit)} "
        f"({row.n} patients{_left_out(row.n_undefined)}); concordance {row.concordance:.2f}."
    )


def _left_out(n_undefined: int) -> str:
    return f", {n_undefined} without it by one of both" if n_undefined else ""
