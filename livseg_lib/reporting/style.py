"""How every figure looks: one palette, one set of sizes, no screen needed.

Colours are those of Okabe and Ito (2008), which stay apart for colour-blind readers.
"""

from __future__ import annotations

import matplotlib
from matplotlib.figure import Figure

from livseg_lib.reporting.figure_files import figure_png

BLACK, GREY, LIGHT_GREY = "#1b1f24", "#6b7280", "#d9dde3"
ORANGE, SKY_BLUE, GREEN, YELLOW = "#E69F00", "#56B4E9", "#009E73", "#F0E442"
BLUE, VERMILLION, PURPLE = "#0072B2", "#D55E00", "#CC79A7"

SERIES = (BLUE, VERMILLION, GREEN, ORANGE, PURPLE, SKY_BLUE, BLACK)
"""Colours for systems or curves, in the order they are met; they repeat after seven."""

STRUCTURE_COLOURS = {"liver": SKY_BLUE, "tumor": ORANGE}
"""Outlines on grey CT, where both stay bright."""

STRUCTURE_NAMES = {"liver": "liver", "tumor": "tumour"}

WIDTH = 10.0
"""Width of a full-width figure in inches."""

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
    "xtick.color": GREY,
    "ytick.color": GREY,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "xtick.minor.size": 0,
    "ytick.minor.size": 0,
    "text.color": BLACK,
    "lines.linewidth": 2.0,
    "legend.frameon": False,
    "legend.fontsize": 9.5,
    "image.cmap": "gray",
    "figure.facecolor": "white",
    "figure.constrained_layout.use": True,
    "text.parse_math": False,  # a patient called "$1" is a name, not a formula
}

styled = matplotlib.rc_context(STYLE)
"""Decorator: the function draws in this house's style and leaves the reader's own untouched."""


class ReportFigure(Figure):
    """A figure that a notebook shows as it stands, without pyplot and so without one left open."""

    def _repr_png_(self) -> bytes:
        return figure_png(self, NOTEBOOK_DPI)


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of `width` x `height` inches."""
    return ReportFigure(figsize=(width, height))


def structure_name(structure: str) -> str:
    """The word for people: "tumor" reads "tumour"."""
    return STRUCTURE_NAMES.get(structure, structure)
