"""Tables as files: CSV that is either whole or not there, and systems.csv with its fixed columns."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from pathlib import Path

import pandas as pd

from livseg_lib.errors import InputError
from livseg_lib.files import locked, write_atomically

SYSTEMS_COLUMNS = (
    "system",
    "source",
    "target",
    "split_by",
    "n_train_patients",
    "n_test_patients",
    "dice_per_case",
    "dice_per_case_low",
    "dice_per_case_high",
    "dice_global",
    "iou",
    "precision",
    "recall",
    "roc_auc",
    "presence_accuracy",
    "published_metric",
    "published_value",
    "train_seconds",
    "parameters",
)
SYSTEMS_KEY = ("system", "target", "split_by")
"""A system has one row for each target and way of splitting."""


def write_table(df: pd.DataFrame, path: Path | str) -> Path:
    """Write `df` as CSV without its index, atomically; NaN becomes an empty field."""
    return write_atomically(path, df.to_csv(index=False, lineterminator="\n").encode())


def read_table(path: Path | str) -> pd.DataFrame:
    """Read a CSV of the report; InputError where it is not a table."""
    try:
        return pd.read_csv(path)
    except (ValueError, pd.errors.ParserError) as error:
        raise InputError(
            path, f"is not a CSV table: {error}.", "Delete it and run its notebook again."
        ) from error


def replace_systems(
    path: Path | str, rows: pd.DataFrame, systems: Iterable[str] | None = None
) -> pd.DataFrame:
    """Put `rows` (with `system`) into the table at `path` instead of those of its systems; give it all.

    `systems`: all whose rows go, where some may have no row any more.
    """
    path, replaced = Path(path), list(rows["system"] if systems is None else systems)
    with locked(path):
        if path.exists():
            kept = read_table(path)
            rows = pd.concat([kept[~kept["system"].isin(replaced)], rows], ignore_index=True)
        write_table(rows, path)
    return rows


def update_systems_table(path: Path | str, rows: Iterable[Mapping]) -> pd.DataFrame:
    """Put `rows` into systems.csv and give the whole table back.

    A row replaces the one with the same system, target and split_by, in its place; all others stay as
    they are, to the letter. Columns that a row leaves out are empty. Raises InputError for an unknown
    column, a row without its key, or a file with other columns than SYSTEMS_COLUMNS.
    """
    path = Path(path)
    with locked(path):
        table = {_key(row): row for row in _read_rows(path)}
        for row in rows:
            _validate(path, row)
            table[_key(row)] = row
        write_table(pd.DataFrame(table.values(), columns=list(SYSTEMS_COLUMNS), dtype=object), path)
        return read_table(path)


def _read_rows(path: Path) -> list[dict[str, str]]:
    """Rows as text, so that those which stay are not rounded again."""
    if not path.exists():
        return []
    reader = csv.DictReader(io.StringIO(path.read_text(encoding="utf-8")))
    if tuple(reader.fieldnames or ()) != SYSTEMS_COLUMNS:
        raise InputError(
            path, "does not have the columns of systems.csv.", "Delete it and run the evaluation again."
        )
    return list(reader)


def _validate(path: Path, row: Mapping) -> None:
    unknown = sorted(set(row) - set(SYSTEMS_COLUMNS))
    if unknown:
        raise InputError(
            path, f"has no column {', '.join(unknown)}.", f"Its columns are {', '.join(SYSTEMS_COLUMNS)}."
        )
    missing = [name for name in SYSTEMS_KEY if not row.get(name)]
    if missing:
        raise InputError(path, f"was given a row without {', '.join(missing)}.", "Every row needs all three.")


def _key(row: Mapping) -> tuple[str, ...]:
    return tuple(str(row[name]) for name in SYSTEMS_KEY)
