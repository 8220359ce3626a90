"""Figures and sentences of the leak audit: what each protocol reports, what the split adds, and why."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from livseg_lib.evaluation.statistics import verdict
from livseg_lib.reporting.charts import metric_name
from livseg_lib.reporting.style import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    LIGHT_GREY,
    ORANGE,
    SKY_BLUE,
    VERMILLION,
    WIDTH,
    new_figure,
    styled,
)

BY_SLICE, BY_PATIENT = (VERMILLION, ORANGE), (BLUE, SKY_BLUE)
"""Colours of protocols: positive slices only, all slices."""


@styled
def split_audit_scores(values: pd.DataFrame, published: Mapping[str, tuple[str, float]]) -> Figure:
    """Every metric under every protocol, mean over patients with its interval, the published figure beside.

    `values` is from `evaluation.inflation.protocol_values`; `published` maps a metric to (source
    letter, value). The loss has an axis of its own.
    """
    colours = protocol_colours(list(values["protocol"].unique()))
    is_loss = values["metric"] == "loss"
    lines = values["metric"].nunique()
    fig = new_figure(WIDTH, (0.13 * len(colours) + 0.2) * lines + 1.7)
    scores, loss = fig.subplots(2, 1, height_ratios=[lines - 1, 1.0])
    for ax, rows in ((scores, values[~is_loss]), (loss, values[is_loss])):
        metrics = list(rows["metric"].unique())
        _draw_groups(ax, rows, metrics, "protocol", colours, value="value")
        _draw_published(ax, rows, metrics, colours, published)
    scores.set(xlim=(-0.02, 1.04), xlabel="score")
    loss.set(xlabel="loss (lower is better)")
    loss.set_xlim(left=0)
    fig.legend(*scores.get_legend_handles_labels(), loc="outside lower left", ncols=3)
    return fig


@styled
def split_audit_inflation(inflation: Mapping[str, pd.DataFrame]) -> Figure:
    """Differences of protocols with their intervals, a panel a question; zero is where nothing is gained.

    Maps who was examined (the network, the copyist) to a table as
    `evaluation.inflation.inflation_table` gives it. The loss, which has no points, is left to
    the tables.
    """
    tables = {who: table[table["metric"] != "loss"] for who, table in inflation.items()}
    first = next(iter(tables.values()))
    questions, metrics = list(first["question"].unique()), list(first["metric"].unique())
    fig = new_figure(WIDTH, 0.42 * len(metrics) + 1.5)
    axes = np.atleast_1d(fig.subplots(1, len(questions), sharex=True, sharey=True))
    colours = dict(zip(tables, (VERMILLION, GREY, GREEN), strict=False))
    for ax, question in zip(axes, questions, strict=True):
        rows = [table[table["question"] == question].assign(who=who) for who, table in tables.items()]
        ax.axvline(0, color=BLACK, linewidth=1)
        _draw_groups(ax, pd.concat(rows), metrics, "who", colours, value="difference")
        ax.set_title(question.replace(", ", ",\n"), fontsize=9.5)
    fig.supxlabel(
        "points (hundredths of a score); right of zero the first protocol looks better", fontsize=10
    )
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower left", ncols=len(tables))
    return fig


@styled
def split_audit_why(shares: pd.DataFrame, distances: pd.DataFrame) -> Figure:
    """Why a split by slice flatters: the neighbours are in the training set, and they are what helps.

    `shares`: protocol, distance (slices), share of held-out slices with a training slice of the same
    patient at most so far away. `distances` is from `evaluation.inflation.by_distance`.
    """
    pairs = list(distances["pair"].unique())
    fig = new_figure(WIDTH, 3.9)
    near, *panels = fig.subplots(1, 1 + len(pairs), width_ratios=[1.1] + [1.0] * len(pairs))
    colours = protocol_colours(list(shares["protocol"].unique()))
    for protocol, rows in shares.groupby("protocol", sort=False):
        near.plot(rows["distance"], rows["share"], "o-", color=colours[protocol], label=protocol, ms=4)
    near.set(xlabel="slices away, at most", ylim=(-0.04, 1.04), xscale="log")
    near.set_xticks(rows["distance"], [f"{number:g}" for number in rows["distance"]])
    near.yaxis.set_major_formatter(lambda share, _: f"{share:.0%}")
    near.set_title("held-out slices with a neighbour\nof their patient in training", fontsize=9.5)
    for ax, pair in zip(panels, pairs, strict=True):
        kind = pair.partition(", ")[2] or "all slices"
        _draw_distances(ax, distances[distances["pair"] == pair], colours, kind)
    fig.legend(*near.get_legend_handles_labels(), loc="outside lower left", ncols=len(colours))
    return fig


def protocol_colours(protocols: list[str]) -> dict[str, str]:
    """By slice in warm colours, by patient in blue; positive slices only stronger where there are both."""
    found = {}
    for colours, deals in ((BY_SLICE, "slice"), (BY_PATIENT, "patient")):
        named = [protocol for protocol in protocols if protocol.startswith(deals)]
        found |= dict(zip(sorted(named, key=len, reverse=True), colours, strict=False))
    return {protocol: found[protocol] for protocol in protocols}


def inflation_sentence(row: Mapping) -> str:
    """One row of the inflation table in words, as the numbers have it: sign, interval, what it decides."""
    name, number = metric_name(row["metric"]), int(row["n_patients"])
    if number < 2 or np.isnan(row["low"]):
        return f"{name}: {number} patients are too few for an interval."
    difference, low, high = (_signed(row[column], row["unit"]) for column in ("difference", "low", "high"))
    unit = " points" if row["unit"] == "points" else ""
    better = (row["difference"] > 0) == (row["unit"] == "points")  # a lower loss is better
    said = f"the first is {'better' if better else 'worse'}"
    if not verdict(pd.Series(row).rename({"low": "difference_low", "high": "difference_high"})):
        said = "no difference is shown, and one beyond the interval is unlikely"
    p = p_words(row["p_holm"])
    return f"{name}: {difference}{unit} (95 % interval {low} to {high}, {p}, {number} patients); {said}."


def _signed(value: float, unit: str) -> str:
    return (f"{value:+.1f}" if unit == "points" else f"{value:+.3f}").replace("-", "−")


def _draw_groups(
    ax: Axes, rows: pd.DataFrame, metrics: list[str], by: str, colours: Mapping[str, str], value: str
) -> None:
    """A line of the axis for each metric, in it a dot with its interval for each value of column `by`."""
    for place, (name, colour) in enumerate(colours.items()):
        own = rows[rows[by] == name].set_index("metric").reindex(metrics)
        lines = np.arange(len(metrics)) + _offset(place, len(colours))
        ax.hlines(lines, own["low"], own["high"], color=colour, linewidth=2)
        ax.plot(own[value], lines, "o", color=colour, label=name, ms=6)
    ax.set_yticks(range(len(metrics)), [metric_name(metric) for metric in metrics], color=BLACK)
    ax.set_ylim(len(metrics) - 0.45, -0.55)
    for line in range(1, len(metrics)):
        ax.axhline(line - 0.5, color=LIGHT_GREY, linewidth=0.8)
    ax.grid(axis="y", visible=False)


def _offset(place: int, count: int) -> float:
    """Of the dot number `place` of `count` from the middle of its line."""
    return (place - (count - 1) / 2) * 0.72 / max(count, 1)


def _draw_published(
    ax: Axes,
    rows: pd.DataFrame,
    metrics: list[str],
    colours: Mapping[str, str],
    published: Mapping[str, tuple[str, float]],
) -> None:
    """Strokes where each protocol's own publication would stand, diamonds where a source's does."""
    for place, name in enumerate(colours):
        own = rows[rows["protocol"] == name].set_index("metric").reindex(metrics)
        lines = np.arange(len(metrics)) + _offset(place, len(colours))
        label = "" if place else "mean over slices, as studies publish it"
        ax.plot(own["over_slices"], lines, "|", color=BLACK, ms=8, mew=1.6, label=label, zorder=3)
    found = [(line, *published[metric]) for line, metric in enumerate(metrics) if metric in published]
    for number, (line, source, value) in enumerate(found):
        label = "" if number else "published, other data (letter: source)"
        ax.plot(value, line, "D", color="white", markeredgecolor=BLACK, ms=7, label=label, zorder=4)
        ax.annotate(source, (value, line), (8, 0), textcoords="offset points", va="center", fontsize=9)


def _draw_distances(ax: Axes, rows: pd.DataFrame, colours: Mapping[str, str], kind: str) -> None:
    """Dice against distance, both protocols of a pair on the same slices."""
    groups = rows.drop_duplicates("from_slices").sort_values("from_slices")
    for protocol, own in rows.groupby("protocol", sort=False):
        own = own.sort_values("from_slices")
        places = np.arange(len(own)) + (0.06 if protocol.startswith("patient") else -0.06)
        ax.vlines(places, own["low"], own["high"], color=colours[protocol], linewidth=2)
        ax.plot(places, own["value"], "o-", color=colours[protocol], linewidth=1.2)
    texts = [
        f"{_range(row['from_slices'], row['to_slices'])}\nn = {row['n_slices']}"
        for row in groups.to_dict("records")
    ]
    ax.set_xticks(range(len(groups)), texts, fontsize=8.5)
    ax.set(xlabel="slices to the nearest of the patient", ylim=(-0.02, 1.02), xlim=(-0.5, len(groups) - 0.5))
    ax.set_title(f"Dice of the same slices,\n{kind}", fontsize=9.5)


def _range(first: float, last: float) -> str:
    if np.isnan(last):
        return f"{first:g}+"
    return f"{first:g}" if first == last else f"{first:g}–{last:g}"


def p_words(p_holm: float) -> str:
    """ "p 0.012 after correction", or that there is none."""
    return f"p {p_holm:.2g} after correction" if p_holm == p_holm else "p undefined"
