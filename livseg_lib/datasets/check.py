"""Reading every case once and saying what is wrong with it, before anything is learnt from it."""

from __future__ import annotations

import hashlib
import os
import traceback
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import ndimage
from tqdm import tqdm

from livseg_lib.datasets.case import Case, Dataset, Note
from livseg_lib.datasets.files import bounding_box, files_of, printable, shared_faces, wider
from livseg_lib.errors import InputError
from livseg_lib.files import file_checksum
from livseg_lib.labels import BACKGROUND, LIVER, STRUCTURES, TUMOR, require_modality, structure_mask
from livseg_lib.nifti import RIGHT_ANGLE_DEGREES
from livseg_lib.processes import in_processes
from livseg_lib.volumes import Volume

PLAUSIBLE_HU = (-4096, 20000)
"""Padding goes down to -3072, metal in an extended CT scale up to about 20,000."""
AIR_HU = -500
"""Every CT shows some air below this, around the patient or in the bowel."""
FEWEST_LEVELS = 64
"""Of an MR scan; a picture of fewer shows steps."""
PLAUSIBLE_LIVER_HU = (-20.0, 250.0)
"""Of the median: from a very fatty liver to a strong contrast phase."""
PLAUSIBLE_SPACING_MM = (0.2, 10.0)

ACROSS_SLICES = np.ones((3, 3, 3), bool)
WITHIN_SLICE = np.stack([np.zeros((3, 3), bool), np.ones((3, 3), bool), np.zeros((3, 3), bool)])
"""Neighbourhoods: whole volumes are connected across slices, sets of single pictures are not."""

CASE_COLUMNS = (
    *("case", "patient", "usable", "shape", "spacing_mm", "hu_low", "hu_high"),
    *("liver_voxels", "liver_ml", "tumor_voxels", "tumor_ml", "n_tumors"),
)


class Finding(NamedTuple):
    """One line of the report."""

    case: str
    severity: str
    """ "error" excludes the case, "warning" does not; a case with neither has one line "ok"."""
    code: str
    message: str
    file: str


@dataclass(frozen=True)
class CheckReport:
    """What `check_dataset` found."""

    findings: pd.DataFrame
    """A row a finding: case, severity, code, message, file."""
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
    findings: list[Finding]
    voxel_digest: str | None = None

    def add(self, severity: str, code: str, message: str, file: Path | str) -> None:
        """Note one finding."""
        self.findings.append(Finding(str(self.row["case"]), severity, code, message, printable(file)))


def check_dataset(
    dataset: Dataset, workers: int = 1, progress: bool = True, modality: str = "ct"
) -> CheckReport:
    """Read every case of `dataset` in full, one at a time in each of `workers` processes.

    `modality` is "ct" or "mr": HU are only asked of a CT. Raises InputError for another.
    """
    check = partial(check_case, modality=require_modality(modality))
    results = in_processes(check, dataset.cases, workers)
    checks = list(tqdm(results, "checking", len(dataset.cases), disable=not progress, unit="case"))
    _mark_duplicates(checks)
    lost = "There is no volume or picture that belongs to this segmentation."
    found = [
        Finding(printable(path.name), "error", "unpaired", lost, printable(path)) for path in dataset.unpaired
    ]
    found += [Finding(printable(Path(note.where).name), *_of_note(note)) for note in dataset.notes]
    for check in checks:
        check.row["usable"] = all(finding.severity != "error" for finding in check.findings)
        if not check.findings:
            check.add("ok", "ok", "", "")
        found += check.findings
    return CheckReport(
        pd.DataFrame(found, columns=Finding._fields),
        pd.DataFrame([check.row for check in checks], columns=CASE_COLUMNS),
    )


def check_case(case: Case, modality: str = "ct") -> CaseCheck:
    """Read one case and apply every rule that needs no other case."""
    check = CaseCheck({"case": case.case_id, "patient": case.patient}, [])
    check.findings += [Finding(case.case_id, *_of_note(note)) for note in case.notes]
    _note_missing_masks(check, case)
    try:
        volume = case.read_volume()
        _note_volume(check, case, volume, modality)
        if case.read_labels is not None:
            _note_labels(check, case, volume, _read_labels(check, case, volume), modality)
        if case.inspect is not None:
            check.findings += [Finding(case.case_id, *_of_note(note)) for note in case.inspect(volume)]
    except InputError as error:
        check.add("error", error.code, f"{error.problem} {error.remedy}".strip(), error.where)
    except Exception as error:  # one odd case never ends the check of all others
        check.add("error", "unreadable", _unforeseen(error), case.files[0])
    return check


