"""What a network sees of a scan besides the picture itself: its neighbours, and the liver found before."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass

import numpy as np

from livseg_lib.errors import InputError


@dataclass(frozen=True)
class NetworkInput:
    """Which channels stand beside those of a slice's own picture. The default: none."""

    neighbours: int = 0
    """Slices on either side, feet first (system G): 2 gives 2.5D pictures of five slices."""
    sees_liver: bool = False
    """Whether the mask of the liver is the last channel (system I)."""
    block_overlap: int | None = None
    """Slices that neighbouring blocks share in prediction (system E); None is a quarter of a block."""

    def channels(self, of_picture: int) -> int:
        """How many there are in all, where a picture has `of_picture`."""
        return of_picture * (2 * self.neighbours + 1) + self.sees_liver

    def compose(
        self, pictures: Iterable[np.ndarray], liver: Iterable[np.ndarray] | None = None
    ) -> Iterator[np.ndarray]:
        """Pictures uint8 (s, s, C) from feet to head -> the network's, uint8 (s, s, channels).

        A stream: memory holds the neighbours alone. `liver` gives a mask, bool (s, s), for each picture.
        Raises InputError where the network sees the liver and none is given.
        """
        pictures = with_neighbours(pictures, self.neighbours)
        if not self.sees_liver:
            return iter(pictures)
        if liver is None:
            problem = "sees the liver as a channel, and no liver was found before."
            raise InputError("network", problem, "Use it as a later step of a cascade.")
        return map(with_liver, pictures, liver)

    def to_dict(self) -> dict:
        """JSON-ready."""
        return asdict(self)


OWN_PICTURE = NetworkInput()
"""A slice's own picture and nothing else."""


def with_neighbours(pictures: Iterable[np.ndarray], count: int) -> Iterator[np.ndarray]:
    """Each picture (s, s, C) joined with `count` on either side: (s, s, C * (2 * count + 1)).

    Beyond the first and the last picture these come again.
    """
    window: deque[np.ndarray] = deque(maxlen=2 * count + 1)
    for picture in pictures:
        window.extend([picture] * (1 if window else count + 1))
        if len(window) == 2 * count + 1:
            yield np.concatenate(window, axis=-1)
    missing = 2 * count + 1 - len(window)
    for _ in range(count if window else 0):
        window.append(window[-1])
        missing -= 1
        if missing <= 0:
            yield np.concatenate(window, axis=-1)


def with_liver(picture: np.ndarray, liver: np.ndarray) -> np.ndarray:
    """Picture(s) uint8 (..., C) with the mask, bool (...), as a last channel of 0 and 255."""
    return np.concatenate([picture, (liver * np.uint8(255))[..., np.newaxis]], axis=-1)
