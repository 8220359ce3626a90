"""systems.csv on the page: cards with the headline numbers, and our scores beside the published ones."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

import pandas as pd

from livseg_lib.reporting.cells import (
    Cell,
    Interval,
    TableView,
    format_number,
    format_text,
    is_missing,
    table_view,
)
from livseg_lib.reporting.wording import SOURCES, column_title

MAX_CARDS = 4
BASELINE = "threshold"
"""How systems without a network are called, or how their names begin."""
FOLDED = (
    "source",
    "n_train_patients",
    "dice_per_case_low",
    "dice_per_case_high",
    "published_metric",
    "parameters",
)
"""Columns shown inside the cell of another."""

FIRST = ("system", "target", "dice_per_case", "published_value", "split_by", "n_test_patients")
"""What a reader wants beside each other; the other columns follow as they come."""


@dataclass(frozen=True)
class Card:
    """One headline number."""

    label: str
    value: str
    detail: str
    foot: str
    interval: Interval | None


TARGET_ORDER = ("tumor", "liver")
"""Which rows a reader sees first; all other targets follow."""


def in_readers_order(systems: pd.DataFrame) -> pd.DataFrame:
    """Tumours, livers, all else; in each the highest Dice first, undefined ones last.

    Rows whose split puts a patient on both sides, and those of the audit, close their target: sorted by
    Dice alone they would lead the table.
    """
    if not {"target", "split_by", "dice_per_case"} <= set(systems):
        return systems
    rank = {target: place for place, target in enumerate(TARGET_ORDER)}
    keys = pd.DataFrame(
        {
            "target": systems["target"].map(rank).fillna(len(rank)),
            "flattered": ~systems["split_by"].map(_is_headline).astype(bool),
            "dice": -systems["dice_per_case"],
        }
    )
    return systems.loc[keys.sort_values(list(keys), kind="stable", na_position="last").index]


def headline_cards(systems: pd.DataFrame) -> list[Card]:
    """Mean Dice per test patient, for rows split by patient only: any other split flatters.

    Up to MAX_CARDS rows are shown as they are; of more, the highest of each target, and the card says so,
    with what a baseline reached.
    """
    if not {"dice_per_case", "split_by"} <= set(systems):
        return []
    honest = systems[systems["split_by"].map(_is_headline) & systems["dice_per_case"].notna()]
    if len(honest) <= MAX_CARDS:
        return [_card(row, "") for row in honest.to_dict("records")]
    return [_best_card(rows) for _, rows in honest.groupby("target", sort=False)]


def _best_card(rows: pd.DataFrame) -> Card:
    """The highest of what was trained; a baseline that learns nothing stands in the remark."""
    is_baseline = rows["system"].str.startswith(BASELINE)
    trained = rows if is_baseline.all() else rows[~is_baseline]
    remarks = [f"highest of {len(trained)}"] if len(trained) > 1 else []
    if is_baseline.any() and len(trained) < len(rows):
        reached = format_number("dice", rows[is_baseline]["dice_per_case"].max())
        remarks.append(f"without a network {reached}")
    return _card(trained.loc[trained["dice_per_case"].idxmax()].to_dict(), "; ".join(remarks))


def systems_view(systems: pd.DataFrame, cards: Mapping[str, str] | None = None) -> TableView:
    """systems.csv with source, interval and published metric folded into the cells they explain.

    `cards`: system -> link to its model card.
    """
    names = [c for c in FIRST if c in systems] + [c for c in systems if c not in FIRST + FOLDED]
    view = table_view(systems[names], "tables/systems.csv")
    rows = [
        [_fold(name, cell, record, cards or {}) for name, cell in zip(names, cells, strict=True)]
        for cells, record in zip(view.rows, systems.to_dict("records"), strict=False)
    ]
    return replace(view, rows=rows)


def sources_of(systems: pd.DataFrame) -> dict[str, str]:
    """Letter -> what it stands for, of the sources that occur."""
    letters = {letter for text in systems.get("source", ()) for letter in re.findall(r"\b[A-K]\b", str(text))}
    return {letter: text for letter, text in SOURCES.items() if letter in letters}


def is_by_patient(split_by: object) -> bool:
    """Whether no patient is on two sides of the split so described."""
    return "patient" in str(split_by).lower()


def _is_headline(split_by: object) -> bool:
    """Whether a row may stand for its system: the audit's rows by patient are for comparison only."""
    return is_by_patient(split_by) and "audit" not in str(split_by)


def cohort_sentence(systems: pd.DataFrame) -> str:
    """Such as "2 systems, trained on 38 patients and tested on 12 others."; "" where it is unknown."""
    if not {"system", "n_train_patients", "n_test_patients", "split_by"} <= set(systems):
        return ""
    honest = systems[systems["split_by"].map(_is_headline)]
    honest = honest.dropna(subset=["n_train_patients", "n_test_patients"])
    if honest.empty:
        return ""
    number = honest["system"].nunique()
    train, test = (_range(honest[column]) for column in ("n_train_patients", "n_test_patients"))
    return f"{number} system{'s' * (number > 1)}, trained on {train} patients and tested on {test} others."


def _card(row: dict, remark: str) -> Card:
    interval = _interval(row)
    bounds = f"95 % interval {interval.low:.3f} to {interval.high:.3f}" if interval else "no interval"
    patients = format_number("n", row.get("n_test_patients", float("nan")))
    foot = f"{format_text(row.get('system'))}, {patients} test patients"
    label = f"{format_text(row.get('target')).capitalize()} Dice"
    value = format_number("dice", row["dice_per_case"])
    interval = replace(interval, published=None) if interval else None
    return Card(label, value, bounds, f"{foot}, {remark}" if remark else foot, interval)


def _fold(column: str, cell: Cell, row: dict, cards: Mapping[str, str]) -> Cell:
    if column == "system":
        small = "" if is_missing(row.get("source")) else f"source {row['source']}"
        return replace(cell, small=small, link=cards.get(str(row["system"]), ""))
    if column == "n_test_patients" and not is_missing(row.get("n_train_patients")):
        return replace(cell, small=f"{row['n_train_patients']:.0f} in training")
    if column == "train_seconds" and not is_missing(row.get("parameters")):
        return replace(cell, small=f"{format_number('parameters', row['parameters'])} parameters")
    if column == "dice_per_case" and (interval := _interval(row)):
        return replace(cell, small=f"{interval.low:.3f} to {interval.high:.3f}", interval=interval)
    if column == "published_value" and not is_missing(row.get("published_metric")):
        metric, *protocol = str(row["published_metric"]).split(", ")
        return replace(cell, small=", ".join([column_title(metric), *protocol]))
    if column == "split_by" and not is_missing(row.get("split_by")):
        good = is_by_patient(row["split_by"])
        return replace(cell, badge="good" if good else "warn", small="" if good else "patients on both sides")
    return cell


def _interval(row: dict) -> Interval | None:
    values = [row.get(f"dice_per_case{end}") for end in ("", "_low", "_high")]
    if any(is_missing(value) for value in values):
        return None
    published = row.get("published_value") if "dice" in str(row.get("published_metric")).lower() else None
    return Interval(*map(float, values), None if _unusable(published) else float(published))


def _unusable(published: object) -> bool:
    return is_missing(published) or not isinstance(published, (int, float)) or not 0 <= published <= 1


def _range(numbers: pd.Series) -> str:
    low, high = int(numbers.min()), int(numbers.max())
    return str(low) if low == high else f"{low} to {high}"
