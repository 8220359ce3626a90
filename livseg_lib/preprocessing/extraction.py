"""Scans -> folders of slices for training, in parallel and resumable; and slices.csv, the table of them.

slices.csv is written whole, and read only where every row makes sense.
"""

from __future__ import annotations

import csv
import errno
import io
import json
import math
import struct
import sys
import traceback
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pandas as pd
from isal import isal_zlib
from tqdm import tqdm

from livseg_lib import files
from livseg_lib.datasets.case import Case, side_by_side
from livseg_lib.errors import InputError
from livseg_lib.labels import STRUCTURES, require_labels, structure_mask
from livseg_lib.preprocessing.geometry import fit_labels, resample_label_slice, working_grid
from livseg_lib.preprocessing.recipe import Recipe, prepare_slices
from livseg_lib.preprocessing.windows import WINDOWS
from livseg_lib.provenance import changes, code_of, made_with
from livseg_lib.volumes import Volume

SLICE_COLUMNS = {
    **dict.fromkeys(("patient", "case"), "string"),
    **dict.fromkeys(("slice", "array_index"), "Int64"),
    **dict.fromkeys(("image", "mask", "array"), "string"),
    **dict.fromkeys(("spacing_z_mm", "spacing_y_mm", "spacing_x_mm"), "float64"),
    **dict.fromkeys(("liver_pixels", "tumor_pixels"), "Int64"),
    **dict.fromkeys(("liver_area_mm2", "tumor_area_mm2"), "float64"),
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


def read_slices(*paths: Path | str) -> pd.DataFrame:
    """slices.csv, or several in one, with the types of `SLICE_COLUMNS` (an id such as "007" stays text).

    Raises InputError, naming the line, for values of another type or out of range, paths that leave the
    folder, a slice on two lines and a case of two patients.
    """
    return _read([*map(Path, paths)], SLICE_COLUMNS)


def read_classified(path: Path | str) -> pd.DataFrame:
    """As `read_slices`, with the class, split and fold that notebook 02 adds; no patient is on two sides."""
    table = _read([Path(path)], SLICE_COLUMNS | CLASS_COLUMNS)
    sides = table.groupby("patient")["split"].nunique()
    if (sides > 1).any():
        problem = f"The patient {sides.index[sides > 1][0]} lies in two splits."
        raise InputError(path, problem, "Run notebook 02 again.")
    return table


def write_slices(rows: pd.DataFrame, path: Path) -> None:
    """Write slices.csv; it appears complete or not at all."""
    files.write_atomically(path, rows.to_csv(index=False).encode())


def read_text_table(path: Path, needed: tuple[str, ...], remedy: str) -> pd.DataFrame:
    """A CSV file, all text, with the numbers of its lines as index; other columns than `needed` are kept.

    Raises InputError, naming the line, where it is no table: rows of different lengths, a quote left open,
    bytes that are no UTF-8, a column that is missing or there twice.
    """
    try:
        text = files.read_file(path).decode("utf-8-sig")
    except OSError as error:
        raise InputError(path, f"cannot be read ({error.strerror}).", remedy) from error
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise InputError(path, f"Line {line} is no UTF-8 text.", "Save it as CSV in UTF-8.") from error
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        found = [(reader.line_num, row) for row in reader if row]
    except csv.Error as error:
        raise InputError(path, f"Line {reader.line_num} is no CSV ({error}).", remedy) from error
    lines, rows = [line for line, _ in found], [row for _, row in found]
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


def _read(paths: Sequence[Path], columns: dict[str, str]) -> pd.DataFrame:
    tables = {path: read_text_table(path, tuple(columns), _MEND) for path in paths}
    for path, table in tables.items():
        if table.empty:
            raise InputError(path, "lists no slice.", "Extract the slices again.")
    table = pd.concat(tables)  # by path and line
    checked = {
        name: [_cell(*place, name, kind, text) for place, text in table[name].items()]
        for name, kind in columns.items()
    }
    table = pd.DataFrame(table.to_dict("list") | checked, table.index, dtype=object).astype(columns)
    for key in (["case", "slice"], ["array", "array_index"]):
        if (repeated := table.duplicated(key)).any():
            path, line = repeated.idxmax()
            raise InputError(path, f"Line {line} has the {' and '.join(key)} of another line.", _MEND)
    for owner in ("patient", "array"):
        owners = table.groupby("case")[owner].nunique()
        if (owners > 1).any():
            path, _ = (table["case"] == owners.idxmax()).idxmax()
            raise InputError(path, f"The case {owners.idxmax()} has two of {owner}.", _MEND)
    if (more := (table["tumor_pixels"] > table["liver_pixels"]).fillna(False)).any():
        path, line = more.idxmax()
        problem = f"Line {line} has more tumor_pixels than liver_pixels, which hold them."
        raise InputError(path, problem, _MEND)
    return table.reset_index(drop=True)


def _cell(path: Path, line: int, name: str, kind: str, text: str) -> object:
    """The value of a cell, None where it is empty."""
    if text == "" and name not in NEVER_EMPTY:
        return None
    if kind == "string":
        value, path_in = text, Path(text)
        leaves = ".." in path_in.parts or path_in.is_absolute() or path_in.drive or "\0" in text
        wrong = text.strip() == "" or (name in PATHS and leaves)
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


TABLES_AT_ONCE = 100  # each costs time by itself, and as text all take much memory
NOT_THERE = "not extracted before"
MASK_GREY = np.array([0, 127, 255], np.uint8)
"""Of labels 0, 1, 2 in mask PNGs, as in the public LiTS slices. Training reads masks.npy (0/1/2)."""


def common_request(recipe: Recipe, write_png: bool) -> dict:
    """What decides, beside the case itself, what its files contain; it takes a while, so once a data set."""
    libraries = ("numpy", "opencv-python-headless", "opencv-python", "nibabel", "isal", "pydicom", "pillow")
    return {
        "code": {"extraction": code_of(write_case, apart=[WINDOWS])},  # their bounds stand in the recipe
        "libraries": made_with(*libraries),
        "recipe": recipe.to_dict(),
        "write_png": write_png,
    }


def extraction_request(case: Case, common: Mapping) -> dict:
    """Everything that decides what the files of a case contain; equal requests need no second extraction."""
    sources = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in case.files]
    request = {
        **common,
        "code": {**common["code"], "reading": code_of(case.read_volume, case.read_labels)},
        "case": case.case_id,
        "patient": case.patient,
        "slice_numbers": case.slice_numbers,
        "has_labels": case.read_labels is not None,
        "decided": case.decided,
        "sources": [dict(zip(("file", "bytes", "modified_ns"), source, strict=True)) for source in sources],
    }
    return json.loads(json.dumps(request))  # tuples become lists, as in a request that was read back


