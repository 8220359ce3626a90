"""What a user points to, as a list of cases: one file, one series, or a folder of all kinds of them."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path

from livseg_lib.application.scan import Reading, Scan, read_dicom, read_nifti, read_one_picture, read_pictures
from livseg_lib.datasets.case import Case, Dataset
from livseg_lib.datasets.catalogue import ADAPTERS, find_cases, not_yet_readable
from livseg_lib.datasets.dicom import survey
from livseg_lib.datasets.dicom_headers import begins_like_dicom, study_uid
from livseg_lib.datasets.file_trees import NAMELESS, is_zip
from livseg_lib.datasets.files import (
    files_of,
    is_visible,
    natural_key,
    nifti_stem,
    printable,
    regular_files,
    told_apart,
)
from livseg_lib.errors import InputError
from livseg_lib.files import short_name

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg")
LOOKS_FOR = "a NIfTI file, a folder or zip of a DICOM series, a PNG or JPEG slice, or a folder of these"
LAYOUTS = ("kaggle", "lits", "msd", "ircadb")
"""Data sets known by their names: a segmentation in them is no scan."""

RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)
"""No file of Windows may be called so."""


@dataclass(frozen=True)
class PatientInput:
    """One case to be treated, not yet read."""

    case_id: str
    """Unique among those treated together and fit for a file name. From the file's name, or a number."""
    kind: str  # "NIfTI", "DICOM" or "picture"
    files: tuple[Path, ...]  # every file that it is read from
    read: Callable[[], Scan]  # raises InputError where it cannot be used
    options: dict = field(default_factory=dict)  # JSON-ready: how it is read, where there is a choice


def find_inputs(
    path: Path | str, dataset: str = "auto", reading: Reading | None = None, numbered: bool = False
) -> list[PatientInput]:
    """The cases at `path`, in natural order of their names; no voxel is read.

    A folder of DICOM is one case, each NIfTI file in it another; where its subfolders hold different
    studies, each is one. Pictures are a case each, or a case a volume where they are named like the public
    LiTS slices. `dataset` names a layout (`ADAPTERS`); "auto" looks, and takes volumes that lie beside a
    layout as well. Cases are called by their file names (`file_name`); `numbered` calls them case-001,
    case-002, ... Raises InputError where there is nothing to read, and for a pipe or a device.
    """
    path, reading = Path(path), reading or Reading()
    if not path.exists():
        raise InputError(path, "There is no such file or folder.", "Check the path.")
    if not path.is_dir() and not path.is_file():
        raise InputError(path, "This is no file but a pipe, a socket or a device.", f"Give {LOOKS_FOR}.")
    if begins_like_dicom(path) and not nifti_stem(path) and not holds_frames(path):
        problem = "is a single DICOM file: what lies beside it is unknown."
        raise InputError(path, problem, "Give the folder or the zip of its series.")
    layout_name = dataset if dataset not in ("auto", "dicom") else ""
    if dataset == "auto" and path.is_dir():
        layout_name = next((name for name in LAYOUTS if ADAPTERS[name].recognises(path)), "")
    if layout_name:
        layout = find_cases(path, layout_name)
        patients = [_of_case(case, reading) for case in layout.cases]
        patients += _beside(path, layout, reading) if dataset == "auto" else []
    else:
        patients = [patient for entry in _entries(path) for patient in _of_entry(entry, reading)]
        if path.is_dir() and dataset == "auto":
            patients += _in_folders(path, patients, reading)
        if not patients and path.is_dir() and _visible(path):  # a folder a patient, with pictures
            patients = [_of_case(case, reading) for case in ADAPTERS["kaggle"].find(path).cases]
    if dataset == "dicom":
        patients = [patient for patient in patients if patient.kind == "DICOM"]
    if not patients:
        problem = f"There is no scan that livseg can read.{not_yet_readable(path)}"
        raise InputError(path, problem, f"Give {LOOKS_FOR}.")
    return _named(patients, numbered)


def require_used(reading: Reading, patients: Sequence[PatientInput]) -> None:
    """Raises InputError for a choice in `reading` that none of `patients` has any use for."""
    used = {name for patient in patients for name in patient.options}
    for name, value in asdict(reading).items():
        if name not in used and value != getattr(Reading(), name):
            option = f"--{name.replace('_', '-')}"
            raise InputError(option, f"means nothing for {patients[0].kind} files.", "Leave it out.")


