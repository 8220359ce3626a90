"""What paired differences allow to be said, in sentences: computed, never claimed in advance."""

from __future__ import annotations

from math import floor, log2

import pandas as pd

from livseg_lib.evaluation.statistics import SIGNIFICANT, verdict
from livseg_lib.reporting.style import structure_name


def conclude(differences: pd.DataFrame) -> list[str]:
    """A few sentences a structure and family of the table of
    `livseg_lib.evaluation.statistics.compare_systems`.

    They name the pairs that differ by `verdict` and those about which nothing can be said, and say where no
    result could have been shown with so few patients, and how many it would have taken.
    """
    sentences = []
    for (structure, family), rows in differences.groupby(["structure", "family"], sort=False):
        title = structure_name(structure).capitalize()
        if not (rows["smallest_p_holm"] < SIGNIFICANT).any():
            sentences.append(f"{title}: {_too_few(rows)}")
        elif family == "baseline":
            sentences.append(f"{title}: {_against_baseline(rows)}")
        else:
            sentences.append(f"{title}: {_among_systems(rows)}")
    return sentences


def _too_few(rows: pd.DataFrame) -> str:
    sides = 2 if rows["alternative"].iloc[0] == "two-sided" else 1
    needed = floor(log2(sides * len(rows) / SIGNIFICANT)) + 1
    smallest = rows["smallest_p_holm"].iloc[0]
    possible = "" if pd.isna(smallest) else f" (the smallest possible p is {smallest:.3f})"
    return (
        f"{_count(rows)} on {_patients(rows)} cannot show any difference after correction{possible}; "
        f"it takes {needed} patients on whom two systems differ. That is no sign that they are equal."
    )


def _against_baseline(rows: pd.DataFrame) -> str:
    better = verdict(rows) > 0
    baseline = rows["second"].iloc[0]
    if better.all():
        return f"each of {len(rows)} systems is better than {baseline} (p < {SIGNIFICANT} after correction)."
    shown = ", ".join(rows["first"][better]) or "no system"
    open_ones = ", ".join(rows["first"][~better])
    return f"better than {baseline} after correction: {shown}; not shown for {open_ones}."


def _among_systems(rows: pd.DataFrame) -> str:
    differs = verdict(rows) != 0
    better = [
        f"{first} is better than {', '.join(pairs['second'])} (by {_range(pairs['difference'])})"
        for first, pairs in rows[differs].groupby("first", sort=False)
    ]
    if not better:
        return f"no difference is shown; nothing can be said about {_count(rows)} on {_patients(rows)}."
    rest = (~differs).sum()
    return f"{'; '.join(better)}." + (f" Nothing can be said about the other {rest} pairs." if rest else "")


def _range(differences: pd.Series) -> str:
    low, high = (f"{value:.3f}" for value in (differences.min(), differences.max()))
    return low if low == high else f"{low} to {high}"


def _count(rows: pd.DataFrame) -> str:
    return f"{len(rows)} comparison{'s' * (len(rows) > 1)}"


def _patients(rows: pd.DataFrame) -> str:
    low, high = rows["n_patients"].min(), rows["n_patients"].max()
    return f"{low if low == high else f'{low} to {high}'} patients"