def why_extract(case: Case, folder: Path, common: Mapping) -> list[str]:
    """Why not to keep the case's `folder`: nothing if the same request made it and no file is gone."""
    try:
        record = json.loads((folder / "case.json").read_text(encoding="utf-8"))
        if not files.holds_files(folder, record["files"]):
            return ["its files"]
        return changes(record["request"], extraction_request(case, common))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return [NOT_THERE]  # also where a source file is gone: reading it will say so


def write_case(case: Case, recipe: Recipe, folder: Path, common: Mapping) -> None:
    """Read the case and write its folder: whole, or not at all. `common` is of `common_request`."""
    request = extraction_request(case, common)
    volume = case.read_volume()
    labels = case.read_labels(volume) if case.read_labels else None
    if labels is not None:
        require_labels(labels, case.case_id, volume.voxels.shape)
    with files.folder_written_aside(folder) as aside:
        rows = _write_arrays(case, volume, labels, recipe, aside, common["write_png"])
        write_slices(rows, aside / "slices.csv")
        record = {
            "request": request,
            "native_shape": volume.voxels.shape,
            "native_spacing_mm": [float(step) if np.isfinite(step) else None for step in volume.spacing_mm],
            "files": files.folder_checksums(aside),
        }
        (aside / "case.json").write_text(json.dumps(record, indent=1), encoding="utf-8")


