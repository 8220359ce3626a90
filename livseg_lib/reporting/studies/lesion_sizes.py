"""Recall by tumour size: which tumours a system finds, in one picture for all systems."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from livseg_lib.reporting.style import BLACK, GREY, ORANGE, WIDTH, new_figure, styled


@styled
def recall_by_size(by_size: pd.DataFrame) -> Figure:
    """Share of the true tumours found at IoU > 0.5, a panel a size class, a line a system. Bars: 95 %.

    `by_size`: system, size_class, n_reference, n_reference_detected, recall (0 to 1), recall_low and
    recall_high, as `summarize_sizes` gives them. Every line says its counts; a class without a tumour too.
    """
    classes, systems = (list(dict.fromkeys(by_size[column])) for column in ("size_class", "system"))
    fig = new_figure(WIDTH, 1.4 + 0.34 * max(1, len(systems)))
    panels = fig.subplots(1, max(1, len(classes)), sharey=True, squeeze=False)[0]
    for ax, name in zip(panels, classes, strict=False):
        rows = by_size[by_size["size_class"] == name].set_index("system").reindex(systems)
        _found_of_a_size(ax, name, rows)
    panels[0].set_yticks(range(len(systems)), systems, color=BLACK)
    panels[0].set_ylim(len(systems) - 0.4, -0.6)
    return fig


def _found_of_a_size(ax: Axes, name: str, rows: pd.DataFrame) -> None:
    """Dots, bars and "3 of 7" beside them."""
    for line, row in enumerate(rows.itertuples()):
        ax.plot([row.recall_low, row.recall_high], [line, line], color=BLACK, linewidth=1.6)
        ax.scatter(row.recall, line, s=60, color=ORANGE, linewidth=0, zorder=3, clip_on=False)
        if row.n_reference > 0:
            counts = f"{row.n_reference_detected:.0f} of {row.n_reference:.0f}"
            ax.text(
                1.04, line, counts, transform=ax.get_yaxis_transform(), va="center", fontsize=9, color=GREY
            )
    if not rows["n_reference"].max() > 0:
        place = {"transform": ax.transAxes, "ha": "center", "va": "center", "fontsize": 9, "color": GREY}
        ax.text(0.5, 0.5, "no such tumour", **place)
    ax.set(xlim=(-0.04, 1.04), title=name, xlabel="share found")
    ax.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
    ax.grid(axis="y", visible=False)
