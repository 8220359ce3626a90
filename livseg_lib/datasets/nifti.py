"""NIfTI files: one, a folder of them, or a folder a patient, with the label maps that lie beside them.

A label map is known by its name (seg, label, mask, ...) or by its voxels. It belongs to the scan of the same
name but for such words ("pat1.nii.gz", "pat1_seg.nii.gz"), or to the one scan of its folder. Masks of one
structure each ("pat1_liver.nii.gz", "segmentations/liver.nii.gz" of TotalSegmentator, "liver/pat1.nii.gz")
are laid over each other.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path

import numpy as np

from livseg_lib.datasets import files
from livseg_lib.datasets.case import Case, Dataset, Note
from livseg_lib.datasets.msd import described_labels, label_notes
from livseg_lib.labels import LIVER, TUMOR
from livseg_lib.volumes import Volume, label_values, load_volume, read_label_array

LOOKS_FOR = "a .nii or .nii.gz file, a folder of them, or a folder a patient"
_WORD = re.compile(r"\d+|[^\W\d_]+|[^\w\s.-]+")
_LABEL_WORDS = {"seg", "segs", "dseg", "segmentation", "segmentations"}
_LABEL_WORDS |= {"label", "labels", "mask", "masks", "gt", "truth"}
_SCAN_WORDS = frozenset(("ct", "mr", "mri", "scan", "volume", "vol", "image", "img", "space", "orig", "0000"))
_LIVER = re.compile("liver")
TUMOR_NAME = r"(?:(?:liver|hepatic)[-_. ]?)?(?:tumou?rs?|lesions?|mass|masses|metastas[ei]s|hcc)"
TUMORS = re.compile(TUMOR_NAME + r"[-_. ]?\d*")
"""Names of masks of one structure each, without what the scan is called."""
ONE_FOLDER_ONE_PATIENT = "Scans that lie in one folder count as one patient's: no split separates them."
PARTS_OF_A_SET = r"train(?:ing)?|val(?:idation)?|test(?:ing)?"  # folders of a set, not of a patient
_OF_A_SET = re.compile(PARTS_OF_A_SET, re.IGNORECASE)
MOST_SCANS_OF_A_PATIENT = 3  # folders that hold more on average are batches, not patients


@dataclass(frozen=True)
class _File:
    path: Path
    folder: Path  # a folder that is named like a file (x.nii/x.nii) does not count
    stem: str
    notes: tuple[Note, ...]
    labels: tuple[int, ...] = ()  # of a label map
    says_labels: bool = False

    @cached_property
    def words(self) -> tuple[str, ...]:
        """Of the name, without those that every scan or label map may bear."""
        return _telling(self.stem)

    def beyond(self, scan: _File) -> str | None:
        """What the name says beyond that of `scan`, such as "livertumor1"; None where it is of another."""
        count = len(scan.words)
        if count and self.words[-count:] == scan.words:  # liver_pat1
            return "".join(self.words[:-count])
        return "".join(self.words[count:]) if self.words[:count] == scan.words else None


def _telling(name: str) -> tuple[str, ...]:
    telling = (word for word in _WORD.findall(name.lower()) if word not in _SCAN_WORDS)
    numbered = (str(int(word)) if word.isdecimal() else word for word in telling)
    return tuple(word for word in numbered if word not in _LABEL_WORDS)


def recognises(source: Path) -> bool:
    """Whether `source` is a NIfTI file, or has some directly in it."""
    return any(file.folder in (source, source.parent) for file in _files(source))


def find(source: Path) -> Dataset:
    """One case a scan, with labels where a label map is its own."""
    if not source.is_dir():
        return Dataset("nifti", source.parent, tuple(_case(file, file.stem) for file in _files(source)))
    looked = [_looked_into(file) for file in _files(source)]
    label_maps = [file for file in looked if file.labels or file.says_labels]
    scans = [file for file in looked if file not in label_maps]
    label_map = described_labels(source)
    names, patients, notes = _names(scans, source)
    cases = [
        replace(_labelled(_case(scan, name), scan, scans, label_maps, label_map), patient=patient)
        for scan, name, patient in zip(scans, names, patients, strict=True)
    ]
    cases.sort(key=lambda case: files.natural_key(case.case_id))
    return Dataset("nifti", source, tuple(cases), (), (*label_notes(label_map), *notes))


def _files(source: Path) -> list[_File]:
    """Every NIfTI file at or below `source`, one of each name in a folder."""
    copies: dict[tuple[Path, str], list[Path]] = defaultdict(list)
    for path in files.regular_files(source).named:
        if stem := files.nifti_stem(path):
            folder = path.parent
            in_own_folder = folder != source and files.nifti_stem(folder)
            copies[folder.parent if in_own_folder else folder, stem].append(path)
    chosen = {key: files.one_copy(paths) for key, paths in copies.items()}
    return [_File(path, *key, notes) for key, (path, notes) in chosen.items()]


def _looked_into(file: _File) -> _File:
    says_labels = not _LABEL_WORDS.isdisjoint(_WORD.findall(file.stem.lower()))
    try:
        return replace(file, labels=label_values(file.path), says_labels=says_labels)
    except Exception:  # one odd file ends nothing; it is named when it is read
        return replace(file, says_labels=says_labels)


def _case(file: _File, name: str) -> Case:
    return Case(name, name, (file.path,), partial(load_volume, file.path), notes=file.notes)


def _labelled(
    case: Case, scan: _File, scans: list[_File], label_maps: list[_File], label_map: files.LabelMap | None
) -> Case:
    """`case` with the label map that belongs to it, if that is plain; else with a note that says why not."""
    in_folder = [file for file in label_maps if file.folder == scan.folder]
    choices = [file for file in in_folder if file.words == scan.words]
    scanned = {other.folder for other in scans}
    alone = sum(other.folder == scan.folder for other in scans) == 1
    apart, home = [], scan.folder.parent  # images/x.nii, labels/x.nii
    homes = {scan.folder}  # pat1/ct.nii, pat1/labels/seg.nii; or pat1/ct/scan.nii, too
    homes |= {home} if sum(other.folder.parent == home for other in scans) == 1 else set()
    below = [f for f in label_maps if f.folder.parent in homes and f.folder not in scanned]
    alike = [other.folder.parent for other in scans if other.words == scan.words]
    if not in_folder and alike.count(home) == 1:
        elsewhere = [f for f in label_maps if f.folder not in scanned]
        elsewhere = [f for f in elsewhere if f.folder.parent == home or len(alike) == 1]
        apart = [f for f in elsewhere if f.words == scan.words or (scan.words and f.beyond(scan))]
    if not choices and label_map is None and (alone or scan.words):
        named = {f: f.beyond(scan) or "".join(_telling(f.folder.name)) for f in apart}
        named |= {f: f.beyond(scan) for f in in_folder}
        named |= {f: "".join(f.words) for f in in_folder + below if alone and not named.get(f)}
        masks = {f: name for f, name in named.items() if name and len(f.labels) in (1, 2)}
        masks |= {f: name for f, name in named.items() if name == "liver" and f.labels == (0, LIVER, TUMOR)}
        livers, tumors = ([f for f in masks if part.fullmatch(masks[f])] for part in (_LIVER, TUMORS))
        apart = [f for f in apart if f not in tumors]
        if all(named[f] for f in apart) and (len(livers) == 1 or (tumors and not livers)):
            return _of_parts(case, livers, tumors)
    if not choices and alone:
        choices = in_folder or [f for f in below if not (f.words or _telling(f.folder.name))]
    choices = choices or [f for f in apart if f.words == scan.words]
    if not choices:
        return case
    chosen = choices[0]
    if len(choices) > 1:
        message = f"It may belong to any of {_places(choices)}: none is read. Name its own like the scan,"
        message += " with _seg, or move the others out of the set."
        return _noted(case, chosen, "ambiguous-labels", message)
    if label_map is None and chosen.labels and max(chosen.labels) > TUMOR:
        message = f"Its labels go up to {max(chosen.labels)}: say in labels.json, in the folder of the whole"
        message += " set, which are liver and tumour."
        return _noted(case, chosen, "label-values", message)
    if chosen.words != scan.words and chosen.words != ("liver",):
        message = "The only label map beside the scan is read as its liver (1) and tumours (2). Is it that?"
        case = _noted(case, chosen, "only-label-map", message)
    return files.with_labels(case, chosen.path, chosen.notes, label_map)


def _of_parts(case: Case, livers: list[_File], tumors: list[_File]) -> Case:
    """`case` with the labels of masks of one structure each; without where the liver has none."""
    paths = tuple(file.path for file in (*livers, *tumors))
    listed = _places([*livers, *tumors])
    if not livers:
        message = f"There is no mask of the liver beside {listed}: none is read. Call it liver."
        return _noted(case, tumors[0], "no-liver-mask", message)
    message = f"The labels are read from {listed}{', a structure each' if tumors else ''}."
    case = _noted(case, livers[0], "structure-masks", message)
    notes = (*case.notes, *(note for file in (*livers, *tumors) for note in file.notes))
    reader = partial(_read_parts, paths)
    return replace(case, files=(*case.files, *paths), notes=notes, read_labels=reader)


def _read_parts(paths: tuple[Path, ...], like: Volume, accept_affine_mismatch: bool = False) -> np.ndarray:
    """Labels 0/1/2, uint8 (D, H, W), of the mask of a liver, which may hold tumours, and of those of its
    tumours."""
    liver, *tumors = (read_label_array(path, like, accept_affine_mismatch) for path in paths)
    own = (liver == TUMOR) & (liver == LIVER).any()
    return np.where(np.any([own, *(mask > 0 for mask in tumors)], axis=0), TUMOR, liver > 0).astype(np.uint8)


def _places(found: list[_File]) -> str:
    """Names of files, each with its folder's."""
    return ", ".join("/".join(file.path.parts[-2:]) for file in found)


