"""Systems side by side: how they learnt, and how they differ on the same patients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from livseg_lib.evaluation.statistics import verdict
from livseg_lib.reporting.style import (
    BLACK,
    BLUE,
    GREY,
    VERMILLION,
    WIDTH,
    name_lines,
    new_figure,
    structure_name,
    styled,
    system_look,
)

DICE_BELOW_THE_ENDS = 0.3
"""How far below the lowest end of a curve its panel begins: the first epochs would flatten the rest."""


@styled
def curves_of_systems(histories: Mapping[str, pd.DataFrame], structures: Sequence[str]) -> Figure:
    """Validation Dice against epochs (left) and against minutes of training (right), a row a structure.

    `histories` maps a system to a row an epoch: `epoch`, `seconds` (of the epoch) and
    `val_<structure>_dice`, 0 to 1. A system that does not learn a structure has no line there. Names stand
    at the ends of the lines; very low first epochs are cut off.
    """
    fig = new_figure(WIDTH, 0.5 + 3.2 * len(structures))
    rows = fig.subplots(max(1, len(structures)), 2, squeeze=False, sharex="col", sharey="row")
    for axes, structure in zip(rows, structures, strict=False):
        column, ends = f"val_{structure}_dice", {}
        for number, (system, history) in enumerate(histories.items()):
            if column not in history:
                continue
            minutes = history["seconds"].cumsum() / 60
            for ax, x in zip(axes, (history["epoch"], minutes), strict=True):
                ax.plot(x, history[column], markersize=3, **system_look(number))
            ends[system] = (minutes.iloc[-1], history[column].iloc[-1], system_look(number)["color"])
        axes[0].set(title=f"{structure_name(structure)}, validation patients", ylabel="Dice")
        axes[0].xaxis.set_major_locator(MaxNLocator(6, integer=True))
        if ends:
            _limit_dice(axes[0], [y for _, y, _ in ends.values()])
            name_lines(axes[1], ends)
    rows[-1][0].set_xlabel("epoch")
    rows[-1][1].set_xlabel("minutes of training")
    return fig


@styled
def paired_differences(table: pd.DataFrame) -> Figure:
    """A forest of differences in Dice: a panel a family and structure, a line a pair, mean and 95 % interval.

    `table` as `livseg_lib.evaluation.statistics.compare_systems` gives it. Pairs that differ by
    `verdict` are drawn in colour.
    """
    structures, families = table["structure"].unique(), table["family"].unique()
    lines = [int((table["family"] == f).groupby(table["structure"]).sum().max()) for f in families]
    fig = new_figure(WIDTH, 0.8 + 0.21 * sum(lines) + 0.55 * len(families))
    heights = [count + 0.5 for count in lines]
    panels = fig.subplots(len(families), len(structures), squeeze=False, height_ratios=heights)
    for row, family, height in zip(panels, families, lines, strict=True):
        for ax, structure in zip(row, structures, strict=True):
            pairs = table[(table["family"] == family) & (table["structure"] == structure)]
            _forest(ax, pairs, height)
            question = "against the baseline" if family == "baseline" else "pair by pair"
            ax.set_title(f"{structure_name(structure)}, {question}")
    for ax in panels[-1]:
        ax.set_xlabel("difference in Dice")
    return fig


def _limit_dice(ax: Axes, ends: Sequence[float]) -> None:
    low, high = ax.get_ylim()
    ax.set_ylim(max(0.0, low, min(ends) - DICE_BELOW_THE_ENDS), min(1.0, high))


def _forest(ax: Axes, pairs: pd.DataFrame, lines: int) -> None:
    """`lines` as many as the longest panel beside it has, so that all are spaced alike."""
    ax.axvline(0, color=GREY, linewidth=1)
    to_the_right = {"transform": ax.get_yaxis_transform(), "va": "center", "fontsize": 8.5}
    pairs = pairs.assign(colour=verdict(pairs).map({1: BLUE, -1: VERMILLION, 0: GREY})).to_dict("records")
    for line, pair in enumerate(pairs):
        colour = pair["colour"]
        ax.plot([pair["difference_low"], pair["difference_high"]], [line, line], color=colour)
        ax.plot(pair["difference"], line, "o", color=colour, markersize=5)
        undefined = f" ({pair['n_undefined']} left out)" if pair["n_undefined"] else ""
        ax.text(1.02, line, _p_text(pair["p_holm"]) + undefined, color=colour, **to_the_right)
    header = {"xycoords": "axes fraction", "textcoords": "offset points", "fontsize": 8.5, "color": GREY}
    ax.annotate("p (Holm)", (1.02, 1), (0, 8), **header)
    names = [f"{pair['first']} − {pair['second']}" for pair in pairs]
    ax.set_yticks(range(len(pairs)), names, color=BLACK, fontsize=8.5)
    ax.set_ylim(lines - 0.4, -0.6)
    ax.locator_params(axis="x", nbins=4)
    ax.grid(axis="y", visible=False)


def _p_text(p: float) -> str:
    return "< 0.001" if p < 0.001 else "–" if np.isnan(p) else f"{p:.3f}"
