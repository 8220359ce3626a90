"""Which values in a label file mean liver and which tumour, where they are not 1 and 2.

A file labels.json beside the scans says so: {"liver": [5, 7], "tumor": 7}. A tumour is liver too, whether
it is named there or not; every other value is background.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from scipy import ndimage

from livseg_lib.datasets.case import Case, Note
from livseg_lib.datasets.files import one_copy
from livseg_lib.datasets.findings import shared_faces, wider
from livseg_lib.errors import InputError
from livseg_lib.labels import LIVER, STRUCTURES, TUMOR
from livseg_lib.volumes import Volume, load_segmentation, load_volume, read_label_array

FILE = "labels.json"


@dataclass(frozen=True)
class LabelMap:
    """Values of a file, and where it was read that they mean this."""

    liver: tuple[int, ...]
    tumor: tuple[int, ...] = ()
    source: Path | None = None
    """The description: a case hangs on it as on its scan."""
    names: tuple[tuple[int, str], ...] = ()
    """What the description calls labels, these and others."""

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """Labels 0/1/2, uint8, of integer `values` of any shape."""
        labels = np.isin(values, self.liver).astype(np.uint8) * np.uint8(LIVER)
        labels[np.isin(values, self.tumor)] = TUMOR
        return labels


def find_label_map(folder: Path) -> LabelMap | None:
    """What `folder`/labels.json says; None where there is none. Raises InputError where it cannot be used."""
    path = folder / FILE
    if not path.is_file():
        return None
    try:
        described = json.loads(path.read_text(encoding="utf-8-sig"))
        values = {name: _values(described[name]) for name in described}
    except (OSError, ValueError, TypeError, RecursionError) as error:
        problem = f"is not a list of labels ({error})."
        raise InputError(path, problem, 'Write for example {"liver": [5], "tumor": [7]}.') from error
    if "liver" not in values or set(values) - set(STRUCTURES):
        problem = f"names {', '.join(values) or 'nothing'}."
        remedy = f'Name "liver", and "tumor" if there is one; what is neither is {LIVER - 1}, background.'
        raise InputError(path, problem, remedy)
    return LabelMap(**values, source=path)


def scan_and_labels(
    case_id: str, patient: str, scans: list[Path], labels: list[Path] | None, label_map: LabelMap | None
) -> Case:
    """The case of a NIfTI scan and perhaps its labels, of each the copy that can be read."""
    scan, notes = one_copy(scans)
    truth, more = one_copy(labels) if labels else (None, ())
    return Case(
        case_id=case_id,
        patient=patient,
        files=(scan, *label_files(truth, label_map)),
        read_volume=partial(load_volume, scan),
        read_labels=label_reader(truth, label_map),
        notes=notes + more,
        inspect=partial(lost_labels, truth, label_map) if truth and label_map else None,
    )


def label_reader(path: Path | None, label_map: LabelMap | None) -> Callable[[Volume], np.ndarray] | None:
    """For `Case.read_labels`: labels of the file `path`; without a map it may hold 0, 1 and 2 alone."""
    if path is None:
        return None
    return partial(load_mapped, path, label_map) if label_map else partial(load_segmentation, path)


def label_files(path: Path | None, label_map: LabelMap | None) -> tuple[Path, ...]:
    """For `Case.files`: what labels are read from, the file with the voxels last."""
    if path is None:
        return ()
    return (label_map.source, path) if label_map and label_map.source else (path,)


def load_mapped(
    path: Path, label_map: LabelMap, like: Volume, accept_affine_mismatch: bool = False
) -> np.ndarray:
    """Labels 0/1/2, uint8 (D, H, W), of a file with other values, on the grid of `like`."""
    return label_map(read_label_array(path, like, accept_affine_mismatch))


def lost_labels(path: Path, label_map: LabelMap, like: Volume) -> list[Note]:
    """A warning for each value of the file that means nothing to the map and yet lies within the liver.

    That is: more than half of its voxels' faces towards others are faces towards liver or tumour.
    """
    stored, notes = read_label_array(path, like, accept_affine_mismatch=True), []
    labels, names = label_map(stored), dict(label_map.names)
    unknown = np.where(labels > 0, 0, np.maximum(stored, 0))
    for value, box in enumerate(ndimage.find_objects(unknown), start=1):
        if box is None:
            continue
        mine, liver = stored[wider(box)] == value, labels[wider(box)] > 0
        if shared_faces(mine, liver) > shared_faces(mine, ~mine) / 2:
            called = f"Label {value}" + (f" ({names[value]})" if value in names else "")
            message = (
                f"{called}, {int(mine.sum()):,} voxels, lies within the liver and was taken for background. "
                f"Say in {FILE} whether it is liver or tumour."
            )
            notes.append(Note(path, "label-lost-in-liver", message))
    return notes


def _values(given: int | list[int]) -> tuple[int, ...]:
    values = tuple(given) if isinstance(given, list) else (given,)
    if not all(type(value) is int and value > 0 for value in values):
        raise ValueError(f"{given} are no whole numbers above 0")
    return values
