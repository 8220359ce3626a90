"""LiTS volumes: volume-N.nii[.gz] with segmentation-N.nii[.gz], in any folders below.

A labels.json in the folder says what other labels than 0, 1, 2 mean (`label_map`).
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from livseg_lib.datasets.case import Case, Dataset
from livseg_lib.datasets.files import NIFTI_SUFFIX, numbered_files
from livseg_lib.datasets.label_map import LabelMap, find_label_map, label_files, label_reader
from livseg_lib.volumes import load_volume

LOOKS_FOR = "volume-N.nii or .nii.gz, with segmentation-N.nii or .nii.gz"
VOLUME = r"volume-(\d+)" + NIFTI_SUFFIX
SEGMENTATION = r"segmentation-(\d+)" + NIFTI_SUFFIX


def recognises(folder: Path) -> bool:
    """Whether any file below `folder` is named like a volume of LiTS."""
    return bool(numbered_files(folder, VOLUME))


def find(folder: Path) -> Dataset:
    """One case a volume number. The challenge's own test volumes (test-volume-N) are not part of it."""
    volumes, segmentations = numbered_files(folder, VOLUME), numbered_files(folder, SEGMENTATION)
    label_map = find_label_map(folder)
    cases = [
        _case(number, path, segmentations.get((number,)), label_map) for (number,), path in volumes.items()
    ]
    unpaired = [path for number, path in segmentations.items() if number not in volumes]
    return Dataset("lits", folder, tuple(cases), tuple(unpaired))


def _case(number: int, volume: Path, segmentation: Path | None, label_map: LabelMap | None) -> Case:
    return Case(
        case_id=f"volume-{number}",
        patient=str(number),
        files=(volume, *label_files(segmentation, label_map)),
        read_volume=partial(load_volume, volume),
        read_labels=label_reader(segmentation, label_map),
    )
