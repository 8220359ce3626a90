"""CT and MR series in DICOM, from a folder or a zip: as volumes, and as a data set without labels."""

from __future__ import annotations

import os
import re
import zipfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from livseg_lib.datasets.case import Case, Dataset, Note
from livseg_lib.datasets.dicom_headers import (
    NO_RESCALE,
    SliceHeader,
    begins_like_dicom,
    digits_only,
    slices_of_file,
    study_uid,
)
from livseg_lib.datasets.dicom_slices import same_grid, slice_reader, slices_at_one_place, stack_slices
from livseg_lib.datasets.file_trees import file_on_disk, is_zip, open_tree
from livseg_lib.datasets.files import (
    DATA_SUFFIXES,
    files_of,
    is_visible,
    listed,
    natural_key,
    told_apart,
)
from livseg_lib.errors import InputError, counted
from livseg_lib.nifti import new_grid
from livseg_lib.processes import one_apart
from livseg_lib.volumes import MAX_VOLUME_BYTES, Volume

LOOKS_FOR = "DICOM files of CT series, in a folder, a .zip or a folder of these"
MASK_VALUES = (0, 1, 255)  # 3D-IRCADb-01 stores masks as 0 and 255
FEWEST_ALIKE = 3  # series of one slice that may be one scan whose slices were given a series each


@dataclass(frozen=True)
class Series:
    """The slices of one series, in order of file name."""

    uid: str
    slices: tuple[SliceHeader, ...]
    broken: tuple[tuple[str, InputError], ...] = ()
    """Files that belong, or may belong, to the series but cannot be read, and why: it is not whole."""
    merged_from: int = 1  # series that these slices were given, where each had one of its own

    def __str__(self) -> str:
        number = "without a number" if self.number is None else self.number
        return f"series {number} of {len(self.slices)} slices ({self.uid})"

    @property
    def number(self) -> int | None:
        """SeriesNumber, where there is one."""
        return self.slices[0].series_number

    @property
    def modality(self) -> str:
        """ "ct" or "mr"."""
        return self.slices[0].modality


@dataclass(frozen=True)
class Survey:
    """Everything found in a folder or zip."""

    series: tuple[Series, ...] = ()  # largest first
    skipped: tuple[tuple[str, str], ...] = ()
    """File and reason, for all that is no slice: other objects, localizers, what cannot be read."""


def survey(source: Path | str) -> Survey:
    """All series below `source` (a folder, a zip or a folder in a zip) and the files passed over. Every
    header is read, each file by itself."""
    by_series: dict[str, list[SliceHeader]] = defaultdict(list)
    with open_tree(source) as tree:
        skipped, broken = [], []
        for name in tree.names:
            try:
                found = slices_of_file(tree, name, f"{source}/{name}")
            except InputError as error:
                broken.append((name, error))
                continue
            if isinstance(found, str):
                skipped.append((name, found))
            else:
                by_series[found[0].series_uid] += found
    alike = {_numberless(header.name) for found in by_series.values() for header in found}
    for name, reason in tree.passed_over:
        if _numberless(name) in alike:  # such as a link to nothing: it may have been a slice
            broken.append((name, InputError(f"{source}/{name}", reason)))
        else:
            skipped.append((name, reason))
    series = _merged([_series(uid, slices, broken) for uid, slices in by_series.items()])
    series.sort(key=lambda item: (-len(item.slices), item.uid))
    belonging = {name for item in series for name, _ in item.broken}
    skipped += [(name, error.problem) for name, error in broken if name not in belonging]
    return Survey(tuple(series), tuple(skipped))


def _numberless(name: str) -> str:
    return re.sub(r"\d+", "0", name)


def read_series(source: Path | str, series_uid: str | None = None) -> Volume:
    """Read the one series below `source`, or the one of several that `series_uid` names.

    Slices are ordered by their position along the slice normal, never by name or number; those sent twice
    with equal pixels are read once. Raises InputError if there is no series or several, if slices are
    missing, differ at one place, or differ in grid, if the stack is uneven or tilted, and if a file is
    damaged or in a compression that no installed decoder reads.
    """
    return read_chosen(source, _choose(survey(source), series_uid, source))


