"""Which files are scans and which labels, known by their names, and what the values of labels mean.

Where these are not 1 and 2, a file labels.json beside the scans says so: {"liver": [5, 7], "tumor": 7}. A
tumour is liver too, whether it is named there or not; every other value is background.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from livseg_lib.datasets.case import Case, Note
from livseg_lib.errors import InputError
from livseg_lib.labels import LIVER, STRUCTURES, TUMOR
from livseg_lib.volumes import Volume, load_segmentation, load_volume, read_label_array

LABELS_JSON = "labels.json"  # the file that says what the values of labels mean
NIFTI_SUFFIX = r"\.nii(?:\.gz)?"
DATA_SUFFIXES = {
    **dict.fromkeys((".png", ".jpg", ".jpeg"), "picture"),
    **dict.fromkeys((".tif", ".tiff", ".bmp", ".gif", ".webp"), "other picture"),
    **dict.fromkeys((".zip", ".tar", ".tgz", ".7z", ".rar", ".gz", ".bz2", ".xz", ".zst"), "packed"),
    **dict.fromkeys((".nrrd", ".mha", ".mhd", ".img", ".hdr", ".npy", ".npz", ".mgz", ".h5"), "volume"),
    **dict.fromkeys((".part", ".crdownload", ".download"), "half downloaded"),
    **dict.fromkeys((".dcm", ".dicom", ".ima"), "DICOM"),
}
"""Kinds of data by the end of the name; NIfTI has a longer one."""
MADE_HERE = (
    {"case.json", "images.npy"},
    {"record.json", "measures.json", "overlay.png"},
    {"findings.csv", "cases.csv", "contact_sheet.png"},
)
"""A folder with these is no data, where an extraction, masks or a check were written into their own data."""
_PREDICTIONS = re.compile(
    r"(?:.*[ _.-])?(?:pred(?:s|icted|ictions?)?(?:t[rs])?|inferences?)|.+_results?", re.IGNORECASE
)
"""Names of folders that hold no truth: what a network outlined would be learnt from, and count as right."""
OF_NO_USER = ("__MACOSX", "Thumbs.db", "desktop.ini")  # what systems leave in folders, beside hidden files


class Found(NamedTuple):
    """What lies below a folder."""

    files: tuple[Path, ...]  # regular files, links to such included, in order of name
    notes: tuple[Note, ...]
    """Errors: links to nothing that may have been data, and folders that cannot be listed. Warnings: pipes,
    sockets, devices."""
    dangling: tuple[Path, ...] = ()
    """Links to nothing: a data set that was moved, or whose content was not fetched."""

    @property
    def named(self) -> list[Path]:
        """Files and links to nothing: cases are recognised by them, so that none is lost unseen."""
        return sorted(self.files + self.dangling)


def regular_files(source: Path, with_results: bool = False) -> Found:
    """Everything below the folder `source`, or the one file `source`; nothing is opened.

    Hidden names are left out (archives made on a Mac hold a `._` twin of every file), and folders that livseg
    made there or that are called predictions, but `with_results`. Links to folders are followed, each folder
    once; one that leads to a folder above is not.
    """
    files, dangling, notes = [], [], []
    for path in sorted(_below(source, notes, with_results)) if source.is_dir() else [source]:
        try:
            regular = stat.S_ISREG(path.stat().st_mode)
        except OSError:
            dangling.append(path)
            message = "The link leads to nothing. Fetch its content (git annex get, datalad get) or mend it."
            of_data = nifti_stem(path) or path.suffix.lower() in DATA_SUFFIXES or not path.suffix
            notes.append(Note(path, "unreadable", message, "error" if of_data else "warning"))
            continue
        if regular:
            files.append(path)
        else:
            message = "This is no file but a pipe, a socket or a device: it was passed over."
            notes.append(Note(path, "passed-over", message))
    return Found(tuple(files), tuple(notes), tuple(dangling))


def _below(folder: Path, notes: list[Note], with_results: bool) -> Iterator[Path]:
    def note_unlisted(error: OSError) -> None:
        message = f"The folder cannot be listed ({error.strerror})."
        notes.append(Note(error.filename, "unreadable", message, "error"))

    visited = set(folder.resolve().parents)
    for parent, folders, names in os.walk(folder, onerror=note_unlisted, followlinks=True):
        may_be_result = parent != str(folder) and not with_results
        predicted = may_be_result and _PREDICTIONS.fullmatch(Path(parent).name)
        if predicted:
            message = "By its name the folder holds predictions, no truth: passed over. Rename it if it does."
            notes.append(Note(Path(parent), "passed-over", message))
        made_here = may_be_result and any(made.issubset(names) for made in MADE_HERE)
        if (real := Path(parent).resolve()) in visited or predicted or made_here:
            folders.clear()
            continue
        visited.add(real)
        visible = filter(is_visible, folders)
        folders[:] = sorted(visible, key=lambda name: (Path(parent, name).is_symlink(), name))
        yield from (Path(parent, name) for name in filter(is_visible, names))


def is_visible(name: str) -> bool:
    """Whether a file or folder of this name was put there by a user."""
    return not name.startswith(".") and name not in OF_NO_USER


def files_by_number(folder: Path, pattern: str) -> dict[tuple[int, ...], list[Path]]:
    """Files anywhere below `folder` whose whole name matches `pattern`, by the numbers in its groups. In the
    order of the numbers; several where they bear the same."""
    name, found = re.compile(pattern, re.IGNORECASE), {}
    for path in regular_files(folder).named:
        if match := name.fullmatch(path.name):
            found.setdefault(tuple(map(int, match.groups())), []).append(path)
    return dict(sorted(found.items()))


def nifti_files(folder: Path) -> dict[str, list[Path]]:
    """NIfTI files in `folder` by their name without suffix, in natural order. A file may lie in a folder that
    bears its name (x.nii/x.nii), and several may bear one name."""
    found = {}
    for path in regular_files(folder).named:
        in_own_folder = path.parent.parent == folder and nifti_stem(path.parent)
        if (stem := nifti_stem(path)) and (path.parent == folder or in_own_folder):
            found.setdefault(stem, []).append(path)
    return dict(sorted(found.items(), key=lambda item: natural_key(item[0])))


def one_copy(copies: list[Path]) -> tuple[Path, tuple[Note, ...]]:
    """The NIfTI file to read where several have one name, and what was decided.

    One that can be read goes before one that cannot. Where several can be read and differ, the note is an
    error: nobody knows which is right. Where there is one file, nothing is opened.
    """
    if len(copies) == 1:
        return copies[0], ()
    contents = {path: content for path in copies if (content := _content(path))}
    chosen = next(iter(contents), copies[0])
    others, code = [path for path in copies if path != chosen], "several-copies"
    if len(set(contents.values())) > 1:
        names = ", ".join(map(printable, others))
        message = f"There are other files of this name, and they differ: {names}. Keep one."
        return chosen, (Note(chosen, code, message, "error", tuple(others)),)
    equal = f"It holds the same as {printable(chosen)} and is not read."
    broken = f"It cannot be read; {printable(chosen)} is read in its place."
    return chosen, tuple(Note(path, code, equal if path in contents else broken) for path in others)


def _content(path: Path) -> str:
    """Digest of voxels and affine; "" where the file cannot be read."""
    try:
        volume = load_volume(path)
    except Exception:  # one odd file ends nothing; it is named when it is read
        return ""
    return hashlib.sha256(volume.voxels.tobytes() + volume.native.affine.tobytes()).hexdigest()


def files_of(source: Path) -> tuple[Path, ...]:
    """`source` itself if it is a file (a zip), else every file below it, in order of name."""
    return regular_files(source).files


def nifti_stem(path: Path) -> str | None:
    """Name without `.nii` or `.nii.gz`, or None where it has neither. None for hidden files too: archives
    made on a Mac carry a `._` twin of every file."""
    match = re.fullmatch(r"([^.].*)" + NIFTI_SUFFIX, path.name, re.IGNORECASE | re.DOTALL)
    return printable(match[1]) if match else None


def listed(items: Sequence[str], joint: str = ", ") -> str:
    """The first three in a line, with dots where there are more."""
    return joint.join([*items[:3], *(["..."] if len(items) > 3 else [])])


def printable(name: Path | str) -> str:
    """`name` fit for tables and screens, whatever bytes it is made of, its accents in one of their two ways:
    a Mac and others write them differently."""
    text = str(name).encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return unicodedata.normalize("NFC", text)


def told_apart(names: Iterable[str], used: Iterable[str] = ()) -> list[str]:
    """`names`, of those alike but for capitals, or in `used`, the later ones with a number: scan, scan-2."""
    known, apart = {*used}, []
    for first in names:
        name, count = first, 1
        while name.casefold() in known:
            count += 1
            name = f"{first}-{count}"
        known.add(name.casefold())
        apart.append(name)
    return apart


def persons(names: Sequence[str]) -> tuple[list[str], bool]:
    """Whose each of `names` is by its first numbered word that tells them apart, and whether that is sure; by
    its first word where not all have a number.

    pat1_pre, pat1_post and flip_pat1 are all of pat1: sure where the rest of the names is of no more kinds
    than there are persons. Else they may be patients of a site or of a year, site1_17.
    """
    words = [re.findall(r"[^\W_]+", name) for name in names]
    has_number = {re.search(r"\d", name) is not None for name in names}
    telling = "" if False in has_number else r"\d"
    numbered = [[k for k, word in enumerate(each) if re.search(telling, word)] for each in words]
    for places in zip(*numbered, strict=False):
        found, kinds = [], set()
        for each, end in zip(words, places, strict=True):
            start = max(end - each[end].isdecimal(), 0)  # a number alone counts with the word before it
            found.append("-".join(each[start : end + 1]))
            kinds.add((*each[:start], *each[end + 1 :]))
        if not telling and len(set(found)) == len(names):
            break
        if len(set(found)) > 1:
            return found, len(kinds) <= len(set(found)) and len(has_number) == 1
    return list(names), True


def own_folders(folders: Sequence[tuple[str, ...]]) -> list[str | None]:
    """Of folders, each as the parts of its path, the first that not all share, or None."""
    shared = min(map(len, folders), default=0)
    shared = next((k for k in range(shared) if len({parts[k] for parts in folders}) > 1), shared)
    return [next(iter(parts[shared:]), None) for parts in folders]


def numbers_in(name: str) -> tuple[int, ...]:
    """All of them, in their order."""
    return tuple(map(int, re.findall(r"\d+", name)))


def natural_key(name: str) -> list[tuple[int, str]]:
    """Sorting key that puts "liver_2" before "liver_10"."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)]


