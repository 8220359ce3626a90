"""Occlusion: what does the answer lose when a patch of the picture is covered?

Zeiler and Fergus 2014 (arXiv:1311.2901). Unlike a gradient it really changes the picture, and shows the
network one that no scanner makes: what it answers there need not be what it answers on patients.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, product

import keras
import numpy as np

from livseg_lib.errors import InputError
from livseg_lib.inference.planes import predict_batches

Box = tuple[slice, ...]


def occlusion_drops(
    network: keras.Model,
    picture: np.ndarray,
    region: np.ndarray,
    patch: Sequence[int],
    stride: Sequence[int],
    channel: int = 0,
    fill: np.ndarray | None = None,
) -> np.ndarray:
    """How far the mean probability in `region` falls when a place is covered: float32 (H, W), or (D, H, W).

    picture: uint8 (H, W, C), or a block (D, H, W, C). region: bool without the channels.
    patch, stride: pixels along each axis; `pixels_of` makes them from millimetres.
    fill: grey of the patch, (C,) on the scale 0 to 255; None is the picture's mean.

    A pixel has the mean over the patches that cover it, -1 to 1; below 0 the answer grows without it. NaN
    where the region is empty. The network is asked once a patch, in batches. Raises InputError where
    patches leave gaps.
    """
    if any(step > side for step, side in zip(stride, patch, strict=True)):
        problem = f"of {stride} pixels leave gaps between patches of {patch}."
        raise InputError("strides", problem, "Choose strides no larger than the patch.")
    if not region.any():
        return np.full(region.shape, np.nan, np.float32)
    fill = picture.mean(axis=tuple(range(region.ndim))) if fill is None else fill
    boxes = patch_boxes(region.shape, patch, stride)
    shown = chain([picture], (covered(picture, box, fill) for box in boxes))
    answers = chain.from_iterable(predict_batches(network, shown))
    means = (float(answer[region, channel].mean()) for answer in answers)
    whole = next(means)
    total, count = np.zeros(region.shape), np.zeros(region.shape)
    for box, mean in zip(boxes, means, strict=True):
        total[box] += whole - mean
        count[box] += 1
    return (total / count).astype(np.float32)


def patch_boxes(shape: Sequence[int], patch: Sequence[int], stride: Sequence[int]) -> list[Box]:
    """Boxes of `patch` pixels, a step of `stride` apart, that cover all of `shape`; cut at its end."""
    sides = [
        [slice(start, min(start + size, side)) for start in range(0, max(1, side - size + step), step)]
        for side, size, step in zip(shape, patch, stride, strict=True)
    ]
    return list(product(*sides))


def covered(picture: np.ndarray, box: Box, fill: np.ndarray) -> np.ndarray:
    """A copy of `picture` with `fill` in the box."""
    changed = picture.copy()
    changed[box] = np.rint(fill)
    return changed


def pixels_of(size_mm: float, pixel_mm: Sequence[float]) -> tuple[int, ...]:
    """The whole pixels nearest to `size_mm` along each axis, at least one.

    Raises InputError where a pixel's size is unknown (NaN).
    """
    if not np.isfinite(pixel_mm).all():
        problem = "has no known size, and patches are millimetres."
        raise InputError("picture", problem, "Give the patch in pixels.")
    return tuple(max(1, round(size_mm / step)) for step in pixel_mm)
