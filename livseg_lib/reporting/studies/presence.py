"""Tumour or no tumour, picture by picture: what each threshold would have given."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from livseg_lib.reporting.style import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    VERMILLION,
    WIDTH,
    name_lines,
    new_figure,
    styled,
)

COLOURS = {"accuracy": BLACK, "sensitivity": VERMILLION, "specificity": BLUE, "balanced accuracy": GREEN}


@styled
def presence_by_threshold(
    probability: np.ndarray, truth: np.ndarray, threshold: float, levels: Mapping[str, float]
) -> Figure:
    """Accuracy, sensitivity, specificity and balanced accuracy against the threshold.

    `probability` (N,), 0 to 1, and `truth` bool (N,), one a picture; `threshold` is the one in use, drawn
    upright. `levels`: name -> accuracy to compare with, drawn across. A kind of picture that
    does not occur leaves its lines out.
    """
    fig = new_figure(WIDTH * 0.8, 4.2)
    ax = fig.subplots()
    thresholds = np.linspace(0, 1, 256)
    ends = {}
    for name, values in _curves(probability, truth, thresholds).items():
        if not np.isnan(values).any():
            ax.plot(thresholds, values, color=COLOURS[name])
            ends[name] = (1.0, float(values[-1]), COLOURS[name])
    for name, level in levels.items():
        ax.axhline(level, color=GREY, linewidth=1.2, linestyle="dashed")
        ends[name] = (1.0, level, GREY)
    ax.axvline(threshold, color=GREY, linewidth=1, linestyle="dotted")
    ax.text(threshold + 0.01, 0.02, f"in use: {threshold:.2f}", color=GREY, fontsize=9)
    ax.set(xlim=(0, 1), ylim=(-0.02, 1.02), xlabel="threshold", ylabel="share of the test pictures")
    name_lines(ax, ends)
    return fig


def _curves(probability: np.ndarray, truth: np.ndarray, thresholds: np.ndarray) -> dict[str, np.ndarray]:
    predicted = probability >= thresholds[:, None]  # (T, N)
    with np.errstate(invalid="ignore"):
        sensitivity = (predicted & truth).sum(axis=1) / truth.sum()
        specificity = (~predicted & ~truth).sum(axis=1) / (~truth).sum()
    return {
        "accuracy": (predicted == truth).mean(axis=1),
        "sensitivity": sensitivity,
        "specificity": specificity,
        "balanced accuracy": (sensitivity + specificity) / 2,
    }
