"""A network of blocks and a scan -> probability planes: overlapping blocks, blended smoothly (system E)."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence

import keras
import numpy as np

from livseg_lib.evaluation.probabilities.probability_histogram import quantize
from livseg_lib.inference.planes import predict_planes
from livseg_lib.sampling.blocks import cover_blocks

Block = tuple[int, np.ndarray]
"""The number of its first slice, and (depth, ...), a slice each."""


def predict_blocks(
    network: keras.Model,
    pictures: Iterable[np.ndarray],
    n_slices: int,
    overlap: int | None = None,
    liver: range | None = None,
) -> np.ndarray:
    """Probabilities of a stream of `n_slices` pictures, each uint8 (H, W, C), from feet to head.

    Returns uint8 (n_slices, H, W, K) as `predict_planes` does. Blocks are as deep as the network's input;
    neighbours share `overlap` slices, a quarter of a block by default. With `liver`, a range of slices
    (`sampling.blocks`), only blocks that cover it are looked at, and what no block shows is 0. One block at
    a time is in memory, and the network is compiled once.
    """
    depth, height, width, _ = network.input_shape[1:]
    overlap = depth // 4 if overlap is None else overlap
    starts = cover_blocks(range(n_slices) if liver is None else liver, n_slices, depth, overlap)
    answers = (
        (start, np.asarray(network.predict_on_batch(block[np.newaxis] / np.float32(255.0)))[0])
        for start, block in stream_blocks(pictures, starts, n_slices, depth)
    )
    planes = np.zeros((n_slices, height, width, network.output_shape[-1]), np.uint8)
    for start, slices in blend_blocks(answers, depth):
        ours = planes[start : start + len(slices)]  # the copies that fill a short volume up fall away
        ours[:] = quantize(np.clip(slices[: len(ours)], 0.0, 1.0))
    return planes


def predict_stack(
    network: keras.Model, pictures: Iterable[np.ndarray], n_slices: int, overlap: int | None = None
) -> np.ndarray:
    """`predict_blocks` or `predict_planes`, whichever the network is for; `overlap` is for blocks."""
    if len(network.input_shape) == 5:
        return predict_blocks(network, pictures, n_slices, overlap)
    return predict_planes(network, pictures)


def stream_blocks(
    pictures: Iterable[np.ndarray], starts: Sequence[int], n_slices: int, depth: int
) -> Iterator[Block]:
    """Blocks of `depth` pictures from the slices `starts`; as in training, the last slice fills them up.

    Nothing beyond the last block is taken from the stream. Raises ValueError where it ends before.
    """
    last_slices = {min(start + depth, n_slices): start for start in starts}
    held: deque[np.ndarray] = deque(maxlen=depth)
    stream = iter(pictures)
    for number in range(1, max(last_slices, default=0) + 1):
        try:
            held.append(next(stream))
        except StopIteration:
            raise ValueError(f"the stream ended after {number - 1} of {n_slices} pictures") from None
        if number in last_slices:
            yield last_slices[number], np.stack([*held] + [held[-1]] * (depth - len(held)))


def blend_blocks(answers: Iterable[Block], depth: int) -> Iterator[Block]:
    """Overlapping answers float32 (depth, ...), in order of their starts -> stretches of slices, each once.

    A slice is the mean of what the blocks say of it, weighed by `blend_window`: weights sum to one
    everywhere. Stretches are float32 and come as soon as no later block can change them.
    """
    window, position, total = blend_window(depth), 0, None
    weight = np.zeros(depth, np.float32)
    for start, answer in answers:
        shaped = window.reshape(depth, *[1] * (answer.ndim - 1))
        if total is None:
            total = np.zeros_like(answer)
        elif start > position:
            yield position, _mean(total, weight, start - position)
            total, weight = (_moved_on(array, start - position) for array in (total, weight))
        position = start
        total += shaped * answer
        weight += window
    if total is not None:
        yield position, _mean(total, weight, depth)


def blend_window(depth: int) -> np.ndarray:
    """Weights float32 (depth,) of a block's slices: a raised cosine, highest in the middle, 0 nowhere.

    The outermost slices of a block lack neighbours on one side, so that the other block knows better.
    """
    return np.sin(np.pi * (np.arange(depth) + 0.5) / depth).astype(np.float32) ** 2


def _mean(total: np.ndarray, weight: np.ndarray, count: int) -> np.ndarray:
    return total[:count] / weight[:count].reshape(-1, *[1] * (total.ndim - 1))


def _moved_on(array: np.ndarray, count: int) -> np.ndarray:
    """`array` without its first `count` elements, as long as before: zeros follow."""
    return np.concatenate([array[count:], np.zeros_like(array[:count])])
