"""One case as one picture, for a contact sheet."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from livseg_lib.labels import structure_mask
from livseg_lib.preprocessing.windows import WINDOWS, Window, apply_window, window_bounds
from livseg_lib.volumes import Volume

if TYPE_CHECKING:
    from livseg_lib.datasets.case import Case


def case_picture(case: Case, modality: str = "ct") -> tuple[np.ndarray, np.ndarray | None, str]:
    """(grey uint8 (H, W), labels (H, W) or None, case id): the slice with most tumour, else most liver.

    A scan without labels shows its middle slice.
    """
    volume = case.read_volume()
    labels = case.read_labels(volume) if case.read_labels else None
    index = len(volume.voxels) // 2 if labels is None else _fullest_slice(labels)
    grey = apply_window(volume.voxels[index], display_window(volume, modality))
    return grey, None if labels is None else labels[index], case.case_id


def display_window(volume: Volume, modality: str = "ct") -> Window:
    """The liver window; for pictures, which are windowed already, their greys as they are."""
    if volume.native is None:
        return WINDOWS["stored"]
    return Window.between(*window_bounds("mr" if modality == "mr" else "liver", volume.voxels))


def _fullest_slice(labels: np.ndarray) -> int:
    tumor = structure_mask(labels, "tumor").sum(axis=(1, 2))
    area = tumor if tumor.any() else structure_mask(labels, "liver").sum(axis=(1, 2))
    return int(area.argmax())
