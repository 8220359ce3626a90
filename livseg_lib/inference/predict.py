"""A trained model and a scan -> probabilities at the network's picture size -> labels on the scan's own grid.

Networks see slices one by one, or overlapping blocks, which are blended smoothly (system E).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from livseg_lib.evaluation.probabilities import ProbabilityHistogram, choose_threshold, quantize
from livseg_lib.labels import STRUCTURE_LABELS, structure_mask
from livseg_lib.preprocessing.geometry import cover_blocks, working_grid
from livseg_lib.preprocessing.recipe import (
    OWN_PICTURE,
    NetworkInput,
    Recipe,
    prepare_labels,
    prepare_slices,
    restore_masks,
)
from livseg_lib.training.model_folder import TrainedModel
from livseg_lib.training.onnx_network import OnnxNetwork
from livseg_lib.volumes import Volume

if TYPE_CHECKING:  # only named in signatures
    import keras

BATCH = 16

Passes = Callable[[np.ndarray], np.ndarray]
"""Pictures uint8 (b, H, W, C) -> bool (b,): which of them are worth a network's time."""


def predict_planes(
    network: keras.Model, pictures: Iterable[np.ndarray], passes: Passes | None = None
) -> np.ndarray:
    """Probabilities of a stream of pictures, each uint8 (H, W, C).

    Returns uint8 (N, H, W, K), probability times 255 rounded: a quarter of the memory of float32 at
    a step of 0.004. A linear output is cut at 0 and 1. Pictures that do not pass never reach the network:
    their planes are 0. Raises InputError for NaN.
    """
    passed: list[bool] = []

    def let_through() -> Iterator[np.ndarray]:
        for batch in _batches(pictures):
            answer = passes(batch)
            passed.extend(answer.tolist())
            yield from batch[answer]

    batches = predict_batches(network, pictures if passes is None else let_through())
    nothing = np.zeros((0, *network.output_shape[1:]), np.uint8)
    found = np.concatenate([nothing, *(quantize(np.clip(each, 0.0, 1.0)) for each in batches)])
    if passes is None:
        return found
    planes = np.zeros((len(passed), *found.shape[1:]), np.uint8)
    planes[np.array(passed, bool)] = found
    return planes