def read_chosen(source: Path | str, series: Series) -> Volume:
    """Read one of the series that `survey(source)` found. Raises InputError as `read_series` does."""
    if series.broken:
        raise _of_slice(*series.broken[0], source)
    unscaled = [header for header in series.slices if any(code == NO_RESCALE for code, _ in header.remarks)]
    scales = {(header.slope, header.intercept) for header in series.slices}
    if 0 < len(unscaled) < len(series.slices) and len(scales) > 1:
        problem = f"{unscaled[0]} lacks RescaleSlope or RescaleIntercept, which other slices have."
        raise InputError(source, problem, "Export the series again.")
    order, affine, _ = stack_slices(series.slices, source)
    shape = (len(order), *order[0].shape)
    if np.prod(shape, dtype=float) * np.dtype(np.int16).itemsize > MAX_VOLUME_BYTES:
        raise InputError(source, f"The series has {shape} voxels, too many to read.", "Give one scan.")
    stack = np.empty(shape, np.int16)  # (slice, row, column)
    with open_tree(source) as tree, one_apart() as executor:
        read_slice = slice_reader(tree, source, executor)
        for k, at_one_place in enumerate(slices_at_one_place(series.slices, source)):
            for header in at_one_place:
                try:
                    values = read_slice(header)
                except InputError as error:
                    raise _of_slice(str(header), error, source) from None
                if header is at_one_place[0]:
                    stack[k] = values
                elif not np.array_equal(values, stack[k]):
                    problem = f"{at_one_place[0]} and {header} lie at one place, but show different things."
                    raise InputError(source, problem, "Keep one phase and one reconstruction a series.")
    stored = stack.transpose(2, 1, 0)  # (i, j, k) of NIfTI
    grid = new_grid(stored.shape, affine, stored.dtype)
    return Volume(np.ascontiguousarray(grid.to_lps(stored)), grid.spacing_mm, grid)


def _of_slice(name: str, error: InputError, source: Path | str) -> InputError:
    """`error` as one of the series: its sentence names the slice, as who reads it sees no path (which may
    hold the patient's name)."""
    return InputError(source, f"{os.path.basename(name)}: {error.problem}", error.remedy, error.code)


def read_mask_series(source: Path | str, like: Volume) -> np.ndarray:
    """Read a mask stored as a CT series of 0 and 255 (3D-IRCADb-01): bool (D, H, W) on the grid of `like`.
    Raises InputError as `read_series` does, for other values, and for another grid."""
    mask = read_series(source)
    if not np.isin(mask.voxels, MASK_VALUES).all():
        problem = f"This is no mask: it has values from {mask.voxels.min()} to {mask.voxels.max()}."
        raise InputError(source, problem, "Give a mask of 0 and 255.")
    if like.native is None or not mask.native.lies_on(like.native):
        problem = f"The mask {mask.voxels.shape} does not lie on the grid of its volume {like.voxels.shape}."
        code = "affine-mismatch" if mask.voxels.shape == like.voxels.shape else "shape-mismatch"
        raise InputError(source, problem, "Check that the two belong to one patient.", code=code)
    return mask.voxels > 0


