"""What the scores ask of two arrays, and the box outside which both are empty."""

from __future__ import annotations

import numpy as np

from livseg_lib.errors import InputError

Box = tuple[slice, ...]


def require_same_shape(prediction: np.ndarray, reference: np.ndarray) -> None:
    """Raise InputError unless both arrays have one shape."""
    if prediction.shape != reference.shape:
        raise InputError(
            "prediction",
            f"has shape {prediction.shape}, but the reference has {reference.shape}.",
            "Compare arrays of the same grid.",
        )


def require_masks(prediction: np.ndarray, reference: np.ndarray) -> None:
    """Raise InputError unless both are boolean arrays of one shape."""
    require_same_shape(prediction, reference)
    for name, array in (("prediction", prediction), ("reference", reference)):
        if array.dtype != bool:
            raise InputError(
                name, f"is {array.dtype}, not a boolean mask.", "Say which labels count, such as labels == 2."
            )


def require_label_volumes(prediction: np.ndarray, reference: np.ndarray) -> None:
    """Raise InputError unless both are integer arrays (D, H, W) of one shape."""
    require_same_shape(prediction, reference)
    for name, array in (("prediction", prediction), ("reference", reference)):
        if array.dtype.kind not in "iu":
            raise InputError(name, f"is {array.dtype}, not integer labels.", "Give labels 0, 1 and 2.")
        if array.ndim != 3:
            raise InputError(name, f"has {array.ndim} axes instead of 3.", "Give one volume (D, H, W).")


def foreground_box(*arrays: np.ndarray) -> Box:
    """Slices of the smallest box that holds every nonzero element of all `arrays` (of one shape).

    An empty box (all slices 0:0) where there is none.
    """
    box: list[slice] = []
    for axis in range(arrays[0].ndim):
        other_axes = tuple(a for a in range(arrays[0].ndim) if a != axis)
        occupied = np.flatnonzero(np.any([a[tuple(box)].any(axis=other_axes) for a in arrays], axis=0))
        if occupied.size == 0:
            return (slice(0, 0),) * arrays[0].ndim
        # Each axis is cropped before the next is searched: the later passes read little.
        box.append(slice(int(occupied[0]), int(occupied[-1]) + 1))
    return tuple(box)
