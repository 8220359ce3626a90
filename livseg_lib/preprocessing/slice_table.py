"""slices.csv, the list of all extracted slices: written whole, and read only where every row makes sense."""

from __future__ import annotations

import csv
import io
import math
from pathlib import Path

import pandas as pd

from livseg_lib.errors import InputError
from livseg_lib.files import write_atomically

SLICE_COLUMNS = {
    "patient": "string",
    "case": "string",
    "slice": "Int64",
    "array_index": "Int64",
    "image": "string",
    "mask": "string",
    "array": "string",
    "spacing_z_mm": "float64",
    "spacing_y_mm": "float64",
    "spacing_x_mm": "float64",
    "liver_pixels": "Int64",
    "tumor_pixels": "Int64",
    "liver_area_mm2": "float64",
    "tumor_area_mm2": "float64",
}
"""Columns of slices.csv and their pandas types. Empty: no such file, or not known.

`slice` is the picture's original number, `array_index` its place in images.npy and masks.npy of folder
`array`; paths are relative to slices.csv. Pixels and areas are counted before the picture is resized, on
the scan's own grid or on the one it was resampled to.
"""

CLASS_COLUMNS = {"class": "Int64", "split": "string", "fold": "Int64"}
"""What notebook 02 adds."""

NEVER_EMPTY = ("patient", "case", "slice", "array_index", "array", *CLASS_COLUMNS)
PATHS = ("case", "image", "mask", "array")
VALUES = {"class": ("0", "1", "2"), "split": ("train", "validation", "test")}
MOST = 2**53
"""Up to here every whole number is a float."""

_MEND = "Mend that line, or extract the slices again."


def read_slices(path: Path | str) -> pd.DataFrame:
    """slices.csv with the types of `SLICE_COLUMNS` (an id such as "007" stays text).

    Raises InputError, naming the line, for values of another type or out of range, paths that leave the
    folder, a slice on two lines and a case of two patients.
    """
    return _read(Path(path), SLICE_COLUMNS)


def read_classified(path: Path | str) -> pd.DataFrame:
    """As `read_slices`, with the class, split and fold that notebook 02 adds; no patient is on two sides."""
    table = _read(Path(path), SLICE_COLUMNS | CLASS_COLUMNS)
    sides = table.groupby("patient")["split"].nunique()
    if (sides > 1).any():
        problem = f"The patient {sides.index[sides > 1][0]} lies in two splits."
        raise InputError(path, problem, "Run notebook 02 again.")
    return table


def write_slices(rows: pd.DataFrame, path: Path) -> None:
    """Write slices.csv; it appears complete or not at all."""
    write_atomically(path, rows.to_csv(index=False).encode())


def read_text_table(path: Path, needed: tuple[str, ...], remedy: str) -> pd.DataFrame:
    """A CSV file, all text, with the numbers of its lines as index; other columns than `needed` are kept.

    Raises InputError, naming the line, where it is no table: rows of different lengths, a quote left open,
    bytes that are no UTF-8, a column that is missing or there twice.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise InputError(path, f"cannot be read ({error.strerror}).", remedy) from error
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise InputError(path, f"Line {line} is no UTF-8 text.", "Save it as CSV in UTF-8.") from error
    rows, lines = [], []
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        for row in reader:
            if row:
                rows.append(row)
                lines.append(reader.line_num)
    except csv.Error as error:
        raise InputError(path, f"Line {reader.line_num} is no CSV ({error}).", remedy) from error
    if not rows or "\0" in text:
        line = text[: text.find("\0")].count("\n") + 1
        raise InputError(path, f"holds a zero byte in line {line}." if rows else "is empty.", remedy)
    header = [name.strip() for name in rows[0]]
    if not set(needed) <= set(header) or len(set(header)) < len(header):
        problem = f"has the columns {', '.join(header)}, but needs {', '.join(needed)}, and none twice."
        raise InputError(path, problem, "Separate columns by commas, and name them in the first line.")
    for line, row in zip(lines, rows, strict=True):
        if len(row) != len(header):
            raise InputError(path, f"Line {line} has {len(row)} fields, the first {len(header)}.", remedy)
    return pd.DataFrame(rows[1:], columns=header, index=lines[1:], dtype=object)


def _read(path: Path, columns: dict[str, str]) -> pd.DataFrame:
    table = read_text_table(path, tuple(columns), _MEND)
    if table.empty:
        raise InputError(path, "lists no slice.", "Extract the slices again.")
    for name, kind in columns.items():
        checked = (_cell(path, line, name, kind, text) for line, text in table[name].items())
        table[name] = pd.Series(list(checked), index=table.index, dtype=kind)
    for key in (["case", "slice"], ["array", "array_index"]):
        if (again := table.duplicated(key)).any():
            names = " and ".join(key)
            raise InputError(path, f"Line {again.idxmax()} has the {names} of another line.", _MEND)
    for owner in ("patient", "array"):
        owners = table.groupby("case")[owner].nunique()
        if (owners > 1).any():
            raise InputError(path, f"The case {owners.index[owners > 1][0]} has two of {owner}.", _MEND)
    if (more := (table["tumor_pixels"] > table["liver_pixels"]).fillna(False)).any():
        problem = f"Line {more.idxmax()} has more tumor_pixels than liver_pixels, which hold them."
        raise InputError(path, problem, _MEND)
    return table.reset_index(drop=True)


def _cell(path: Path, line: int, name: str, kind: str, text: str) -> object:
    """The value of a cell, None where it is empty."""
    if text == "" and name not in NEVER_EMPTY:
        return None
    if kind == "string":
        value = text
        wrong = text.strip() == "" or (name in PATHS and _leaves(text))
    else:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        least = -1 if name == "fold" else 0
        wrong = not least <= value <= MOST or (kind == "Int64" and value != int(value))
        wrong = wrong or (name.startswith("spacing") and value == 0)
    if wrong or text not in VALUES.get(name, (text,)):
        raise InputError(path, f"Line {line} has {text!r} as {name}.", _MEND)
    return int(value) if kind == "Int64" else value


def _leaves(text: str) -> bool:
    """Whether a path may lead out of the folder that it is relative to."""
    path = Path(text)
    return ".." in path.parts or path.is_absolute() or bool(path.drive) or "\0" in text
