"""FROC: tumours found against false positives a patient, drawn and said."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from livseg_lib.evaluation.froc import FALSE_POSITIVE_RATES, FrocCurve
from livseg_lib.reporting.style import BLACK, LIGHT_GREY, WIDTH, name_lines, new_figure, styled, system_look

FEWEST = 1 / 16
"""False positives a patient at the left edge, where 0 is drawn too: a logarithm has no 0."""


@styled
def froc_figure(curves: Mapping[str, FrocCurve], table: pd.DataFrame) -> Figure:
    """Left: a line a network. Right: where every system's own outlines lie, over the same lines.

    `table` as froc.csv: system, recall and false_positives (a patient). Circles are networks at their own
    threshold, diamonds systems without probabilities. The score is the mean recall at 1/8 to 8.
    """
    most = max(16.0, 1.3 * float(table.false_positives.max()))
    fig = new_figure(WIDTH, 4.8)
    left, right = fig.subplots(1, 2, sharey=True)
    looks = {system: system_look(number) for number, system in enumerate(curves)}
    ends = {}
    for system, curve in curves.items():
        x, y = np.maximum(curve.false_positives, FEWEST), curve.recall
        look = {"color": looks[system]["color"], "linestyle": looks[system]["linestyle"]}
        left.plot(x, y, drawstyle="steps-post", linewidth=1.8, **look)
        right.plot(x, y, drawstyle="steps-post", linewidth=1, color=LIGHT_GREY)
        ends[system] = (min(x[-1], most), y[-1], look["color"])
    marks = _marks(right, table, looks)
    for ax, title in ((left, "Networks, every threshold"), (right, "Every system as it outlines tumours")):
        _axes(ax, most)
        ax.set_title(title)
    left.set_ylabel("share of the tumours that are found")
    name_lines(left, ends)
    name_lines(right, marks)
    return fig


def _marks(ax: Axes, table: pd.DataFrame, looks: Mapping[str, dict]) -> dict[str, tuple[float, float, str]]:
    """Draw each system's point; those of systems without a curve come back, to be named."""
    named = {}
    for row in table.itertuples():
        x = max(row.false_positives, FEWEST)
        if row.system in looks:
            look = {"marker": "o", "markerfacecolor": "white", "color": looks[row.system]["color"]}
        else:
            look = {"marker": "D", "color": BLACK}
            named[row.system] = (x, row.recall, BLACK)
        ax.plot(x, row.recall, markersize=7, markeredgewidth=2, linewidth=0, clip_on=False, zorder=4, **look)
    return named


def _axes(ax: Axes, most: float) -> None:
    ax.set_xscale("log", base=2)
    ax.set(xlim=(FEWEST, most), ylim=(0, 1), xlabel="false positives a patient")
    rates = [rate for rate in (*FALSE_POSITIVE_RATES, 16, 32, 64) if rate < most]
    ax.xaxis.set_major_locator(FixedLocator(rates))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_xticklabels([str(Fraction(rate)) for rate in rates])
    ax.grid(axis="x", linestyle="dotted", color=LIGHT_GREY)


def conclude_froc(table: pd.DataFrame) -> list[str]:
    """What may be said of froc.csv, a sentence each; no system is called better than another."""
    curves = table.dropna(subset="froc_score")
    if curves.empty:
        return ["There is no tumour among the test patients, or no network that looks for any."]
    best, first = curves.loc[curves.froc_score.idxmax()], table.iloc[0]
    sentences = [
        f"{first.n_tumors} tumours of {first.n_patients} test patients, counted on the pictures' grid.",
        f"Highest mean recall over the seven rates: {best.froc_score:.2f} ({best.froc_score_low:.2f} to "
        f"{best.froc_score_high:.2f}), {best.system}. At one false positive a patient it finds "
        f"{best.recall_at_1:.0%} ({best.recall_at_1_low:.0%} to {best.recall_at_1_high:.0%}).",
    ]
    many = table.loc[table.false_positives > max(FALSE_POSITIVE_RATES), "system"]
    if len(many):
        sentences.append(f"More than 8 false positives a patient, as they outline: {', '.join(many)}.")
    return sentences
