"""The adapters by name, and the one door to every data set."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from inspect import signature
from pathlib import Path
from types import ModuleType

from livseg_lib.datasets import dicom_series, ircadb, kaggle_slices, lits, msd, nifti
from livseg_lib.datasets.case import Case, Dataset
from livseg_lib.errors import InputError

ADAPTERS: dict[str, ModuleType] = {
    "kaggle": kaggle_slices,
    "lits": lits,
    "msd": msd,
    "ircadb": ircadb,
    "nifti": nifti,
    "dicom": dicom_series,
}
"""Each has `recognises(source)`, `find(source)` and `LOOKS_FOR`; the first that recognises a source wins.

The layouts with labels come first: LiTS holds NIfTI files, and 3D-IRCADb holds DICOM series.
"""


def find_cases(source: Path | str, dataset: str = "auto", accept_affine_mismatch: bool = False) -> Dataset:
    """The cases in `source`, read by the adapter `dataset`, or by the first that recognises it.

    "phantom" is read as "lits". `accept_affine_mismatch`: labels of the shape of their scan are taken voxel
    by voxel, whatever their affine says. No voxel is read. Raises InputError where the source is missing
    or holds no case, and for an unknown adapter.
    """
    source = Path(source)
    if not source.exists():
        raise InputError(source, "There is no such file or folder.", "Check the path.")
    adapter = (
        _recognising(source) if dataset == "auto" else _named("lits" if dataset == "phantom" else dataset)
    )
    found = adapter.find(source)
    if not found.cases:
        raise InputError(
            source, f'There is no case of "{found.name}" in it.', f"Looked for {adapter.LOOKS_FOR}."
        )
    return replace(found, cases=tuple(map(_accepting, found.cases))) if accept_affine_mismatch else found


def _accepting(case: Case) -> Case:
    """With labels that need not say the scan's affine, where they say any (pictures do not)."""
    reader = case.read_labels
    if reader is None or "accept_affine_mismatch" not in signature(reader).parameters:
        return case
    return replace(case, read_labels=partial(reader, accept_affine_mismatch=True))


def _named(name: str) -> ModuleType:
    if name not in ADAPTERS:
        raise InputError(
            name,
            "There is no kind of data set of this name.",
            f"Choose auto or one of {', '.join(ADAPTERS)}.",
        )
    return ADAPTERS[name]


def _recognising(source: Path) -> ModuleType:
    for adapter in ADAPTERS.values():
        if adapter.recognises(source):
            return adapter
    looked_for = "; ".join(f"{name}: {adapter.LOOKS_FOR}" for name, adapter in ADAPTERS.items())
    raise InputError(source, "There is no data set in it that livseg knows.", f"Looked for {looked_for}.")