def series_notes(series: Series, source: Path | str) -> list[Note]:
    """What was decided in reading the headers of `series`."""
    slices, found = series.slices, []
    if series.merged_from > 1:
        message = f"{series.merged_from} series of one slice each lie as one scan, and are read as one."
        found.append(("merged-series", message))
    if len(slices) == 1:
        found.append(("one-slice", "This is a series of one slice. Does it belong to another series?"))
    remarks = Counter(remark for header in slices for remark in header.remarks)
    found += [(code, f"{n} of {len(slices)} slices {text}.") for (code, text), n in remarks.items()]
    if series.modality == "ct" and len(scales := {(header.slope, header.intercept) for header in slices}) > 1:
        pairs = listed([f"{slope:g} and {intercept:g}" for slope, intercept in sorted(scales)], "; ")
        message = f"Slices differ in RescaleSlope and RescaleIntercept ({pairs}): each is read by its own."
        found.append(("rescale-differs", message))
    uids = [(header.instance_uid, header.frame) for header in slices]
    if (n_uids := len(set(uids))) < len(slices) or not all(uid for uid, _ in uids):
        message = f"SOPInstanceUIDs are missing or shared, {n_uids} by {len(slices)} slices: positions count."
        found.append(("shared-uid", message))
    if series.modality == "mr":
        found.append(("mr-series", "This is an MR series: its values are no HU. Read it with --modality mr."))
    with suppress(InputError):  # reading says so
        if twice := len(slices) - len(slices_at_one_place(slices, source)):
            message = f"Slices sent twice: {twice}. They are read once, where their pixels are equal."
            found.append(("sent-twice", message))
        if jitter := stack_slices(slices, source).note:
            found.append(("uneven", jitter))
    return [Note(source, code, message) for code, message in found]


def skipped_notes(found: Survey, source: Path | str) -> list[Note]:
    """The files passed over, one note a reason."""
    notes = []
    for reason, names in _by_reason(found.skipped).items():
        message = f"{len(names)} passed over: {reason.rstrip('.')} ({listed(names)})."
        first, *other_paths = (Path(source, name) for name in names)
        notes.append(Note(first, "passed-over", message, also=tuple(other_paths)))
    return notes


