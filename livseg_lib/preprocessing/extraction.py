"""Cases -> folders of pictures and slices.csv: in parallel, one volume in memory a worker, resumable."""

from __future__ import annotations

import errno
import sys
import traceback
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
from tqdm import tqdm

from livseg_lib.atomic import locked
from livseg_lib.errors import InputError
from livseg_lib.preprocessing.case_folder import (
    NOT_THERE,
    extraction_request,
    why_extract,
    write_case,
)
from livseg_lib.preprocessing.recipe import Recipe
from livseg_lib.preprocessing.slice_table import read_slices, write_slices
from livseg_lib.processes import in_processes

if TYPE_CHECKING:  # only named in signatures: no need to load every reader
    from livseg_lib.datasets.case import Case


def extract_case(case: Case, recipe: Recipe, folder: Path, write_png: bool = True) -> pd.DataFrame:
    """Extract one case into `folder`/<case_id>/ and return its rows of slices.csv (`SLICE_COLUMNS`).

    images.npy   uint8 (D, size, size, C), feet to head: np.load(..., mmap_mode="r") costs no memory
    masks.npy    uint8 (D, size, size), labels 0/1/2; absent where there is no truth
    png/         slice_000.png and slice_000_mask.png (greys 0/127/255), for people and other tools
    case.json    recipe, source files, native shape and spacing, versions

    A case that was extracted before from the same files, by the same recipe and the same code is kept.
    """
    target = Path(folder) / case.case_id
    if why_extract(target, extraction_request(case, recipe, write_png)):
        write_case(case, recipe, target, write_png)
    return read_slices(target / "slices.csv")


def extract_dataset(
    cases: Sequence[Case],
    recipe: Recipe,
    folder: Path,
    workers: int = 2,
    write_png: bool = True,
    progress: bool = True,
) -> pd.DataFrame:
    """Extract every case as `extract_case` does and write `folder`/slices.csv, rows in the order of `cases`.

    Each of the `workers` processes holds one volume; 1 works in this process. Killed and started again it
    goes on with the cases that are missing; what is kept, what is done again and why is printed. Where
    cases fail, the others are finished first; then one InputError names all that failed, and there is no
    slices.csv.
    """
    folder = Path(folder)
    _check_ids(cases)
    with locked(folder / "slices.csv"):
        (folder / "slices.csv").unlink(missing_ok=True)
        job = partial(_attempt, recipe=recipe, folder=folder, write_png=write_png)
        missing = _outdated(cases, recipe, folder, write_png)
        try:
            outcomes = tqdm(
                in_processes(job, missing, workers),
                "extract",
                len(missing),
                unit="case",
                disable=not progress,
            )
            failures = [error for error in outcomes if error]
        except OSError as error:
            remedy = "Make room on the disk and start again; finished cases are kept."
            raise InputError(folder, f"Slices cannot be written ({error.strerror}).", remedy) from error
        if failures:
            listed = "\n".join(f"- {error}" for error in failures)
            problem = f"{len(failures)} of {len(cases)} cases could not be extracted:\n{listed}\n"
            raise InputError(
                folder, problem, "Repair or remove them and start again; finished cases are kept."
            )
        rows = pd.concat(
            [read_slices(folder / case.case_id / "slices.csv") for case in cases], ignore_index=True
        )
        write_slices(rows, folder / "slices.csv")
        return rows


def _check_ids(cases: Sequence[Case]) -> None:
    if not cases:
        raise InputError("extraction", "There is no case to extract.", "Check the data folder.")
    repeated = [case_id for case_id, count in Counter(case.case_id for case in cases).items() if count > 1]
    if repeated:
        raise InputError(repeated[0], "Two cases have this name.", "Rename the files of one of them.")


def _outdated(cases: Sequence[Case], recipe: Recipe, folder: Path, write_png: bool) -> list[Case]:
    """The cases that have to be extracted; says why, and how many are kept."""
    reasons = {case.case_id: _why(case, recipe, folder, write_png) for case in cases}
    counts = Counter("; ".join(found) for found in reasons.values() if found and found != [NOT_THERE])
    for reason, count in counts.items():
        print(f"{count} of {len(cases)} cases are extracted again, changed since: {reason}")
    if kept := sum(not found for found in reasons.values()):
        print(f"{kept} of {len(cases)} cases are kept: nothing that makes them has changed")
    return [case for case in cases if reasons[case.case_id]]


def _why(case: Case, recipe: Recipe, folder: Path, write_png: bool) -> list[str]:
    try:
        return why_extract(folder / case.case_id, extraction_request(case, recipe, write_png))
    except OSError:  # a source file is gone: the attempt to read it will say so
        return [NOT_THERE]


def _attempt(case: Case, recipe: Recipe, folder: Path, write_png: bool) -> InputError | None:
    """The error of a case as a value, because one bad case must not stop the others.

    A new one each time: the traceback of the raised one would keep the volume in memory.
    """
    try:
        extract_case(case, recipe, folder, write_png)
    except (InputError, OSError) as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise  # not the fault of the case, and those after it would fare no better
        return InputError(case.case_id, str(error))
    except Exception as error:  # a fault of ours: show where
        traceback.print_exc(file=sys.stderr)
        return InputError(case.case_id, f"{type(error).__name__}: {error}")
    return None
