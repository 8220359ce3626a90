"""NIfTI files without labels: one file, or a folder of them."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from livseg_lib.datasets.case import Case, Dataset
from livseg_lib.datasets.files import nifti_files, nifti_stem
from livseg_lib.volumes import load_volume

LOOKS_FOR = "a .nii or .nii.gz file, or a folder of them"


def recognises(source: Path) -> bool:
    """Whether `source` is a NIfTI file or has some directly in it."""
    return bool(_volumes(source))


def find(source: Path) -> Dataset:
    """One unlabelled case a file."""
    cases = (
        Case(case_id=name, patient=name, files=(path,), read_volume=partial(load_volume, path))
        for name, path in _volumes(source).items()
    )
    return Dataset("nifti", source if source.is_dir() else source.parent, tuple(cases))


def _volumes(source: Path) -> dict[str, Path]:
    if source.is_dir():
        return nifti_files(source)
    name = nifti_stem(source)
    return {name: source} if name else {}
