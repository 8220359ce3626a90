"""Which axis of a stored array is which direction in the patient: stored (i, j, k) <-> LPS (D, H, W)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from nibabel.orientations import io_orientation

LPS_AXES = ((2, +1), (1, -1), (0, -1))
"""Of D, H and W: the world axis (0 right, 1 to the front, 2 to the head) and the direction along it."""


@dataclass(frozen=True)
class Orientation:
    """A permutation and flips of axes: one of 48. Both ways give views, never copies."""

    axes: tuple[int, int, int]
    """The stored axis that becomes D, H and W."""
    flipped: tuple[bool, bool, bool]
    """Whether D, H and W run against their stored axis."""

    @classmethod
    def of(cls, affine: np.ndarray) -> Orientation:
        """The axes closest to LPS under a 4x4 `affine` from stored indices to RAS+ mm."""
        world_axes, directions = io_orientation(affine).astype(int).T
        axes = tuple(int(np.flatnonzero(world_axes == world)[0]) for world, _ in LPS_AXES)
        flips = tuple(bool(directions[a] != d) for a, (_, d) in zip(axes, LPS_AXES, strict=True))
        return cls(axes, flips)

    @property
    def _steps(self) -> tuple[slice, ...]:
        return tuple(slice(None, None, -1 if flip else 1) for flip in self.flipped)

    def to_lps(self, stored: np.ndarray) -> np.ndarray:
        """View of a stored array (i, j, k) as (D, H, W)."""
        return stored.transpose(self.axes)[self._steps]

    def to_stored(self, volume: np.ndarray) -> np.ndarray:
        """View of (D, H, W) as the stored array (i, j, k): the inverse of `to_lps`."""
        return volume[self._steps].transpose(np.argsort(self.axes))

    def lps_affine(self, affine: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
        """4x4 from (D, H, W) indices to RAS+ mm, of a stored array of `shape` with `affine`."""
        to_stored_index = np.eye(4)
        to_stored_index[:3] = 0.0
        for lps_axis, (axis, flip) in enumerate(zip(self.axes, self.flipped, strict=True)):
            to_stored_index[axis, lps_axis] = -1.0 if flip else 1.0
            to_stored_index[axis, 3] = shape[axis] - 1 if flip else 0.0
        return affine @ to_stored_index
