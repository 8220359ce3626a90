"""Finishing labels, and asking a network more than once, in pictures and sentences: does it help?"""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from livseg_lib.evaluation.statistics import verdict
from livseg_lib.postprocessing.components import finish_title
from livseg_lib.reporting.style import (
    BLACK,
    BLUE,
    GREY,
    VERMILLION,
    WIDTH,
    new_figure,
    structure_name,
    styled,
)
from livseg_lib.reporting.wording import p_words

WORTH_DICE = 0.005
"""What a variant has to gain at least in the Dice of a structure: it multiplies the time of a prediction."""
COLOURS = {"helps": BLUE, "harms": VERMILLION}
"""Of a finish by its reason; those that change nothing, or next to nothing, are grey."""


@styled
def finishing_changes(choice: pd.DataFrame) -> Figure:
    """What each finish does to the mean Dice of validation patients: a panel a structure, a line a finish.

    `choice`: system, finish, structure, change, kept and reason, as `choose_finishes` has them.
    """
    structures = list(choice.structure.unique())
    lines = choice[["system", "finish"]].drop_duplicates()
    fig = new_figure(WIDTH, 1.2 + 0.2 * len(lines))
    panels = fig.subplots(1, len(structures), sharey=True, squeeze=False)[0]
    for ax, structure in zip(panels, structures, strict=True):
        _changes(ax, choice[choice.structure == structure].merge(lines, how="right"))
        ax.set_title(structure_name(structure))
        ax.set_xlabel("change of the mean Dice")
    names = [f"{row.system}: {finish_title(row.finish)}" for row in lines.itertuples()]
    panels[0].set_yticks(range(len(lines)), names, color=BLACK, fontsize=8.5)
    panels[0].set_ylim(len(lines) - 0.4, -0.6)
    keys = [
        Line2D([], [], color=colour, marker="o", linewidth=0, label=label)
        for colour, label in (
            (BLUE, "helps: kept"),
            (VERMILLION, "harms"),
            (GREY, "changes (next to) nothing"),
        )
    ]
    fig.legend(handles=keys, loc="outside lower left", ncols=len(keys))
    return fig


def _changes(ax: Axes, rows: pd.DataFrame) -> None:
    ax.axvline(0, color=GREY, linewidth=1)
    for line, row in enumerate(rows.itertuples()):
        colour = COLOURS.get(row.reason, GREY)
        ax.plot([0, row.change], [line, line], color=colour, linewidth=1.6)
        ax.plot(row.change, line, "o", color=colour, markersize=5)
    reach = max(0.002, 1.1 * rows.change.abs().max())
    ax.set_xlim(-reach, reach)
    ax.locator_params(axis="x", nbins=5)
    ax.grid(axis="y", visible=False)


def conclude_choice(choice: pd.DataFrame) -> list[str]:
    """What was kept of `choice` (`finishing_changes`) and why, a sentence a system."""
    sentences = []
    for system, rows in choice.groupby("system", sort=False):
        finishes = rows.drop_duplicates("finish")
        by_reason = [
            f"{', '.join(map(finish_title, group.finish))} ({reason})"
            for reason, group in finishes.groupby("reason", sort=False)
        ]
        kept = ", ".join(map(finish_title, finishes.finish[finishes.kept.astype(bool)]))
        sentences.append(f"{system} keeps {kept or 'nothing'}. Tried: {'; '.join(by_reason)}.")
    return sentences


def conclude_test(table: pd.DataFrame) -> list[str]:
    """What the kept finishes do to test patients (`compare_finished`), a sentence a system and structure."""
    return [
        f"{row.system}, {structure_name(row.structure)}: Dice {row.dice_before:.4f} before, "
        f"{row.dice_after:.4f} after, difference {row.difference:+.4f} (95 % interval "
        f"{row.difference_low:+.4f} to {row.difference_high:+.4f}, {row.n_patients} test patients). "
        f"{_verdict(row)}"
        for row in table.itertuples()
    ]


def conclude_variants(table: pd.DataFrame) -> list[str]:
    """Whether asking again is worth its seconds (`summarize_variants`), a sentence a variant."""
    sentences = []
    for variant, rows in table[table.variant != "none"].groupby("variant", sort=False):
        found = ", ".join(
            f"{structure_name(row.structure)} {row.difference:+.3f} ({row.difference_low:+.3f} to "
            f"{row.difference_high:+.3f})"
            for row in rows.itertuples()
        )
        sentences.append(
            f"{variant}: {rows.times.iloc[0]:.1f} times the seconds; Dice {found}. "
            f"{_worth(rows)} on {rows.n_patients.max()} patients."
        )
    return sentences


def _worth(rows: pd.DataFrame) -> str:
    gains = rows.difference[rows.verdict == "better"]
    if gains.empty or (rows.verdict == "worse").any():
        return "Not shown to be worth its seconds"
    return "Worth its seconds" if gains.max() >= WORTH_DICE else "Gains too little to be worth its seconds"


def _verdict(row) -> str:
    if row.difference_low == row.difference_high == 0:
        return "Nothing changed."
    if pd.isna(row.difference_low):
        return "One patient has no interval."
    none = f"No difference is shown ({p_words(row.p_holm)})."
    return {1: "It helps.", -1: "It harms.", 0: none}[verdict(row)]
