"""What a user points to, as a list of cases: one file, one series, or a folder of all kinds of them."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from livseg_lib.application.dicom_input import read_dicom
from livseg_lib.application.picture_input import (
    PICTURE_SUFFIXES,
    STORED_HU,
    read_one_picture,
    read_pictures,
)
from livseg_lib.application.scan import PatientInput, Scan
from livseg_lib.datasets import ADAPTERS, Case, find_cases
from livseg_lib.datasets.dicom_headers import begins_like_dicom, study_uid
from livseg_lib.datasets.files import files_of, natural_key, nifti_stem
from livseg_lib.errors import InputError
from livseg_lib.volumes import load_volume

LOOKS_FOR = "a NIfTI file, a folder or zip of a DICOM series, a PNG or JPEG slice, or a folder of these"
LAYOUTS = ("kaggle", "lits", "msd", "ircadb")
"""Data sets told by their names: what in them is a segmentation is no scan."""


@dataclass(frozen=True)
class Reading:
    """How inputs are read."""

    series: str | None = None
    """Number or UID of the DICOM series, where there are several."""
    picture_hu: tuple[float, float] = STORED_HU
    """HU of black and of white in pictures."""
    keep_identity: bool = False
    """Whether a DICOM-SEG shall carry the patient's name and identifiers."""


def find_inputs(
    path: Path | str,
    dataset: str = "auto",
    reading: Reading | None = None,
    numbered: bool = False,
) -> list[PatientInput]:
    """The cases at `path`, in natural order of their names; no voxel is read.

    A folder of DICOM is one case; where its subfolders hold different studies, each is one. Pictures are
    a case each, or a case a volume where they are named like the public LiTS slices. `dataset` names a
    layout (`ADAPTERS`); "auto" looks. Cases are called by their file names; `numbered` calls them
    case-001, case-002, ... Raises InputError where there is nothing to read.
    """
    path, reading = Path(path), reading or Reading()
    if not path.exists():
        raise InputError(path, "There is no such file or folder.", "Check the path.")
    patients = _of_layout(path, dataset, reading)
    if patients is None:
        patients = [patient for entry in _entries(path) for patient in _of_entry(entry, reading)]
    if not patients:
        raise InputError(path, "There is no scan that livseg can read.", f"Give {LOOKS_FOR}.")
    return _named(patients, numbered)


def passed_over(path: Path | str, patients: Iterable[PatientInput]) -> list[str]:
    """Names in the folder `path` of which nothing belongs to a case; none where `path` is a file."""
    path = Path(path)
    if not path.is_dir():
        return []
    used = {file.relative_to(path).parts[0] for one in patients for file in one.files}
    return [entry.name for entry in _visible(path) if entry.name not in used]


def _of_layout(path: Path, dataset: str, reading: Reading) -> list[PatientInput] | None:
    """Cases of a named or recognised data set; None where each entry is to be looked at."""
    if dataset == "auto":
        names = [name for name in LAYOUTS if path.is_dir() and ADAPTERS[name].recognises(path)]
        if not names:
            return None
        dataset = names[0]
    if dataset == "dicom":
        return None
    return [_of_case(case, reading) for case in find_cases(path, dataset).cases]


def _of_case(case: Case, reading: Reading) -> PatientInput:
    if case.slice_numbers is not None:
        read = partial(
            read_pictures, case.read_volume, case.slice_numbers, reading.picture_hu, len(case.unmasked)
        )
        files = case.files[: len(case.slice_numbers)]
        return PatientInput(case.case_id, "picture", files, read, {"picture_hu": reading.picture_hu})
    source = case.read_volume.args[0]  # readers are partials of module functions
    if nifti_stem(source):
        return PatientInput(case.case_id, "NIfTI", (source,), partial(_read_volume, case))
    return _dicom(case.case_id, source, reading)


def _entries(path: Path) -> list[Path]:
    """`path` itself where it is one case, else what lies in it."""
    if path.is_file() or _holds_dicom(path, directly=True):
        return [path]
    entries = _visible(path)
    studies = [study_uid(first) for entry in entries if entry.is_dir() and (first := _first_dicom(entry))]
    one_study = len(set(studies)) == 1 and studies[0] is not None
    return [path] if one_study and len(studies) == len(entries) else entries


def _of_entry(entry: Path, reading: Reading) -> list[PatientInput]:
    """The case that a file or folder is, or nothing."""
    if entry.is_dir():
        name = os.path.basename(os.path.abspath(entry))  # of "." too, and of a link its own
        return [_dicom(name, entry, reading)] if _holds_dicom(entry) else []
    if name := nifti_stem(entry):
        return [PatientInput(name, "NIfTI", (entry,), partial(_read_nifti, entry))]
    if entry.suffix.lower() in PICTURE_SUFFIXES:
        read = partial(read_pictures, partial(read_one_picture, entry), None, reading.picture_hu)
        return [PatientInput(entry.stem, "picture", (entry,), read, {"picture_hu": reading.picture_hu})]
    if entry.suffix.lower() == ".zip":
        return [_dicom(entry.stem, entry, reading)]
    if begins_like_dicom(entry):
        problem = "is a single DICOM file: what lies beside it is unknown."
        raise InputError(entry, problem, "Give the folder or the zip of its series.")
    return []


def _dicom(case_id: str, source: Path, reading: Reading) -> PatientInput:
    read = partial(read_dicom, source, reading.series, reading.keep_identity)
    options = {"series": reading.series, "keep_identity": reading.keep_identity}
    return PatientInput(case_id, "DICOM", files_of(source), read, options)


def _read_nifti(path: Path) -> Scan:
    return Scan(load_volume(path))


def _read_volume(case: Case) -> Scan:
    return Scan(case.read_volume())


def _named(patients: list[PatientInput], numbered: bool) -> list[PatientInput]:
    """With ids that are unique: the second "scan" is called "scan-2"."""
    if numbered:
        return [replace(one, case_id=f"case-{n:03d}") for n, one in enumerate(patients, start=1)]
    taken: set[str] = set()
    for index, one in enumerate(patients):
        name, count = one.case_id, 1
        while name in taken:
            count += 1
            name = f"{one.case_id}-{count}"
        taken.add(name)
        patients[index] = replace(one, case_id=name)
    return patients


def _visible(folder: Path) -> list[Path]:
    """What lies in it, in natural order, without hidden files."""
    entries = (entry for entry in folder.iterdir() if not entry.name.startswith((".", "__MACOSX")))
    return sorted(entries, key=lambda entry: natural_key(entry.name))


def _holds_dicom(folder: Path, directly: bool = False) -> bool:
    return _first_dicom(folder, directly) is not None


def _first_dicom(folder: Path, directly: bool = False) -> Path | None:
    files = folder.glob("*") if directly else folder.rglob("*")
    return next((path for path in files if path.is_file() and begins_like_dicom(path)), None)
