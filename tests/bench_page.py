"""What `make bench` has found, from the files in reports/bench: pictures, a page, README's table."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.ticker import LogLocator, NullLocator

from livseg_lib.files import write_atomically
from livseg_lib.outputs import read_table, save_figure
from livseg_lib.reporting.charts import interval_chart, lines, scale_by_powers
from livseg_lib.reporting.style import BLUE, GREY, VERMILLION

MARKS = "<!-- written by make bench ONLY={} -->", "<!-- end -->"
"""Around the tables in README.md and docs/scale.md."""
SETS = {"131 scans (LiTS)": 131, "5,000 (FLARE)": 5000, "100,000": 100_000}
SLICES = 450  # of a scan of 512 x 512 pixels, about as in LiTS on the mean
DOLLARS = {"cpu_hours": 0.05, "written_gb": 0.023, "million_files": 5.0}
"""US dollars of a rented processor's hour, a GB in object storage for a month, a million files written there:
about what large providers list in 2026 (Amazon: m7g.large 0.0816 an hour for two processors, S3 Standard)."""


def write_report(out: Path) -> None:
    """Pictures, and README.md of the folder."""
    facts = json.loads((out / "machine.json").read_text())
    missing = [f"Could not be had: {name} ({error})." for name, error in facts["could_not_be_had"].items()]
    releases = ", ".join(f"{name} {each}" for name, each in (facts["libraries"] | facts["peers"]).items())
    page = [
        "# livseg beside other programs",
        "Written by `make bench`. What each program does stands in `tests/bench_ours.py` and "
        "`tests/bench_peers.py`, line by line.",
        f"The last run, days of the others stand below: {facts['processor']}, "
        f"{facts['processors']} processors, {facts['threads']} threads a program, "
        f"{facts['memory_gb']} GB, {facts['system']}, Python {facts['python']}, "
        f"livseg {facts['livseg'][:7]}. {releases}.",
        *missing,
    ]
    for name, tell in (("table", _tell_works), ("board", _tell_board), ("growth", _tell_growth)):
        if (out / f"{name}.csv").exists():
            page += [*tell(read_table(out / f"{name}.csv"), out), f"![{name}]({name}.png)"]
    if (out / "recipe.csv").exists():
        page += ["## What each part of the recipe is worth", board_table(read_table(out / "recipe.csv"))]
    write_atomically(out / "README.md", ("\n\n".join(page) + "\n").encode())


def write_readme(path: Path, out: Path) -> None:
    """Put a row a work, and the board, between MARKS in `path`."""
    told = brief_table(read_table(out / "table.csv"))
    if (out / "board.csv").exists():
        told += "\n\n" + brief_board(read_table(out / "board.csv").query("better_rate"))
    _write_between_marks(path, "readme", told)


def write_scale(path: Path, out: Path) -> None:
    """Put what the growth says of large sets between MARKS in `path`."""
    growth, facts = read_table(out / "growth.csv"), json.loads((out / "machine.json").read_text())
    machine = f"Fitted to `make bench ONLY=growth` on one core of {facts['processor']}."
    _write_between_marks(path, "scale", "\n\n".join([machine, commands_table(growth), lists_table(growth)]))


def _write_between_marks(path: Path, what: str, told: str) -> None:
    begin, end = MARKS[0].format(what), MARKS[1]
    before, rest = path.read_text().split(begin)
    after = rest.split(end, 1)[1]
    write_atomically(path, "\n".join([before + begin, told, end + after]).encode())


def commands_table(growth: pd.DataFrame) -> str:
    """Markdown, a row a command on scans of SLICES slices: straight lines through what was measured."""
    cells = []
    for title, rows in growth[growth.growth.str.contains("livseg")].groupby("growth", sort=False):
        fits = {name: np.polyfit(rows["size"], rows[name], 1) for name in (*COSTS, "peak_memory_mb")}
        of_scan = {name: float(np.polyval(fit, SLICES)) for name, fit in fits.items()}
        counted, used = "{cpu_hours:,.1f} h", {"cpu_hours": of_scan["cpu_seconds"] / 3600}
        if fits["files"][0] > 0.1:  # a folder a case, not tables alone
            counted += ", {written_gb:,.1f} GB, {million_files:,.2f} million files"
            used |= {"written_gb": of_scan["written_mb"] / 1e3, "million_files": of_scan["files"] / 1e6}
        told = []
        for scans in SETS.values():
            of_set = {name: amount * scans for name, amount in used.items()}
            dollars = sum(DOLLARS[name] * amount for name, amount in of_set.items())
            told.append(f"{counted.format(**of_set)}, ${dollars:,.2f}")
        one = [f"{of_scan['cpu_seconds']:.1f} s", f"{of_scan['peak_memory_mb']:,.0f} MB"]
        cells.append([f"`{title.split(', ')[1]}`", *one, *told])
    return _markdown(["command", f"a scan of {SLICES} slices", "memory a worker", *SETS], cells)


COSTS = ("cpu_seconds", "written_mb", "files")


def lists_table(growth: pd.DataFrame) -> str:
    """Markdown, a row a work on the list of cases alone: by the power of their number that was fitted, or by
    the line through the last two sizes, where that is more (a start that takes long hides the growth)."""
    cells = []
    for title, rows in growth[growth.growth.str.startswith("cases")].groupby("growth", sort=False):
        before, largest = rows.iloc[-2], rows.iloc[-1]
        slope = (largest.cpu_seconds - before.cpu_seconds) / (largest["size"] - before["size"])
        told = []
        for n in SETS.values():
            by_power = largest.cpu_seconds * (n / largest["size"]) ** largest.time_exponent
            by_line = largest.cpu_seconds + slope * (n - largest["size"])
            told.append(f"{max(by_power, by_line):,.1f} s")
        memory = largest.peak_memory_mb * (100_000 / largest["size"]) ** largest.memory_exponent
        cells.append([title, f"{largest.time_exponent:.2f}", *told, f"{memory:,.0f} MB"])
    return _markdown(["what no worker does", "exponent", *SETS, "memory at 100,000"], cells)


def _tell_works(table: pd.DataFrame, out: Path) -> list[str]:
    busy = table.groupby("work", sort=False)[["day", "cores_busy_otherwise"]].first()
    rows = busy.reset_index().itertuples()
    listed = "; ".join(f"{row.work} on {row.day}: {row.cores_busy_otherwise:.1f}" for row in rows)
    others = table[(table.ratio != 1) & (table.work != "folder")].dropna(subset="ratio")
    if len(others):
        colours = {"livseg": BLUE, "peer": VERMILLION, "floor": GREY}
        look = {"at": 1, "xlabel": "seconds, livseg's = 1"}
        chart = interval_chart(others, "ratio", "contender", "work", "role", colours, **look)
        for ax in chart.axes:
            ax.set_xscale("log")
            ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            ax.xaxis.set_major_formatter("{x:g}")
            ax.xaxis.set_minor_locator(NullLocator())
        caption = "Seconds of all as multiples of livseg's in the same round: median, least and most."
        save_figure(chart, out, "table", caption)
    note = "Ratios are taken round by round, and their median is given: above 1 livseg is faster."
    note += f" Processors that other programs used meanwhile: {listed}."
    return ["## Works", works_table(table), note]


def _tell_board(board: pd.DataFrame, out: Path) -> list[str]:
    rows = board.query("better_rate").dropna(subset="dice").sort_values(["contender", "minutes"])
    place = rows.contender.rank(method="dense")
    rows = rows.assign(at=rows.minutes * (1 + 0.012 * place))  # beside each other, not on each other
    axes = {"xlabel": "minutes of two processors", "ylabel": "liver Dice a patient"}
    people = int(rows.n_patients.max())
    caption = f"Mean Dice over {people} patients that nobody trained on, 95 % intervals over patients."
    chart, marks = lines(rows, "at", "dice", "contender", **axes), sorted(board.minutes.unique())
    chart.axes[0].set_xscale("log")
    chart.axes[0].set_xticks(marks, [f"{mark:g}" for mark in marks])
    chart.axes[0].xaxis.set_minor_locator(NullLocator())
    save_figure(chart, out, "board", caption)
    import bench_board

    said = " ".join(bench_board.__doc__.split("\n\n")[1].split())
    wall = (board.wall_minutes / board.cpu_minutes).median()
    note = f"A minute of two processors took {wall:.1f} minutes by the clock (median). "
    note += "The revision of each training stands in board_patients.csv."
    return ["## Dice by minutes of training", f"{said} {note}", board_table(board)]


def _tell_growth(rows: pd.DataFrame, out: Path) -> list[str]:
    panels = rows.assign(series="", panel=rows.growth + rows.time_exponent.map("\n(exponent {:.2f})".format))
    looks = {"names": "", "columns": 4, "ylabel": "processor seconds"}
    chart = lines(panels, "size", "cpu_seconds", "series", "panel", **looks)
    for ax in chart.axes:
        scale_by_powers(ax)
        sizes = ax.lines[0].get_xdata()
        ax.set(xscale="log", xticks=sizes, xticklabels=[f"{size:g}" for size in sizes])
        ax.xaxis.set_minor_locator(NullLocator())
    chart.set_size_inches(12, 9)
    save_figure(chart, out, "growth", "Processor seconds by size, with the fitted exponent of each.")
    cells = [
        [row.Index, f"{row.time_exponent:.2f}", f"{row.memory_exponent:.2f}"]
        for row in rows.groupby("growth", sort=False).first().itertuples()
    ]
    return ["## Growth", _markdown(["what grows", "exponent of time", "of memory"], cells)]


def works_table(table: pd.DataFrame) -> str:
    """Markdown, a row a contender; where livseg is behind a peer, it says so."""
    cells, before = [], None
    for _, row in table.iterrows():
        behind = "**livseg is behind.** " if row.role == "peer" and row.ratio < 1 else ""
        ratios = [_middle(row, "ratio"), _middle(row, "cpu_ratio")]
        told = [_middle(row, "seconds"), _number(row.cpu_seconds), _number(row.peak_memory_mb), *ratios]
        title = row.title if row.work != before else ""
        cells.append([title, row.contender, *told, behind + ("" if pd.isna(row.remark) else row.remark)])
        before = row.work
    names = ["work", "program", "seconds (least to most)", "CPU s", "memory, MB", "seconds, livseg's = 1"]
    return _markdown([*names, "CPU s, livseg's = 1", ""], cells)


def brief_table(table: pd.DataFrame) -> str:
    """Markdown, a row a work: what livseg took and what others did; where livseg is behind, it says so."""
    cells = []
    for _, rows in table.groupby("work", sort=False):
        first, told = rows.iloc[0], {"livseg": [], "peer": []}
        for _, row in rows[rows.role != "floor"].iterrows():
            seconds, behind = f"{_number(row.seconds)} s", "**, livseg is behind**" if row.ratio < 1 else ""
            if pd.isna(row.seconds):
                told[row.role].append(f"{row.contender}: {row.remark}")
            elif row.role == "peer":
                told["peer"].append(f"{row.contender} {seconds} (x {_number(row.ratio)}{behind})")
            else:
                told["livseg"].append(f"{row.contender} {seconds}")
        cells.append([first.title, *("; ".join(told[role]) or "–" for role in ("livseg", "peer"))])
    return _markdown(["work", "livseg", "others (x livseg's seconds)"], cells)


def brief_board(board: pd.DataFrame) -> str:
    """Markdown, a row a mark: livseg's Dice, and that of each other network with what livseg has more, bold
    where that is shown."""
    order = board.groupby("contender").dice.max().sort_values(ascending=False).index
    ours = [name for name in order if name.startswith("livseg")]
    names, cells = ours + [name for name in order if name not in ours], []
    for mark, rows in board.groupby("minutes"):
        told = dict.fromkeys(names, "–")
        for _, row in rows.dropna(subset="dice").iterrows():
            more = f" ({row.dice_low:.3f} to {row.dice_high:.3f})"
            if pd.notna(row.difference):
                bold = "**" if row.livseg_ahead else ""
                more = f" ({bold}{row.difference:+.3f}{bold})"
            told[row.contender] = f"{row.dice:.3f}{more}"
        cells.append([f"{mark:g}", *told.values()])
    return _markdown(["minutes", *names], cells)


def board_table(board: pd.DataFrame) -> str:
    """Markdown, a row a training."""
    cells = []
    for _, row in board.sort_values(["minutes", "dice"], ascending=[True, False]).iterrows():
        against = row.remark if pd.isna(row.dice) else ""
        if pd.notna(row.get("difference", np.nan)):
            shown = {1.0: "ahead", -1.0: "**behind**"}.get(row.livseg_ahead, "not shown")
            low, high = row.difference_low, row.difference_high
            against = f"{row.difference:+.3f} ({low:+.3f} to {high:+.3f}), {shown}"
        dice = f"{row.dice:.3f} ({row.dice_low:.3f} to {row.dice_high:.3f})" if pd.notna(row.dice) else "–"
        size = f"{row.parameters / 1e6:.2f} M"
        who = [f"{row.minutes:g}", row.contender, f"{row.learning_rate:g}"]
        cells.append([*who, dice, against, f"{row.pictures:,.0f}", size, f"{row.cpu_minutes:.2f}"])
    names = ["minutes", "network", "learning rate", "liver Dice (95 % interval)", "livseg minus it"]
    return _markdown([*names, "pictures seen", "parameters", "minutes of two processors"], cells)


def _middle(row: pd.Series, name: str) -> str:
    """A median with its least and most, if there are any."""
    middle, low, high = (_number(row[f"{name}{end}"]) for end in ("", "_low", "_high"))
    return f"{middle} ({low} to {high})" if low != high else middle


def _number(value: float) -> str:
    if pd.isna(value):
        return "–"
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _markdown(names: list[str], rows: list[list[str]]) -> str:
    lines_of = [names, ["---"] * len(names), *rows]
    return "\n".join("| " + " | ".join(map(str, cells)) + " |" for cells in lines_of)
