"""Medical Segmentation Decathlon, Task03: imagesTr/*.nii.gz, labelsTr/*.nii.gz, dataset.json.

Kaggle's "3d-liver-segmentation" (system D) has the same layout.
"""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

from livseg_lib.datasets.case import Case, Dataset
from livseg_lib.datasets.files import nifti_files
from livseg_lib.errors import InputError
from livseg_lib.volumes import load_segmentation, load_volume

LOOKS_FOR = "imagesTr/*.nii.gz, with labelsTr/*.nii.gz and perhaps dataset.json"
MEANING = {1: ("liver",), 2: ("cancer", "tumor", "tumour", "lesion")}
"""Words of which one must stand in the name of a label."""


def recognises(folder: Path) -> bool:
    """Whether `folder`, or a folder below it, holds NIfTI files in imagesTr."""
    return _root(folder) is not None


def find(folder: Path) -> Dataset:
    """One case a file in imagesTr. Raises InputError where dataset.json gives labels another meaning."""
    root = _root(folder)
    if root is None:
        raise InputError(
            folder, "There are no NIfTI files in a folder imagesTr.", "Give the folder that holds it."
        )
    _require_liver_labels(root / "dataset.json")
    images, labels = nifti_files(root / "imagesTr"), nifti_files(root / "labelsTr")
    cases = [_case(name, path, labels.get(name)) for name, path in images.items()]
    unpaired = [path for name, path in labels.items() if name not in images]
    return Dataset("msd", folder, tuple(cases), tuple(unpaired))


def _root(folder: Path) -> Path | None:
    parents = (path.parent for path in sorted(folder.rglob("imagesTr")) if nifti_files(path))
    return next(parents, None)


def _case(name: str, image: Path, label: Path | None) -> Case:
    return Case(
        case_id=name,
        patient=name,
        files=(image, label) if label else (image,),
        read_volume=partial(load_volume, image),
        read_labels=partial(load_segmentation, label) if label else None,
    )


def _require_liver_labels(path: Path) -> None:
    if not path.is_file():
        return
    names = _label_names(path)
    for label, words in MEANING.items():
        if not any(word in names.get(label, "") for word in words):
            raise InputError(
                path,
                f'The list says that label {label} is "{names.get(label, "nothing")}", not {words[0]}.',
                "Give a data set with 0 background, 1 liver, 2 tumour.",
            )


def _label_names(path: Path) -> dict[int, str]:
    """Name of each label, from {"1": "liver"} (Decathlon) or {"liver": 1} (its successors)."""
    try:
        labels = json.loads(path.read_text(encoding="utf-8"))["labels"]
        return dict(_label_and_name(key, value) for key, value in labels.items())
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            path,
            "The file holds no readable list of labels.",
            "Repair it, or remove it if the labels are 0, 1, 2.",
        ) from error


def _label_and_name(key: str, value: str | int) -> tuple[int, str]:
    return (int(key), str(value).lower()) if key.isdigit() else (int(value), key.lower())