def _read_labels(check: CaseCheck, case: Case, volume: Volume) -> np.ndarray:
    """Labels of a case that has some; those that are accepted with a foreign affine are told."""
    if getattr(case.read_labels, "keywords", {}).get("accept_affine_mismatch"):
        try:
            return case.read_labels(volume, accept_affine_mismatch=False)
        except InputError as error:
            if error.code != "affine-mismatch":
                raise
            message = f"{error.problem} They are taken voxel by voxel, as was asked."
            check.add("warning", error.code, message, error.where)
    return case.read_labels(volume)


def _unforeseen(error: Exception) -> str:
    """Kind and place of an error. Not its own words: libraries quote what stands in a file, names too."""
    within = [f for f in traceback.extract_tb(error.__traceback__) if "livseg_lib" in Path(f.filename).parts]
    place = f" in {Path(within[-1].filename).name}, line {within[-1].lineno}" if within else ""
    return f"It cannot be read: {type(error).__name__}{place}. Export it again, or leave it out."


def data_checksum(dataset: Dataset) -> str:
    """SHA-256 over names (relative to the folder), sizes and contents of every file of `dataset`."""
    files = {path for unpaired in dataset.unpaired for path in files_of(unpaired)}
    for case in dataset.cases:
        files.update(case.files, case.unmasked)
    total = hashlib.sha256()
    for path in sorted(files):
        name = os.fsencode(path.relative_to(dataset.folder).as_posix())
        try:
            content = f"{path.stat().st_size}\0{file_checksum(path)}"
        except OSError:  # a link to nothing, or no right to read: told by the check
            content = "unreadable"
        total.update(name + f"\0{content}\n".encode())
    return total.hexdigest()


def _note_missing_masks(check: CaseCheck, case: Case) -> None:
    if case.read_labels is None:
        message = "There is no segmentation: it can be predicted, not learnt from or scored."
        check.add("warning", "unlabelled", message, case.files[0])
    if case.unmasked:
        names = ", ".join(path.name for path in case.unmasked)
        message = f"{len(case.unmasked)} slice(s) without a mask are left out: {names}."
        check.add("warning", "slice-without-mask", message, case.unmasked[0])


def _note_volume(check: CaseCheck, case: Case, volume: Volume, modality: str) -> None:
    check.voxel_digest = _voxel_digest(volume)
    check.row.update(
        shape=volume.voxels.shape,
        spacing_mm=volume.spacing_mm,
        hu_low=int(volume.voxels.min()),
        hu_high=int(volume.voxels.max()),
    )
    if case.slice_numbers is None:
        _add_verdicts(check, volume_findings(volume, modality), case.files[0])


def _note_labels(check: CaseCheck, case: Case, volume: Volume, labels: np.ndarray, modality: str) -> None:
    pictures = case.slice_numbers is not None
    for structure in STRUCTURES:
        voxels = int(structure_mask(labels, structure).sum())
        check.row.update({f"{structure}_voxels": voxels, f"{structure}_ml": voxels * volume.voxel_volume_ml})
    _add_verdicts(check, label_findings(labels, pictures), case.files[-1])
    if not pictures:
        check.row["n_tumors"] = _label_components(structure_mask(labels, "tumor"), pictures)[1]
        if modality == "ct":
            _add_verdicts(check, liver_hu_findings(volume, labels), case.files[-1])


def _add_verdicts(check: CaseCheck, verdicts: Iterable[Verdict], file: Path) -> None:
    for verdict in verdicts:
        check.add(verdict.severity, verdict.code, verdict.message, file)


def _voxel_digest(volume: Volume) -> str:
    digest = hashlib.sha256(repr(volume.voxels.shape).encode())
    for plane in volume.voxels:  # (H, W): a plane at a time, since hashing needs a contiguous copy
        digest.update(np.ascontiguousarray(plane))
    return digest.hexdigest()


def _mark_duplicates(checks: list[CaseCheck]) -> None:
    """Exclude every later copy of a volume: it could stand on both sides of a split."""
    first: dict[str, str] = {}
    for check in checks:
        if check.voxel_digest is None:
            continue
        case = str(check.row["case"])
        original = first.setdefault(check.voxel_digest, case)
        if original != case:
            check.add("error", "duplicate", f"Its voxels are exactly those of {original}.", "")


def _of_note(note: Note) -> tuple[str, str, str, str]:
    return note.severity, note.code, note.message, printable(note.where)


class Verdict(NamedTuple):
    """One finding before it is tied to a case and a file."""

    code: str
    message: str
    severity: str = "warning"
    """ "error" excludes the case, "warning" does not."""


def volume_findings(volume: Volume, modality: str = "ct") -> Iterator[Verdict]:
    """What speaks against the geometry and the intensities of a whole volume (not of grey pictures)."""
    yield from _spacing_findings(volume)
    yield from (_intensity_findings(volume) if modality == "mr" else _hu_findings(volume))


