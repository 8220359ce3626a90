"""Patches around points of a scan, all of one size in mm and in voxels, for a classifier (system J).

A voxel of a patch is the mean of that part of the scan which it covers, so that patches look alike whatever
the spacing. Beyond the scan its outermost voxels come again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from livseg_lib.errors import InputError
from livseg_lib.labels import STRUCTURES
from livseg_lib.preprocessing.windows import Window, apply_window


@dataclass(frozen=True)
class PatchRecipe:
    """What a patch shows. Saved with the classifier, so that its use follows it too."""

    size_mm: tuple[float, float, float] = (48.0, 48.0, 48.0)
    """Along (D, H, W): twice the largest superpixel, so that its surroundings are seen."""
    voxels: tuple[int, int, int] = (12, 24, 24)
    """Slices, rows and columns; as many rows as columns, since batches are turned in their plane."""
    widths_hu: tuple[float, ...] = (100.0, 300.0)
    """A window each, one a channel; mid-grey is the median of the patient's liver."""

    def __post_init__(self) -> None:
        for name, length in (("size_mm", 3), ("voxels", 3), ("widths_hu", max(1, len(self.widths_hu)))):
            values = getattr(self, name)
            if len(values) != length or not all(value > 0 for value in values):
                problem = f"is {values}."
                raise InputError(name, problem, f"Give {length} numbers above 0.")
        if self.voxels[1] != self.voxels[2]:
            raise InputError("voxels", f"is {self.voxels}.", "Give as many rows as columns.")

    @property
    def channels(self) -> int:
        """Windows, and the masks of `with_masks`."""
        return len(self.widths_hu) + len(STRUCTURES)

    def to_dict(self) -> dict:
        """JSON-ready mapping; `PatchRecipe.from_dict` reads it back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict) -> PatchRecipe:
        """Inverse of `to_dict` (lists become tuples)."""
        return cls(**{name: tuple(value) for name, value in values.items()})


@dataclass(frozen=True, eq=False)
class PatchPlace:
    """Where a patch lies: along each axis the voxels that it covers, and how much each of its own takes."""

    indices: tuple[np.ndarray, np.ndarray, np.ndarray]
    """Voxels of the scan, int; some may lie beyond it."""
    weights: tuple[np.ndarray, np.ndarray, np.ndarray]
    """float32 (voxels of the patch, voxels covered), each row with sum 1."""

    def crop(self, array: np.ndarray, first: Sequence[int] = (0, 0, 0)) -> np.ndarray:
        """The voxels covered, in the type of `array` (D, H, W), which shows the scan from `first` on."""
        sides = zip(self.indices, first, array.shape, strict=True)
        return array[np.ix_(*((index - start).clip(0, size - 1) for index, start, size in sides))]

    def average(self, part: np.ndarray) -> np.ndarray:
        """What `crop` gave, on the patch's own voxels: float32, the shape of the patch."""
        depth, height, width = self.weights
        return np.tensordot(depth, height @ part.astype(np.float32) @ width.T, 1)


def place_patch(center: Sequence[float], spacing_mm: Sequence[float], recipe: PatchRecipe) -> PatchPlace:
    """The patch whose middle is the point `center`, voxel indices (D, H, W): 3.0 is the middle of voxel 3."""
    sides = zip(center, spacing_mm, recipe.size_mm, recipe.voxels, strict=True)
    indices, weights = zip(*(_cover(*side) for side in sides), strict=True)
    return PatchPlace(indices, weights)


def _cover(center: float, spacing_mm: float, size_mm: float, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Along one axis the voxels covered, and the share of each in each of the patch's `count` own."""
    edges = center + 0.5 + np.linspace(-0.5, 0.5, count + 1) * size_mm / spacing_mm
    indices = np.arange(int(np.floor(edges[0])), int(np.ceil(edges[-1])))
    lower, upper = edges[:-1, np.newaxis], edges[1:, np.newaxis]
    overlap = (np.minimum(upper, indices + 1) - np.maximum(lower, indices)).clip(0)
    return indices, (overlap / overlap.sum(axis=1, keepdims=True)).astype(np.float32)


def grey_channels(hu: np.ndarray, middle_hu: float, recipe: PatchRecipe) -> np.ndarray:
    """HU of a patch (D, H, W) as grey levels, uint8 (D, H, W, windows); `middle_hu` is mid-grey in each."""
    windows = (
        Window.between(middle_hu - width_hu / 2, middle_hu + width_hu / 2) for width_hu in recipe.widths_hu
    )
    return np.stack([apply_window(hu, window) for window in windows], axis=-1)
