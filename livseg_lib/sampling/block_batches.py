"""Batches of blocks of contiguous slices, for networks that see volumes (system E)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from livseg_lib.errors import InputError
from livseg_lib.sampling.batches import SliceBatches
from livseg_lib.sampling.blocks import block_slices, block_starts, choose_block, liver_range

_POSITION = 2  # keeps these draws apart from those of order and augmentation


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
    `selection.cases_without_liver` lists), or not all of whose slices are given.
    """

    def __init__(
        self,
        slices: pd.DataFrame,
        folder: Path,
        target: str,
        depth: int,
        batch_size: int,
        augmentation: str = "none",
        seed: int = 0,
        shuffle: bool = True,
        blocks_per_epoch: int | None = None,
    ) -> None:
        _check_blocks(slices, depth, blocks_per_epoch)
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
        super().__init__(
            blocks, folder, target, batch_size, augmentation, seed, shuffle, slices_per_epoch=length
        )
        self.input_shape = (depth, *self.input_shape)

    def description(self) -> dict:
        """As of `SliceBatches`, with the depth; `slices` stands for all blocks that may be drawn."""
        return {"depth": self.depth} | super().description()

    def _rows_of_epoch(self, epoch: int) -> np.ndarray:
        cases = self._turns(len(self._first), epoch)
        if not self.shuffle:
            return self._middle[cases]
        generator = np.random.default_rng((self.seed, _POSITION, epoch))
        return self._first[cases] + generator.integers(self._count[cases])

    def _check_arrays(self) -> tuple[int, int, int]:
        for array, n_slices in self._n_slices.items():
            path = self.folder / array / "images.npy"
            if (held := len(self._open(path))) != n_slices:
                problem = f"has {held} slices, but {n_slices} are given."
                raise InputError(path, problem, "Give every slice of each case.")
        return super()._check_arrays()

    def _pictures(self, rows: np.ndarray) -> np.ndarray:
        return self._read(rows, "images.npy")

    def _read(self, rows: np.ndarray, name: str) -> np.ndarray:
        arrays = [self._open(self.folder / array / name) for array in self._arrays[rows]]
        return np.stack(
            [
                array[block_slices(start, self.depth, len(array))]
                for array, start in zip(arrays, self._indices[rows], strict=True)
            ]
        )


def possible_blocks(slices: pd.DataFrame, depth: int) -> pd.DataFrame:
    """Every block that covers the liver of its case, a row each, from feet to head.

    `slices` are classified (`class`). Columns: `array`, `array_index` of the first slice, `is_middle`,
    `n_slices` of the case. Raises InputError for a case that shows no liver, or lacks slices.
    """
    rows = []
    for array, of_case in slices.groupby(slices["array"].astype(str), sort=False):
        shows_liver = _in_order(of_case, array)["class"].to_numpy(dtype=int) > 0
        liver, n_slices = liver_range(shows_liver), len(shows_liver)
        if not liver:
            raise InputError(array, "shows no liver, so that no block can cover it.", "Leave this case out.")
        middle = choose_block(liver, n_slices, depth)
        starts = block_starts(liver, n_slices, depth)
        rows += [(array, start, start == middle, n_slices) for start in starts]
    return pd.DataFrame(rows, columns=["array", "array_index", "is_middle", "n_slices"])


def _in_order(of_case: pd.DataFrame, array: str) -> pd.DataFrame:
    """The slices of one case from feet to head; raises InputError unless all are there, once each."""
    of_case = of_case.sort_values("array_index")
    if of_case["array_index"].tolist() != list(range(len(of_case))):
        problem = "lacks slices in the table, or has some twice."
        raise InputError(array, problem, "Give every slice of each case.")
    return of_case


def _check_blocks(slices: pd.DataFrame, depth: int, blocks_per_epoch: int | None) -> None:
    if missing := sorted({"array", "array_index", "class"} - set(slices.columns)):
        problem = f"lack the columns {', '.join(missing)}."
        raise InputError("slices", problem, "Classify the masks again (notebook 02).")
    for name, number in (("depth", depth), ("blocks_per_epoch", blocks_per_epoch)):
        if number is not None and number < 1:
            raise InputError(name, f"is {number}.", "Give 1 or more.")
