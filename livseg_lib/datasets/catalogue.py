"""The adapters by name, and the one door to every data set."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from inspect import signature
from pathlib import Path
from types import ModuleType

from livseg_lib.datasets import dicom, ircadb, kaggle_slices, lits, msd, nifti
from livseg_lib.datasets.case import Dataset, Note
from livseg_lib.datasets.dicom_headers import begins_like_dicom
from livseg_lib.datasets.files import DATA_SUFFIXES, files_of, nifti_stem, printable, regular_files
from livseg_lib.errors import InputError

ADAPTERS: dict[str, ModuleType] = {
    "kaggle": kaggle_slices,
    "lits": lits,
    "msd": msd,
    "ircadb": ircadb,
    "nifti": nifti,
    "dicom": dicom,
}
"""Each has `recognises(source)`, `find(source)` and `LOOKS_FOR`; the first that recognises a source wins.

The layouts with labels come first: LiTS holds NIfTI files, and 3D-IRCADb holds DICOM series.
"""
MOST_TOLD = 5
"""Notes in one error."""


def find_cases(source: Path | str, dataset: str = "auto", accept_affine_mismatch: bool = False) -> Dataset:
    """The cases in `source`, read by the adapter `dataset`, or by the first that recognises it.

    "phantom" is read as "lits". `accept_affine_mismatch`: labels of the shape of their scan are taken voxel
    by voxel, whatever their affine says. Voxels are read only to tell label maps from scans and copies from
    each other. Raises InputError where the source is missing or holds no case, and for an unknown adapter.
    """
    source = Path(source)
    if not source.exists():
        raise InputError(source, "There is no such file or folder.", "Check the path.")
    adapter = _adapter(source, "lits" if dataset == "phantom" else dataset)
    found = adapter.find(source)
    found = replace(found, notes=(*found.notes, *_unread(source, found)))
    if not found.cases:
        problem = f'There is no case of "{found.name}" in it.{_told(found.notes)}'
        raise InputError(source, problem, f"Looked for {adapter.LOOKS_FOR}.")
    if not accept_affine_mismatch:
        return found
    cases = []
    for case in found.cases:
        reader = case.read_labels
        if reader is not None and "accept_affine_mismatch" in signature(reader).parameters:  # no pictures
            case = replace(case, read_labels=partial(reader, accept_affine_mismatch=True))
        cases.append(case)
    return replace(found, cases=tuple(cases))


def _adapter(source: Path, name: str) -> ModuleType:
    if name in ADAPTERS:
        return ADAPTERS[name]
    if name != "auto":
        problem = "There is no kind of data set of this name."
        raise InputError(name, problem, f"Choose auto or one of {', '.join(ADAPTERS)}.")
    for adapter in ADAPTERS.values():
        if adapter.recognises(source) and (adapter is not nifti or nifti.find(source).cases):
            return adapter
    if nifti.find(source).cases:  # in folders below
        return nifti
    looked_for = "; ".join(f"{name}: {adapter.LOOKS_FOR}" for name, adapter in ADAPTERS.items())
    seen = _told(_unread(source, Dataset("any", source, ())))
    raise InputError(
        source, f"There is no data set in it that livseg knows.{seen}", f"Looked for {looked_for}."
    )


def _told(notes: Sequence[Note]) -> str:
    """What was seen instead of cases."""
    return "".join(f" {note.message}" for note in notes[:MOST_TOLD]) + (" ..." if notes[MOST_TOLD:] else "")


def _unread(source: Path, found: Dataset) -> list[Note]:
    """What looks like data but belongs to no case: one note a kind and folder."""
    listing = regular_files(source)
    known = set()
    for case in found.cases:
        known.update((*case.files, *case.unmasked))
    for note in (*found.notes, *(note for case in found.cases for note in case.notes)):
        known.update((Path(note.where), *note.also))
    for path in found.unpaired:
        known.update(files_of(path), (path,))
    notes = [note for note in listing.notes if note.where not in known]
    groups: dict[tuple[Path, str], list[Path]] = defaultdict(list)
    for path in listing.files:
        if path in known:
            continue
        kind = "NIfTI" if nifti_stem(path) else DATA_SUFFIXES.get(path.suffix.lower())
        kind = kind or ("DICOM" if begins_like_dicom(path) else None)
        if kind and (kind, found.name) != ("DICOM", "dicom"):  # which tells its own
            groups[path.parent, kind].append(path)
    for (folder, kind), paths in groups.items():
        names = ", ".join(printable(path.name) for path in paths[:3]) + (", ..." if len(paths) > 3 else "")
        where = f"{len(paths)} {kind} file(s) in {printable(folder)}"
        message = f'{where} belong to no case of "{found.name}" and were passed over: {names}.'
        message += " A label map without its scan is no case." if kind == "NIfTI" else ""
        notes.append(Note(paths[0], "passed-over", message))
    return notes
