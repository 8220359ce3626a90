"""Scores by group of patients: dots, intervals, and no more words than the numbers allow."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from livseg_lib.evaluation.statistics import FEWEST_PATIENTS, SIGNIFICANT, verdict
from livseg_lib.reporting.style import BLACK, BLUE, GREY, ORANGE, WIDTH, new_figure, structure_name, styled


@styled
def group_chart(means: pd.DataFrame, mean_of_all: str, names: Mapping[str, str]) -> Figure:
    """A panel a structure, a line a group of patients: the mean of all systems with its interval, and each.

    `means`: structure and the columns of `evaluation.statistics.group_means`, with the row
    `mean_of_all` among the systems. `names` are the factors in words. Groups of fewer patients than an
    interval asks for are hollow.
    """
    structures = list(means.structure.unique())
    lines = _lines(means)
    fig = new_figure(WIDTH, 1.0 + 0.27 * len(lines))
    panels = fig.subplots(1, max(1, len(structures)), sharey=True, squeeze=False)[0]
    for ax, structure in zip(panels, structures, strict=False):
        rows = means[means.structure == structure]
        for line, (factor, group) in enumerate(lines):
            _group(ax, line, rows[(rows.factor == factor) & (rows.group == group)], mean_of_all)
        lowest = float(np.nanmin(rows[["mean", "low"]].to_numpy(float), initial=1.0))
        ax.set_xlim(max(0.0, np.floor(10 * lowest - 0.3) / 10) - 0.01, 1.01)
        ax.set(title=structure_name(structure), xlabel="Dice of a patient, mean")
        ax.grid(axis="y", visible=False)
    _name_lines(panels[0], lines, names)
    return fig


def _lines(means: pd.DataFrame) -> list[tuple[str, str]]:
    """(factor, group) in order, and before each factor a line for its name: (factor, "")."""
    lines: list[tuple[str, str]] = []
    for factor, rows in means.groupby("factor", sort=False):
        lines += [(factor, ""), *((factor, group) for group in rows.group.unique())]
    return lines


def _group(ax: Axes, line: int, rows: pd.DataFrame, mean_of_all: str) -> None:
    of_all = rows.system == mean_of_all
    if not of_all.any():
        return
    ax.scatter(rows["mean"][~of_all], [line] * (~of_all).sum(), s=14, color=GREY, alpha=0.4, linewidth=0)
    row = rows[of_all].iloc[0]
    is_small = row.n_patients < FEWEST_PATIENTS
    colour = ORANGE if row.structure == "tumor" else BLUE
    if not is_small:
        ax.plot([row.low, row.high], [line, line], color=colour, linewidth=2.4, solid_capstyle="butt")
    face = "white" if is_small else colour
    ax.plot(row["mean"], line, "o", color=colour, markerfacecolor=face, markersize=7, markeredgewidth=1.8)
    undefined = f", {row.n_undefined} undefined" if row.n_undefined else ""
    beside = {"transform": ax.get_yaxis_transform(), "va": "center", "fontsize": 8.5, "color": GREY}
    ax.text(1.02, line, f"n = {row.n_patients}{undefined}", **beside)


def _name_lines(ax: Axes, lines: list[tuple[str, str]], names: Mapping[str, str]) -> None:
    ax.set_yticks(range(len(lines)), [group or names[factor] for factor, group in lines], color=BLACK)
    for label, (_, group) in zip(ax.get_yticklabels(), lines, strict=True):
        label.set(fontsize=9, fontweight="normal" if group else "bold", color=GREY if group else BLACK)
    ax.set_ylim(max(1, len(lines)) - 0.4, -0.6)


def conclude_groups(structure: str, differences: pd.DataFrame) -> str:
    """What may be said of `group_differences` of one structure."""
    name = structure_name(structure).capitalize()
    if differences.empty:
        return f"{name}: no two groups have {FEWEST_PATIENTS} patients each; nothing can be compared."
    shown = differences[verdict(differences) != 0]
    if len(shown):
        found = [
            f"{row.first} minus {row.second} ({row.factor.replace('_', ' ').replace('tumor', 'tumour')}) "
            f"{row.difference:+.2f} ({row.difference_low:+.2f} to {row.difference_high:+.2f}, "
            f"p {row.p_holm:.2g} after Holm)"
            for row in shown.itertuples()
        ]
        return f"{name}: {'; '.join(found)}. Groups may differ in more than their name."
    bound = differences.smallest_p_holm.iloc[0]
    few = " With so few patients none could have been." if bound >= SIGNIFICANT else ""
    return f"{name}: none of {len(differences)} differences between groups is shown (Holm).{few}"
