"""What a user points to, as a list of cases: one file, one series, or a folder of all kinds of them.

A case is read as a `Scan`, whatever it is: NIfTI, pictures, one series of DICOM.
"""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, partial
from pathlib import Path

import numpy as np
import pydicom
from pydicom.uid import CTImageStorage, MRImageStorage, generate_uid

from livseg_lib.datasets.case import Case, Dataset
from livseg_lib.datasets.catalogue import ADAPTERS, find_cases
from livseg_lib.datasets.dicom import Series, read_chosen, read_series, series_notes, skipped_notes, survey
from livseg_lib.datasets.dicom_headers import (
    SliceHeader,
    begins_like_dicom,
    damage_named,
    digits_only,
    read_whole,
    study_uid,
)
from livseg_lib.datasets.dicom_slices import stack_slices
from livseg_lib.datasets.file_trees import FileTree, open_tree
from livseg_lib.datasets.files import files_of, is_visible, natural_key, nifti_stem, printable, regular_files
from livseg_lib.datasets.pictures import read_picture
from livseg_lib.errors import InputError, require_extra
from livseg_lib.files import short_name
from livseg_lib.preprocessing.windows import Window
from livseg_lib.volumes import Volume, labels_among, load_volume

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg")
STORED_HU = (0.0, 255.0)
"""HU of black and white in the public sets of LiTS slices: grey level and HU are the same there."""
LOOKS_FOR = "a NIfTI file, a folder or zip of a DICOM series, a PNG or JPEG slice, or a folder of these"
LAYOUTS = ("kaggle", "lits", "msd", "ircadb")
"""Data sets told by their names: what in them is a segmentation is no scan."""

LABELS = "label-map"
"""Code of the error for a scan that is none."""
RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)
"""No file of Windows may be called so."""


@dataclass(frozen=True, eq=False)
class Scan:
    """What was read of one case. Nothing in it names a patient, but `headers` where that was asked for."""

    volume: Volume
    window: Window | None = None
    """Of pictures: the HU of black and of white."""
    slice_numbers: tuple[int, ...] | None = None
    """Original numbers of the slices of a stack of pictures."""
    headers: tuple[pydicom.Dataset, ...] = ()
    """Of DICOM, a header a slice in the order of space: where it lies and by which UID it is known."""
    notes: tuple[str, ...] = ()
    """What was decided in reading, for the reader: sentences."""

    @property
    def is_picture(self) -> bool:
        """Whether it is made of pictures: no spacing, no place in space, HU only by someone's word."""
        return self.window is not None


