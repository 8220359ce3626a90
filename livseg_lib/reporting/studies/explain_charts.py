"""What the checks of explanations found, in charts and sentences."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from livseg_lib.reporting.style import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    LIGHT_GREY,
    ORANGE,
    VERMILLION,
    WIDTH,
    name_lines,
    new_figure,
    structure_name,
    styled,
    system_look,
)

MAP_LOOKS = {
    "as trained": (BLUE, "o"),
    "random weights": (VERMILLION, "s"),
    "edges of the picture": (GREEN, "^"),
    "the same everywhere": (BLACK, "D"),
}
"""Kinds of maps in explain_pointing.csv."""

UNCHANGED = 0.9
"""A rank correlation from which on two maps show the same places."""


@styled
def sanity_curves(sanity: pd.DataFrame) -> Figure:
    """How alike maps stay while a network's layers are made random from the output down, a line a network.

    `sanity` as explain_sanity.csv. Left the size of the rank correlation of the signed maps, right SSIM of
    what speaks for the structure. 1 is the same map; a place left out is undefined.
    """
    fig = new_figure(WIDTH, 4.4)
    panels = fig.subplots(1, 2, sharey=True)
    titles = {"absolute_correlation": "Rank correlation, size", "similarity": "SSIM"}
    for ax, (column, title) in zip(panels, titles.items(), strict=True):
        ends = {}
        for number, (system, rows) in enumerate(sanity.groupby("system", sort=False)):
            share, look = rows.randomized_layers / rows.layers, system_look(number)
            ax.plot(share, rows[column], markersize=4, **look)
            if rows[column].notna().any():
                last = rows[column].last_valid_index()
                ends[system] = (share[last], rows[column][last], look["color"])
        ax.set(xlim=(-0.02, 1.02), ylim=(-0.05, 1.05), title=title)
        ax.set_xlabel("layers made random, from the output down")
        ax.xaxis.set_major_formatter(lambda share, _: f"{share:.0%}")
    name_lines(ax, ends)
    panels[0].set_ylabel("with the trained network's map")
    return fig


@styled
def pointing_chart(pointing: pd.DataFrame) -> Figure:
    """Share of each kind of map that lies in the truth, a line a network; `pointing` as explain_pointing.csv.

    The bar is the 95 % interval of the trained network's. Hollow: defined in fewer than half of the pictures.
    """
    systems = list(pointing.system.unique())
    fig = new_figure(WIDTH, 1.5 + 0.36 * len(systems))
    ax = fig.subplots()
    for kind, (colour, mark) in MAP_LOOKS.items():
        rows = pointing[pointing.kind == kind].set_index("system").reindex(systems)
        lines = np.arange(len(systems))
        if kind == "as trained":
            ax.hlines(lines, rows.energy_share_low, rows.energy_share_high, color=colour, linewidth=2)
        inside = np.where(_is_rare(rows), "white", colour)
        ax.scatter([], [], s=46, color=colour, marker=mark, label=kind)
        ax.scatter(rows.energy_share, lines, s=46, c=inside, edgecolor=colour, marker=mark, zorder=3)
    ax.set_yticks(range(len(systems)), systems, color=BLACK)
    ax.set_ylim(len(systems) - 0.4, -0.6)
    ax.margins(x=0.03)
    ax.xaxis.set_major_formatter(lambda share, _: f"{share:.1%}")
    [structure] = pointing.structure.unique()
    ax.set_xlabel(f"share of the map within the true {structure_name(structure)}, mean over patients")
    ax.grid(axis="y", visible=False)
    fig.legend(*ax.get_legend_handles_labels(), loc="outside lower left", ncols=4)
    return fig


@styled
def warning_chart(rows: pd.DataFrame, summary: pd.DataFrame) -> Figure:
    """ROC-AUC of each warning for wrong pixels near the outline: a dot a case, mean and 95 % interval.

    `rows` as explain_uncertainty.csv, `summary` as `summarize_warnings` gives it.
    """
    fig = new_figure(WIDTH, 1.1 + 0.5 * len(summary))
    ax = fig.subplots()
    for line, row in enumerate(summary.itertuples()):
        values = rows.roc_auc[(rows.source == row.source) & (rows.measure == row.measure)].dropna()
        offsets = 0.2 * np.sin(2.4 * np.arange(len(values)))  # spread, and the same in every run
        colour = ORANGE if row.source == "outline" else BLUE
        ax.scatter(values, line + offsets, s=30, color=colour, alpha=0.55, linewidth=0)
        _mean_and_interval(ax, line, row)
    ax.axvline(0.5, color=LIGHT_GREY, linewidth=1.5, zorder=0)
    names = [f"{row.source}\n{row.measure}" for row in summary.itertuples()]
    ax.set_yticks(range(len(summary)), names, color=BLACK)
    ax.set(xlim=(min(0.45, rows.roc_auc.min() - 0.03), 1.005), ylim=(len(summary) - 0.5, -0.5))
    ax.set_xlabel("ROC-AUC for wrong pixels near the outline (0.5 is chance)")
    ax.grid(axis="y", visible=False)
    return fig


def _mean_and_interval(ax: Axes, line: int, row) -> None:
    undefined = f", {row.n_undefined} undefined" if row.n_undefined else ""
    ax.plot([row.roc_auc] * 2, [line - 0.3, line + 0.3], color=BLACK, linewidth=2.4)
    ax.plot([row.roc_auc_low, row.roc_auc_high], [line, line], color=BLACK, linewidth=2.4)
    text = {"transform": ax.get_yaxis_transform(), "va": "center", "fontsize": 9, "color": GREY}
    ax.text(1.02, line, f"{row.roc_auc:.3f}   n = {row.n_patients}{undefined}", **text)


def conclude_sanity(sanity: pd.DataFrame) -> list[str]:
    """What may be said of maps under random weights, a sentence each; `sanity` as explain_sanity.csv."""
    ends = sanity[sanity.randomized_layers == sanity.layers].dropna(subset="absolute_correlation")
    first = sanity[sanity.randomized_layers == 1].dropna(subset="absolute_correlation")
    said = []
    if len(ends):
        closest = ends.loc[ends.absolute_correlation.idxmax()]
        reacts = closest.absolute_correlation < UNCHANGED
        said.append(
            "With all weights random, maps keep a rank correlation of "
            f"{ends.absolute_correlation.mean():.2f} in size with their own (mean of networks: {len(ends)}), "
            f"at most {closest.absolute_correlation:.2f} ({closest.system}). "
            + (
                "They react to what was learnt, as they must."
                if reacts
                else "Such maps show the picture alone."
            )
        )
    upside_down = first[(first.absolute_correlation >= UNCHANGED) & (first.rank_correlation < 0)]
    if len(upside_down):
        said.append(
            f"A random last layer alone turns the maps of {', '.join(upside_down.system)} upside down and "
            "changes little else: their places were chosen before the answer was."
        )
    still = first[(first.absolute_correlation >= UNCHANGED) & (first.rank_correlation > 0)]
    if len(still):
        said.append(f"A random last layer hardly changes the maps of {', '.join(still.system)}.")
    if undefined := int(sanity.n_undefined.sum()):
        said.append(
            f"{undefined} of {int(sanity.n_pictures.sum())} comparisons are undefined: one map is flat."
        )
    return said


def _is_rare(rows: pd.DataFrame) -> pd.Series:
    """Whether a kind of map is undefined in more than half of the pictures."""
    return rows.n_undefined > rows.n_pictures / 2


def conclude_pointing(pointing: pd.DataFrame) -> list[str]:
    """Whether maps mark the structure: what is shown by intervals, and what the highest places say.

    Maps that are undefined in more than half of the pictures say nothing.
    """
    pointing = pointing[~_is_rare(pointing)]
    table = pointing.pivot(index="system", columns="kind", values="energy_share")
    table = table.reindex(columns=list(MAP_LOOKS))
    low = pointing[pointing.kind == "as trained"].set_index("system").energy_share_low
    rivals = table.drop(columns="as trained").max(axis=1)
    above = list(table.index[low.reindex(table.index) > rivals])
    [structure] = pointing.structure.unique()
    name = structure_name(structure)
    hits = pointing[pointing.kind == "as trained"].set_index("system").pointing_hit
    verdict = (
        f"The maps of {', '.join(above)} ({len(above)} of {len(table)} networks) lie in the true {name} more "
        "than random weights, edges and a map that is the same everywhere do (lower end of the interval)."
        if above
        else f"No network's map lies in the true {name} more than random weights, edges and a map that is "
        "the same everywhere do (lower end of the interval)."
    )
    best = table["as trained"].max()
    return [
        verdict,
        f"At most {best:.0%} of a network's map lies there on average, and its highest place in "
        f"{np.nanmean(hits):.0%} of the pictures: at the bottleneck such a map is no outline of the {name}."
        if np.isfinite(best)
        else f"No map at the bottleneck speaks for the {name}.",
    ]


def conclude_warnings(summary: pd.DataFrame) -> list[str]:
    """Which uncertainty warns best of wrong pixels, and whether it beats the distance to the outline."""
    known = summary.dropna(subset="roc_auc")
    if known.empty:
        return ["Whether uncertainty warns of wrong pixels is undefined here."]
    nearness = known[known.source == "outline"]
    asked = known[known.source != "outline"]
    best = asked.loc[asked.roc_auc.idxmax()]
    said = [
        f"The best warning of wrong pixels is the {best.measure} of {best.source}: ROC-AUC "
        f"{best.roc_auc:.3f} ({best.roc_auc_low:.3f} to {best.roc_auc_high:.3f}), {best.n_patients} patients."
    ]
    for row in nearness.itertuples():
        more = asked[asked.roc_auc_low > row.roc_auc]
        words = ", ".join(f"{each.measure} of {each.source}" for each in more.itertuples())
        said.append(
            f"The nearness to the outline alone, which needs no second answer, has {row.roc_auc:.3f}. "
            + (f"Intervals above it: {words}." if words else "No uncertainty has its interval above it.")
        )
    return said