def passed_over(path: Path | str, patients: Iterable[PatientInput]) -> list[str]:
    """What in the folder `path` belongs to no case: files, and folders of which nothing does. With the reason
    where it is no file of data. [] where `path` is a file."""
    path = Path(path)
    if not path.is_dir():
        return []
    found = regular_files(path)
    used = {file for patient in patients for file in patient.files}
    entered = {file.relative_to(path).parts[0] for file in used}
    reasons = {Path(note.where): f": {note.message}" for note in found.notes}
    names = {}
    for file in sorted({*found.files, *reasons} - used, key=lambda file: natural_key(str(file))):
        inside = file.relative_to(path)
        whole = inside.parts[0] not in entered and len(inside.parts) > 1
        name = printable(inside.parts[0] if whole else inside)
        names.setdefault(name, "" if whole else reasons.get(file, ""))
    return [f"{name}{reason}" for name, reason in names.items()]


FEW = 3


def briefly(names: Iterable[str]) -> list[str]:
    """`names` of `passed_over`; of more than FEW that differ in numbers alone, the first and how many."""
    alike: dict[str, list[str]] = {}
    for name in names:
        alike.setdefault(name if ": " in name else re.sub(r"\d+", "0", name), []).append(name)
    groups = alike.values()
    shorter = ([f"{own[0]}, and {len(own) - 1} more like it"] if len(own) > FEW else own for own in groups)
    return [line for lines in shorter for line in lines]


def _beside(path: Path, layout: Dataset, reading: Reading) -> list[PatientInput]:
    """Volumes in `path` that are no part of its layout, such as imagesTs. (Pictures would be its masks.)"""
    known = {file for case in layout.cases for file in (*case.files, *case.unmasked)} | set(layout.unpaired)
    notes = [note for case in layout.cases for note in case.notes]  # on copies of one name
    known |= {Path(path) for note in notes for path in (note.where, *note.also)}
    entered = {file.relative_to(path).parts[0] for file in known}
    found = []
    for entry in (entry for entry in _visible(path) if entry.name not in entered):
        items = [item for item in _of_entry(entry, reading) if item.kind != "picture"]
        cases = ADAPTERS["nifti"].find(entry).cases if entry.is_dir() and not items else ()
        found += items or [_of_case(case, reading) for case in cases]
    return found


def _in_folders(path: Path, patients: list[PatientInput], reading: Reading) -> list[PatientInput]:
    """Scans in NIfTI, a folder a patient, of all folders in `path` from which none of `patients` is read: a
    stray picture or zip beside them must not cost them."""
    entered = {file.relative_to(path).parts[0] for patient in patients for file in patient.files}
    folders = {entry.name for entry in _visible(path) if entry.is_dir()} - entered
    if not any(nifti_stem(file) for name in folders for file in files_of(path / name)):
        return []
    cases = ADAPTERS["nifti"].find(path).cases
    return [_of_case(case, reading) for case in cases if case.files[0].relative_to(path).parts[0] in folders]


def _of_case(case: Case, reading: Reading) -> PatientInput:
    if case.slice_numbers is not None:
        files, n_unmasked = case.files[: len(case.slice_numbers)], len(case.unmasked)
        read = partial(read_pictures, case.read_volume, case.slice_numbers, reading.picture_hu, n_unmasked)
        return PatientInput(case.case_id, "picture", files, read, {"picture_hu": reading.picture_hu})
    source = case.read_volume.args[0]  # readers are partials of module functions
    if nifti_stem(source):
        return PatientInput(case.case_id, "NIfTI", (source,), partial(_read_case, case))
    return _dicom(case.case_id, source, reading)


def _entries(path: Path) -> list[Path]:
    """`path` itself where it is one case, else what lies in it."""
    if path.is_file():
        return [path]
    entries = _visible(path)
    inside = [entry for entry in entries if entry.is_file()]
    if any(map(begins_like_dicom, inside)):
        return [path, *filter(nifti_stem, inside)]
    firsts = [entry.is_dir() and _first_dicom(entry) for entry in entries]
    studies = {study_uid(first) for first in firsts if first}
    return [path] if len(studies) == 1 and None not in studies and all(firsts) else entries


