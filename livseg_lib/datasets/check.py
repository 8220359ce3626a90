"""Reading every case once and saying what is wrong with it, before anything is learnt from it."""

from __future__ import annotations

import hashlib
import os
import traceback
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from tqdm import tqdm

from livseg_lib.datasets import findings as rules
from livseg_lib.datasets.case import Case, Dataset, Note
from livseg_lib.datasets.files import files_of, printable
from livseg_lib.errors import InputError
from livseg_lib.files import file_checksum
from livseg_lib.labels import STRUCTURES, require_modality, structure_mask
from livseg_lib.processes import in_processes
from livseg_lib.volumes import Volume

CASE_COLUMNS = (
    *("case", "patient", "usable", "shape", "spacing_mm", "hu_low", "hu_high"),
    *("liver_voxels", "liver_ml", "tumor_voxels", "tumor_ml", "n_tumors"),
)


class Finding(NamedTuple):
    """One line of the report."""

    case: str
    severity: str
    """ "error" excludes the case, "warning" does not; a case with neither has one line "ok"."""
    code: str
    message: str
    file: str


@dataclass(frozen=True)
class CheckReport:
    """What `check_dataset` found."""

    findings: pd.DataFrame
    """A row a finding: case, severity, code, message, file."""
    cases: pd.DataFrame
    """A row a case: `CASE_COLUMNS`. What could not be measured is NaN."""

    @property
    def exit_code(self) -> int:
        """1 if anything is an error, else 0."""
        return int((self.findings["severity"] == "error").any())

    def usable(self, dataset: Dataset) -> Dataset:
        """`dataset` without the cases that an error excludes."""
        return dataset.only(self.cases.loc[self.cases["usable"], "case"])


@dataclass
class CaseCheck:
    """What one case came to; small, since it crosses a process border."""

    row: dict[str, object]
    findings: list[Finding]
    voxel_digest: str | None = None

    def add(self, severity: str, code: str, message: str, file: Path | str) -> None:
        """Note one finding."""
        self.findings.append(Finding(str(self.row["case"]), severity, code, message, printable(file)))


def check_dataset(
    dataset: Dataset, workers: int = 1, progress: bool = True, modality: str = "ct"
) -> CheckReport:
    """Read every case of `dataset` in full, one at a time in each of `workers` processes.

    `modality` is "ct" or "mr": HU are only asked of a CT. Raises InputError for another.
    """
    check = partial(check_case, modality=require_modality(modality))
    results = in_processes(check, dataset.cases, workers)
    checks = list(tqdm(results, "checking", len(dataset.cases), disable=not progress, unit="case"))
    _mark_duplicates(checks)
    found = [_unpaired(path) for path in dataset.unpaired]
    found += [Finding(printable(Path(note.where).name), *_of_note(note)) for note in dataset.notes]
    for check in checks:
        check.row["usable"] = all(finding.severity != "error" for finding in check.findings)
        if not check.findings:
            check.add("ok", "ok", "", "")
        found += check.findings
    return CheckReport(
        pd.DataFrame(found, columns=Finding._fields),
        pd.DataFrame([check.row for check in checks], columns=CASE_COLUMNS),
    )


def check_case(case: Case, modality: str = "ct") -> CaseCheck:
    """Read one case and apply every rule that needs no other case."""
    check = CaseCheck({"case": case.case_id, "patient": case.patient}, [])
    check.findings += [Finding(case.case_id, *_of_note(note)) for note in case.notes]
    _note_missing_masks(check, case)
    try:
        volume = case.read_volume()
        _note_volume(check, case, volume, modality)
        if case.read_labels is not None:
            _note_labels(check, case, volume, _read_labels(check, case, volume), modality)
        if case.inspect is not None:
            check.findings += [Finding(case.case_id, *_of_note(note)) for note in case.inspect(volume)]
    except InputError as error:
        check.add("error", error.code, f"{error.problem} {error.remedy}".strip(), error.where)
    except Exception as error:  # one odd case never ends the check of all others
        check.add("error", "unreadable", _unforeseen(error), case.files[0])
    return check


