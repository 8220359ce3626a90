"""LiTS as slices: train_images/volume-N_slice_K.jpg with train_masks/volume-N_slice_K_mask.jpg (or PNG)."""

from __future__ import annotations

from collections import defaultdict
from functools import partial
from pathlib import Path

import numpy as np

from livseg_lib.datasets.case import Case, Dataset, Note
from livseg_lib.datasets.files import numbered_files
from livseg_lib.datasets.mask_levels import MaskLevels, decide_levels
from livseg_lib.datasets.pictures import read_grey, read_picture
from livseg_lib.errors import InputError
from livseg_lib.volumes import Volume

LOOKS_FOR = "volume-N_slice_K.jpg or .png, with volume-N_slice_K_mask.jpg or .png"
PICTURE = r"volume-(\d+)_slice_(\d+)\.(?:jpe?g|png)"
MASK = r"volume-(\d+)_slice_(\d+)_mask\.(?:jpe?g|png)"

Slices = dict[int, Path]
"""Pictures of one volume by slice number."""


def recognises(folder: Path) -> bool:
    """Whether any picture below `folder` is named like a slice of a volume."""
    return bool(numbered_files(folder, PICTURE))


def find(folder: Path) -> Dataset:
    """One case a volume number. A slice without mask is left out of its case and listed in `unmasked`.

    A volume none of whose slices has a mask is an unlabelled case with all of its slices.
    """
    pictures, masks = _by_volume(folder, PICTURE), _by_volume(folder, MASK)
    unpaired = [path for n in masks for k, path in masks[n].items() if k not in pictures.get(n, {})]
    levels = decide_levels([path for n in masks if n in pictures for path in masks[n].values()])
    cases = [_case(number, pictures[number], masks.get(number, {}), levels) for number in pictures]
    notes = tuple(Note(folder, "mask-levels", decision) for decision in levels.decisions)
    return Dataset("kaggle", folder, tuple(cases), tuple(unpaired), notes)


def _by_volume(folder: Path, pattern: str) -> dict[int, Slices]:
    volumes: dict[int, Slices] = defaultdict(dict)
    for (volume, slice_number), path in numbered_files(folder, pattern).items():
        volumes[volume][slice_number] = path
    return dict(volumes)


def _case(number: int, pictures: Slices, masks: Slices, levels: MaskLevels) -> Case:
    numbers = tuple(k for k in pictures if k in masks) or tuple(pictures)
    picture_files = tuple(pictures[k] for k in numbers)
    mask_files = tuple(masks[k] for k in numbers if k in masks)
    return Case(
        case_id=f"volume-{number}",
        patient=str(number),
        files=picture_files + mask_files,
        read_volume=partial(_read_volume, picture_files),
        read_labels=partial(_read_labels, mask_files, levels) if mask_files else None,
        slice_numbers=numbers,
        unmasked=tuple(path for k, path in pictures.items() if k not in numbers),
    )


def _read_volume(files: tuple[Path, ...]) -> Volume:
    """Grey levels 0-255, not HU, as int16 (D, H, W); nothing is known of the spacing."""
    slices = [read_grey(path) for path in files]
    for path, picture in zip(files, slices, strict=True):
        _require_shape(path, picture, slices[0].shape, f"the first slice of its volume, {files[0].name},")
    return Volume(np.stack(slices).astype(np.int16), spacing_mm=(np.nan, np.nan, np.nan))


def _read_labels(files: tuple[Path, ...], levels: MaskLevels, volume: Volume) -> np.ndarray:
    labels = np.empty(volume.voxels.shape, np.uint8)
    for index, path in enumerate(files):
        picture = read_picture(path, sixteen_bit=True)
        _require_shape(path, picture.grey, labels.shape[1:], "its slice")
        labels[index] = levels.decode(path, picture)
    return labels


def _require_shape(path: Path, picture: np.ndarray, shape: tuple[int, ...], other: str) -> None:
    if picture.shape != shape:
        height, width = picture.shape
        problem = f"The picture is {height} x {width} where {other} is {shape[0]} x {shape[1]}."
        raise InputError(path, problem, "Export the slices of a volume in one size.", code="shape-mismatch")
