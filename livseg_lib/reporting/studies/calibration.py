"""Reliability diagrams, and what may be said of probabilities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from livseg_lib.evaluation.probabilities import BINS, ReliabilityCurve
from livseg_lib.evaluation.statistics import verdict
from livseg_lib.reporting.style import BLACK, BLUE, GREY, WIDTH, new_figure, structure_name, styled

PANELS_A_ROW = 4
LARGEST_DOT = 90.0
"""Points², of a bin with all pixels."""


@dataclass(frozen=True)
class Reliability:
    """What one panel shows."""

    together: ReliabilityCurve
    """Of all patients' pixels."""
    patients: Sequence[ReliabilityCurve]
    error: tuple[float, float, float]
    """The expected calibration error and the ends of its interval."""


@styled
def reliability_diagrams(found: Mapping[str, Reliability]) -> Figure:
    """A panel a system: probability that was said against the share that was true, dots by bins.

    Above the diagonal a network is too careful, below it too sure. Thin lines: single patients. The area of
    a dot grows with the share of the pixels in its bin.
    """
    rows = max(1, -(-len(found) // PANELS_A_ROW))
    fig = new_figure(WIDTH, 0.4 + 2.7 * rows)
    panels = fig.subplots(rows, PANELS_A_ROW, squeeze=False, sharex=True, sharey=True)
    for ax, (system, each) in zip(panels.flat, found.items(), strict=False):
        _diagram(ax, each)
        error, low, high = each.error
        ax.set_title(f"{system}\nECE {error:.3f} ({low:.3f} to {high:.3f})", fontsize=9.5)
    for ax in list(panels.flat)[len(found) :]:
        ax.set_visible(False)
    fig.supxlabel("probability that the network gave", fontsize=10, color=GREY)
    fig.supylabel("share of pixels that are in the structure", fontsize=10, color=GREY)
    return fig


def _diagram(ax: Axes, each: Reliability) -> None:
    ax.plot([0, 1], [0, 1], color=BLACK, linestyle="dashed", linewidth=1, zorder=2.5)
    alpha = min(0.35, 4 / max(1, len(each.patients)))
    for curve in each.patients:
        filled = curve.pixels > 0
        ax.plot(curve.probability[filled], curve.frequency[filled], color=GREY, alpha=alpha, linewidth=0.8)
    curve = each.together
    filled = curve.pixels > 0
    said, true, pixels = (column[filled] for column in curve)
    ax.plot(said, true, color=BLUE)
    # The root, or all but the first bin would vanish: most pixels are sure background.
    areas = 8 + LARGEST_DOT * np.sqrt(pixels / max(1, pixels.sum()))
    ax.scatter(said, true, s=areas, color=BLUE, linewidth=0, zorder=3, clip_on=False)
    ax.set(xlim=(0, 1), ylim=(0, 1), aspect="equal", xticks=[0, 0.5, 1], yticks=[0, 0.5, 1])
    ax.tick_params(labelbottom=True)


def conclude_calibration(table: pd.DataFrame) -> list[str]:
    """What may be said of each structure, a sentence each; `table` as calibration.csv."""
    sentences = []
    for structure, rows in table.groupby("structure", sort=False):
        near = rows[rows.region == "near"].dropna(subset="ece")
        everywhere = rows[rows.region == "picture"].set_index("system").ece.reindex(near.system)
        if near.empty:
            continue
        best, worst = near.loc[near.ece.idxmin()], near.loc[near.ece.idxmax()]
        flattered = (near.ece.to_numpy() / everywhere.to_numpy()).mean()
        sure, name = near.true_when_sure.dropna(), structure_name(structure)
        sentences.append(
            f"{name.capitalize()}: expected calibration error {best.ece:.3f} "
            f"({best.ece_low:.3f} to {best.ece_high:.3f}, {best.system}) to {worst.ece:.3f} "
            f"({worst.ece_low:.3f} to {worst.ece_high:.3f}, {worst.system}) near the structure, on average "
            f"{flattered:.1f} times what whole pictures make it. Of the pixels that networks are surest of, "
            f"above {1 - 1 / BINS:.2f}, {sure.min():.0%} to {sure.max():.0%} are {name}. "
            f"Brier skill {near.brier_skill.min():.2f} to {near.brier_skill.max():.2f}."
        )
    return sentences


def conclude_thresholds(table: pd.DataFrame) -> list[str]:
    """Whether the choice of thresholds was good, a sentence a structure; `table`: `threshold_table`."""
    sentences = []
    for structure, rows in table.groupby("structure", sort=False):
        found = verdict(rows.rename(columns={"gain_low": "difference_low", "gain_high": "difference_high"}))
        better, worse = (found > 0).sum(), (found < 0).sum()
        worst = rows.loc[rows.regret.idxmax()]
        sentences.append(
            f"{structure_name(structure).capitalize()}: on test patients the chosen threshold is shown to be "
            f"better than 0.5 for {better} of {len(rows)} networks and worse for {worse} (p "
            f"corrected for their number). With hindsight it costs at most {worst.regret:.3f} Dice "
            f"({worst.system}: {worst.threshold:g} chosen, "
            f"{worst.hindsight_threshold:g} best on the test patients)."
        )
    return sentences
