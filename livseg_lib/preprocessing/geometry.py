"""Sizes and places: from the grid of a scan to square pictures of one size, and back; boxes around the liver.

Pixels are little areas, not points: sample i of n covers i/n to (i + 1)/n of the extent, so nothing moves
when the size changes. Larger becomes smaller by averaging the area, smaller larger by linear interpolation.
Label values are never averaged: each structure's own 0/1 mask is resized, and a pixel belongs to it where
it covers at least half.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import cv2
import numpy as np

from livseg_lib.datasets.case import Case
from livseg_lib.errors import InputError
from livseg_lib.labels import TUMOR, bounding_box, structure_mask
from livseg_lib.volumes import Volume

Shape = tuple[int, int, int]
Spacing = tuple[float, float, float]
Box = tuple[slice, slice, slice]
"""Part of a volume (D, H, W): `array[box]`."""

_HALF = 0.5 - 1e-6  # a tie belongs to the structure, whatever the last digit of the sum says


def working_grid(shape: Shape, spacing_mm: Spacing, voxel_size_mm: Spacing | None) -> tuple[Shape, Spacing]:
    """Shape and spacing (D, H, W) after resampling to `voxel_size_mm`; None leaves both as they are.

    The extent stays exact, so that the true spacing differs from the wish by up to half a voxel over the
    whole axis. Raises InputError where the spacing is unknown (NaN), as in a set of pictures.
    """
    if voxel_size_mm is None:
        return tuple(shape), tuple(spacing_mm)
    extent_mm = np.multiply(shape, spacing_mm)
    if not np.isfinite(extent_mm).all():
        raise InputError(
            "voxel_size_mm",
            "Pictures without a known spacing cannot be resampled to a voxel size.",
            "Set voxel_size_mm to None for this data.",
        )
    resampled = np.maximum(np.rint(extent_mm / voxel_size_mm), 1).astype(int)
    return tuple(resampled.tolist()), tuple((extent_mm / resampled).tolist())


def axis_weights(index: int, source: int, target: int) -> tuple[np.ndarray, np.ndarray]:
    """Which of `source` samples, with which weights (sum 1), make sample `index` of `target`."""
    if target < source:
        start, stop = index * source / target, (index + 1) * source / target
        indices = np.arange(int(start), min(int(np.ceil(stop)), source))
        weights = np.minimum(indices + 1, stop) - np.maximum(indices, start)
    else:
        position = np.clip((index + 0.5) * source / target - 0.5, 0, source - 1)
        indices = np.array([int(position), min(int(position) + 1, source - 1)])
        weights = np.array([1 - position % 1, position % 1])
    needed = weights > 1e-6
    return indices[needed], (weights[needed] / weights[needed].sum()).astype(np.float32)


def resize(picture: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Picture (H, W) in the size `shape`, of its type (uint8, int16, uint16, float32 or float64)."""
    if picture.shape == tuple(shape):
        return picture
    shrinks = shape[0] <= picture.shape[0] and shape[1] <= picture.shape[1]
    interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return cv2.resize(np.ascontiguousarray(picture), (shape[1], shape[0]), interpolation=interpolation)


def blend(stack: np.ndarray, index: int, count: int) -> np.ndarray:
    """Slice `index` of `stack` (D, H, W) as if resampled to `count` slices; float32 where slices mix."""
    indices, weights = axis_weights(index, len(stack), count)
    if len(indices) == 1:
        return np.asarray(stack[indices[0]])
    return sum(weight * stack[i].astype(np.float32) for i, weight in zip(indices, weights, strict=True))


def resample_slice(voxels: np.ndarray, shape: Shape, index: int) -> np.ndarray:
    """Slice `index` (H, W) int16 of the volume `voxels` resampled to `shape`; only this slice is computed."""
    resampled = resize(blend(voxels, index, shape[0]), shape[1:])
    return resampled if resampled.dtype == np.int16 else np.rint(resampled).astype(np.int16)