def _write_arrays(
    case: Case, volume: Volume, labels: np.ndarray | None, recipe: Recipe, folder: Path, write_png: bool
) -> pd.DataFrame:
    """Write images.npy, masks.npy and pictures, slice by slice; gives the rows of slices.csv."""
    shape, spacing_mm = working_grid(volume.voxels.shape, volume.spacing_mm, recipe.voxel_size_mm)
    numbers, rows = case.slice_numbers or range(shape[0]), []
    if len(numbers) != shape[0]:
        problem = f"It names {len(numbers)} slices, the volume gives {shape[0]}."
        raise InputError(case.case_id, problem, "Check the files of this case.")
    spacing = dict(zip(("spacing_z_mm", "spacing_y_mm", "spacing_x_mm"), spacing_mm, strict=True))
    if write_png:
        (folder / "png").mkdir()
    with ExitStack() as opened:
        square = (shape[0], recipe.size, recipe.size)
        images = opened.enter_context(_array_file(folder / "images.npy", (*square, len(recipe.windows))))
        if labels is not None:
            masks = opened.enter_context(_array_file(folder / "masks.npy", square))
        for index, picture in enumerate(prepare_slices(volume, recipe)):
            row = {"patient": case.patient, "case": case.case_id, "array": case.case_id, **spacing}
            row |= {"slice": numbers[index], "array_index": index}
            images.write(picture.tobytes())
            name = f"png/slice_{numbers[index]:03d}"
            if write_png:
                row["image"] = f"{case.case_id}/{name}.png"
                _write_png(folder / f"{name}.png", picture)
            if labels is not None:
                plane = resample_label_slice(labels, shape, index)
                for structure in STRUCTURES:
                    pixels = np.count_nonzero(structure_mask(plane, structure))
                    row[f"{structure}_pixels"] = pixels
                    row[f"{structure}_area_mm2"] = pixels * (spacing_mm[1] * spacing_mm[2])
                mask = fit_labels(plane, recipe.size)
                masks.write(mask.tobytes())
                if write_png:
                    row["mask"] = f"{case.case_id}/{name}_mask.png"
                    _write_png(folder / f"{name}_mask.png", MASK_GREY[mask])
            rows.append(row)
    return pd.DataFrame(rows, columns=list(SLICE_COLUMNS)).astype(SLICE_COLUMNS)


@contextmanager
def _array_file(path: Path, shape: tuple[int, ...]) -> Iterator[BinaryIO]:
    """A .npy file of uint8 `shape` to write slice by slice (a memory map would crash on a full disk)."""
    with path.open("wb") as file:
        header = {"descr": "|u1", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        yield file


def _write_png(path: Path, picture: np.ndarray) -> None:
    """Three channels become red, green, blue in window order; any other number shows the first.

    The rows stay unfiltered, and isal packs them faster than OpenCV does, to about as many bytes. Its level
    0, as 3, gives equal bytes for equal pictures: `files.GZIP_LEVEL`.
    """
    if picture.ndim == 3 and picture.shape[-1] != 3:
        picture = picture[..., 0]
    height, width, *colours = picture.shape
    rows = np.zeros((height, 1 + picture[0].size), np.uint8)  # the first byte of each: no filter
    rows[:, 1:] = picture.reshape(height, -1)
    head = struct.pack(">IIBBBBB", width, height, 8, 2 if colours else 0, 0, 0, 0)
    parts = ((b"IHDR", head), (b"IDAT", isal_zlib.compress(rows, 0)), (b"IEND", b""))
    chunks = [
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in parts
    ]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))