@dataclass(frozen=True)
class LabelMap:
    """Values of a file, and where it was read that they mean this."""

    liver: tuple[int, ...]
    tumor: tuple[int, ...] = ()
    source: Path | None = None  # the description: a case depends on it as on its scan
    names: tuple[tuple[int, str], ...] = ()  # what the description calls labels, these and others

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """Labels 0/1/2, uint8, of integer `values` of any shape."""
        labels = np.isin(values, self.liver).astype(np.uint8) * np.uint8(LIVER)
        labels[np.isin(values, self.tumor)] = TUMOR
        return labels


_EXAMPLE = 'Write for example {"liver": [5], "tumor": [7]}.'


def find_label_map(folder: Path) -> LabelMap | None:
    """What `folder`/labels.json says; None where there is none. Raises InputError where it cannot be used."""
    path = folder / LABELS_JSON
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_bytes())  # UTF-8 or UTF-16
        values = {name: tuple(each if isinstance(each, list) else [each]) for name, each in content.items()}
        if not all(type(value) is int and value > 0 for each in values.values() for value in each):
            raise ValueError(f"{content} holds more than whole numbers above 0")
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        problem = f"is not a list of labels ({error})."
        raise InputError(path, problem, _EXAMPLE) from error
    if "liver" not in values or set(values) - set(STRUCTURES):
        problem = f"names {', '.join(values) or 'nothing'}."
        remedy = f'Name "liver", and "tumor" if there is one; what is neither is {LIVER - 1}, background.'
        raise InputError(path, problem, remedy)
    if set(values["liver"]) <= {*values.get("tumor", ())}:
        raise InputError(path, "leaves the liver no value that is not tumour.", _EXAMPLE)
    return LabelMap(**values, source=path)