@dataclass(frozen=True)
class PatientInput:
    """One case to be treated, not yet read."""

    case_id: str
    """Unique among those treated together and fit for a file name. From the file's name, or a number."""
    kind: str
    """ "NIfTI", "DICOM" or "picture"."""
    files: tuple[Path, ...]
    """Every file that it is read from."""
    read: Callable[[], Scan]
    """Raises InputError where it cannot be used."""
    options: dict = field(default_factory=dict)
    """JSON-ready: how it is read, where there is a choice."""


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
    layout (`ADAPTERS`); "auto" looks, and takes volumes that lie beside a layout as well. Cases are called
    by their file names (`file_name`); `numbered` calls them case-001, case-002, ... Raises InputError where
    there is nothing to read, and for a pipe or a device.
    """
    path, reading = Path(path), reading or Reading()
    if not path.exists():
        raise InputError(path, "There is no such file or folder.", "Check the path.")
    if not path.is_dir() and not path.is_file():
        raise InputError(path, "This is no file but a pipe, a socket or a device.", f"Give {LOOKS_FOR}.")
    if begins_like_dicom(path) and not nifti_stem(path) and not holds_frames(path):
        problem = "is a single DICOM file: what lies beside it is unknown."
        raise InputError(path, problem, "Give the folder or the zip of its series.")
    told = dataset if dataset not in ("auto", "dicom") else ""
    if dataset == "auto" and path.is_dir():
        told = next((name for name in LAYOUTS if ADAPTERS[name].recognises(path)), "")
    if told:
        layout = find_cases(path, told)
        patients = [_of_case(case, reading) for case in layout.cases]
        patients += _beside(path, layout, reading) if dataset == "auto" else []
    else:
        patients = [patient for entry in _entries(path) for patient in _of_entry(entry, reading)]
        if not patients and path.is_dir():  # a folder a patient, with NIfTI files
            patients = [_of_case(case, reading) for case in ADAPTERS["nifti"].find(path).cases]
    if not patients:
        raise InputError(path, "There is no scan that livseg can read.", f"Give {LOOKS_FOR}.")
    return _named(patients, numbered)


def passed_over(path: Path | str, patients: Iterable[PatientInput]) -> list[str]:
    """What in the folder `path` belongs to no case: files, and folders of which nothing does.

    With the reason where it is no file of data. [] where `path` is a file.
    """
    path = Path(path)
    if not path.is_dir():
        return []
    found = regular_files(path)
    used = {file for one in patients for file in one.files}
    entered = {file.relative_to(path).parts[0] for file in used}
    reasons = {Path(note.where): f": {note.message}" for note in found.notes}
    names = {}
    for file in sorted({*found.files, *reasons} - used, key=lambda file: natural_key(str(file))):
        inside = file.relative_to(path)
        whole = inside.parts[0] not in entered and len(inside.parts) > 1
        name = printable(inside.parts[0] if whole else inside)
        names.setdefault(name, "" if whole else reasons.get(file, ""))
    return [f"{name}{reason}" for name, reason in names.items()]


def _beside(path: Path, layout: Dataset, reading: Reading) -> list[PatientInput]:
    """Volumes in `path` that are no part of its layout. (Pictures would be its masks.)"""
    known = {file for case in layout.cases for file in (*case.files, *case.unmasked)} | set(layout.unpaired)
    entered = {file.relative_to(path).parts[0] for file in known}
    entries = [entry for entry in _visible(path) if entry.name not in entered]
    return [one for entry in entries for one in _of_entry(entry, reading) if one.kind != "picture"]


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
    if path.is_file() or _first_dicom(path, "*"):
        return [path]
    entries = _visible(path)
    studies = [study_uid(first) for entry in entries if entry.is_dir() and (first := _first_dicom(entry))]
    one_study = len(set(studies)) == 1 and studies[0] is not None
    return [path] if one_study and len(studies) == len(entries) else entries


def _of_entry(entry: Path, reading: Reading) -> list[PatientInput]:
    """The case that a file or folder is, or nothing."""
    if entry.is_dir():
        name = os.path.basename(os.path.abspath(entry))  # of "." too, and of a link its own
        return [_dicom(name, entry, reading)] if _first_dicom(entry) else []
    if name := nifti_stem(entry):
        return [PatientInput(name, "NIfTI", (entry,), partial(_read_nifti, entry))]
    if entry.suffix.lower() in PICTURE_SUFFIXES:
        read = partial(read_pictures, partial(read_one_picture, entry), None, reading.picture_hu)
        return [PatientInput(entry.stem, "picture", (entry,), read, {"picture_hu": reading.picture_hu})]
    if entry.suffix.lower() == ".zip" or holds_frames(entry):
        return [_dicom(entry.stem, entry, reading)]
    return []


def _dicom(case_id: str, source: Path, reading: Reading) -> PatientInput:
    read = partial(read_dicom, source, reading.series, reading.keep_identity)
    options = {"series": reading.series, "keep_identity": reading.keep_identity}
    return PatientInput(case_id, "DICOM", files_of(source), read, options)


def _read_nifti(path: Path) -> Scan:
    volume = load_volume(path)
    if labels := labels_among(volume.voxels):
        problem = f"It holds {len(labels)} whole numbers from 0 to {labels[-1]}, in patches: labels, no scan."
        raise InputError(path, problem, "Give the scan that they belong to.", LABELS)
    return Scan(volume)


def _read_case(case: Case) -> Scan:
    if errors := [note for note in case.notes if note.severity == "error"]:
        raise InputError(errors[0].where, errors[0].message, code=errors[0].code)
    return _read_nifti(case.read_volume.args[0])


def file_name(text: str) -> str:
    """`text` as a folder may be called anywhere: not hidden, reserved or too long, and text throughout."""
    name = re.sub(r'[\x00-\x1f\x7f/\\:*?"<>|\ufffd]', "_", printable(text)).strip(". ")
    if not name or RESERVED.fullmatch(name):
        name = f"case-{name}".strip("-")
    return short_name(name)


def _named(patients: list[PatientInput], numbered: bool) -> list[PatientInput]:
    """With ids that are unique, also where capitals do not count: the second "scan" is called "scan-2"."""
    if numbered:
        return [replace(one, case_id=f"case-{n:03d}") for n, one in enumerate(patients, start=1)]
    taken = {"cases.csv"}  # lies beside the cases
    for index, one in enumerate(patients):
        first = name = file_name(one.case_id)
        count = 1
        while (known := unicodedata.normalize("NFC", name).casefold()) in taken:
            count += 1
            name = f"{first}-{count}"
        taken.add(known)
        patients[index] = replace(one, case_id=name)
    return patients


def _visible(folder: Path) -> list[Path]:
    """Files and folders in it that may hold scans, in natural order: no results of `livseg predict`."""
    entries = [entry for entry in folder.iterdir() if is_visible(entry.name)]
    kept = [entry for entry in entries if (_may_hold_scans if entry.is_dir() else Path.is_file)(entry)]
    return sorted(kept, key=lambda entry: natural_key(entry.name))


def _may_hold_scans(folder: Path) -> bool:
    try:
        names = set(filter(is_visible, os.listdir(folder)))
    except OSError:  # listed as passed over
        return False
    return bool(names) and not names & {"cases.csv", "record.json"}


def _first_dicom(folder: Path, pattern: str = "**/*") -> Path | None:
    return next((path for path in folder.glob(pattern) if path.is_file() and begins_like_dicom(path)), None)


def read_pictures(
    read_volume: Callable[[], Volume],
    slice_numbers: tuple[int, ...] | None = None,
    hu: tuple[float, float] = STORED_HU,
    left_out: int = 0,
) -> Scan:
    """The grey levels 0..255 that `read_volume` gives, as HU from `hu[0]` (black) to `hu[1]` (white)."""
    (low, high), greys = hu, read_volume()
    voxels = np.rint(low + greys.voxels * ((high - low) / 255.0)).astype(np.int16)
    notes = [
        f"A picture has no HU and no spacing: black is taken for {low:g} HU and white for {high:g} HU "
        "(--picture-hu), and what is measured in mm or ml is undefined."
    ]
    if left_out:
        notes.append(f"{left_out} pictures without a mask, among others with one, were left out.")
    volume = Volume(voxels, greys.spacing_mm)
    return Scan(volume, Window.between(low, high), slice_numbers, notes=tuple(notes))


def read_one_picture(path: Path) -> Volume:
    """Grey levels of one picture as int16 (1, H, W); nothing is known of the spacing."""
    return Volume(read_picture(path).grey[np.newaxis].astype(np.int16), (np.nan, np.nan, np.nan))


def parse_hu_range(text: str) -> tuple[float, float]:
    """ "-160,240" -> (-160.0, 240.0). Raises InputError unless these are two rising numbers."""
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        low = high = 0.0
    if not (np.isfinite([low, high]).all() and -32768 <= low < high <= 32767):
        problem = f"is {text!r}, not the HU of black and of white."
        raise InputError("--picture-hu", problem, "Write two numbers such as --picture-hu=-160,240.")
    return low, high


ENOUGH_SLICES = 20
"""A series of fewer is no scan of a liver but a test, a localizer or a few slices for a needle."""
AXIAL_COSINE = 0.9
"""Between the normal of axial slices and the patient's long axis, at least."""

