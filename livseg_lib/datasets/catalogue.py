"""The one door to every data set: the adapters by name, and every case read once to say what is wrong."""

from __future__ import annotations

import hashlib
import os
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from inspect import signature
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
from scipy import ndimage
from tqdm import tqdm

from livseg_lib.datasets import dicom, files, ircadb, kaggle_slices, lits, msd, nifti
from livseg_lib.datasets.case import Case, Dataset, Note, side_by_side
from livseg_lib.datasets.dicom_headers import begins_like_dicom
from livseg_lib.datasets.file_trees import is_zip
from livseg_lib.errors import InputError, reason_of
from livseg_lib.files import file_checksum
from livseg_lib.labels import (
    BACKGROUND,
    LIVER,
    STRUCTURES,
    TUMOR,
    bounding_box,
    require_labels,
    require_modality,
    structure_mask,
)
from livseg_lib.nifti import RIGHT_ANGLE_DEGREES
from livseg_lib.provenance import digest
from livseg_lib.volumes import Volume, require_scan

ADAPTERS: dict[str, ModuleType] = {
    "lits": lits,
    "msd": msd,
    "kaggle": kaggle_slices,
    "ircadb": ircadb,
    "nifti": nifti,
    "dicom": dicom,
}
"""Each has `recognises(source)`, `find(source)` and `LOOKS_FOR`; the first that recognises a source wins.

The layouts with labels come first: LiTS holds NIfTI files, and 3D-IRCADb holds DICOM series. Volumes come
before pictures, which may be previews.
"""
MOST_LIVER = 0.75  # of a scan; a picture cut to the liver's box shows as much
MOST_TOLD = 5  # notes in one error


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
        problem = f'There is no case of "{found.name}" in it.{_joined(found.notes)}'
        raise InputError(source, problem, f"Looked for {adapter.LOOKS_FOR}.")
    found = _by_person(found)
    ids = files.told_apart(case.case_id for case in found.cases)
    cases = tuple(replace(case, case_id=id_) for case, id_ in zip(found.cases, ids, strict=True))
    return replace(found, cases=tuple(map(_accepting, cases)) if accept_affine_mismatch else cases)


def _by_person(found: Dataset) -> Dataset:
    """`found` with one patient where names of several say that they are one, noted; or may be, noted too."""
    names = list(dict.fromkeys(case.patient for case in found.cases))
    persons, sure = files.persons(names)
    scans = Counter(persons)
    shared = {name: person for name, person in zip(names, persons, strict=True) if scans[person] > 1}
    if not shared:
        return found
    first, *others = shared
    example = f"{first} and {next(name for name in others if shared[name] == shared[first])}"
    message = f"Names such as {example} count as one patient's: no split separates them."
    if not sure:
        message = f"A split separates {example}, and {len(others) - 1} more of such names. Are they of one"
        message += " patient? Then put each patient in a folder, or keep them together in splits.csv."
        shared = {}
    cases = (replace(case, patient=shared.get(case.patient, case.patient)) for case in found.cases)
    return replace(found, cases=tuple(cases), notes=(*found.notes, Note(found.folder, "patients", message)))


def _accepting(case: Case) -> Case:
    reader = case.read_labels
    if reader is None or "accept_affine_mismatch" not in signature(reader).parameters:  # pictures
        return case
    return replace(case, read_labels=partial(reader, accept_affine_mismatch=True))


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
    messages = _joined(_unread(source, Dataset("any", source, ())))
    problem = f"There is no data set in it that livseg knows.{messages}"
    raise InputError(source, problem, f"Looked for {looked_for}.")


def _joined(notes: Sequence[Note]) -> str:
    """What was seen instead of cases."""
    return "".join(f" {note.message}" for note in notes[:MOST_TOLD]) + (" ..." if notes[MOST_TOLD:] else "")


WHAT_TO_DO = {  # with files that belong to no case, by their kind
    "NIfTI": " A label map without its scan is no case.",
    "volume": " Convert them to .nii.gz.",
    "other picture": " Save them as PNG.",
    "packed": " Unpack them.",
    "half downloaded": " Download them again.",
}