def _of_entry(entry: Path, reading: Reading) -> list[PatientInput]:
    """The case that a file or folder is, or nothing."""
    if entry.is_dir():
        name = os.path.basename(os.path.abspath(entry))  # of "." too, and of a link its own
        return [_dicom(name, entry, reading)] if _first_dicom(entry) else []
    if name := nifti_stem(entry):
        return [PatientInput(name, "NIfTI", (entry,), partial(read_nifti, entry))]
    if entry.suffix.lower() in PICTURE_SUFFIXES:
        read = partial(read_one_picture, entry, reading.picture_hu)
        return [PatientInput(entry.stem, "picture", (entry,), read, {"picture_hu": reading.picture_hu})]
    if is_zip(entry) or holds_frames(entry):
        return [_dicom(entry.stem, entry, reading)]
    return []


def _dicom(case_id: str, source: Path, reading: Reading) -> PatientInput:
    read = partial(read_dicom, source, reading.series, reading.keep_identity)
    options = {"series": reading.series, "keep_identity": reading.keep_identity}
    files = tuple(file for file in files_of(source) if file == source or not nifti_stem(file))
    return PatientInput(case_id, "DICOM", files, read, options)


def _read_case(case: Case) -> Scan:
    scan = case.read_volume.args[0]
    if any((note.where, note.severity) == (scan, "error") for note in case.notes):  # its labels do not count
        remedy = "livseg check names them: keep one."
        raise InputError(scan, "Several files have this name, and they differ.", remedy)
    return read_nifti(scan)


def _read_unnamed(read: Callable[[], Scan]) -> Scan:
    """Where names may tell who it is: nothing that is said of the scan repeats one."""
    before = NAMELESS.set(True)
    try:
        return read()
    finally:
        NAMELESS.reset(before)


def file_name(text: str) -> str:
    """`text` as a folder may be called anywhere: not hidden, reserved or too long, and text throughout."""
    name = re.sub(r'[\x00-\x1f\x7f/\\:*?"<>|\ufffd]', "_", printable(text)).strip(". ")
    if not name or RESERVED.fullmatch(name):
        name = f"case-{name}".strip("-")
    return short_name(name)


def _named(patients: list[PatientInput], numbered: bool) -> list[PatientInput]:
    """With ids that are unique, also where capitals do not count: the second "scan" is called "scan-2"."""
    if numbered:
        return [
            replace(patient, case_id=f"case-{n:03d}", read=partial(_read_unnamed, patient.read))
            for n, patient in enumerate(patients, start=1)
        ]
    names = told_apart(
        (file_name(patient.case_id) for patient in patients), used=["cases.csv"]
    )  # beside them
    return [replace(patient, case_id=name) for patient, name in zip(patients, names, strict=True)]


def _visible(folder: Path) -> list[Path]:
    """Files and folders in it that may hold scans, in natural order: no results of `livseg predict`."""
    kept = [entry for entry in folder.iterdir() if is_visible(entry.name) and _may_hold_scans(entry)]
    return sorted(kept, key=lambda entry: natural_key(entry.name))


def _may_hold_scans(path: Path) -> bool:
    if not path.is_dir():  # a link to nothing that is called like a scan fails, and is not lost unseen
        return path.is_file() or bool(nifti_stem(path) and path.is_symlink() and not path.exists())
    if path.resolve() in [path.parent.resolve(), *path.parent.resolve().parents]:
        return False  # a link to a folder above
    try:
        names = set(filter(is_visible, os.listdir(path)))
    except OSError:  # listed as passed over
        return False
    return bool(names) and not names & {"cases.csv", "record.json"}


def _first_dicom(folder: Path) -> Path | None:
    return next(filter(begins_like_dicom, files_of(folder)), None)


def holds_frames(path: Path) -> bool:
    """Whether the file `path` is a DICOM object of many slices, a scan by itself."""
    return begins_like_dicom(path) and any(len(series.slices) > 1 for series in survey(path).series)
