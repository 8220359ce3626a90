"""Batches for a network that judges patches: a patch with its masks, and what it shows (system J)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from livseg_lib.preprocessing.patches import with_masks
from livseg_lib.sampling.region_batches import RegionBatches

KINDS = ("liver", "tumor")
"""What the object in the middle of a patch is; the outputs of the classifier, in order."""


class PatchBatches(RegionBatches):
    """Patches float32 (B, depth, s, s, C + 2) in [0, 1] and kinds float32 (B, 2), one-hot as KINDS.

    `patches` has a row each, with `region` (one of KINDS), `array` and `array_index`: slices `array_index` to
    `array_index + depth` of `folder/array/images.npy`, uint8 (N * depth, s, s, C), and of `masks.npy`, labels
    uint8 of the liver and the object (`candidate_patches`), which become the last two channels. All slices of
    a patch are moved and shifted in grey alike; masks are moved only. All else as in `PictureBatches`.
    """

    def __init__(self, patches: pd.DataFrame, folder: Path, depth: int, *args, **settings) -> None:
        self.depth = depth
        super().__init__(patches, folder, KINDS, *args, **settings)
        height, width, channels = self.input_shape
        self.input_shape = (depth, height, width, channels + 2)

    def description(self) -> dict:
        """As of `RegionBatches`, with the depth."""
        return {"depth": self.depth} | super().description()

    def _inputs(self, images: np.ndarray, masks: np.ndarray) -> np.ndarray:
        return with_masks(images, masks)

    def _read(self, rows: np.ndarray, name: str) -> np.ndarray:
        arrays = (self._open(self.folder / array / name) for array in self._arrays[rows])
        starts = self._indices[rows]
        return np.stack(
            [array[start : start + self.depth] for array, start in zip(arrays, starts, strict=True)]
        )