def not_yet_readable(source: Path) -> str:
    """Sentences without names on files that would be read if they were unpacked or converted; else ""."""
    others = (path for path in files.files_of(source) if not files.nifti_stem(path))
    counts = Counter(files.DATA_SUFFIXES.get(path.suffix.lower()) for path in others)
    kinds = (kind for kind in WHAT_TO_DO if counts[kind])
    return "".join(f" There are {kind} files ({counts[kind]}).{WHAT_TO_DO[kind]}" for kind in kinds)


def _unread(source: Path, found: Dataset) -> list[Note]:
    """What looks like data but belongs to no case: one note a kind and folder."""
    listing = files.regular_files(source)
    known = set()
    for case in found.cases:
        known.update((*case.files, *case.unmasked))
    for note in (*found.notes, *(note for case in found.cases for note in case.notes)):
        known.update((Path(note.where), *note.also))
    for path in found.unpaired:
        known.update(files.files_of(path), (path,))
    notes = [note for note in listing.notes if note.where not in known]
    groups: dict[tuple[Path, str], list[Path]] = defaultdict(list)
    for path in listing.files:
        if path in known:
            continue
        if path.name == files.LABELS_JSON and any(case.read_labels for case in found.cases):
            message = "It is read in the folder of the whole set alone (beside imagesTr): move it there."
            notes.append(Note(path, "passed-over", message, "error"))
        kind = "NIfTI" if files.nifti_stem(path) else files.DATA_SUFFIXES.get(path.suffix.lower())
        kind = kind or ("DICOM" if begins_like_dicom(path) else "packed" if is_zip(path) else None)
        if kind and (kind, found.name) != ("DICOM", "dicom"):  # which reports its own
            groups[path.parent, kind].append(path)
    for (folder, kind), paths in groups.items():
        names = files.listed([files.printable(path.name) for path in paths])
        message = f'{kind} files in {files.printable(folder)} belong to no case of "{found.name}"'
        message += f" and were passed over ({len(paths)}): {names}."
        message += WHAT_TO_DO.get(kind, "")
        notes.append(Note(paths[0], "passed-over", message))
    return notes


PLAUSIBLE_HU = (-4096, 20000)  # padding goes down to -3072, metal in an extended CT scale up to about 20,000
AIR_HU = -500  # every CT shows some air below this, around the patient or in the bowel
BODY_HU, BONE_HU = (-300, 20000), (250, 3000)
LEAST_BODY = 0.02  # share of a scan
LEAST_BONE = 0.005  # share of the body; in real scans it is 0.01 to 0.05
UPSIDE_DOWN = -0.2
FEWEST_LEVELS = 64  # of an MR scan; a picture of fewer shows steps
PLAUSIBLE_LIVER_HU = (-20.0, 250.0)  # of the median: from a very fatty liver to a strong contrast phase
NO_LIVER_HU = -150  # below it lie air, lung and fat, and no noise of a liver
MOST_NO_LIVER = 0.03  # of a labelled liver: of ircadb17 less than 0.002, with labels mirrored more than 0.05
PLAUSIBLE_SPACING_MM = (0.2, 10.0)
ACROSS_SLICES = np.ones((3, 3, 3), bool)
WITHIN_SLICE = ACROSS_SLICES & np.array([False, True, False])[:, None, None]
"""Neighbourhoods: whole volumes are connected across slices, sets of single pictures are not."""
CASE_COLUMNS = (
    *("case", "patient", "usable", "shape", "spacing_mm", "hu_low", "hu_high"),
    *("liver_voxels", "liver_ml", "tumor_voxels", "tumor_ml", "n_tumors"),
)
FINDING_COLUMNS = ("case", "severity", "code", "message", "file")


@dataclass(frozen=True)
class CheckReport:
    """What `check_dataset` found."""

    findings: pd.DataFrame
    """A row a finding: `FINDING_COLUMNS`. The severity "error" excludes the case, "warning" does not; a case
    with neither has one row "ok"."""
    cases: pd.DataFrame
    """A row a case: `CASE_COLUMNS`. What could not be measured is NaN."""

    @property
    def exit_code(self) -> int:
        """1 if anything is an error, else 0."""
        return int((self.findings["severity"] == "error").any())

    def usable(self, dataset: Dataset) -> Dataset:
        """`dataset` without the cases that an error excludes."""
        return dataset.only(self.cases.loc[self.cases["usable"], "case"])


