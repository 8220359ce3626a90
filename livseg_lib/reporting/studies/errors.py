"""Errors as objects in charts: how they look, what they are, who shares them, and what edges do."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from livseg_lib.evaluation.error_causes import CONTRAST_CLASSES, CONTRAST_EDGES_HU
from livseg_lib.evaluation.errors import FALSE_NEGATIVE, FALSE_POSITIVE
from livseg_lib.reporting.style import (
    BLACK,
    BLUE,
    GREY,
    LIGHT_GREY,
    ORANGE,
    SKY_BLUE,
    VERMILLION,
    WIDTH,
    new_figure,
    styled,
)

LOOKS = {
    "bright texture": VERMILLION,
    "bright, even": ORANGE,
    "textured, not bright": SKY_BLUE,
    "neither": LIGHT_GREY,
    "undefined": "white",
}
"""How a false positive looks, and its colour; the first is system B's class."""

CONTRASTS = dict(
    zip((*CONTRAST_CLASSES, "undefined"), (VERMILLION, ORANGE, LIGHT_GREY, "white"), strict=True)
)
MOST_ORGANS = 7
"""Columns of `what_false_positives_are`; what is rarer goes into "other"."""


@styled
def error_classes_chart(objects: pd.DataFrame, systems: Sequence[str]) -> Figure:
    """Shares of each of `systems`' false positives by look and of its misses by contrast, with counts.

    `objects`: system, error and the columns of `evaluation.error_causes.add_causes`.
    """
    fig = new_figure(WIDTH, 1.6 + 0.32 * len(systems))
    left, right = fig.subplots(1, 2, sharey=True)
    invented = objects[objects.error == FALSE_POSITIVE]
    missed = objects[objects.error == FALSE_NEGATIVE]
    _stack(left, systems, invented.system, _looks(invented), LOOKS)
    _stack(right, systems, missed.system, missed.contrast.fillna("undefined"), CONTRASTS)
    left.set_title("false positives: how they look")
    right.set_title("missed tumours: contrast to the liver around")
    left.set_yticks(range(len(systems)), systems, color=BLACK)
    left.set_ylim(len(systems) - 0.4, -0.6)
    for ax, side in ((left, "left"), (right, "right")):
        handles, labels = ax.get_legend_handles_labels()
        fig.legend(handles, labels, loc=f"outside lower {side}", ncols=2, handlelength=1)
    return fig


def _looks(objects: pd.DataFrame) -> pd.Series:
    bright, textured = objects.brightness == "bright", objects.texture == "textured"
    chosen = [objects.brightness.isna(), bright & textured, bright, textured]
    names = list(LOOKS)
    looks = np.select(chosen, [names[4], *names[:3]], names[3])
    return pd.Series(looks, objects.index, dtype=object)


def _stack(
    ax: Axes, systems: Sequence[str], system: pd.Series, kind: pd.Series, colours: dict[str, str]
) -> None:
    """A bar a system, cut by kind; kinds that nobody has are left out of the legend."""
    counts = pd.crosstab(system, kind).reindex(index=systems, fill_value=0)
    total, left = counts.sum(axis=1), np.zeros(len(systems))
    for name in (name for name in colours if name in counts):
        share = (counts[name] / total.clip(lower=1)).to_numpy()
        look = {"color": colours[name], "edgecolor": GREY, "linewidth": 0.6}
        ax.barh(range(len(systems)), share, left=left, height=0.7, label=name, **look)
        left = left + share
    for line, number in enumerate(total):
        ax.text(
            1.02,
            line,
            f"n = {number}",
            transform=ax.get_yaxis_transform(),
            va="center",
            fontsize=9,
            color=GREY,
        )
    ax.set_xlim(0, 1)
    ax.xaxis.set_major_formatter(lambda share, _: f"{share:.0%}")
    ax.grid(axis="y", visible=False)


