"""A trained model and a scan -> labels on the scan's own grid."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from livseg_lib.inference.blocks import predict_stack
from livseg_lib.inference.planes import Passes, predict_passing_planes
from livseg_lib.labels import STRUCTURE_LABELS
from livseg_lib.preprocessing import Recipe, prepare_labels, prepare_slices, restore_masks
from livseg_lib.preprocessing.geometry import working_grid
from livseg_lib.training.model_folder import TrainedModel
from livseg_lib.volumes import Volume


def predict_volume(
    trained: TrainedModel, volume: Volume, passes: Passes | None = None, liver: np.ndarray | None = None
) -> np.ndarray:
    """Labels 0/1/2, uint8 (D, H, W), on the grid of `volume`. Pictures stream through, none is kept.

    `passes` spares the network the pictures that it holds back (`predict_passing_planes`); they are
    background then. `inference.sorting.SorterGate` is one. `liver`, bool (D, H, W), is for a network that
    sees it; such a one without raises InputError.
    A network of blocks sees overlapping ones; it has no `passes`.
    """
    planes = volume_planes(trained, volume, passes, liver)
    return labels_from_planes(planes, volume, trained.recipe, trained.thresholds)


def volume_planes(
    trained: TrainedModel, volume: Volume, passes: Passes | None = None, liver: np.ndarray | None = None
) -> np.ndarray:
    """The probabilities that `predict_volume` thresholds, at picture size: uint8 (D', size, size, K)."""
    pictures = trained.inputs.compose(
        prepare_slices(volume, trained.recipe), _liver_pictures(trained, volume, liver)
    )
    if passes is not None:
        return predict_passing_planes(trained.network, pictures, passes)
    (count, *_), _ = working_grid(volume.voxels.shape, volume.spacing_mm, trained.recipe.voxel_size_mm)
    return predict_stack(trained.network, pictures, count, trained.inputs.block_overlap)


def _liver_pictures(trained: TrainedModel, volume: Volume, liver: np.ndarray | None) -> np.ndarray | None:
    """The liver as it lies in the network's pictures, bool (D', size, size)."""
    if liver is None or not trained.inputs.sees_liver:
        return None
    return prepare_labels(liver.view(np.uint8), volume.spacing_mm, trained.recipe) > 0


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
        labels[mask] = STRUCTURE_LABELS[structure]
    return labels