def _read_labels(check: CaseCheck, case: Case, volume: Volume) -> np.ndarray:
    """Labels of a case that has some; those that are accepted with a foreign affine are told."""
    if getattr(case.read_labels, "keywords", {}).get("accept_affine_mismatch"):
        try:
            return case.read_labels(volume, accept_affine_mismatch=False)
        except InputError as error:
            if error.code != "affine-mismatch":
                raise
            message = f"{error.problem} They are taken voxel by voxel, as was asked."
            check.add("warning", error.code, message, error.where)
    return case.read_labels(volume)


def _unforeseen(error: Exception) -> str:
    """Kind and place of an error. Not its own words: libraries quote what stands in a file, names too."""
    within = [f for f in traceback.extract_tb(error.__traceback__) if "livseg_lib" in Path(f.filename).parts]
    place = f" in {Path(within[-1].filename).name}, line {within[-1].lineno}" if within else ""
    return f"It cannot be read: {type(error).__name__}{place}. Export it again, or leave it out."


def data_checksum(dataset: Dataset) -> str:
    """SHA-256 over names (relative to the folder), sizes and contents of every file of `dataset`."""
    files = {path for unpaired in dataset.unpaired for path in files_of(unpaired)}
    for case in dataset.cases:
        files.update(case.files, case.unmasked)
    total = hashlib.sha256()
    for path in sorted(files):
        name = os.fsencode(path.relative_to(dataset.folder).as_posix())
        try:
            content = f"{path.stat().st_size}\0{file_checksum(path)}"
        except OSError:  # a link to nothing, or no right to read: told by the check
            content = "unreadable"
        total.update(name + f"\0{content}\n".encode())
    return total.hexdigest()


def _note_missing_masks(check: CaseCheck, case: Case) -> None:
    if case.read_labels is None:
        message = "There is no segmentation: it can be predicted, not learnt from or scored."
        check.add("warning", "unlabelled", message, case.files[0])
    if case.unmasked:
        names = ", ".join(path.name for path in case.unmasked)
        message = f"{len(case.unmasked)} slice(s) without a mask are left out: {names}."
        check.add("warning", "slice-without-mask", message, case.unmasked[0])


def _note_volume(check: CaseCheck, case: Case, volume: Volume, modality: str) -> None:
    check.voxel_digest = _voxel_digest(volume)
    check.row.update(
        shape=volume.voxels.shape,
        spacing_mm=volume.spacing_mm,
        hu_low=int(volume.voxels.min()),
        hu_high=int(volume.voxels.max()),
    )
    if case.slice_numbers is None:
        _add_verdicts(check, rules.volume_findings(volume, modality), case.files[0])


def _note_labels(check: CaseCheck, case: Case, volume: Volume, labels: np.ndarray, modality: str) -> None:
    pictures = case.slice_numbers is not None
    for structure in STRUCTURES:
        voxels = int(structure_mask(labels, structure).sum())
        check.row.update({f"{structure}_voxels": voxels, f"{structure}_ml": voxels * volume.voxel_volume_ml})
    _add_verdicts(check, rules.label_findings(labels, pictures), case.files[-1])
    if not pictures:
        check.row["n_tumors"] = rules.count_tumors(labels)
        if modality == "ct":
            _add_verdicts(check, rules.liver_hu_findings(volume, labels), case.files[-1])


def _add_verdicts(check: CaseCheck, verdicts: Iterable[rules.Verdict], file: Path) -> None:
    for verdict in verdicts:
        check.add(*verdict, file)


def _voxel_digest(volume: Volume) -> str:
    digest = hashlib.sha256(repr(volume.voxels.shape).encode())
    for plane in volume.voxels:  # (H, W): a plane at a time, since hashing needs a contiguous copy
        digest.update(np.ascontiguousarray(plane))
    return digest.hexdigest()


def _mark_duplicates(checks: list[CaseCheck]) -> None:
    """Exclude every later copy of a volume: it could stand on both sides of a split."""
    first: dict[str, str] = {}
    for check in checks:
        if check.voxel_digest is None:
            continue
        case = str(check.row["case"])
        original = first.setdefault(check.voxel_digest, case)
        if original != case:
            check.add("error", "duplicate", f"Its voxels are exactly those of {original}.", "")


def _of_note(note: Note) -> tuple[str, str, str, str]:
    return note.severity, note.code, note.message, printable(note.where)


def _unpaired(path: Path) -> Finding:
    message = "There is no volume or picture that belongs to this segmentation."
    return Finding(printable(path.name), "error", "unpaired", message, printable(path))