PLACE = ("StudyInstanceUID", "FrameOfReferenceUID")
"""UIDs that tie a segmentation to its scan: random numbers, no names."""
IDENTITY = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex"),
    *("StudyID", "StudyDate", "StudyTime", "AccessionNumber", "ReferringPhysicianName"),
)
"""Read only where the user wants the segmentation to carry the patient's name."""


def read_dicom(source: Path, wanted: str | None = None, keep_identity: bool = False) -> Scan:
    """The CT series in `source`, a folder or a zip. Of several, `wanted` (number or UID) says which.

    Raises InputError as `read_series` does, and where several series could be meant.
    """
    require_extra("dicom", "highdicom")  # to write what is found
    found = survey(source)
    if not found.series:
        read_series(source)  # says why there is none
    of_ct = [one for one in found.series if one.modality == "ct"]
    among = found.series if wanted is not None else of_ct or found.series
    chosen, note = choose_series(among, wanted, source)
    volume = read_chosen(source, chosen)
    headers = _headers(source, stack_slices(chosen.slices, source).slices, keep_identity)
    decided = [each.message for each in (*series_notes(chosen, source), *skipped_notes(found, source))]
    return Scan(volume, headers=headers, notes=tuple(filter(None, (note, *decided))))


def holds_frames(path: Path) -> bool:
    """Whether the file `path` is a DICOM object of many slices, a scan by itself."""
    return begins_like_dicom(path) and any(len(one.slices) > 1 for one in survey(path).series)


