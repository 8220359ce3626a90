"""What a network would be shown of a scan: a few of its inputs, to compare two ways of computing on."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from livseg_lib.errors import InputError
from livseg_lib.inference.blocks import stream_blocks
from livseg_lib.postprocessing.superpixel_candidates import candidate_patches, find_candidates
from livseg_lib.preprocessing import prepare_labels, prepare_slices
from livseg_lib.preprocessing.geometry import working_grid
from livseg_lib.preprocessing.patches import with_masks
from livseg_lib.sampling.blocks import cover_blocks
from livseg_lib.training.classifier_folder import TrainedClassifier
from livseg_lib.training.model_folder import TrainedModel
from livseg_lib.training.sorter_folder import TrainedSorter
from livseg_lib.volumes import Volume

Trained = TrainedModel | TrainedSorter | TrainedClassifier


def sample_inputs(trained: Trained, volume: Volume, most: int = 16) -> np.ndarray:
    """Up to `most` inputs of `trained.network`, float32 in [0, 1] (n, *its input), spread over the scan.

    They are made by the model's own recipe. A network that wants the liver is given a box in the middle of
    the scan as one: what it answers is then no finding, but the arithmetic is that of real slices. Raises
    InputError where the scan gives none.
    """
    if isinstance(trained, TrainedClassifier):
        pictures = list(_patches(trained, volume, most))
    elif isinstance(trained, TrainedModel) and len(trained.network.input_shape) == 5:
        pictures = list(_blocks(trained, volume, most))
    else:
        pictures = list(_slices(trained, volume, most))
    if not pictures:
        raise InputError("scan", "shows this network nothing.", "Give a whole abdominal scan.")
    return np.stack(pictures).astype(np.float32) / np.float32(255.0)


def _slices(trained: TrainedModel | TrainedSorter, volume: Volume, most: int) -> Iterator[np.ndarray]:
    pictures = prepare_slices(volume, trained.recipe)
    if isinstance(trained, TrainedModel):
        liver = prepare_labels(_middle_box(volume).view(np.uint8), volume.spacing_mm, trained.recipe) > 0
        pictures = trained.inputs.compose(pictures, liver)
    chosen = set(_spread(_depth(trained, volume), most))
    return (picture for index, picture in enumerate(pictures) if index in chosen)


def _blocks(trained: TrainedModel, volume: Volume, most: int) -> Iterator[np.ndarray]:
    n_slices, block_slices = _depth(trained, volume), trained.network.input_shape[1]
    starts = cover_blocks(range(n_slices), n_slices, block_slices, overlap=0)
    starts = [starts[index] for index in _spread(len(starts), max(1, most // block_slices))]
    pictures = trained.inputs.compose(prepare_slices(volume, trained.recipe))
    return (block for _, block in stream_blocks(pictures, starts, n_slices, block_slices))


def _patches(trained: TrainedClassifier, volume: Volume, most: int) -> Iterator[np.ndarray]:
    liver = _middle_box(volume)
    candidates = find_candidates(volume, liver, trained.candidates)
    rows = _spread(len(candidates.table), most)
    patches = candidate_patches(volume, liver, candidates, rows, trained.patch)
    return (with_masks(greys, labels) for greys, labels in patches)


def _middle_box(volume: Volume) -> np.ndarray:
    """The middle third along each axis, bool (D, H, W)."""
    mask = np.zeros(volume.voxels.shape, bool)
    mask[tuple(slice(side // 3, max(side // 3 + 1, 2 * side // 3)) for side in mask.shape)] = True
    return mask


def _depth(trained: TrainedModel | TrainedSorter, volume: Volume) -> int:
    (depth, *_), _ = working_grid(volume.voxels.shape, volume.spacing_mm, trained.recipe.voxel_size_mm)
    return depth


def _spread(count: int, most: int) -> list[int]:
    """Up to `most` of the numbers 0 .. count - 1, evenly."""
    return sorted(set(np.linspace(0, count - 1, min(count, most)).astype(int).tolist())) if count else []