@styled
def what_false_positives_are(objects: pd.DataFrame, systems: Sequence[str]) -> Figure:
    """Counts of false positives by what the phantom says they really are, a row for each that has any.

    Darker is a larger share of the system's own; the number stands in each cell. `objects`: system, error,
    is_really.
    """
    invented = objects[objects.error == FALSE_POSITIVE]
    systems = [name for name in systems if name in set(invented.system)]
    common = list(invented.is_really.value_counts().index[:MOST_ORGANS])
    kind = invented.is_really.where(invented.is_really.isin(common), "other")
    counts = pd.crosstab(invented.system, kind).reindex(index=systems)
    counts = counts[[name for name in (*common, "other") if name in counts]]
    share = counts.div(counts.sum(axis=1), axis=0).to_numpy()
    fig = new_figure(0.85 * WIDTH, 1.2 + 0.32 * len(systems))
    ax = fig.subplots()
    ax.imshow(share, cmap="Greys", vmin=0, vmax=1.2, aspect="auto")
    for (line, column), number in np.ndenumerate(counts.to_numpy()):
        colour = "white" if share[line, column] > 0.5 else BLACK
        ax.text(column, line, f"{number}" if number else "·", ha="center", va="center", color=colour)
    ax.set_xticks(range(counts.shape[1]), counts.columns, color=BLACK)
    ax.set_yticks(range(len(systems)), systems, color=BLACK)
    ax.xaxis.tick_top()
    ax.grid(visible=False)
    return fig


@styled
def missed_by_many(shared: pd.DataFrame) -> Figure:
    """Every true tumour by longest diameter and contrast; the darker, the more systems miss it.

    `shared`: error, longest_diameter_mm, contrast_hu, n_wrong, n_systems. Those of unknown size or contrast
    are counted in the title. The grey band is system B's low contrast.
    """
    tumors = shared[shared.error == FALSE_NEGATIVE]
    known = tumors.dropna(subset=["longest_diameter_mm", "contrast_hu"])
    fig = new_figure(0.7 * WIDTH, 4.2)
    ax = fig.subplots()
    edge = CONTRAST_EDGES_HU[0]
    ax.axvspan(-edge, edge, color="#eeeeee", zorder=0)
    share = known.n_wrong.astype(float) / known.n_systems.astype(float)
    look = {"cmap": "cividis_r", "vmin": 0, "vmax": 1, "s": 60, "edgecolors": BLACK, "linewidths": 0.6}
    dots = ax.scatter(
        known.contrast_hu.astype(float), known.longest_diameter_mm.astype(float), c=share, **look
    )
    ax.set_yscale("log")
    ax.set_yticks(ticks := [5, 10, 20, 50, 100], [str(tick) for tick in ticks])
    ax.minorticks_off()
    ax.set(xlabel="contrast (HU), positive: darker than the liver around", ylabel="longest diameter (mm)")
    left_out = f", {len(tumors) - len(known)} without size or contrast" if len(known) < len(tumors) else ""
    ax.set_title(f"{len(tumors)} true tumours{left_out}")
    fig.colorbar(dots, ax=ax, label="share of systems that miss it", format=lambda each, _: f"{each:.0%}")
    return fig


@styled
def edges_chart(found: pd.DataFrame) -> Figure:
    """Share of the volume found of diffuse and of sharp tumours that were hit, a line a system; bars: 95 %.

    `found` as `evaluation.error_causes.volume_found` gives it.
    """
    systems = list(dict.fromkeys(found.system))
    fig = new_figure(0.8 * WIDTH, 1.3 + 0.36 * len(systems))
    ax = fig.subplots()
    looks = {"diffuse": (VERMILLION, "o", -0.15), "sharp": (BLUE, "s", 0.15)}
    for edge, (colour, marker, shift) in looks.items():
        rows = found[found.edge == edge].set_index("system").reindex(systems)
        lines = np.arange(len(systems)) + shift
        ax.hlines(lines, rows.volume_found_low, rows.volume_found_high, color=colour, linewidth=1.8)
        label = f"{edge}, {int(rows.n_tumors.max())} tumours"
        ax.scatter(rows.volume_found, lines, s=42, color=colour, marker=marker, label=label, zorder=3)
        for line, hit in zip(lines, rows.n_hit, strict=True):
            text = {"transform": ax.get_yaxis_transform(), "va": "center", "fontsize": 8, "color": colour}
            ax.text(1.02, line, f"{hit} hit", **text)
    ax.set_yticks(range(len(systems)), systems, color=BLACK)
    ax.set(xlim=(-0.02, 1.02), ylim=(len(systems) - 0.4, -0.6), xlabel="share of the volume that is found")
    ax.grid(axis="y", visible=False)
    fig.legend(loc="outside lower left", ncols=2)
    return fig