def extract_dataset(
    cases: Sequence[Case], recipe: Recipe, folder: Path, workers: int | str = 2, write_png: bool = True
) -> pd.DataFrame:
    """Extract every case, and write and return `folder`/slices.csv (`SLICE_COLUMNS`), rows in their order.

    A case becomes `folder`/<case_id>/ with
    images.npy   uint8 (D, size, size, C), feet to head: np.load(..., mmap_mode="r") costs no memory
    masks.npy    uint8 (D, size, size), labels 0/1/2; absent where there is no truth
    png/         slice_000.png and slice_000_mask.png (greys 0/127/255), for people and other tools
    case.json    recipe, source files, native shape and spacing, versions

    Each of the `workers` (of `side_by_side`) holds one volume. A case that was extracted before from the
    same files, by the same recipe and the same code is kept, so that a killed run goes on; what is kept, what
    is done again and why is printed. Where cases fail, the others are finished first; then one InputError
    names all that failed, and there is no slices.csv.
    """
    folder = Path(folder)
    if not cases:
        raise InputError("extraction", "There is no case to extract.", "Check the data folder.")
    case_id, count = Counter(case.case_id for case in cases).most_common(1)[0]
    if count > 1:
        raise InputError(case_id, "Two cases have this name.", "Rename the files of one of them.")
    files.require_own_file(folder / "slices.csv", *list(SLICE_COLUMNS)[:5])
    for case in cases:
        files.require_replaceable(folder / case.case_id, "case.json", "images.npy")
    with files.locked(folder / "slices.csv"):
        (folder / "slices.csv").unlink(missing_ok=True)
        common = common_request(recipe, write_png)
        job = partial(_attempt, recipe=recipe, folder=folder, common=common)
        missing = _outdated(cases, folder, common)
        try:
            outcomes = side_by_side(job, missing, workers)
            failures = list(filter(None, tqdm(outcomes, "extract", len(missing), unit="case")))
        except OSError as error:
            remedy = "Make room on the disk and start again; finished cases are kept."
            raise InputError(folder, f"Slices cannot be written ({error.strerror}).", remedy) from error
        if failures:
            listed = "\n".join(f"- {error}" for error in failures)
            problem = f"{len(failures)} of {len(cases)} cases could not be extracted:\n{listed}\n"
            remedy = "Repair or remove them and start again; finished cases are kept."
            raise InputError(folder, problem, remedy)
        paths = [folder / case.case_id / "slices.csv" for case in cases]
        starts = range(0, len(paths), TABLES_AT_ONCE)
        parts = [read_slices(*paths[start : start + TABLES_AT_ONCE]) for start in starts]
        rows = pd.concat(parts, ignore_index=True)
        write_slices(rows, folder / "slices.csv")
        return rows


def _outdated(cases: Sequence[Case], folder: Path, common: Mapping) -> list[Case]:
    """The cases that have to be extracted; says why, and how many are kept."""
    reasons = [why_extract(case, folder / case.case_id, common) for case in cases]
    counts = Counter("; ".join(found) for found in reasons if found and found != [NOT_THERE])
    for reason, count in counts.items():
        print(f"{count} of {len(cases)} cases are extracted again, changed since: {reason}")
    if kept := reasons.count([]):
        print(f"{kept} of {len(cases)} cases are kept: nothing that makes them has changed")
    return [case for case, found in zip(cases, reasons, strict=True) if found]


def _attempt(case: Case, recipe: Recipe, folder: Path, common: Mapping) -> InputError | None:
    """The error of a case as a value, because one bad case must not stop the others.

    A new one each time: the traceback of the raised one would keep the volume in memory.
    """
    try:
        write_case(case, recipe, folder / case.case_id, common)
    except (InputError, OSError) as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise  # not the fault of the case, and those after it would fare no better
        return InputError(case.case_id, str(error))
    except Exception as error:  # a fault of ours: show where
        traceback.print_exc(file=sys.stderr)
        return InputError(case.case_id, f"{type(error).__name__}: {error}")
    return None
