"""Two masks of random boxes, for properties that hold of any."""

from __future__ import annotations

import numpy as np


def random_pair(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    pair = np.zeros((2, 9, 10, 11), bool)
    for mask in pair:
        for corner in rng.integers(0, 8, (rng.integers(1, 4), 3)):
            mask[tuple(slice(a, a + n) for a, n in zip(corner, rng.integers(1, 6, 3), strict=True))] = True
    return pair