@dataclass
class CaseCheck:
    """What one case came to; small, since it crosses a process border."""

    row: dict[str, object]
    notes: list[Note]
    value_counts: str | None = None  # a digest that mirrored and turned copies have, too
    sample: str = ""  # a digest that they do not have


def check_dataset(
    dataset: Dataset, workers: int | str = 1, progress: bool = True, modality: str = "ct"
) -> CheckReport:
    """Read every case of `dataset` in full, one at a time in each of `workers` (of `side_by_side`).
    `modality` is "ct" or "mr": HU are only asked of a CT. Raises InputError for another."""
    check = partial(check_case, modality=require_modality(modality))
    results = side_by_side(check, dataset.cases, workers)
    checks = list(tqdm(results, "checking", len(dataset.cases), disable=not progress, unit="case"))
    lost = "There is no volume or picture that belongs to this segmentation."
    notes = [*(Note(path, "unpaired", lost, "error") for path in dataset.unpaired), *dataset.notes]
    found = [(files.printable(Path(note.where).name), note) for note in notes]
    first: dict[str, CaseCheck] = {}
    for check in checks:
        case = check.row["case"]
        original = first.setdefault(check.value_counts or case, check)
        if original is not check:  # of another patient, a copy could stand on both sides of a split
            is_mirrored = original.sample != check.sample
            how = ("exactly those of {}.", "those of {}, mirrored or turned.")[is_mirrored]
            mild = is_mirrored and original.row["patient"] == check.row["patient"]
            message = f"Its voxels are {how.format(original.row['case'])}"
            check.notes.append(Note("", "duplicate", message, "warning" if mild else "error"))
        check.row["usable"] = all(note.severity != "error" for note in check.notes)
        found += [(case, note) for note in check.notes or [Note("", "ok", "", "ok")]]
    rows = [
        (case, note.severity, note.code, note.message, files.printable(note.where)) for case, note in found
    ]
    cases = pd.DataFrame([check.row for check in checks], columns=CASE_COLUMNS)
    return CheckReport(pd.DataFrame(rows, columns=FINDING_COLUMNS), cases)


def check_case(case: Case, modality: str = "ct") -> CaseCheck:
    """Read one case and apply every rule that needs no other case."""
    check = CaseCheck({"case": case.case_id, "patient": case.patient}, list(case.notes))
    try:
        for note in _case_notes(check, case, modality):
            check.notes.append(note)
    except InputError as error:
        message = f"{error.problem} {error.remedy}".strip()
        check.notes.append(Note(error.where, error.code, message, "error"))
    except Exception as error:  # one odd case never ends the check of all others
        message = f"It cannot be read: {reason_of(error)} Export it again, or leave it out."
        check.notes.append(Note(case.files[0], "unreadable", message, "error"))
    return check


def _case_notes(check: CaseCheck, case: Case, modality: str) -> Iterator[Note]:
    """What is wrong with a case; fills in its row on the way."""
    scan, last, pictures = case.files[0], case.files[-1], case.slice_numbers is not None
    if case.read_labels is None:
        message = "There is no segmentation: it can be predicted, not learnt from or scored."
        yield Note(scan, "unlabelled", message)
    if case.unmasked:
        names = ", ".join(path.name for path in case.unmasked)
        message = f"Slices without a mask are left out ({len(case.unmasked)}): {names}."
        yield Note(case.unmasked[0], "slice-without-mask", message)
    volume = case.read_volume()
    counts = np.zeros(2**16, np.int64)
    for plane in volume.voxels:  # (H, W): a plane at a time takes no memory
        counts += np.bincount(np.ascontiguousarray(plane, np.int16).view(np.uint16).ravel(), minlength=2**16)
    check.value_counts = digest((sorted(volume.voxels.shape), counts))
    check.sample = digest(volume.voxels[::3, ::8, ::8])
    low, high = int(volume.voxels.min()), int(volume.voxels.max())
    shape, spacing = volume.voxels.shape, volume.spacing_mm
    check.row.update(shape=shape, spacing_mm=spacing, hu_low=low, hu_high=high)
    if not pictures:
        require_scan(volume.voxels, scan)
        yield from (note._replace(where=scan) for note in volume_findings(volume, modality))
    if case.read_labels is not None:
        yield from _foreign_affine(case, volume)
        labels = case.read_labels(volume)
        require_labels(labels, last, shape)
        for structure in STRUCTURES:
            voxels = int(structure_mask(labels, structure).sum())
            check.row[f"{structure}_voxels"] = voxels
            check.row[f"{structure}_ml"] = voxels * volume.voxel_volume_ml
        yield from (note._replace(where=last) for note in label_findings(labels, pictures))
        if not pictures:
            tumor = labels == TUMOR
            check.row["n_tumors"] = ndimage.label(tumor[bounding_box(tumor) or ...])[1]  # by voxel faces
        if not pictures and modality == "ct":
            yield from (note._replace(where=last) for note in liver_hu_findings(volume, labels))
    if case.inspect is not None:
        yield from case.inspect(volume)


