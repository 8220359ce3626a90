"""Network -> probability planes, at the network's own picture size."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice

import keras
import numpy as np

from livseg_lib.evaluation.probabilities.probability_histogram import quantize

BATCH = 16

Passes = Callable[[np.ndarray], np.ndarray]
"""Pictures uint8 (b, H, W, C) -> bool (b,): which of them are worth a network's time."""


def predict_planes(network: keras.Model, pictures: Iterable[np.ndarray]) -> np.ndarray:
    """Probabilities of a stream of pictures, each uint8 (H, W, C).

    Returns uint8 (N, H, W, K), probability times 255 rounded: a quarter of the memory of float32 at
    a step of 0.004. What leaves 0 to 1 by rounding is brought back; raises InputError where it is NaN.
    """
    answers = predict_batches(network, pictures)
    parts = [quantize(np.clip(found, 0.0, 1.0)) for found in answers]
    height, width, channels = network.output_shape[1:]
    return np.concatenate(parts) if parts else np.zeros((0, height, width, channels), np.uint8)


def predict_passing_planes(
    network: keras.Model, pictures: Iterable[np.ndarray], passes: Passes
) -> np.ndarray:
    """As `predict_planes`, but pictures that do not pass never reach the network: their planes are 0."""
    passed: list[bool] = []

    def let_through() -> Iterator[np.ndarray]:
        for batch in _batches(pictures):
            answer = passes(batch)
            passed.extend(answer.tolist())
            yield from batch[answer]

    found = predict_planes(network, let_through())
    planes = np.zeros((len(passed), *found.shape[1:]), np.uint8)
    planes[np.array(passed, bool)] = found
    return planes


def predict_batches(network: keras.Model, pictures: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """What `network` answers to a stream of pictures, each uint8 (H, W, C): float32 (b, ...) a batch.

    Pictures go through in batches of one shape (the last one padded), so that the network is compiled once.
    """
    for batch in _batches(pictures):
        padded = np.zeros((BATCH, *batch.shape[1:]), np.float32)
        padded[: len(batch)] = batch / np.float32(255.0)
        yield np.asarray(network.predict_on_batch(padded))[: len(batch)]


def _batches(pictures: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    stream = iter(pictures)
    while batch := list(islice(stream, BATCH)):
        yield np.stack(batch)