def _noted(case: Case, file: _File, code: str, message: str) -> Case:
    return replace(case, notes=(*case.notes, Note(file.path, code, files.printable(message))))


def _names(scans: list[_File], source: Path) -> tuple[list[str], list[str], tuple[Note, ...]]:
    """Of each scan its case id and its patient, and what was decided about patients."""
    in_folder = Counter(scan.folder for scan in scans)
    folders = [tuple(map(files.printable, scan.folder.relative_to(source).parts)) for scan in scans]
    paths = ["_".join((*parts, scan.stem)) for scan, parts in zip(scans, folders, strict=True)]
    if len(in_folder) <= 1 or len(scans) > MOST_SCANS_OF_A_PATIENT * len(in_folder):
        stems = [scan.stem for scan in scans]
        names = stems if len(set(stems)) == len(stems) else paths
        return names, names, ()
    names = [
        "_".join(parts) if parts and in_folder[scan.folder] == 1 else path
        for scan, parts, path in zip(scans, folders, paths, strict=True)
    ]
    telling = [tuple(part for part in parts if not _OF_A_SET.fullmatch(part)) for parts in folders]
    patients = [owner or name for owner, name in zip(files.own_folders(telling), names, strict=True)]
    several = max(Counter(patients).values()) > 1
    return names, patients, (Note(source, "patients", ONE_FOLDER_ONE_PATIENT),) if several else ()