def scan_and_labels(
    case_id: str, patient: str, scans: list[Path], labels: list[Path] | None, label_map: LabelMap | None
) -> Case:
    """The case of a NIfTI scan and perhaps its labels, of each the copy that can be read."""
    scan, notes = one_copy(scans)
    case = Case(case_id, patient, (scan,), partial(load_volume, scan), notes=notes)
    return with_labels(case, *one_copy(labels), label_map) if labels else case


def with_labels(case: Case, truth: Path, notes: tuple[Note, ...], label_map: LabelMap | None) -> Case:
    """`case` with the labels of the NIfTI file `truth`; without a map it may hold 0, 1 and 2 alone."""
    changed = {"notes": (*case.notes, *notes), "read_labels": partial(load_segmentation, truth)}
    if label_map:
        changed["read_labels"] = partial(load_mapped, truth, label_map)
        changed["inspect"] = partial(lost_labels, truth, label_map)
        return replace(case, files=(*case.files, label_map.source, truth), **changed)
    return replace(case, files=(*case.files, truth), **changed)


def load_mapped(
    path: Path, label_map: LabelMap, like: Volume, accept_affine_mismatch: bool = False
) -> np.ndarray:
    """Labels 0/1/2, uint8 (D, H, W), of a file with other values, on the grid of `like`."""
    return label_map(read_label_array(path, like, accept_affine_mismatch))


