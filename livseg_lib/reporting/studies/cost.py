"""What a Dice costs: time of training, parameters and memory in one picture."""

from __future__ import annotations

from collections.abc import Mapping
from math import sqrt

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FixedLocator, NullLocator

from livseg_lib.reporting.cells import format_number
from livseg_lib.reporting.style import (
    BLACK,
    GREY,
    WIDTH,
    new_figure,
    spread,
    structure_name,
    styled,
    system_look,
)

TIMES = (1, 3, 10, 30, 60, 120, 180, 300, 600, 1200, 1800, 3600, 7200, 18000, 36000, 72000, 180000)
"""Seconds that read well on an axis."""

PANEL_POINTS = 240
"""Width of a panel, roughly."""

HALO = withStroke(linewidth=2.5, foreground="white")


@styled
def cost_against_dice(table: pd.DataFrame, baselines: Mapping[str, float] | None = None) -> Figure:
    """What a Dice costs: a panel a structure, time of training (log) against Dice with its 95 % interval.

    `table` has a row a system and structure: system, structure, dice, dice_low, dice_high, seconds,
    parameters (area of the mark), peak_memory_mb (may be NaN) and remark ("" where the system had the
    budget of the others; else the mark is hollow). `baselines` maps a structure to the Dice of a system
    that learns nothing, drawn as a line. The last panel lists size and memory.
    """
    structures, systems = table["structure"].unique(), list(table["system"].unique())
    fig = new_figure(WIDTH, 4.4)
    ratios = [1.0] * len(structures) + [0.62]
    *panels, key = fig.subplots(1, len(ratios), width_ratios=ratios)
    for ax, structure in zip(panels, structures, strict=True):
        rows = table[table["structure"] == structure].to_dict("records")
        for row in rows:
            _cost_mark(ax, row, system_look(systems.index(row["system"])))
        _cost_axes(ax, structure_name(structure), table["seconds"])
        _baseline(ax, (baselines or {}).get(structure))
        _name_marks(ax, rows, [system_look(systems.index(row["system"]))["color"] for row in rows])
    panels[0].set_ylabel("Dice per test patient")
    _cost_key(key, table.drop_duplicates("system").to_dict("records"))
    return fig


def _cost_mark(ax: Axes, row: dict, look: dict) -> None:
    """Interval and mark; the area grows with the parameters."""
    colour, seconds = look["color"], row["seconds"]
    ax.plot([seconds] * 2, [row["dice_low"], row["dice_high"]], color=colour, linewidth=1.4, alpha=0.6)
    face = "white" if row["remark"] else colour
    mark = {"marker": look["marker"], "linewidth": 1.8, "zorder": 3}
    ax.scatter(seconds, row["dice"], s=_area(row), facecolor=face, edgecolor=colour, **mark)


def _area(row: dict) -> float:
    """Of the mark, in square points."""
    return 25 + 10 * row["parameters"] / 1e6


def _cost_axes(ax: Axes, title: str, seconds: pd.Series) -> None:
    low, high = seconds.min() / 1.4, seconds.max() * 2.4  # room for names on the right
    ax.set(title=title, xlabel="time of training", xscale="log", xlim=(low, high))
    ax.xaxis.set_major_locator(FixedLocator([time for time in TIMES if low <= time <= high], nbins=5))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(
        lambda value, _: format_number("seconds", value).removesuffix(" 00 s").removesuffix(" 00 min")
    )


def _baseline(ax: Axes, dice: float | None) -> None:
    """A line, or words at the foot of the panel where the line would lie far below all marks."""
    if dice is None or np.isnan(dice):
        return
    low, high = ax.get_ylim()
    is_far_below = dice < low - 0.5 * (high - low)
    words, y = f"baseline {dice:.3f}", low if is_far_below else dice
    if is_far_below:
        words += ", below this panel"
        ax.set_ylim(low, high)
    else:
        ax.axhline(dice, color=GREY, linewidth=1.2, linestyle="dashed")
    place = {"transform": ax.get_yaxis_transform(), "va": "bottom", "ha": "right", "zorder": 4}
    ax.text(0.99, y, words, color=GREY, fontsize=8.5, path_effects=[HALO], **place)


def _name_marks(ax: Axes, rows: list[dict], colours: list[str]) -> None:
    """Names to the right of the marks, moved up or down where they would hide each other."""
    low, high = ax.get_ylim()
    heights = spread([row["dice"] for row in rows], 0.05 * (high - low), low, high)
    left, right = ax.get_xlim()
    for row, colour, height in zip(rows, colours, heights, strict=True):
        radius = (sqrt(_area(row)) / 2 + 4) / PANEL_POINTS
        x = row["seconds"] * (right / left) ** radius
        text = {"color": colour, "fontsize": 8.5, "va": "center", "zorder": 4, "path_effects": [HALO]}
        ax.text(x, height, row["system"], **text)


def _cost_key(ax: Axes, rows: list[dict]) -> None:
    """Size and memory of each system, a line each."""
    ax.set_axis_off()
    ax.set(xlim=(0, 1), ylim=(max(11, len(rows)), -1.2))
    lines = [(row["system"] + "*" * bool(row["remark"]), *_size(row)) for row in rows]
    colours = [system_look(number)["color"] for number in range(len(rows))]
    for line, texts in enumerate([("", "parameters", "memory"), *lines], start=-1):
        for x, align, text in zip((-0.2, 0.72, 1.1), ("left", "right", "right"), texts, strict=True):
            colour = GREY if line < 0 else colours[line] if align == "left" else BLACK
            ax.text(x, line, text, color=colour, ha=align, fontsize=8.5)


def _size(row: dict) -> tuple[str, str]:
    """Parameters and memory in words."""
    return format_number("parameters", row["parameters"]), _gigabytes(row["peak_memory_mb"])


def _gigabytes(megabytes: float) -> str:
    return "–" if pd.isna(megabytes) else f"{megabytes / 1024:.1f} GB"
