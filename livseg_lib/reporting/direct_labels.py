"""Names beside lines and marks, so that no reader has to look up a colour."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes

from livseg_lib.reporting.style import SERIES

DASHES, MARKS = ("solid", "dashed", "dotted"), ("o", "s", "D")
"""Of the first seven systems, the next seven, and so on: colours repeat."""


def system_look(number: int) -> dict:
    """Colour, dashes and marker of the system with this number, from 0."""
    turn = number // len(SERIES)
    return {
        "color": SERIES[number % len(SERIES)],
        "linestyle": DASHES[turn % len(DASHES)],
        "marker": MARKS[turn % len(MARKS)],
        "linewidth": 1.6,
    }


def spread(positions: Sequence[float], gap: float, low: float = -np.inf, high: float = np.inf) -> np.ndarray:
    """Positions moved as little as need be until neighbours are `gap` apart, in the same order.

    Labels of lines that nearly meet would hide each other. All stay between `low` and `high` if they fit.
    """

    def bottom(total: float, count: int) -> float:
        return max(low, min(total / count - gap * (count - 1) / 2, high - gap * (count - 1)))

    order = np.argsort(np.asarray(positions, float), kind="stable")
    clusters: list[tuple[float, int]] = []  # sum of the positions, and how many stand around their mean
    for index in order:
        clusters.append((float(positions[index]), 1))
        while len(clusters) > 1 and bottom(*clusters[-2]) + gap * clusters[-2][1] > bottom(*clusters[-1]):
            (total, count), (above, more) = clusters[-2:]
            clusters[-2:] = [(total + above, count + more)]
    moved = np.empty(len(order))
    moved[order] = [bottom(*cluster) + gap * step for cluster in clusters for step in range(cluster[1])]
    return moved


def name_lines(ax: Axes, ends: Mapping[str, tuple[float, float, str]]) -> None:
    """Names at the right edge of `ax`, each joined to its point (x, y, colour) by a thin line."""
    low, high = ax.get_ylim()
    heights = spread([y for _, y, _ in ends.values()], 0.07 * (high - low), low, high)
    for (name, (x, y, colour)), height in zip(ends.items(), heights, strict=True):
        ax.annotate(
            name,
            (x, y),
            (1.05, height),
            textcoords=ax.get_yaxis_transform(),
            color=colour,
            fontsize=9,
            va="center",
            annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": colour, "linewidth": 0.6, "alpha": 0.6},
        )
