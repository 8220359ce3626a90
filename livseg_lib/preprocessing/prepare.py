"""The recipe carried out: volume -> pictures for a network, and its answers -> mask on the volume's grid."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from livseg_lib.errors import InputError
from livseg_lib.preprocessing.cleaning import equalize, filter_noise
from livseg_lib.preprocessing.geometry import (
    Shape,
    Spacing,
    blend,
    fit_labels,
    fit_picture,
    resample_label_slice,
    resample_slice,
    resize,
    restore_plane,
    working_grid,
)
from livseg_lib.preprocessing.recipe import Recipe
from livseg_lib.preprocessing.windows import WINDOWS, Window, apply_window, window_bounds
from livseg_lib.provenance import code_of
from livseg_lib.volumes import Volume


def channel_windows(voxels: np.ndarray, recipe: Recipe) -> tuple[Window, ...]:
    """The recipe's windows for this volume, one a channel; adaptive ones are measured on all its voxels."""
    if not recipe.windows:
        raise InputError("windows", "The list is empty.", "Name at least one window.")
    return tuple(Window.between(*window_bounds(window, voxels)) for window in recipe.windows)


def prepare_slice(hu: np.ndarray, windows: Sequence[Window], recipe: Recipe) -> np.ndarray:
    """One slice (H, W) int16 HU -> picture (size, size, C) uint8."""
    filtered = filter_noise(hu, recipe.noise_filter)
    # Equalized before padding: the padding would count as tissue in the histogram.
    pictures = (equalize(apply_window(filtered, window), recipe.equalization) for window in windows)
    return np.stack([fit_picture(picture, recipe.size) for picture in pictures], axis=-1)


def prepare_slices(volume: Volume, recipe: Recipe) -> Iterator[np.ndarray]:
    """Pictures (size, size, C) uint8 from feet to head, one at a time: memory holds one slice.

    There are as many as the volume has slices, or as `working_grid` says where the recipe resamples.
    """
    shape, _ = working_grid(volume.voxels.shape, volume.spacing_mm, recipe.voxel_size_mm)
    windows = channel_windows(volume.voxels, recipe)
    for index in range(shape[0]):
        yield prepare_slice(resample_slice(volume.voxels, shape, index), windows, recipe)


def picture_code() -> str:
    """Digest of the code that makes pictures of volumes. Windows do not count: recipes hold their own."""
    return code_of(prepare_slices, apart=[WINDOWS])


def prepare_volume(volume: Volume, recipe: Recipe) -> np.ndarray:
    """All pictures of a volume, uint8 (D, size, size, C)."""
    return np.stack(list(prepare_slices(volume, recipe)))


def prepare_labels(labels: np.ndarray, spacing_mm: Spacing, recipe: Recipe) -> np.ndarray:
    """Labels 0/1/2 (D, H, W) as the truth for those pictures, uint8 (D, size, size)."""
    shape, _ = working_grid(labels.shape, spacing_mm, recipe.voxel_size_mm)
    slices = (resample_label_slice(labels, shape, index) for index in range(shape[0]))
    return np.stack([fit_labels(plane, recipe.size) for plane in slices])


def restore_planes(
    planes: np.ndarray, shape: Shape, spacing_mm: Spacing, recipe: Recipe
) -> Iterator[np.ndarray]:
    """Inverse of `prepare_slices` for what a network answers, one slice of the volume at a time.

    planes: (D', size, size), one for each picture; uint8 0..255 or float32 0..1.
    shape, spacing_mm: of the volume, (D, H, W). Yields D arrays (H, W) on the scale of `planes`,
    linearly interpolated.
    """
    (depth, height, width), _ = working_grid(shape, spacing_mm, recipe.voxel_size_mm)
    if planes.shape != (depth, recipe.size, recipe.size):
        raise ValueError(f"planes are {planes.shape}, the recipe makes {(depth, recipe.size, recipe.size)}")
    for index in range(shape[0]):
        plane = restore_plane(blend(planes, index, shape[0]), (height, width))
        yield resize(plane, shape[1:])


def restore_masks(
    planes: np.ndarray, shape: Shape, spacing_mm: Spacing, recipe: Recipe, threshold: float = 0.5
) -> np.ndarray:
    """Mask bool (D, H, W) on the volume's own grid, where the restored planes reach `threshold` (0..1).

    Takes what `restore_planes` takes. Each slice is thresholded at once: full-size probabilities of a
    whole volume never exist.
    """
    scale = 255 if planes.dtype == np.uint8 else 1
    mask = np.empty(shape, bool)
    for index, plane in enumerate(restore_planes(planes, shape, spacing_mm, recipe)):
        np.greater_equal(plane, threshold * scale, out=mask[index])
    return mask