def lost_labels(path: Path, label_map: LabelMap, like: Volume) -> list[Note]:
    """A warning for each value of the file that means nothing to the map and yet lies within the liver. That
    is: more than half of its voxels' faces towards others are faces towards liver or tumour."""
    stored, notes = read_label_array(path, like, accept_affine_mismatch=True), []
    labels, names = label_map(stored), dict(label_map.names)
    unknown = np.where(labels > 0, 0, np.maximum(stored, 0))
    for value, box in enumerate(ndimage.find_objects(unknown), start=1):
        if box is None:
            continue
        lost, liver = stored[wider(box)] == value, labels[wider(box)] > 0
        if shared_faces(lost, liver) > shared_faces(lost, ~lost) / 2:
            name = f"Label {value}" + (f" ({names[value]})" if value in names else "")
            message = f"{name}, {lost.sum():,} voxels, lies within the liver and was taken for background."
            message += f" Say in {LABELS_JSON} whether it is liver or tumour."
            notes.append(Note(path, "label-lost-in-liver", message))
    return notes


def shared_faces(one: np.ndarray, other: np.ndarray, axes: tuple[int, ...] = (0, 1, 2)) -> int:
    """Number of voxel faces, across `axes`, that have one mask before them and the other behind."""
    faces = 0
    for axis in axes:
        first, second = np.moveaxis(one, axis, 0), np.moveaxis(other, axis, 0)
        faces += np.count_nonzero(first[:-1] & second[1:]) + np.count_nonzero(second[:-1] & first[1:])
    return faces


def wider(box: tuple[slice, ...]) -> tuple[slice, ...]:
    """`box` and one voxel more on every side."""
    return tuple(slice(max(part.start - 1, 0), part.stop + 1) for part in box)
