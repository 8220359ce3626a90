"""Two masks of random boxes, for properties that hold of any."""

from __future__ import annotations

import numpy as np


def random_pair(seed: int, *, overlapping: bool = False) -> np.ndarray:
    """Two masks, bool (2, 12, 13, 14), of some boxes each; `overlapping` ones share a box at least."""
    rng = np.random.default_rng(seed)
    pair = np.zeros((2, 12, 13, 14), bool)
    pair[:, 4:6, 4:7, 4:8] = overlapping
    for mask in pair:
        for corner in rng.integers(0, 9, (rng.integers(1, 4), 3)):
            mask[tuple(slice(a, a + n) for a, n in zip(corner, rng.integers(1, 6, 3), strict=True))] = True
    return pair