def _spacing_findings(volume: Volume) -> Iterator[Verdict]:
    spacing = " x ".join(f"{mm:.2f}" for mm in volume.spacing_mm)
    low, high = PLAUSIBLE_SPACING_MM
    if volume.native is not None and np.array_equal(np.abs(volume.native.affine), np.eye(4)):
        message = "The affine is the identity: volumes in ml cannot be trusted."
        yield Verdict("suspicious-spacing", message)
    elif not all(low <= mm <= high for mm in volume.spacing_mm):
        yield Verdict("suspicious-spacing", f"The spacing is {spacing} mm, outside {low} to {high} mm.")
    if volume.native is not None and (shear := volume.native.shear_degrees) > RIGHT_ANGLE_DEGREES:
        message = (
            f"The grid is sheared by {shear:.1f} degrees (gantry tilt): volumes are right, distances across "
            "planes and shapes in 3D approximate. Convert the scan with tilt correction."
        )
        yield Verdict("sheared-grid", message)


def _hu_findings(volume: Volume) -> Iterator[Verdict]:
    lowest, highest = int(volume.voxels.min()), int(volume.voxels.max())
    if lowest > AIR_HU:
        message = f"No air: the lowest value is {lowest} HU. Clipped or rescaled?"
        yield Verdict("implausible-hu", message)
    if lowest < PLAUSIBLE_HU[0] or highest > PLAUSIBLE_HU[1]:
        yield Verdict("implausible-hu", f"The values run from {lowest} to {highest} HU.")


def _intensity_findings(volume: Volume) -> Iterator[Verdict]:
    """Of an MR scan, whose intensities have no unit."""
    levels = len(np.unique(volume.voxels))
    if levels < FEWEST_LEVELS:
        message = f"Only {levels} whole numbers are left: values between them were rounded. Scale them up."
        yield Verdict("few-levels", message)
    if int(volume.voxels.min()) < AIR_HU:
        message = f"The lowest value is {volume.voxels.min()}: this looks like a CT, not like MR."
        yield Verdict("not-mr", message)


def liver_hu_findings(volume: Volume, labels: np.ndarray) -> Iterator[Verdict]:
    """Whether the labelled liver looks like liver, or lies elsewhere (shifted, mirrored)."""
    liver = volume.voxels[structure_mask(labels, "liver")]
    median = float(np.median(liver)) if liver.size else np.nan
    if not np.isnan(median) and not PLAUSIBLE_LIVER_HU[0] <= median <= PLAUSIBLE_LIVER_HU[1]:
        yield Verdict("implausible-hu", f"The median of the labelled liver is {median:.0f} HU.")


def label_findings(labels: np.ndarray, pictures: bool) -> Iterator[Verdict]:
    """What speaks against labels 0/1/2, (D, H, W). `pictures`: single slices, not a whole volume."""
    if not structure_mask(labels, "liver").any():
        # A handful of slices may well show no liver; a whole scan for liver tumours may not.
        severity = "warning" if pictures else "error"
        yield Verdict("empty-liver", "No voxel is labelled as liver.", severity)
        return
    components, voxels = tumor_outside_liver(labels, pictures)
    if components:
        message = f"{components} tumour component(s), {voxels} voxels, touch no voxel labelled liver."
        yield Verdict("tumor-outside-liver", message)
    labels = labels[wider(bounding_box(labels))]
    liver, tumor = labels == LIVER, labels == TUMOR
    rims = [shared_faces(mask, labels == BACKGROUND, axes=(1, 2)) for mask in (liver, tumor)]
    if tumor.sum() > liver.sum() > 0 and rims[1] > 2 * rims[0]:
        message = "The tumour lies around the liver and is larger. Were the two labels exchanged?"
        yield Verdict("labels-exchanged", message)


def tumor_outside_liver(labels: np.ndarray, pictures: bool) -> tuple[int, int]:
    """Number of tumour components without a liver voxel beside them, and of their voxels.

    LiTS cuts tumours out of the liver, so liver and tumour together form components of which each
    should hold some label 1. Neighbours share a face, an edge or a corner.
    """
    components, count = _label_components(structure_mask(labels, "liver"), pictures)
    labels = labels[bounding_box(labels)]
    with_liver = np.bincount(components[labels == LIVER], minlength=count + 1) > 0
    sizes = np.bincount(components[labels == TUMOR], minlength=count + 1)
    outside = ~with_liver & (sizes > 0)
    return int(outside.sum()), int(sizes[outside].sum())


def _label_components(mask: np.ndarray, pictures: bool) -> tuple[np.ndarray, int]:
    """Component numbers within the bounding box of `mask`, and how many there are."""
    return ndimage.label(mask[bounding_box(mask)], WITHIN_SLICE if pictures else ACROSS_SLICES)