def _by_reason(skipped: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    names = defaultdict(list)
    for name, reason in skipped:
        names[reason].append(name)
    return names


def _series(uid: str, slices: list[SliceHeader], broken: Sequence[tuple[str, InputError]]) -> Series:
    """With the broken files that name it as theirs, or that name none and lie beside its slices; not those
    whose ending makes them something else, as that of an empty note.txt."""
    folders = {os.path.dirname(header.name) for header in slices}
    endings = {"", *DATA_SUFFIXES, *(_ending(header.name) for header in slices)}

    def is_own(name: str, error: InputError) -> bool:
        owner = getattr(error, "series_uid", None)
        beside = os.path.dirname(name) in folders and _ending(name) in endings
        return owner == uid or (owner is None and beside)

    return Series(uid, tuple(slices), tuple(each for each in broken if is_own(*each)))


def _ending(name: str) -> str:
    """In small letters; "" where it holds others, as the last number of a UID does."""
    ending = os.path.splitext(name)[1].lower()
    return ending if ending[1:].isalpha() else ""


def _merged(series: list[Series]) -> list[Series]:
    """With series of one slice each that form one even stack as one: an anonymiser gave each its own UID."""
    merged = [item for item in series if len(item.slices) > 1]
    for group in _alike([item for item in series if len(item.slices) == 1]):
        slices = tuple(item.slices[0] for item in group)
        try:
            if len(group) < FEWEST_ALIKE or len(stack_slices(slices, "").slices) < len(slices):
                raise InputError("", "These are scans of their own.")
        except InputError:
            merged += group
        else:
            broken = dict(broken for item in group for broken in item.broken)
            uid = digits_only("", "\0".join(sorted(item.uid for item in group)))
            merged.append(Series(uid, slices, tuple(broken.items()), len(group)))
    return merged


def _alike(alone: list[Series]) -> list[list[Series]]:
    """Groups of one grid, modality and, where several share one, study and frame of reference."""
    studies = Counter((item.modality, item.slices[0].study) for item in alone)
    groups: dict[tuple, list[list[Series]]] = defaultdict(list)
    for item in alone:
        study = (item.modality, item.slices[0].study)
        known = groups[study if studies[study] > 1 else item.modality]
        fitting = (group for group in known if same_grid(item.slices[0], group[0].slices[0]))
        if group := next(fitting, None):
            group.append(item)
        else:
            known.append([item])
    return [group for known in groups.values() for group in known]


def _choose(found: Survey, series_uid: str | None, source: Path | str) -> Series:
    if not found.series:
        reasons = sorted(_by_reason(found.skipped).items(), key=lambda item: -len(item[1]))
        files = "; ".join(f"{counted(len(names), 'file')}: {why.rstrip('.')}" for why, names in reasons[:3])
        problem = f"There is no CT series here ({files or 'no files'})."
        remedy = "Give the folder or zip of its slices; NIfTI files and pictures are read unpacked."
        raise InputError(source, problem, remedy)
    matching = [each for each in found.series if series_uid in (None, each.uid)]
    if len(matching) == 1:
        return matching[0]
    listing = ", ".join(map(str, found.series))
    if series_uid is None:
        raise InputError(source, f"There are several CT series: {listing}.", "Name one by its series UID.")
    raise InputError(source, f"There is no series {series_uid}, but {listing}.", "Name one of these.")


# The adapter


def recognises(source: Path) -> bool:
    """Whether `source` is a zip or a DICOM file, holds zips, or has some DICOM file in or below it."""
    return bool(_patients(source))


def find(source: Path) -> Dataset:
    """One unlabelled case a CT series; a case an MR series where there is no CT.

    All series of one folder or zip count as one patient: whose they are is never read. Where the folders and
    zips in `source` hold different studies, each is a patient.
    """
    cases, notes, patients = [], [], _patients(source)
    names = (re.sub(r"(?i)\.zip$", "", patient.resolve().name) for patient in patients)
    for patient, name in zip(patients, told_apart(names), strict=True):
        found, case_notes = _cases(patient, name)
        cases += found
        notes += case_notes
    return Dataset("dicom", source if source.is_dir() else source.parent, tuple(cases), notes=tuple(notes))


def _patients(source: Path) -> list[Path]:
    """Folders and zips that each hold the series of one patient."""
    if source.is_file():
        zipped = zipfile.is_zipfile(source) or is_zip(source)
        return [source] if zipped or begins_like_dicom(source) else []
    if not source.is_dir():
        return []
    entries = [path for path in source.iterdir() if is_visible(path.name)]
    if any(path.is_file() and begins_like_dicom(path) for path in entries):
        return [source]
    zips = [path for path in entries if is_zip(path)]
    first = {path: next(filter(begins_like_dicom, files_of(path)), None) for path in entries if path.is_dir()}
    folders = [path for path in first if first[path]]
    if folders and not zips and len({study_uid(first[path]) for path in folders}) == 1:
        return [source]
    return sorted([*zips, *folders], key=lambda path: natural_key(path.name))


def _cases(patient: Path, name: str) -> tuple[list[Case], list[Note]]:
    try:
        found = survey(patient)
    except InputError:
        found = Survey()
    chosen = [item for item in found.series if item.modality == "ct"] or list(found.series)
    if not chosen:  # stays a case, so that reading it says what is wrong
        return [Case(name, name, files_of(patient), partial(read_series, patient))], []
    cases = []
    for number, item in enumerate(chosen, start=1):
        names = [*(header.name for header in item.slices), *(name for name, _ in item.broken)]
        case = Case(
            case_id=name if len(chosen) == 1 else f"{name}_series-{number}",
            patient=name,
            files=tuple(dict.fromkeys(file_on_disk(patient / name) for name in names)),
            read_volume=partial(read_series, patient, item.uid),
            notes=tuple(series_notes(item, patient)),
        )
        cases.append(case)
    counts = (len(item.slices) for item in found.series if item not in chosen)
    left = (f"An MR series of {n} slices: CT comes first. Give its folder alone." for n in counts)
    return cases, [*(Note(patient, "passed-over", said) for said in left), *skipped_notes(found, patient)]
