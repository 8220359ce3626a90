"""LiTS volumes: volume-N.nii[.gz] with segmentation-N.nii[.gz], in any folders below.

A labels.json in the folder says what other labels than 0, 1, 2 mean (`find_label_map`).
"""

from __future__ import annotations

from pathlib import Path

from livseg_lib.datasets.case import Dataset
from livseg_lib.datasets.files import NIFTI_SUFFIX, files_by_number, find_label_map, scan_and_labels

LOOKS_FOR = "volume-N.nii or .nii.gz, with segmentation-N.nii or .nii.gz"
_VOLUME = r"volume-(\d+)" + NIFTI_SUFFIX
_SEGMENTATION = r"segmentation-(\d+)" + NIFTI_SUFFIX


def recognises(folder: Path) -> bool:
    """Whether any file below `folder` is named like a volume of LiTS."""
    return bool(files_by_number(folder, _VOLUME))


def find(folder: Path) -> Dataset:
    """One case a volume number. The challenge's own test volumes (test-volume-N) are not part of it."""
    volumes, segmentations = files_by_number(folder, _VOLUME), files_by_number(folder, _SEGMENTATION)
    label_map = find_label_map(folder)
    cases = [
        scan_and_labels(f"volume-{n}", str(n), copies, segmentations.get((n,)), label_map)
        for (n,), copies in volumes.items()
    ]
    unpaired = [path for number, copies in segmentations.items() if number not in volumes for path in copies]
    return Dataset("lits", folder, tuple(cases), tuple(unpaired))