def _foreign_affine(case: Case, volume: Volume) -> Iterator[Note]:
    """Whether labels would be refused for their affine, had it not been accepted."""
    if getattr(case.read_labels, "keywords", {}).get("accept_affine_mismatch"):
        try:
            case.read_labels(volume, accept_affine_mismatch=False)
        except InputError as error:
            if error.code == "affine-mismatch":
                message = f"{error.problem} They are taken voxel by voxel, as was asked."
                yield Note(error.where, error.code, message)


def data_checksum(dataset: Dataset) -> str:
    """SHA-256 over names (relative to the folder), sizes and contents of every file of `dataset`."""
    paths = {path for unpaired in dataset.unpaired for path in files.files_of(unpaired)}
    for case in dataset.cases:
        paths.update(case.files, case.unmasked)
    total = hashlib.sha256()
    for path in sorted(paths):
        name = os.fsencode(path.relative_to(dataset.folder).as_posix())
        try:
            content = f"{path.stat().st_size}\0{file_checksum(path)}"
        except OSError:  # a link to nothing, or no right to read: reported by the check
            content = "unreadable"
        total.update(name + f"\0{content}\n".encode())
    return total.hexdigest()


def volume_findings(volume: Volume, modality: str = "ct") -> Iterator[Note]:
    """What speaks against the geometry and the intensities of a whole volume (not of grey pictures)."""
    grid, (low_mm, high_mm) = volume.native, PLAUSIBLE_SPACING_MM
    if grid is not None and np.array_equal(np.abs(grid.affine), np.eye(4)):
        yield Note("", "suspicious-spacing", "The affine is the identity: volumes in ml cannot be trusted.")
    elif not all(low_mm <= mm <= high_mm for mm in volume.spacing_mm):
        spacing = " x ".join(f"{mm:.3g}" for mm in volume.spacing_mm)
        message = f"The spacing is {spacing} mm, outside {low_mm} to {high_mm} mm."
        yield Note("", "suspicious-spacing", message)
    if grid is not None and not grid.says_directions:
        message = "The file does not say which way its axes run (sform and qform codes are 0): left and right"
        yield Note("", "no-directions", f"{message} may be exchanged. Export it again with its affine.")
    if grid is not None and (shear := grid.shear_degrees) > RIGHT_ANGLE_DEGREES:
        message = f"The grid is sheared by {shear:.1f} degrees (gantry tilt): volumes are right, distances"
        message += " across planes and shapes in 3D approximate. Convert the scan with tilt correction."
        yield Note("", "sheared-grid", message)
    lowest, highest = int(volume.voxels.min()), int(volume.voxels.max())
    if modality == "mr":
        if (levels := len(np.unique(volume.voxels))) < FEWEST_LEVELS:
            message = f"Only {levels} whole numbers are left: values between were rounded. Scale them up."
            yield Note("", "few-levels", message)
        if lowest < AIR_HU:
            yield Note("", "not-mr", f"The lowest value is {lowest}: this looks like a CT, not like MR.")
        return
    if lowest > AIR_HU:
        yield Note("", "implausible-hu", f"No air: the lowest value is {lowest} HU. Clipped or rescaled?")
    if np.count_nonzero(volume.voxels > BODY_HU[0]) < LEAST_BODY * volume.voxels.size:
        message = f"There is hardly a body: most is air, below {BODY_HU[0]} HU. Rescaled?"
        yield Note("", "implausible-hu", message)
    if lowest < PLAUSIBLE_HU[0] or highest > PLAUSIBLE_HU[1]:
        yield Note("", "implausible-hu", f"The values run from {lowest} to {highest} HU.")
    if lowest < AIR_HU and _bone_height(volume.voxels) < UPSIDE_DOWN:
        message = "The spine lies in front: the scan is upside down, and networks will not know it. Turn it."
        yield Note("", "upside-down", message)