def choose_series(series: Sequence[Series], wanted: str | None, source: Path) -> tuple[Series, str]:
    """The series `wanted` by number or UID, the only one, or the only axial one of ENOUGH_SLICES.

    The second value says so where it was a choice. Raises InputError, with a list, where it is not clear.
    """
    listing = "; ".join(describe_series(one, series) for one in series)
    if wanted is not None:
        meant = [one for one in series if wanted in (str(one.number), one.uid)]
        if len(meant) == 1:
            return meant[0], ""
        count = "no" if not meant else "more than one"
        problem = f"There is {count} series {wanted}. Found: {listing}."
        raise InputError(source, problem, "Name one with --series, by its number or its UID.")
    if len(series) == 1:
        return series[0], ""
    clear = [one for one in series if is_axial(one) and len(one.slices) >= ENOUGH_SLICES]
    if len(clear) != 1:
        problem = f"There are {len(series)} CT series: {listing}."
        raise InputError(source, problem, "Choose one with --series, by its number or its UID.")
    note = f"Of {len(series)} series this is the only axial one of at least {ENOUGH_SLICES} slices: "
    return clear[0], f"{note}{describe_series(clear[0], series)}."


def describe_series(one: Series, among: Sequence[Series] = ()) -> str:
    """What it is, without a word of its description: that may hold names."""
    first = one.slices[0]
    unclear = one.number is None or Counter(other.number for other in among)[one.number] > 1
    name = f"series {one.uid}" if unclear else f"series {one.number}"
    size = f"{len(one.slices)} slices of {first.shape[0]} x {first.shape[1]}"
    spacing = f"{first.pixel_spacing_mm[0]:.2f} mm"
    thickness = "" if first.thickness_mm is None else f", {first.thickness_mm:.2f} mm thick"
    return f"{name}: {size}, {spacing}{thickness}, {'axial' if is_axial(one) else 'not axial'}"


def is_axial(series: Series) -> bool:
    """Whether its slices lie across the patient's long axis."""
    return bool(abs(np.cross(*series.slices[0].directions)[2]) >= AXIAL_COSINE)


def _headers(source: Path, slices: Sequence[SliceHeader], keep_identity: bool) -> tuple[pydicom.Dataset, ...]:
    """One a slice: place, size and UIDs, and what all of them share."""
    tags = [*PLACE, *(IDENTITY if keep_identity else ())]
    where = f"{source}/{slices[0].name}"
    with damage_named(where), open_tree(source) as tree:
        first, digest = read_whole(tree, slices[0].name, tags), cache(partial(_digest, tree))
        shared = {
            keyword: digits_only(first.get(keyword))
            or generate_uid(entropy_srcs=[digest(slices[0].name), keyword])
            for keyword in PLACE
        }
        own: dict[str, SliceHeader] = {}
        for one in slices:  # emptied and shared UIDs, and those of frames, cannot tell slices apart
            known = one.instance_uid not in ("", *own)
            made = "" if known else generate_uid(entropy_srcs=[digest(one.name), str(len(own))])
            own[made or one.instance_uid] = one
    shared |= {keyword: first.get(keyword, "") for keyword in tags[len(PLACE) :]}
    return tuple(_header(one, uid, shared) for uid, one in own.items())


def _digest(tree: FileTree, name: str) -> str:
    """Of a file, to make UIDs of that are missing: the same ones at each reading."""
    with tree.open_file(name) as file:
        return hashlib.sha256(file.read()).hexdigest()


def _header(one: SliceHeader, instance_uid: str, shared: dict) -> pydicom.Dataset:
    header = pydicom.Dataset()
    header.SOPClassUID = CTImageStorage if one.modality == "ct" else MRImageStorage
    header.Modality = one.modality.upper()
    header.SOPInstanceUID, header.SeriesInstanceUID = instance_uid, one.series_uid
    header.Rows, header.Columns = one.shape
    header.ImagePositionPatient = _decimals(one.position_mm)
    header.ImageOrientationPatient = _decimals(one.directions.ravel())
    header.PixelSpacing = _decimals(one.pixel_spacing_mm)
    header.SliceThickness = None if one.thickness_mm is None else _decimals([one.thickness_mm])[0]
    for keyword, value in shared.items():
        setattr(header, keyword, value)
    return header


def _decimals(values: Sequence[float]) -> list[pydicom.valuerep.DSfloat]:
    """Numbers as DICOM writes them, in at most 16 characters."""
    return [pydicom.valuerep.DSfloat(float(value), auto_format=True) for value in values]
