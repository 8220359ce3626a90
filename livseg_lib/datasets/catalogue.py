"""The adapters by name, and the one door to every data set."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

from livseg_lib.datasets import dicom_series, ircadb, kaggle_slices, lits, msd, nifti
from livseg_lib.datasets.case import Dataset
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


def find_cases(source: Path | str, dataset: str = "auto") -> Dataset:
    """The cases in `source`, read by the adapter `dataset`, or by the first that recognises it.

    No voxel is read. Raises InputError where the source is missing or holds no case, and for an
    unknown adapter.
    """
    source = Path(source)
    if not source.exists():
        raise InputError(source, "There is no such file or folder.", "Check the path.")
    adapter = _recognising(source) if dataset == "auto" else _named(dataset)
    found = adapter.find(source)
    if not found.cases:
        raise InputError(
            source, f'There is no case of "{found.name}" in it.', f"Looked for {adapter.LOOKS_FOR}."
        )
    return found


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