def _bone_height(voxels: np.ndarray) -> float:
    """How far behind the body's middle its bone lies on the mean, in standard deviations of its rows; NaN
    where bone is missing. -0.8 to -0.5 in real slices that are upside down, 0.3 to 0.8 in real scans."""
    coarse = voxels[:, ::4, ::4]
    rows = np.arange(coarse.shape[1])
    body, bone = (((coarse >= low) & (coarse <= high)).sum(axis=(0, 2)) for low, high in (BODY_HU, BONE_HU))
    if bone.sum() <= LEAST_BONE * body.sum():
        return np.nan
    middle = np.average(rows, weights=body)
    deviation = np.average((rows - middle) ** 2, weights=body) ** 0.5
    return (np.average(rows, weights=bone) - middle) / max(deviation, 1.0)


def liver_hu_findings(volume: Volume, labels: np.ndarray) -> Iterator[Note]:
    """Whether the labelled liver looks like liver, or lies elsewhere (shifted, mirrored)."""
    liver = volume.voxels[structure_mask(labels, "liver")]
    low, high = PLAUSIBLE_LIVER_HU
    if liver.size and not low <= (median := np.median(liver)) <= high:
        yield Note("", "implausible-hu", f"The median of the labelled liver is {median:.0f} HU.")
    elif liver.size and (share := np.mean(liver < NO_LIVER_HU)) > MOST_NO_LIVER:
        message = f"Air or fat, below {NO_LIVER_HU} HU, fills {share:.0%} of the labelled liver."
        yield Note("", "implausible-hu", message + " Is it mirrored, shifted or of another scan?")


def label_findings(labels: np.ndarray, pictures: bool) -> Iterator[Note]:
    """What speaks against labels 0/1/2, (D, H, W). `pictures`: single slices, not a whole volume."""
    if not structure_mask(labels, "liver").any():
        # a handful of slices may well show no liver; a whole scan for liver tumours may not.
        severity = "warning" if pictures else "error"
        yield Note("", "empty-liver", "No voxel is labelled as liver.", severity)
        return
    if (share := np.count_nonzero(labels) / labels.size) > MOST_LIVER:
        message = f"Liver and tumour fill {share:.0%} of it. Was the background labelled, too?"
        yield Note("", "labels-fill-scan", message)
    labels = labels[files.wider(bounding_box(labels))]
    liver, tumor = labels == LIVER, labels == TUMOR
    # LiTS cuts tumours out of the liver: of the components that both form together, each should hold some
    # label 1. Neighbours share a face, an edge or a corner.
    components, count = ndimage.label(liver | tumor, WITHIN_SLICE if pictures else ACROSS_SLICES)
    with_liver = np.bincount(components[liver], minlength=count + 1) > 0
    alone = np.bincount(components[tumor], minlength=count + 1)[~with_liver]
    if n_alone := np.count_nonzero(alone):
        message = f"Tumour components that touch no voxel labelled liver: {n_alone}, of {alone.sum()} voxels."
        yield Note("", "tumor-outside-liver", message)
    rims = [files.shared_faces(mask, labels == BACKGROUND, axes=(1, 2)) for mask in (liver, tumor)]
    if tumor.sum() > liver.sum() > 0 and rims[1] > 2 * rims[0]:
        message = "The tumour lies around the liver and is larger. Were the two labels exchanged?"
        yield Note("", "labels-exchanged", message)
