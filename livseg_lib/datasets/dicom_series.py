"""Bare DICOM: the CT series in a folder or a zip, or in the zips of a folder, without labels."""

from __future__ import annotations

import zipfile
from functools import partial
from pathlib import Path

from livseg_lib.datasets.case import Case, Dataset
from livseg_lib.datasets.dicom import list_series, read_series
from livseg_lib.datasets.files import files_of, natural_key
from livseg_lib.errors import InputError

LOOKS_FOR = "DICOM files of CT series, in a folder, a .zip or a folder of these .zip"
PREAMBLE_BYTES, MAGIC = 128, b"DICM"


def recognises(source: Path) -> bool:
    """Whether `source` is a zip, holds zips, or has some DICOM file in or below it."""
    return bool(_patients(source))


def find(source: Path) -> Dataset:
    """One unlabelled case a CT series.

    All series of one folder or zip count as one patient: whose they are is never read.
    """
    cases = [case for patient in _patients(source) for case in _cases(patient)]
    return Dataset("dicom", source if source.is_dir() else source.parent, tuple(cases))


def _patients(source: Path) -> list[Path]:
    """Folders and zips that each hold the series of one patient."""
    if source.is_file():
        return [source] if zipfile.is_zipfile(source) or source.suffix.lower() == ".zip" else []
    if any(path.is_file() and _is_dicom(path) for path in source.rglob("*")):
        return [source]
    return sorted(source.glob("*.zip"), key=lambda path: natural_key(path.name))


def _is_dicom(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(PREAMBLE_BYTES)
        return file.read(len(MAGIC)) == MAGIC


def _cases(patient: Path) -> list[Case]:
    name = patient.resolve().name.removesuffix(".zip")
    try:
        series = list_series(patient)
    except InputError:  # stays a case, so that reading it says what is wrong
        return [Case(name, name, files_of(patient), partial(read_series, patient))]
    ids = [name] if len(series) == 1 else [f"{name}_series-{number}" for number in range(1, len(series) + 1)]
    return [
        Case(
            case_id=case_id,
            patient=name,
            files=(patient,) if patient.is_file() else tuple(patient / slice_.name for slice_ in one.slices),
            read_volume=partial(read_series, patient, one.uid),
        )
        for case_id, one in zip(ids, series, strict=True)
    ]