def _by_structure(labels: np.ndarray, resample: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    fitted = (resample(structure_mask(labels, "liver").astype(np.float32)) >= _HALF).astype(np.uint8)
    if (tumor := structure_mask(labels, "tumor")).any():
        fitted[resample(tumor.astype(np.float32)) >= _HALF] = TUMOR
    return fitted


def resample_label_slice(labels: np.ndarray, shape: Shape, index: int) -> np.ndarray:
    """Slice `index` (H, W) uint8 of the labels 0/1/2 (D, H, W) resampled to `shape`."""
    if labels.shape == tuple(shape):
        return labels[index]
    indices, weights = axis_weights(index, len(labels), shape[0])
    return _by_structure(labels[indices], lambda slab: resize(np.tensordot(weights, slab, 1), shape[1:]))


def _place_in_square(shape: tuple[int, int]) -> tuple[slice, slice]:
    """Where a picture of `shape` lies in the square around it: in the middle."""
    side = max(shape)
    top, left = (side - shape[0]) // 2, (side - shape[1]) // 2
    return slice(top, top + shape[0]), slice(left, left + shape[1])


def fit_picture(picture: np.ndarray, size: int) -> np.ndarray:
    """Picture (H, W) in a size x size square, same type; the shorter side is padded with 0 (black)."""
    square = np.zeros((max(picture.shape),) * 2, picture.dtype)
    square[_place_in_square(picture.shape)] = picture
    return resize(square, (size, size))


def fit_labels(labels: np.ndarray, size: int) -> np.ndarray:
    """Labels 0/1/2 (H, W) in a size x size square, uint8, placed as `fit_picture` places the picture."""
    if not labels.any():
        return np.zeros((size, size), np.uint8)
    return _by_structure(labels, lambda mask: fit_picture(mask, size))


def restore_plane(plane: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Inverse of `fit_picture`: the (H, W) = `shape` part of a (size, size) plane, in its type."""
    return resize(plane, (max(shape),) * 2)[_place_in_square(shape)]


def widened(box: Box, shape: Shape, spacing_mm: Spacing, margin_mm: float) -> Box:
    """`box` with at least `margin_mm` more on every side, as far as a volume of `shape` goes."""
    margins = np.ceil(np.divide(margin_mm, spacing_mm)).astype(int)
    return tuple(
        slice(max(0, side.start - margin), min(size, side.stop + margin))
        for side, margin, size in zip(box, margins.tolist(), shape, strict=True)
    )


def whole_scan(mask: np.ndarray, spacing_mm: Spacing, margin_mm: float = 0.0) -> Box:
    """All of it, whatever `mask` (D, H, W) shows."""
    return tuple(slice(0, side) for side in mask.shape)


def box_around(mask: np.ndarray, spacing_mm: Spacing, margin_mm: float) -> Box | None:
    """The smallest box that leaves `margin_mm` around `mask`, bool (D, H, W), cut at the scan's border.

    None where the mask is empty. Raises InputError for a stack of pictures, whose spacing is unknown (NaN).
    """
    if not np.isfinite(spacing_mm).all():
        problem = "are a stack of pictures without a known spacing, and margins are millimetres."
        raise InputError("pictures", problem, "Give whole scans, or take a system that sees single slices.")
    tight = bounding_box(mask)
    return tight and widened(tight, mask.shape, spacing_mm, margin_mm)


def slices_around(mask: np.ndarray, spacing_mm: Spacing, margin_mm: float) -> Box | None:
    """As `box_around` along D, but whole slices."""
    box = box_around(mask, spacing_mm, margin_mm)
    return box and (box[0], *whole_scan(mask, spacing_mm, margin_mm)[1:])


BOXES = {"scan": whole_scan, "slices": slices_around, "box": box_around}
"""By name: (mask of the liver, spacing_mm, margin_mm) -> where to look next."""


def crop_volume(volume: Volume, box: Box) -> Volume:
    """The voxels of the box, copied; without a grid to save on, as it is not a scan of its own."""
    return replace(volume, voxels=np.ascontiguousarray(volume.voxels[box]), native=None)


def case_around_liver(case: Case, kind: str, margin_mm: float) -> Case:
    """`case` as a scan of nothing but the box around its true liver, to learn from.

    `kind` is one of `BOXES`. Reading it raises InputError where the case has no liver. Its labels ask
    for the scan a second time, so that the two readers stay independent.
    """
    return replace(
        case,
        read_volume=partial(_read_region, case, kind, margin_mm, 0),
        read_labels=partial(_read_region, case, kind, margin_mm, 1),
        slice_numbers=None,
    )


def _read_region(case: Case, kind: str, margin_mm: float, part: int, _: Volume | None = None):
    """The scan (`part` 0) or the labels (1) of the box around the liver."""
    volume = case.read_volume()
    labels = case.read_labels(volume)
    box = BOXES[kind](structure_mask(labels, "liver"), volume.spacing_mm, margin_mm)
    if box is None:
        raise InputError(case.case_id, "shows no liver.", "Leave it out of what is learnt from.")
    return labels[box].copy() if part else crop_volume(volume, box)


def liver_range(shows_liver: np.ndarray) -> range:
    """From the first to the last slice that shows liver, of bool (D,); empty where none does."""
    found = np.flatnonzero(shows_liver)
    return range(int(found[0]), int(found[-1]) + 1) if len(found) else range(0)


def block_starts(liver: range, n_slices: int, depth: int) -> range:
    """First slices of the blocks of `depth` slices that show as much of the liver as a block can.

    A liver shorter than a block lies wholly in each of them; one that is longer fills each of them. Blocks
    lie within the `n_slices` of the volume; one of fewer slices has the one block from 0 (`block_slices`).
    """
    low, high = sorted((liver.start, liver.stop - depth))
    last = max(n_slices - depth, 0)
    return range(min(max(low, 0), last), min(max(high, 0), last) + 1)


def choose_block(liver: range, n_slices: int, depth: int) -> int:
    """The middle one of `block_starts`: liver and block have one centre, where the volume's ends allow."""
    starts = block_starts(liver, n_slices, depth)
    return starts[(len(starts) - 1) // 2]


def cover_blocks(n_slices: int, depth: int, overlap: int) -> list[int]:
    """First slices of blocks of `depth` slices that together cover a volume of `n_slices`, from feet to head.

    Neighbours share `overlap` slices (0 to depth - 1), the last two may share more. Raises InputError for
    another overlap.
    """
    if not 0 <= overlap < depth:
        problem = f"is {overlap} slices of blocks of {depth}."
        raise InputError("overlap", problem, f"Give 0 to {depth - 1}.")
    if n_slices <= depth:
        return [0] if n_slices else []
    return [*range(0, n_slices - depth, depth - overlap), n_slices - depth]
