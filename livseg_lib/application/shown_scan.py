"""A result that lies in a folder, to be looked at slice by slice: memory holds one slice at a time."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from livseg_lib.application.patient import PatientResult
from livseg_lib.preprocessing.intensities import as_hu
from livseg_lib.preprocessing.windows import WINDOWS
from livseg_lib.reporting.outlined_slice import slice_to_show
from livseg_lib.reporting.screen_slice import VIEW_WINDOWS, screen_slice

FOUND = "found"
"""What the app calls the outline; there is no truth beside it."""


@dataclass(frozen=True)
class ShownScan:
    """A scan and its outlines on disk."""

    folder: Path

    @property
    def voxels(self) -> np.ndarray:
        """int16 HU (D, H, W), an MR scan stretched like HU; read where it is looked at."""
        return np.load(self.folder / "voxels.npy", mmap_mode="r", allow_pickle=False)

    @property
    def labels(self) -> np.ndarray:
        """uint8 0/1/2 (D, H, W)."""
        return np.load(self.folder / "labels.npy", mmap_mode="r", allow_pickle=False)

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """(D, H, W); NaN for pictures."""
        return tuple(np.load(self.folder / "spacing_mm.npy", allow_pickle=False).tolist())

    def picture(self, index: int, window: str) -> np.ndarray:
        """RGB uint8 of one slice in a window of `VIEW_WINDOWS`, in the body's proportions.

        Pictures that were windowed before are shown as they are.
        """
        index = int(np.clip(index, 0, len(self.labels) - 1))
        _, row_mm, column_mm = self.spacing_mm
        shown = VIEW_WINDOWS[window] if np.isfinite(row_mm) else WINDOWS["stored"]
        rgb = screen_slice(self.voxels[index], shown, {FOUND: self.labels[index]})
        if not np.isfinite(row_mm) or np.isclose(row_mm, column_mm):
            return rgb
        height = round(rgb.shape[0] * row_mm / column_mm)
        return cv2.resize(rgb, (rgb.shape[1], height), interpolation=cv2.INTER_LINEAR)


def keep_scan(result: PatientResult, folder: Path) -> int:
    """Put a result's scan and labels into `folder`, for a ShownScan; returns the slice to begin at."""
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "voxels.npy", as_hu(result.scan.volume, result.modality).voxels)
    np.save(folder / "labels.npy", result.labels)
    np.save(folder / "spacing_mm.npy", np.asarray(result.scan.volume.spacing_mm, float))
    return slice_to_show(result.labels)
