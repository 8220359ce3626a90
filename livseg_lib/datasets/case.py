"""What every data set becomes: a list of cases that can be read one at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
from tqdm import tqdm

from livseg_lib.files import short_name
from livseg_lib.processes import in_processes, in_threads
from livseg_lib.volumes import Volume

Result = TypeVar("Result")


class Note(NamedTuple):
    """What finding the cases brought to light; `check_dataset` lists it among its findings."""

    where: Path | str
    code: str  # a short name of its kind, such as "passed-over"
    message: str  # what was decided and why, and what to do if it is wrong
    severity: str = "warning"  # "warning" or "error"; an error of a case excludes it
    also: tuple[Path, ...] = ()  # other files that it speaks of


@dataclass(frozen=True)
class Case:
    """One scan of one patient. Pickles (the readers are partials of module functions)."""

    case_id: str  # unique in its data set and fit for a file name, such as "volume-12"
    patient: str  # splits never separate cases that share it
    files: tuple[Path, ...]  # every file that the case is read from
    read_volume: Callable[[], Volume]
    read_labels: Callable[[Volume], np.ndarray] | None = None
    """Gives labels 0/1/2, uint8 (D, H, W), on the volume's grid; None where there is no truth."""
    slice_numbers: tuple[int, ...] | None = None
    """Original numbers of the slices where the case is a set of pictures, not a whole volume."""
    unmasked: tuple[Path, ...] = ()  # pictures of the case that were left out of it because they have no mask
    notes: tuple[Note, ...] = ()  # on this case alone
    decided: str = ""
    """What was decided by the whole set and changes what is read: a result depends on it as on the files."""
    inspect: Callable[[Volume], Iterable[Note]] | None = None
    """Gives what else only reading its files can tell; `check_dataset` asks for it, nothing else does."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "case_id", short_name(self.case_id))  # names of folders are joined in it


@dataclass(frozen=True)
class Dataset:
    """A folder of cases, in natural order of their ids."""

    name: str  # the adapter: "lits", "msd", "kaggle", "ircadb", "dicom" or "nifti"
    folder: Path
    cases: tuple[Case, ...]
    unpaired: tuple[Path, ...] = field(default=())
    """Segmentations without a volume. (A case without labels stays a case: its read_labels is None.)"""
    notes: tuple[Note, ...] = ()  # on files that were passed over, and on what was decided for the whole set

    def only(self, case_ids: Iterable[str]) -> Dataset:
        """This data set with no other cases than those named."""
        names = set(case_ids)
        return replace(self, cases=tuple(case for case in self.cases if case.case_id in names))


def read_each(cases: Iterable[Case], told: str) -> Iterator[tuple[Case, Volume, np.ndarray]]:
    """Each of `cases` with labels, its scan and these, one after another; beside a bar called `told`."""
    for case in tqdm(list(cases), told, unit="patient"):
        volume = case.read_volume()
        yield case, volume, case.read_labels(volume)


WORTH_PROCESSES_BYTES = 128 * 1024**2
"""Of files: one process reads so many in about three seconds, in which two more have just started."""


def side_by_side(
    job: Callable[[Case], Result], cases: Sequence[Case], workers: int | str
) -> Iterator[Result]:
    """As `in_processes`; threads where the files of `cases` are less than WORTH_PROCESSES_BYTES."""
    files = {path for case in cases for path in case.files if path.exists()}
    is_small = sum(path.stat().st_size for path in files) < WORTH_PROCESSES_BYTES
    if is_small and isinstance(workers, int) and workers > 1:
        return in_threads(job, cases, workers)
    return in_processes(job, cases, workers)
