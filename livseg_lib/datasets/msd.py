"""Medical Segmentation Decathlon, Task03: imagesTr/*.nii.gz, labelsTr/*.nii.gz, dataset.json.

Kaggle's "3d-liver-segmentation" (system D) has the same layout, and so have sets of many organs, such as
AMOS: dataset.json names every label, and the liver may be any of them.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from livseg_lib.datasets.case import Dataset
from livseg_lib.datasets.files import nifti_files, nifti_stem, regular_files
from livseg_lib.datasets.label_map import FILE, LabelMap, find_label_map, scan_and_labels
from livseg_lib.errors import InputError
from livseg_lib.labels import LIVER, TUMOR

LOOKS_FOR = "imagesTr/*.nii.gz, with labelsTr/*.nii.gz and perhaps dataset.json"
CHANNEL = re.compile(r"(.+)_(\d{4})")
TUMOR_WORDS = ("cancer", "tumor", "tumour", "lesion")
VESSEL_WORDS = ("vessel", "vein")
"""What of the liver has a name of its own, and is not the liver."""
USUAL = {"liver": (LIVER,), "tumor": (TUMOR,)}


def recognises(folder: Path) -> bool:
    """Whether `folder`, or a folder below it, holds NIfTI files in imagesTr."""
    return _root(folder) is not None


def find(folder: Path) -> Dataset:
    """One case a file in imagesTr. Raises InputError where dataset.json names no liver."""
    root = _root(folder)
    if root is None:
        raise InputError(
            folder, "There are no NIfTI files in a folder imagesTr.", "Give the folder that holds it."
        )
    label_map = find_label_map(root) or _named_labels(root / "dataset.json")
    labels = nifti_files(root / "labelsTr")
    images = _first_channels(nifti_files(root / "imagesTr"), labels)
    cases = [
        scan_and_labels(name, name, copies, labels.get(name), label_map) for name, copies in images.items()
    ]
    unpaired = [path for name, copies in labels.items() if name not in images for path in copies]
    return Dataset("msd", folder, tuple(cases), tuple(unpaired))


def _root(folder: Path) -> Path | None:
    roots = {
        parent.parent
        for path in regular_files(folder).named
        if nifti_stem(path)
        for parent in (path.parent, path.parent.parent)
        if parent.name == "imagesTr"
    }
    return min(roots, default=None)


def _first_channels(images: dict[str, list[Path]], labels: dict[str, list[Path]]) -> dict[str, list[Path]]:
    """By the names of their labels: nnU-Net's x_0000.nii.gz is the first channel of x; x_0001 is no case."""
    first = {name.removesuffix("_0000") for name in images if name.endswith("_0000")}
    cases = {}
    for name, copies in images.items():
        channel = CHANNEL.fullmatch(name)
        if name in labels or not channel or channel[1] not in first or channel[1] in images:
            cases[name] = copies
        elif channel[2] == "0000":
            cases[channel[1]] = copies
    return cases


def _named_labels(path: Path) -> LabelMap | None:
    """Which labels dataset.json calls liver and tumour; None where they are 1 and 2, or where it is missing.

    A tumour that does not say whose it is belongs to the liver only where there is no other organ.
    """
    if not path.is_file():
        return None
    names = _label_names(path)
    hepatic = {label for label, name in names.items() if "liver" in name and not _has(name, VESSEL_WORDS)}
    tumors = {label for label, name in names.items() if _has(name, TUMOR_WORDS)}
    others = {label for label in names if label} - hepatic - tumors
    found = {
        "liver": tuple(sorted(hepatic - tumors)),
        "tumor": tuple(sorted(tumors & hepatic if others else tumors)),
    }
    if not found["liver"]:
        listed = ", ".join(f"{label} {name}" for label, name in sorted(names.items()))
        raise InputError(
            path, f"No label is called liver: {listed}.", f"Say in {FILE} beside it which label is the liver."
        )
    return None if found == USUAL and not others else LabelMap(**found, source=path)


def _has(name: str, words: tuple[str, ...]) -> bool:
    return any(word in name for word in words)


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
