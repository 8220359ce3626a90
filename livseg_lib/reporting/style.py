"""How every figure looks: one palette, one set of sizes, no screen needed, names beside lines and marks.

Colours are those of Okabe and Ito (2008), which stay apart for colour-blind readers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache, wraps
from typing import TYPE_CHECKING, ParamSpec, TypeVar

import numpy as np

from livseg_lib.outputs import figure_png

if TYPE_CHECKING:  # `livseg predict` wants the colours alone: matplotlib takes long to import
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Given, Drawn = ParamSpec("Given"), TypeVar("Drawn")
BLACK, GREY, LIGHT_GREY = "#1b1f24", "#6b7280", "#d9dde3"
ORANGE, SKY_BLUE, GREEN, YELLOW = "#E69F00", "#56B4E9", "#009E73", "#F0E442"
BLUE, VERMILLION, PURPLE = "#0072B2", "#D55E00", "#CC79A7"
STRUCTURE_COLOURS = {"liver": SKY_BLUE, "tumor": ORANGE}  # outlines on grey CT, where both stay bright
WIDTH = 10.0  # width of a full-width figure in inches
NOTEBOOK_DPI = 100

STYLE = {
    "font.size": 10,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 8,
    "axes.labelcolor": GREY,
    "axes.edgecolor": LIGHT_GREY,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": "#eceff3",
    "grid.linewidth": 0.8,
    **{f"{axis}tick.color": GREY for axis in "xy"},
    **{f"{axis}tick.{kind}.size": 0 for axis in "xy" for kind in ("major", "minor")},
    "text.color": BLACK,
    "lines.linewidth": 2.0,
    "legend.frameon": False,
    "legend.fontsize": 9.5,
    "image.cmap": "gray",
    "figure.facecolor": "white",
    "figure.constrained_layout.use": True,
    "text.parse_math": False,  # a patient called "$1" is a name, not a formula
}


def styled(draw: Callable[Given, Drawn]) -> Callable[Given, Drawn]:
    """Decorator: the function draws in this house's style and leaves the reader's own untouched."""

    @wraps(draw)
    def drawn(*args: Given.args, **kwargs: Given.kwargs) -> Drawn:
        import matplotlib

        with matplotlib.rc_context(STYLE):
            return draw(*args, **kwargs)

    return drawn


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of `width` x `height` inches, which a notebook shows without pyplot."""
    return _figure_class()(figsize=(width, height))


@cache
def _figure_class() -> type[Figure]:
    from matplotlib.figure import Figure

    class ReportFigure(Figure):
        def _repr_png_(self) -> bytes:
            return figure_png(self, NOTEBOOK_DPI)

    return ReportFigure


def structure_name(structure: str) -> str:
    """The word for people: "tumor" reads "tumour"."""
    return "tumour" if structure == "tumor" else structure


SERIES = (BLUE, VERMILLION, GREEN, ORANGE, PURPLE, SKY_BLUE, BLACK)
DASHES = ("solid", "dashed", "dotted")  # of the first seven series, the next seven, ...: colours repeat
MARKERS = ("o", "s", "^", "D", "v", "P", "X")


def series_look(number: int) -> dict:
    """Colour, dashes and marker of the series with this number, from 0."""
    turn, place = divmod(number, len(SERIES))
    dashes = DASHES[turn % len(DASHES)]
    return {"color": SERIES[place], "linestyle": dashes, "marker": MARKERS[place], "linewidth": 1.6}


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
    text = {"fontsize": 9, "va": "center", "annotation_clip": False, "textcoords": ax.get_yaxis_transform()}
    for (name, (x, y, colour)), height in zip(ends.items(), heights, strict=True):
        line = {"arrowstyle": "-", "color": colour, "linewidth": 0.6, "alpha": 0.6}
        ax.annotate(name, (x, y), (1.05, height), color=colour, arrowprops=line, **text)
