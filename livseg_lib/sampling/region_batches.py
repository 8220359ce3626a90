"""Batches for a network that sorts slices: a picture, and which region it shows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from livseg_lib.errors import InputError
from livseg_lib.provenance import digest
from livseg_lib.sampling.batches import PictureBatches


class RegionBatches(PictureBatches):
    """Images float32 (B, s, s, C) in [0, 1] and regions float32 (B, K), one-hot in the order of `regions`.

    `slices` has a column `region` besides those of `PictureBatches`. Raises InputError for a region that
    is not one of `regions`.
    """

    def __init__(self, slices: pd.DataFrame, folder: Path, regions: Sequence[str], *args, **settings) -> None:
        self.regions = tuple(regions)
        self._one_hot = encode_regions(slices["region"], self.regions)
        super().__init__(slices, folder, *args, **settings)

    def description(self) -> dict:
        """As of `PictureBatches`, with the regions and which slice shows which."""
        return {"regions": list(self.regions), "truth": digest(self._one_hot)} | super().description()

    def _truth(self, rows: np.ndarray, masks: np.ndarray) -> np.ndarray:
        return self._one_hot[rows]


def encode_regions(names: Sequence[str], regions: Sequence[str]) -> np.ndarray:
    """Names (N,) as float32 (N, K), 1 where a name is that of column K. InputError for any other name."""
    one_hot = np.asarray(names, dtype=str)[:, np.newaxis] == np.asarray(regions, dtype=str)
    if not one_hot.any(axis=1).all():
        stranger = np.asarray(names, dtype=str)[~one_hot.any(axis=1)][0]
        problem = f"{str(stranger)!r} is none of {', '.join(regions)}."
        raise InputError("region", problem, "Leave out slices without a region.")
    return one_hot.astype(np.float32)
