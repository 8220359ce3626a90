"""Blocks of contiguous slices that cover the liver (system E: 64 of them), batches of them, and of patches.

Labels say where the liver lies in training, and a coarse segmentation in use. Labels of test
patients are never asked.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from livseg_lib.errors import InputError
from livseg_lib.labels import KINDS
from livseg_lib.preprocessing.geometry import block_starts, choose_block, liver_range
from livseg_lib.preprocessing.recipe import with_masks
from livseg_lib.sampling.batches import POSITION, RegionBatches, SliceBatches, require_counts


class BlockBatches(SliceBatches):
    """Blocks float32 (B, depth, s, s, C) in [0, 1] and target maps float32 (B, depth, s, s, K).

    `slices` has every slice of each case, with `class` besides the columns of `PictureBatches`. Each case
    comes in turn, with a block that covers its liver (`block_starts`): with `shuffle` at a random position,
    drawn anew each turn, without it at the middle one. `blocks_per_epoch` makes epochs shorter or longer,
    as `slices_per_epoch` does for slices. All slices of a block are moved and shifted in grey alike.

    Grey values that are standardized to zero mean and unit variance, as system E's are, come so from the
    recipe that made the pictures (its window `z_score`), which prediction follows too: over the whole scan,
    so that overlapping blocks agree about them.

    All else as in `SliceBatches`; raises InputError for a case without liver (those that
    `splits.cases_without_liver` lists), or not all of whose slices are given.
    """

    def __init__(
        self,
        slices: pd.DataFrame,
        folder: Path,
        target: str,
        depth: int,
        *args,
        shuffle: bool = True,
        blocks_per_epoch: int | None = None,
        **settings,
    ) -> None:
        require_counts(depth=depth, blocks_per_epoch=blocks_per_epoch)
        self.depth = depth
        blocks = possible_blocks(slices, depth)
        # Rows of a case stand together: where they begin, how many they are, and which is the middle one.
        cases = blocks.reset_index(names="row").groupby("array", sort=False)
        self._first, self._count = cases["row"].first().to_numpy(), cases.size().to_numpy()
        self._middle = np.flatnonzero(blocks["is_middle"])
        self._n_slices = cases["n_slices"].first()
        length = blocks_per_epoch or len(self._first)
        if not shuffle:
            length = min(length, len(self._first))
        super().__init__(blocks, folder, target, *args, shuffle=shuffle, slices_per_epoch=length, **settings)

    def _rows_of_epoch(self, epoch: int) -> np.ndarray:
        cases = self._turns(len(self._first), epoch)
        if not self.shuffle:
            return self._middle[cases]
        generator = np.random.default_rng((self.seed, POSITION, epoch))
        return self._first[cases] + generator.integers(self._count[cases])

    def _check_arrays(self) -> tuple[int, ...]:
        for array, n_slices in self._n_slices.items():
            path = self.folder / array / "images.npy"
            if (held := len(self._open(path))) != n_slices:
                problem = f"has {held} slices, but {n_slices} are given."
                raise InputError(path, problem, "Give every slice of each case.")
        return super()._check_arrays()


def possible_blocks(slices: pd.DataFrame, depth: int) -> pd.DataFrame:
    """Every block that covers the liver of its case, a row each, from feet to head.

    `slices` are classified (`class`). Columns: `array`, `array_index` of the first slice, `is_middle`,
    `n_slices` of the case. Raises InputError for a case that shows no liver, or lacks slices.
    """
    rows = []
    for array, of_case in slices.groupby(slices["array"].astype(str), sort=False):
        of_case = of_case.sort_values("array_index")
        if of_case["array_index"].tolist() != list(range(len(of_case))):
            problem = "lacks slices in the table, or has some twice."
            raise InputError(array, problem, "Give every slice of each case.")
        liver, n_slices = liver_range(of_case["class"].to_numpy(dtype=int) > 0), len(of_case)
        if not liver:
            raise InputError(array, "shows no liver, so that no block can cover it.", "Leave this case out.")
        middle = choose_block(liver, n_slices, depth)
        starts = block_starts(liver, n_slices, depth)
        rows += [(array, start, start == middle, n_slices) for start in starts]
    return pd.DataFrame(rows, columns=["array", "array_index", "is_middle", "n_slices"])


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
        self.input_shape = (*self.input_shape[:-1], self.input_shape[-1] + 2)

    def _inputs(self, images: np.ndarray, masks: np.ndarray) -> np.ndarray:
        return with_masks(images, masks)
