"""Charts from tables: five kinds that nearly every study needs, how a training went, what became of tumours.

The five take a table with one row a mark and names of its columns. Lines, panels and series come in the order
in which the table has them; what else a chart needs is set on `figure.axes` afterwards.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from matplotlib.ticker import LogFormatter, MaxNLocator

from livseg_lib.reporting import style

if TYPE_CHECKING:  # only named in signatures
    from livseg_lib.evaluation.follow_up import FollowUp

MOST_PANELS_A_ROW = 4
SHADES = LinearSegmentedColormap.from_list("shades", ["white", style.BLUE])
HALO = withStroke(linewidth=2.5, foreground="white")


@style.styled
def interval_chart(
    rows: pd.DataFrame,
    value: str,
    line: str,
    panel: str | None = None,
    series: str | None = None,
    colours: Mapping[str, str] | None = None,
    dots: pd.DataFrame | None = None,
    stroke: str | None = None,
    at: float | None = None,
    xlabel: str = "",
) -> Figure:
    """Values with their intervals, a line for each value of column `line`, a panel for each of `panel`.

    The interval is in columns `<value>_low` and `<value>_high`, if the table has them; NaN draws nothing.
    Several `series` of one line stand below each other, in `colours` (series -> colour), with a legend.
    `dots` has the same columns and is what a value sums up, such as patients: drawn pale, with the value as
    a black bar. Column `stroke` is drawn as an upright stroke, such as the truth; `at` is a line across
    the panels, such as 0. Optional columns: `beside` (text at the right), `hollow` (bool: an open mark).
    """
    looks = _looks(rows, series, colours)
    parts = [column for column in (panel, line) if column]
    is_several = series is not None and rows.groupby(parts)[series].nunique().max() > 1
    step = 0.72 / len(looks) if is_several else 0.0
    height = 0.36 if dots is not None else 0.14 * len(looks) + 0.16 if is_several else 0.27
    fig, axes = _panels(rows, panel, 0.6, xlabel, line=line, line_height=height)
    for title, ax in axes.items():
        in_panel = _only(rows, panel, title)
        names = list(in_panel[line].unique())
        if at is not None:
            ax.axvline(at, color=style.GREY, linewidth=1)
        for number, (key, look) in enumerate(looks.items()):
            look = look if is_several else look | {"marker": "o"}
            data, shift = _only(in_panel, series, key), step * (number - (len(looks) - 1) / 2)
            line_y = np.array([names.index(name) for name in data[line]]) + shift
            if dots is not None:
                _dots(ax, _only(_only(dots, panel, title), series, key), value, line, names, shift, look)
            _intervals(ax, data, value, line_y, look, as_bar=dots is not None)
            if stroke:
                upright = {"color": style.BLACK, "markersize": 13, "markeredgewidth": 2, "zorder": 4}
                ax.plot(data[stroke], line_y, "|", **upright)
            _beside(ax, line_y, data, look["color"] if is_several else style.GREY)
    _finish(fig, axes, looks)
    return fig


@style.styled
def lines(
    rows: pd.DataFrame,
    x: str,
    y: str,
    series: str,
    panel: str | None = None,
    colours: Mapping[str, str] | None = None,
    names: str = "ends",
    columns: int | None = None,
    xlabel: str = "",
    ylabel: str = "",
) -> Figure:
    """A line for each value of column `series`, a panel for each of `panel`, `columns` panels in a row.

    `names` of series stand at the "ends" of the lines of the last panel in a row, in a "legend" below, or
    nowhere (""). Points of few are marked. Columns `<y>_low` and `<y>_high`, if there, are upright bars.
    """
    looks = _looks(rows, series, colours)
    fig, axes = _panels(rows, panel, 3.4, xlabel, columns)
    for title, ax in axes.items():
        ends = {}
        for key, look in looks.items():
            data = _only(_only(rows, panel, title), series, key).dropna(subset=[x, y])
            if data.empty:
                continue
            if f"{y}_low" in data:
                ax.vlines(data[x], data[f"{y}_low"], data[f"{y}_high"], color=look["color"], linewidth=1.6)
            options = {name: look[name] for name in ("color", "linestyle")}
            marker = look["marker"] if len(data) <= 20 else None
            ax.plot(data[x], data[y], marker=marker, markersize=4, linewidth=1.7, **options)
            ends[style.structure_name(key)] = (data[x].iloc[-1], data[y].iloc[-1], look["color"])
        subplot = ax.get_subplotspec()
        if subplot.is_first_col():
            ax.set_ylabel(ylabel)
        if names == "ends" and ends and (subplot.is_last_col() or ax is fig.axes[-1]):
            style.name_lines(ax, ends)
    _finish(fig, axes, looks if names == "legend" else {})
    return fig


@style.styled
def scatter(
    rows: pd.DataFrame,
    x: str,
    y: str,
    series: str | None = None,
    panel: str | None = None,
    colours: Mapping[str, str] | None = None,
    shade: str | None = None,
    xlabel: str = "",
    ylabel: str = "",
) -> Figure:
    """A mark a row, coloured by column `series`, or by `shade` (0 to 1, with a colour bar).

    Columns `<y>_low` and `<y>_high` are drawn as upright bars. Optional columns: `hollow` (bool: an open
    mark), `size` (points²), `name` (text beside the mark; names move where they would hide each other).
    """
    looks = _looks(rows, series, colours)
    fig, axes = _panels(rows, panel, 3.6, xlabel)
    for title, ax in axes.items():
        for key, look in looks.items():
            data = _only(_only(rows, panel, title), series, key)
            if f"{y}_low" in data:
                bar = {"color": look["color"], "linewidth": 1.4, "alpha": 0.6}
                ax.vlines(data[x], data[f"{y}_low"], data[f"{y}_high"], **bar)
            options = {"s": data.get("size", 42), "marker": look["marker"], "linewidth": 1.4, "zorder": 3}
            if shade:
                options |= {"cmap": "cividis_r", "vmin": 0, "vmax": 1, "edgecolor": style.BLACK}
                marks = ax.scatter(data[x], data[y], c=data[shade].astype(float), **options)
            else:
                options |= {"facecolor": _faces(data, look["color"]), "edgecolor": look["color"]}
                ax.scatter(data[x], data[y], **options)
        if "name" in rows:
            _name_marks(ax, _only(rows, panel, title), x, y, looks, series)
    fig.axes[0].set_ylabel(ylabel)
    if shade:
        fig.colorbar(marks, ax=list(axes.values()), label=shade.replace("_", " "))
    _finish(fig, axes, looks if "name" not in rows else {})
    return fig


@style.styled
def bars(
    rows: pd.DataFrame,
    value: str,
    line: str,
    part: str | None = None,
    panel: str | None = None,
    colours: Mapping[str, str] | None = None,
    xlabel: str = "",
) -> Figure:
    """A bar for each value of column `line`; rows of one line, its parts, follow each other along the bar.

    Columns `<value>_low` and `<value>_high` are drawn as a thin line. Optional columns: `text` (within
    the part), `beside` (at the right; one text a line).
    """
    looks = _looks(rows, part, colours)
    fig, axes = _panels(rows, panel, 0.6, xlabel, line=line, line_height=0.3)
    for title, ax in axes.items():
        in_panel = _only(rows, panel, title)
        names = list(in_panel[line].unique())
        left = np.zeros(len(names))
        ax.locator_params(axis="x", integer=bool((rows[value] % 1 == 0).all()))  # counts
        for key, look in looks.items():
            data = _only(in_panel, part, key)
            line_y = np.array([names.index(name) for name in data[line]], int)
            edge = {"edgecolor": "white", "linewidth": 0.8}
            ax.barh(line_y, data[value], left=left[line_y], height=0.7, color=look["color"], **edge)
            if f"{value}_low" in data:
                ax.hlines(line_y, data[f"{value}_low"], data[f"{value}_high"], color=style.BLACK, linewidth=1)
            for y, length, text in zip(line_y, data[value], data.get("text", []), strict=False):
                ax.text(left[y] + length / 2, y, text, ha="center", va="center")
            _beside(ax, line_y, data, style.GREY)
            left[line_y] += data[value].fillna(0).to_numpy()
    _finish(fig, axes, looks, marker="s", markersize=9, linestyle="")
    return fig


@style.styled
def matrix(panels: Mapping[str, pd.DataFrame], xlabel: str = "", ylabel: str = "") -> Figure:
    """Counts in cells, a panel a table (title -> counts); index and columns are the names. Shades are shares
    of a row (an empty row stays white), written below the counts of up to four rows."""
    size = max((len(counts) for counts in panels.values()), default=1)
    fig = style.new_figure(style.WIDTH, 1.2 + (0.85 if size <= 4 else 0.4) * size)
    axes = fig.subplots(1, max(1, len(panels)), squeeze=False, sharey=True)[0]
    for ax, (title, counts) in zip(axes, panels.items(), strict=False):
        shares = counts.div(counts.sum(axis=1).clip(lower=1), axis=0).to_numpy()
        ax.imshow(shares, cmap=SHADES, vmin=0, vmax=1, aspect="auto")
        for (row, column), count in np.ndenumerate(counts.to_numpy()):
            share = shares[row, column]
            text = f"{count}\n{share:.0%}" if size <= 4 else f"{count}"
            colour = "white" if share > 0.6 else style.BLACK if count else style.GREY
            ax.text(column, row, text if count else "·", ha="center", va="center", fontsize=9, color=colour)
        ax.set_xticks(range(counts.shape[1]), counts.columns, color=style.BLACK, fontsize=8.5)
        ax.set_yticks(range(len(counts)), counts.index, color=style.BLACK, fontsize=8.5)
        ax.set(title=title, xlabel=xlabel)
        ax.grid(visible=False)
    axes[0].set_ylabel(ylabel)
    return fig


def _panels(
    rows: pd.DataFrame,
    panel: str | None,
    height: float,
    xlabel: str,
    columns: int | None = None,
    line: str | None = None,
    line_height: float = 0.0,
) -> tuple[Figure, dict[object, Axes]]:
    """A figure and its panels by what column `panel` says.

    A panel has `height` inches, and `line_height` more for each value of column `line`, or 0.6 where names
    have two rows. Lines are named from the top down; panels with the same ones name them once.
    """
    titles = (list(rows[panel].unique()) if panel else []) or [""]
    columns = columns or (len(titles) if len(titles) <= MOST_PANELS_A_ROW else 3)
    of_panels = [list(_only(rows, panel, title)[line].unique()) for title in titles] if line else []
    most = max(1, *map(len, of_panels), 0)
    if line and rows[line].astype(str).str.contains("\n").any():
        line_height = max(line_height, 0.6)
    count = -(-len(titles) // columns)
    fig = style.new_figure(style.WIDTH, 0.5 + (height + line_height * most) * count)
    is_shared = bool(of_panels) and all(names == of_panels[0] for names in of_panels)
    axes = fig.subplots(count, columns, squeeze=False, sharey=is_shared).ravel()
    for ax in axes[len(titles) :]:
        ax.remove()
    for ax, title in zip(axes, titles, strict=False):
        ax.set(title=style.structure_name(title), xlabel=xlabel)
    for ax, names in zip(axes, of_panels, strict=False):
        ax.set_ylim(most - 0.4, -0.6)
        ax.grid(axis="y", visible=False)
        ax.locator_params(axis="x", nbins=9 // min(len(titles), columns) + 1)
        ax.set_yticks(range(len(names)), [style.structure_name(name) for name in names], color=style.BLACK)
    return fig, dict(zip(titles, axes, strict=False))


def _only(rows: pd.DataFrame, column: str | None, value: object) -> pd.DataFrame:
    """The rows with this value; all of them where there is no such column to ask for."""
    return rows[rows[column] == value] if column else rows


def _looks(rows: pd.DataFrame, series: str | None, colours: Mapping[str, str] | None) -> dict[object, dict]:
    """Colour, marker and dashes of each series that the table has; those of `colours` in its order."""
    if not series:
        return {None: {"color": style.BLUE, "marker": "o", "linestyle": "solid"}}
    found = [key for key in colours or dict.fromkeys(rows[series]) if key in set(rows[series])]
    chosen = {key: {"color": colour, "linestyle": "solid"} for key, colour in (colours or {}).items()}
    return {key: style.series_look(number) | chosen.get(key, {}) for number, key in enumerate(found)}


def _intervals(ax: Axes, rows: pd.DataFrame, value: str, lines: np.ndarray, look: dict, as_bar: bool) -> None:
    colour = style.BLACK if as_bar else look["color"]
    if f"{value}_low" in rows:
        ends = rows[f"{value}_low"].to_numpy(float), rows[f"{value}_high"].to_numpy(float)
        ax.hlines(lines, *ends, color=colour, linewidth=2.4 if as_bar else 1.8)
    if as_bar:
        ax.vlines(rows[value].to_numpy(float), lines - 0.33, lines + 0.33, color=colour, linewidth=2.4)
        return
    mark = {"marker": look["marker"], "s": 44, "linewidth": 1.8, "zorder": 3, "clip_on": False}
    ax.scatter(rows[value], lines, facecolor=_faces(rows, colour), edgecolor=colour, **mark)


def _dots(ax: Axes, dots: pd.DataFrame, value: str, line: str, names: list, shift: float, look: dict) -> None:
    for name, data in dots.dropna(subset=value).groupby(line, sort=False):
        offsets = 0.22 * np.sin(2.4 * np.arange(len(data)))  # spread, and the same in every run
        line_y = names.index(name) + shift + offsets
        ax.scatter(data[value], line_y, s=28, color=look["color"], alpha=0.55, linewidth=0, clip_on=False)


def _faces(rows: pd.DataFrame, colour: str) -> np.ndarray | str:
    return np.where(rows["hollow"].astype(bool), "white", colour) if "hollow" in rows else colour


def _beside(ax: Axes, line_y: np.ndarray, rows: pd.DataFrame, colour: str) -> None:
    text_style = {"va": "center", "fontsize": 8.5, "color": colour, "clip_on": False}
    for y, text in zip(line_y, rows.get("beside", []), strict=False):
        text = re.sub(r"\bnan\b", "undefined", text)
        ax.text(1.03, y, text, transform=ax.get_yaxis_transform(), **text_style)


def _name_marks(
    ax: Axes, rows: pd.DataFrame, x: str, y: str, looks: Mapping[object, dict], series: str | None
) -> None:
    """Names at the right of the marks, moved up or down where they would hide each other."""
    rows = rows.dropna(subset=[x, y])
    low, high = ax.get_ylim()
    heights = style.spread(list(rows[y]), 0.05 * (high - low), low, high)
    text = {"fontsize": 8.5, "va": "center", "zorder": 4, "path_effects": [HALO], "annotation_clip": False}
    for row, height in zip(rows.to_dict("records"), heights, strict=True):
        colour = looks[row[series] if series else None]["color"]
        anchor = (row[x], height), (9, 0)
        ax.annotate(row["name"], *anchor, textcoords="offset points", color=colour, **text)


def _finish(fig: Figure, axes: Mapping[object, Axes], looks: Mapping[object, dict], **more) -> None:
    """Says which panels are empty, and what the colours mean, below the figure; nothing for one series."""
    for ax in axes.values():
        if not np.isfinite(ax.dataLim.get_points()).all():
            ax.text(0.5, 0.5, "nothing to show", transform=ax.transAxes, ha="center", va="center")
            ax.set(xticks=[])
    if len(looks) < 2:
        return
    keys = [Line2D([], [], **look | more, label=style.structure_name(name)) for name, look in looks.items()]
    fig.legend(handles=keys, loc="outside lower left", ncols=min(5, len(keys)), handlelength=1.4)


def training_curves(history: pd.DataFrame, title: str) -> Figure:
    """One panel a metric, training against validation, and one for the learning rate.

    `history` has one row an epoch: `epoch`, `loss`, `val_loss`, any further metrics with their `val_`
    twins, `learning_rate`. The vertical line marks the epoch with the lowest validation loss.
    """
    not_drawn = ("epoch", "learning_rate", "memory_mb", "seconds", "stage")
    panels = [name for name in history if name not in not_drawn and not name.startswith("val_")]
    panels += ["learning_rate"] if "learning_rate" in history else []
    words = {"tumor": "tumour", "dice": "Dice", "iou": "IoU"}
    metrics = {name: " ".join(words.get(part, part) for part in name.split("_")) for name in panels}
    sides = {"training": style.BLUE, "validation": style.VERMILLION}
    epochs = history["epoch"]
    rows = [
        pd.DataFrame({"epoch": epochs, "value": history[column], "side": side, "metric": metrics[name]})
        for name in panels
        for side, column in zip(sides, (name, f"val_{name}"), strict=True)
        if column in history
    ]
    fig = lines(pd.concat(rows), "epoch", "value", "side", "metric", sides, "legend", len(panels), "epoch")
    is_known = "val_loss" in history and history["val_loss"].notna().any()
    best = epochs[history["val_loss"].idxmin()] if is_known else None
    for ax, name in zip(fig.axes, panels, strict=False):
        ax.xaxis.set_major_locator(MaxNLocator(5, integer=True, min_n_ticks=1))
        if name == "learning_rate":
            scale_by_powers(ax)
        elif is_known:
            ax.axvline(best, color=style.GREY, linewidth=1, linestyle="dotted")
    words = f"{title}   (dotted: best epoch, {best})" if is_known else title
    fig.suptitle(words, x=0.01, ha="left", fontsize=10.5, fontweight="bold")
    return fig


class _PlainPowers(LogFormatter):
    """Labels where Matplotlib labels a logarithmic axis, but 0.02 for 2e-02."""

    def __call__(self, x: float, pos: int | None = None) -> str:
        return super().__call__(x, pos) and f"{x:g}"


def scale_by_powers(ax: Axes, which: str = "y") -> None:
    """A logarithmic x or y axis with plain numbers: as the style reads no formulas, 10^1 would be TeX."""
    ax.set(**{f"{which}scale": "log"})
    axis = {"x": ax.xaxis, "y": ax.yaxis}[which]
    axis.set_major_formatter(_PlainPowers())
    axis.set_minor_formatter(_PlainPowers(minor_thresholds=(1, 0.4)))


KIND_LOOKS = {
    "matched": (style.BLUE, "o"),
    "merged": (style.PURPLE, "s"),
    "split": (style.PURPLE, "D"),
    "regrouped": (style.PURPLE, "P"),
    "vanished": (style.GREEN, "v"),
    "new": (style.VERMILLION, "^"),
}


@style.styled
def follow_up_changes(found: Mapping[str, FollowUp]) -> Figure:
    """Longest diameters before and after, a panel for whoever outlined them, a line a group of tumours."""
    fig = style.new_figure(max(4.5, style.WIDTH * len(found) / 3), 3.9)
    panels = fig.subplots(1, len(found), sharey=True, squeeze=False)[0]
    for ax, (name, each) in zip(panels, found.items(), strict=True):
        _slopes(ax, each.changes)
        ax.set_title(f"{name}\n{each.response.category}")
    panels[0].set_ylabel("longest diameter, of several their sum (mm)")
    kinds = {kind for each in found.values() for kind in each.changes.kind}
    looks = {kind: look for kind, look in KIND_LOOKS.items() if kind in kinds}
    keys = [Line2D([], [], color=colour, marker=mark, label=kind) for kind, (colour, mark) in looks.items()]
    if keys:
        fig.legend(handles=keys, loc="outside lower left", ncols=len(keys))
    return fig


MOST_NAMED = 18
"""Changes in words beside a panel, those of the largest tumours: more would not fit one below the other."""


def _slopes(ax: Axes, changes: pd.DataFrame) -> None:
    sizes = changes[["diameter_before_mm", "diameter_after_mm"]].max(axis=1)
    top = max([1.0, *sizes])
    ax.set_ylim(-0.04 * top, max(1.1 * top, ax.get_ylim()[1]))
    for row in changes.itertuples():
        colour, mark = KIND_LOOKS[row.kind]
        ends = [row.diameter_before_mm, row.diameter_after_mm]
        ax.plot([0, 1], ends, color=colour, marker=mark, linewidth=2.4 if row.is_target else 1.2)
    largest = sizes.sort_values(ascending=False, kind="stable").index[:MOST_NAMED]
    named = changes.loc[largest.sort_values()]
    heights = style.spread(list(named.diameter_after_mm), 0.055 * top, 0.0, top)
    for row, height in zip(named.itertuples(), heights, strict=True):
        change = row.diameter_change_percent
        percent = f"{change:+.0f} %".replace("-", "−") if abs(change) >= 0.5 else "0 %"
        label = row.kind if row.kind in ("new", "vanished") else percent
        ax.text(1.06, height, label, va="center", fontsize=8.5, color=KIND_LOOKS[row.kind][0])
    ax.set_xticks([0, 1], ["before", "after"], color=style.BLACK)
    ax.set_xlim(-0.15, 1.45)
