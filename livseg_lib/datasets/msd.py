"""Medical Segmentation Decathlon, Task03: imagesTr/*.nii.gz, labelsTr/*.nii.gz, dataset.json.

Kaggle's "3d-liver-segmentation" (system D) has the same layout, and so have sets of many organs, such as
AMOS: dataset.json names every label, and the liver may be any of them.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from pathlib import Path

import numpy as np

from livseg_lib.datasets import files
from livseg_lib.datasets.case import Dataset, Note
from livseg_lib.errors import InputError
from livseg_lib.labels import BACKGROUND, LIVER, TUMOR

LOOKS_FOR = "imagesTr/*.nii.gz, with labelsTr/*.nii.gz and perhaps dataset.json"
_CHANNEL = re.compile(r"(.+)_(\d{4})")
TUMOR_WORDS = (
    r"cancer|tumou?r|lesion|metasta|\bmets\b|nodul|carcinom|neoplas|malignan|hepatoma|blastom|\bmass|\bgtv"
    r"|\bhcc|\bicc\b|\bcrlm"
)
LIVERS_OWN = r"liver|\bhepat|\bhcc|\bicc\b|\bcrlm|cholangioc"  # in the name of a tumour: it is the liver's
VESSEL_WORDS = r"vessel|vein|arter|aorta|cava|portal|duct"
"""What of the liver has a name of its own, and is not the liver."""
DENIED = r"\b(?:non|not?|outside|beside|without|excluding)\W+(?:the )?"
"""Before a word: the label is not what it names."""
NO_ORGAN = rf"{VESSEL_WORDS}|background|ignore|cyst|necro|ablat|abscess|thromb|calcif|^\W*$"
"""What has no tumours of its own."""
_USUAL = {"liver": (LIVER,), "tumor": (TUMOR,)}


def recognises(folder: Path) -> bool:
    """Whether `folder`, or a folder below it, holds NIfTI files in imagesTr; not imagesTr itself."""
    return _root(folder) is not None


def find(folder: Path) -> Dataset:
    """One case a file in imagesTr. Raises InputError where dataset.json names no liver."""
    root = _root(folder)
    if root is None:
        problem = "There are no NIfTI files in a folder imagesTr."
        raise InputError(folder, problem, "Give the folder that holds it.")
    label_map = described_labels(root)
    notes = label_notes(label_map)
    labels = files.nifti_files(root / "labelsTr")
    images = _first_channels(files.nifti_files(root / "imagesTr"), labels)
    kinds = [{re.sub(r"\d+", "", name) for name in each} for each in (images, labels)]
    if images.keys().isdisjoint(labels) and [*map(len, kinds)] == [1, 1]:  # im1.nii.gz, lb1.nii.gz of ATLAS
        message = (
            f"Labels are paired by numbers, as {min(labels)} with {min(images)}. Name them like their scans."
        )
        notes += (Note(root / "labelsTr", "paired-by-number", message),)
        by_number = {files.numbers_in(name): name for name in images}
        labels = {by_number.get(files.numbers_in(name), name): copies for name, copies in labels.items()}
    cases = [
        files.scan_and_labels(name, name, copies, labels.get(name), label_map)
        for name, copies in images.items()
    ]
    unpaired = [path for name, copies in labels.items() if name not in images for path in copies]
    return Dataset("msd", folder, tuple(cases), tuple(unpaired), notes)


def _root(folder: Path) -> Path | None:
    scans = (path for path in files.regular_files(folder).named if files.nifti_stem(path))
    parents = {parent for path in scans for parent in (path.parent, path.parent.parent)}
    found = (each.parent for each in parents if each.name == "imagesTr" and folder in each.parents)
    return min(found, default=None, key=lambda root: ("liver" not in root.name.lower(), root))


def _first_channels(images: dict[str, list[Path]], labels: dict[str, list[Path]]) -> dict[str, list[Path]]:
    """By the names of their labels: nnU-Net's x_0000.nii.gz is the first channel of x; x_0001 is no case."""
    first = {name.removesuffix("_0000") for name in images if name.endswith("_0000")}
    cases = {}
    for name, copies in images.items():
        channel = _CHANNEL.fullmatch(name)
        if name in labels or not channel or channel[1] not in first or channel[1] in images:
            cases[name] = copies
        elif channel[2] == "0000":
            cases[channel[1]] = copies
    return cases