def predict_batches(network: keras.Model, pictures: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """What `network` answers to a stream of pictures, each uint8 (H, W, C): float32 (b, ...) a batch.

    Pictures go through in batches of one shape (the last one padded), so that Keras compiles the network
    once; ONNX Runtime compiles nothing, and takes them as they come.
    """
    for batch in _batches(pictures):
        count = len(batch) if isinstance(network, OnnxNetwork) else BATCH
        padded = np.zeros((count, *batch.shape[1:]), np.float32)
        padded[: len(batch)] = batch / np.float32(255.0)
        yield np.asarray(network.predict_on_batch(padded))[: len(batch)]


def _batches(pictures: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    stream = iter(pictures)
    while batch := list(islice(stream, BATCH)):
        yield np.stack(batch)


Block = tuple[int, np.ndarray]  # the number of its first slice, and (depth, ...), a slice each


def predict_blocks(
    network: keras.Model, pictures: Iterable[np.ndarray], n_slices: int, overlap: int | None = None
) -> np.ndarray:
    """Probabilities of a stream of `n_slices` pictures, each uint8 (H, W, C), from feet to head.

    Returns uint8 (n_slices, H, W, K) as `predict_planes` does. Blocks are as deep as the network's input;
    neighbours share `overlap` slices, a quarter of a block by default. One block at a time is in memory, and
    the network is compiled once.
    """
    depth, height, width, _ = network.input_shape[1:]
    overlap = depth // 4 if overlap is None else overlap
    starts = cover_blocks(n_slices, depth, overlap)
    predictions = (
        (start, np.asarray(network.predict_on_batch(block[np.newaxis] / np.float32(255.0)))[0])
        for start, block in stream_blocks(pictures, starts, n_slices, depth)
    )
    planes = np.zeros((n_slices, height, width, network.output_shape[-1]), np.uint8)
    for start, slices in blend_blocks(predictions, depth):
        target = planes[start : start + len(slices)]  # without the copies that fill up a short volume
        target[:] = quantize(np.clip(slices[: len(target)], 0.0, 1.0))
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
    Nothing beyond the last block is taken from the stream. Raises ValueError where it ends before."""
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
    position, total = 0, None
    for start, answer in answers:
        if total is None:
            window = blend_window(depth).reshape(depth, *[1] * (answer.ndim - 1))
            total, weight = np.zeros_like(answer), np.zeros_like(window)
        elif start > position:
            done = start - position
            yield position, total[:done] / weight[:done]
            held = ((array[done:], np.zeros_like(array[:done])) for array in (total, weight))
            total, weight = map(np.concatenate, held)
        position = start
        total += window * answer
        weight += window
    if total is not None:
        yield position, total / weight


def blend_window(depth: int) -> np.ndarray:
    """Weights float32 (depth,) of a block's slices: a raised cosine, highest in the middle, 0 nowhere. The
    outermost slices of a block lack neighbours on one side, so that the other block knows better."""
    return np.sin(np.pi * (np.arange(depth) + 0.5) / depth).astype(np.float32) ** 2


def predict_volume(
    trained: TrainedModel, volume: Volume, passes: Passes | None = None, liver: np.ndarray | None = None
) -> np.ndarray:
    """Labels 0/1/2, uint8 (D, H, W), on the grid of `volume`. Pictures stream through, none is kept.

    `passes` spares the network the pictures that it holds back (`predict_planes`); they are
    background then. `inference.sorting.SorterGate` is one. `liver`, bool (D, H, W), is for a network that
    sees it; such a network without it raises InputError.
    A network of blocks sees overlapping ones; it has no `passes`.
    """
    planes = volume_planes(trained, volume, passes, liver)
    return labels_from_planes(planes, volume, trained.recipe, trained.thresholds)


def volume_planes(
    trained: TrainedModel, volume: Volume, passes: Passes | None = None, liver: np.ndarray | None = None
) -> np.ndarray:
    """The probabilities that `predict_volume` thresholds, at picture size: uint8 (D', size, size, K)."""
    liver_pictures = None
    if liver is not None and trained.inputs.sees_liver:
        liver_pictures = prepare_labels(liver.view(np.uint8), volume.spacing_mm, trained.recipe) > 0
    pictures = trained.inputs.compose(prepare_slices(volume, trained.recipe), liver_pictures)
    if passes is not None:
        return predict_planes(trained.network, pictures, passes)
    (count, *_), _ = working_grid(volume.voxels.shape, volume.spacing_mm, trained.recipe.voxel_size_mm)
    return predict_stack(trained.network, pictures, count, trained.inputs.block_overlap)


def labels_from_planes(
    planes: np.ndarray, volume: Volume, recipe: Recipe, thresholds: Mapping[str, float]
) -> np.ndarray:
    """Planes uint8 (D', size, size, K) -> labels uint8 (D, H, W) on the grid of `volume`.

    `thresholds` names the K structures in channel order, liver before tumour. The liver map covers its
    tumours too (it was trained so); where there is one, a tumour counts only inside it.
    Planes are enlarged linearly and thresholded slice by slice: memory holds one slice of probabilities.
    """
    shape = volume.voxels.shape
    labels = np.zeros(shape, np.uint8)
    for channel, (structure, threshold) in enumerate(thresholds.items()):
        mask = restore_masks(planes[..., channel], shape, volume.spacing_mm, recipe, threshold)
        if channel:
            mask &= labels > 0
        np.copyto(labels, STRUCTURE_LABELS[structure], where=mask)
    return labels


def stored_pictures(folder: Path, case_id: str) -> np.ndarray:
    """Pictures of a case, uint8 (D, size, size, C), read from disk as they are used."""
    return np.load(folder / case_id / "images.npy", mmap_mode="r", allow_pickle=False)


def stored_labels(folder: Path, case_id: str) -> np.ndarray:
    """Their labels 0/1/2, uint8 (D, size, size)."""
    return np.load(folder / case_id / "masks.npy", mmap_mode="r", allow_pickle=False)


def choose_thresholds(
    network: keras.Model,
    structures: tuple[str, ...],
    case_ids: Iterable[str],
    folder: Path,
    inputs: NetworkInput = OWN_PICTURE,
) -> dict[str, float]:
    """For each structure the threshold with the best mean Dice over the validation cases `case_ids`.

    Counted on all slices of a case at picture size. A network that sees the liver is shown the true one.
    Never call it with test patients.
    """
    histograms: dict[str, list[ProbabilityHistogram]] = {structure: [] for structure in structures}
    for case_id in case_ids:
        labels = stored_labels(folder, case_id)
        pictures = inputs.compose(stored_pictures(folder, case_id), structure_mask(labels, "liver"))
        planes = predict_stack(network, pictures, len(labels), inputs.block_overlap)
        for channel, structure in enumerate(structures):
            histogram = ProbabilityHistogram()
            histogram.add(planes[..., channel], structure_mask(labels, structure))
            histograms[structure].append(histogram)
    return {structure: choose_threshold(found) for structure, found in histograms.items()}
