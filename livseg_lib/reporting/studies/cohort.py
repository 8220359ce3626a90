"""A cohort at a glance: how measures are spread over its patients, by the truth and by systems."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from livseg_lib.reporting.studies.measures import MEASURES
from livseg_lib.reporting.style import BLACK, GREY, WIDTH, new_figure, styled, system_look

LOGARITHMIC = ("tumor_ml", "largest_tumor_ml", "volume_ml")
"""A few large tumours would press all others against the axis."""


@styled
def cohort_distributions(groups: Mapping[str, pd.DataFrame], measures: Sequence[str]) -> Figure:
    """A panel a measure, a line a group: a dot a patient (or a tumour), a bar at the median.

    `groups`: name -> rows with a column a measure. Rows without a value are counted beside their line; on
    logarithmic panels so are those with 0.
    """
    columns = min(3, len(measures))
    rows = -(-len(measures) // columns)
    fig = new_figure(WIDTH, rows * (0.9 + 0.36 * len(groups)))
    axes = fig.subplots(rows, columns, squeeze=False, sharey=True)
    for ax, measure in zip(axes.ravel(), measures, strict=False):
        for line, rows_of_group in enumerate(groups.values()):
            _dots(ax, line, rows_of_group[measure], measure in LOGARITHMIC, system_look(line)["color"])
        title, unit = MEASURES[measure]
        ax.set_title(f"{title}{f' ({unit})' if unit else ''}")
        ax.grid(axis="y", visible=False)
    for ax in axes.ravel()[len(measures) :]:
        ax.set_axis_off()
    axes[0, 0].set_ylim(len(groups) - 0.4, -0.6)
    for ax in axes[:, 0]:
        ax.set_yticks(range(len(groups)), list(groups), color=BLACK)
    return fig


def _dots(ax: Axes, line: int, values: pd.Series, logarithmic: bool, colour: str) -> None:
    """One group on one panel; dots are spread a little so that equal ones show."""
    shown = values[values > 0] if logarithmic else values.dropna()
    left_out = int(values.isna().sum()), int((values == 0).sum()) if logarithmic else 0
    if logarithmic:
        ax.set_xscale("log")
    spread = line + 0.2 * np.sin(2.4 * np.arange(len(shown)))  # the same in every run
    ax.scatter(shown.sort_values(), spread, s=20, color=colour, alpha=0.65, linewidth=0)
    if len(shown):
        ax.plot([shown.median()] * 2, [line - 0.36, line + 0.36], color=BLACK, linewidth=2.2)
    words = [f"{n} {word}" for n, word in zip(left_out, ("undefined", "with 0"), strict=True) if n]
    if words:
        look = {"transform": ax.get_yaxis_transform(), "fontsize": 8, "color": GREY, "ha": "right"}
        ax.text(1.0, line + 0.42, ", ".join(words), va="center", **look)


def conclude_cohort(table: pd.DataFrame) -> list[str]:
    """Each group of `describe_cohort` in a sentence: who has tumours, and the medians."""
    sentences = []
    for group, rows in table.groupby("group", sort=False):
        by_measure = rows.set_index("measure")
        share = by_measure.loc["has_tumor"]
        if not share.n:
            sentences.append(f"{group}: outlines no tumours.")
            continue
        medians = [
            f"{MEASURES[name][0].lower()} {_told(name, row)}"
            for name, row in by_measure.iterrows()
            if name != "has_tumor" and row.n
        ]
        count = f"{round(share['mean'] * share.n)} of {share.n} patients have a tumour"
        sentences.append(f"{group}: {count}; medians: {', '.join(medians)}.")
    return sentences


def _told(measure: str, row: pd.Series) -> str:
    if measure == "tumor_burden":
        return f"{row['median']:.1%}"
    unit = MEASURES[measure][1]
    digits = ".0f" if row["median"] >= 100 else ".3g"
    return f"{row['median']:{digits}} {unit}".rstrip() + (f" (of {row.n})" if row.n_undefined else "")
