"""Bare DICOM: the series in a folder or a zip, or in the folders and zips of a folder, without labels."""

from __future__ import annotations

import zipfile
from functools import partial
from pathlib import Path

from livseg_lib.datasets.case import Case, Dataset, Note
from livseg_lib.datasets.dicom import Series, Survey, read_series, series_notes, skipped_notes, survey
from livseg_lib.datasets.dicom_headers import begins_like_dicom, study_uid
from livseg_lib.datasets.file_trees import file_on_disk
from livseg_lib.datasets.files import files_of, is_visible, natural_key, regular_files
from livseg_lib.errors import InputError

LOOKS_FOR = "DICOM files of CT series, in a folder, a .zip or a folder of these"


def recognises(source: Path) -> bool:
    """Whether `source` is a zip or a DICOM file, holds zips, or has some DICOM file in or below it."""
    return bool(_patients(source))


def find(source: Path) -> Dataset:
    """One unlabelled case a CT series; a case an MR series where there is no CT.

    All series of one folder or zip count as one patient: whose they are is never read. Where the folders and
    zips in `source` hold different studies, each is a patient.
    """
    cases, notes, names = [], [], set()
    for patient in _patients(source):
        stem = patient.resolve().name
        stem = name = stem[:-4] if stem.lower().endswith(".zip") else stem
        while name in names:
            name += "-2"
        names.add(name)
        found, said = _cases(patient, name)
        cases += found
        notes += said
    return Dataset("dicom", source if source.is_dir() else source.parent, tuple(cases), notes=tuple(notes))


def _patients(source: Path) -> list[Path]:
    """Folders and zips that each hold the series of one patient."""
    if source.is_file():
        zipped = zipfile.is_zipfile(source) or source.suffix.lower() == ".zip"
        return [source] if zipped or begins_like_dicom(source) else []
    if not source.is_dir():
        return []
    entries = [path for path in source.iterdir() if is_visible(path.name)]
    zips = [path for path in entries if path.suffix.lower() == ".zip" and path.is_file()]
    folders = [path for path in entries if path.is_dir() and _first_dicom(path)]
    if any(path.is_file() and begins_like_dicom(path) for path in entries):
        return [source]
    if folders and not zips and len({study_uid(_first_dicom(path)) for path in folders}) == 1:
        return [source]
    return sorted(zips + folders, key=lambda path: natural_key(path.name))


def _first_dicom(folder: Path) -> Path | None:
    return next(filter(begins_like_dicom, regular_files(folder).files), None)


def _cases(patient: Path, name: str) -> tuple[list[Case], list[Note]]:
    try:
        found = survey(patient)
    except InputError:
        found = Survey((), ())
    of_ct = [one for one in found.series if one.modality == "ct"]
    wanted = of_ct or list(found.series)
    if not wanted:  # stays a case, so that reading it says what is wrong
        return [Case(name, name, files_of(patient), partial(read_series, patient))], []
    ids = [name] if len(wanted) == 1 else [f"{name}_series-{number}" for number in range(1, len(wanted) + 1)]
    cases = [
        Case(
            case_id=case_id,
            patient=name,
            files=_files(patient, one),
            read_volume=partial(read_series, patient, one.uid),
            notes=tuple(series_notes(one, patient)),
        )
        for case_id, one in zip(ids, wanted, strict=True)
    ]
    left = [one for one in found.series if one not in wanted]
    passed = [Note(patient, "passed-over", f"An MR series of {len(one.slices)} slices.") for one in left]
    return cases, [*passed, *skipped_notes(found, patient)]


def _files(patient: Path, series: Series) -> tuple[Path, ...]:
    if patient.is_file():
        return (patient,)
    names = dict.fromkeys([one.name for one in series.slices] + [name for name, _ in series.broken])
    return tuple(dict.fromkeys(file_on_disk(patient / name) for name in names))
