"""LiTS volumes: volume-N.nii[.gz] with segmentation-N.nii[.gz], in any folders below.

A volume-N in a folder of labels (labelsTr, masks) is no scan but the segmentation of one.
A labels.json or dataset.json in the folder says what labels mean (`described_labels`).
"""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

from livseg_lib.datasets.case import Dataset
from livseg_lib.datasets.files import NIFTI_SUFFIX, files_by_number, scan_and_labels
from livseg_lib.datasets.msd import described_labels, label_notes

LOOKS_FOR = "volume-N.nii or .nii.gz, with segmentation-N.nii or .nii.gz"
_VOLUME = r"volume-(\d+)" + NIFTI_SUFFIX
_SEGMENTATION = r"(?:segmentation|labels?|mask)-(\d+)" + NIFTI_SUFFIX
_LABEL_FOLDER = re.compile(r"(?:labels?|masks?|seg(?:mentation)?s?|gt)(?:tr|ts)?", re.IGNORECASE)


def recognises(folder: Path) -> bool:
    """Whether any file below `folder` is named like a volume of LiTS."""
    return bool(_volumes(folder, in_labels=False))


def find(folder: Path) -> Dataset:
    """One case a volume number. The challenge's own test volumes (test-volume-N) are not part of it."""
    volumes = _volumes(folder, in_labels=False)
    segmentations = _volumes(folder, in_labels=True) | files_by_number(folder, _SEGMENTATION)
    label_map = described_labels(folder)
    cases = [
        scan_and_labels(f"volume-{n}", str(n), copies, segmentations.get((n,)), label_map)
        for (n,), copies in volumes.items()
    ]
    unpaired = [path for number, copies in segmentations.items() if number not in volumes for path in copies]
    return Dataset("lits", folder, tuple(cases), tuple(unpaired), label_notes(label_map))


def _volumes(folder: Path, in_labels: bool) -> dict[tuple[int, ...], list[Path]]:
    """Files named volume-N, in folders of labels or in others."""
    found: dict[tuple[int, ...], list[Path]] = defaultdict(list)
    for number, copies in files_by_number(folder, _VOLUME).items():
        for path in copies:
            inside = path.parent != folder and _LABEL_FOLDER.fullmatch(path.parent.name)
            if bool(inside) == in_labels:
                found[number].append(path)
    return found
