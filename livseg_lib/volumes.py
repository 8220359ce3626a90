"""CT volumes in memory, and the way in and out of NIfTI files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

MAX_VOLUME_BYTES = 4 * 1024**3
"""Most bytes of voxels that one file may hold: four times the largest abdominal CT in common use."""


@dataclass(frozen=True)
class NativeGrid:
    """The grid of the file that a volume came from."""

    shape: tuple[int, int, int]
    affine: np.ndarray
    dtype: np.dtype


@dataclass(frozen=True)
class Volume:
    """A CT scan in memory."""

    voxels: np.ndarray
    spacing_mm: tuple[float, float, float]
    native: NativeGrid | None = None

    @property
    def voxel_volume_ml(self) -> float:
        """Volume of one voxel in millilitres."""
        return float(np.prod(self.spacing_mm)) / 1000.0


def load_volume(path: Path | str, limit_bytes: int = MAX_VOLUME_BYTES) -> Volume:
    """Read a NIfTI file."""
    raise NotImplementedError


def read_label_array(path: Path | str, like: Volume, accept_affine_mismatch: bool = False) -> np.ndarray:
    """Read integer labels, any values, (D, H, W) on the grid of `like`."""
    raise NotImplementedError


def load_segmentation(path: Path | str, like: Volume, accept_affine_mismatch: bool = False) -> np.ndarray:
    """Read labels 0/1/2, uint8 (D, H, W) on the grid of `like`."""
    raise NotImplementedError


def save_segmentation(labels: np.ndarray, like: Volume, path: Path | str) -> Path:
    """Write labels in the grid of the file that `like` came from."""
    raise NotImplementedError
