"""3D-IRCADb-01: PATIENT_DICOM and MASKS_DICOM (folders or zips) of one case, or a folder of such cases."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

import numpy as np

from livseg_lib.datasets.case import Case, Dataset, Note
from livseg_lib.datasets.dicom import read_mask_series, read_series, series_notes, skipped_notes, survey
from livseg_lib.datasets.file_trees import list_folders
from livseg_lib.datasets.files import files_of, natural_key
from livseg_lib.datasets.nifti import TUMORS
from livseg_lib.errors import InputError
from livseg_lib.labels import LIVER, TUMOR
from livseg_lib.volumes import Volume

LOOKS_FOR = "PATIENT_DICOM and MASKS_DICOM (folders or .zip), in one folder a case"
LEVELS_BELOW = 2  # a case may lie this many folders below the one that was named
LIVER_FOLDER = re.compile(r"liver", re.IGNORECASE)
TUMOR_FOLDER = re.compile(TUMORS.pattern, re.IGNORECASE)  # livertumor, livertumor01, livertumors, ...


def recognises(folder: Path) -> bool:
    """Whether `folder`, or a folder up to two levels below it, holds PATIENT_DICOM."""
    return any(_part(case, "PATIENT_DICOM") for case in _case_folders(folder, LEVELS_BELOW))


def find(folder: Path) -> Dataset:
    """One case a folder that holds PATIENT_DICOM, in natural order of their names."""
    cases, unpaired, folders = [], [], _case_folders(folder, LEVELS_BELOW)
    names = [path.resolve().name for path in folders]
    if len(set(names)) < len(names):  # of several batches
        names = ["_".join(path.relative_to(folder).parts) for path in folders]
    for case_folder, name in zip(folders, names, strict=True):
        patient, masks = _part(case_folder, "PATIENT_DICOM"), _part(case_folder, "MASKS_DICOM")
        if patient is None:
            unpaired.append(masks)
            continue
        files = (files_of(patient) or (patient,)) + (files_of(masks) if masks else ())
        readers = partial(read_series, patient), partial(_read_labels, masks) if masks else None
        cases.append(Case(name, name, files, *readers, notes=_notes(patient)))
    return Dataset("ircadb", folder, tuple(cases), tuple(unpaired))


def _case_folders(folder: Path, levels: int) -> list[Path]:
    if _part(folder, "PATIENT_DICOM") or _part(folder, "MASKS_DICOM"):
        return [folder]
    below = sorted(_entries(folder), key=lambda path: natural_key(path.name)) if levels else []
    return [case for path in below for case in _case_folders(path, levels - 1)]


def _part(case_folder: Path, name: str) -> Path | None:
    """The folder or the zip `name`, whatever its capitals; the folder where there are both."""
    entries = {path.name.upper(): path for path in _entries(case_folder)}
    return entries.get(name) or entries.get(f"{name}.ZIP")


def _entries(folder: Path) -> list[Path]:
    """[] for a file, and for a folder that cannot be listed, which is told elsewhere."""
    try:
        return list(folder.iterdir())
    except OSError:
        return []


def _notes(patient: Path) -> tuple[Note, ...]:
    """What was passed over beside the slices, and what was decided."""
    try:
        found = survey(patient)
    except InputError:  # reading says so
        return ()
    decided = [note for series in found.series for note in series_notes(series, patient)]
    return (*decided, *skipped_notes(found, patient))


def _read_labels(masks: Path, volume: Volume) -> np.ndarray:
    """1 in the mask of the liver, 2 in any mask of a tumour (which the set counts as liver too)."""
    folders = list_folders(masks)
    if not any(LIVER_FOLDER.fullmatch(path.name) for path in folders):
        problem = "There is no mask folder named liver."
        raise InputError(masks, problem, "Copy the case again.", "missing-mask")
    labels = np.zeros(volume.voxels.shape, np.uint8)
    for label, name in ((LIVER, LIVER_FOLDER), (TUMOR, TUMOR_FOLDER)):
        for path in folders:
            if name.fullmatch(path.name):
                labels[read_mask_series(path, volume)] = label
    return labels