def label_notes(label_map: files.LabelMap | None) -> tuple[Note, ...]:
    """What the names in dataset.json were taken for."""
    if label_map is None or not label_map.names:
        return ()
    names_by_label = {LIVER: [], TUMOR: [], BACKGROUND: []}
    for label, name in label_map.names:
        names_by_label[int(label_map(np.array([label]))[0])].append(f"{label} ({name})")
    pairs = zip(("liver", "tumour", "background"), names_by_label.values(), strict=True)
    listing = "; ".join(f"{', '.join(labels)} as {word}" for word, labels in pairs if labels)
    message = f"Its labels are read by their names: {listing}. If that is wrong, say so in labels.json."
    return (Note(label_map.source, "label-names", message),)


def described_labels(folder: Path) -> files.LabelMap | None:
    """What labels.json says of `folder`, or else which labels dataset.json calls liver and tumour; None where
    they are 1 and 2, or where both are missing. A tumour that does not say whose it is belongs to the liver
    only where there is no other organ."""
    said, path = files.find_label_map(folder), folder / "dataset.json"
    if said or not path.is_file():
        return said
    if not (folder / "imagesTr").is_dir() and b'"labels"' not in path.read_bytes():
        return None  # of another program
    names = _label_names(path)
    affirmed = {label: re.sub(DENIED + "[a-z]+", "", name) for label, name in names.items()}
    vessels = {label for label, name in affirmed.items() if re.search(VESSEL_WORDS, name)}
    tumors = {label for label, name in affirmed.items() if re.search(TUMOR_WORDS, name)} - vessels
    liver = {label for label, name in affirmed.items() if "liver" in name} - vessels - tumors
    organs = {label for label, name in affirmed.items() if not re.search(NO_ORGAN, name)} - liver - tumors
    liver_tumors = {label for label in tumors if not organs or re.search(LIVERS_OWN, affirmed[label])}
    liver_tumors -= {label for label in tumors if re.search(DENIED + "liver", names[label])}
    found = {"liver": tuple(sorted(liver)), "tumor": tuple(sorted(liver_tumors))}
    if not found["liver"]:
        listed = ", ".join(f"{label} {name}" for label, name in sorted(names.items()))
        remedy = "Say in labels.json beside it which label is the liver."
        raise InputError(path, f"No label is called liver: {listed}.", remedy)
    usual = found == _USUAL and set(names) <= {LIVER, TUMOR}
    return None if usual else files.LabelMap(**found, source=path, names=tuple(sorted(names.items())))


def _label_names(path: Path) -> dict[int, str]:
    """Names of each label but 0, in lower case, from {"1": "liver"} (Decathlon) or {"liver": 1} (later ones).
    A label of several regions, as in {"liver": [1, 2], "tumor": 2}, has all of their names."""
    try:
        names: dict[int, list[str]] = defaultdict(list)
        for key, value in json.loads(path.read_bytes())["labels"].items():
            name, labels = (value, key) if key.isdecimal() else (key, value)
            for label in labels if isinstance(labels, list) else [labels]:
                if isinstance(label, bool | float):
                    raise ValueError(f"{label} is no whole number")
                names[int(label)].append(str(name).lower().replace("_", " "))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        problem = f"The file holds no readable list of labels ({type(error).__name__})."
        remedy = 'Write for example {"labels": {"background": 0, "liver": 1, "tumor": 2}}.'
        raise InputError(path, problem, remedy) from error
    return {label: ", ".join(parts) for label, parts in names.items() if label}
