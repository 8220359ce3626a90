"""Predicted labels on disk, on the grid of the scan that they belong to."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from livseg_lib.atomic import written_aside
from livseg_lib.volumes import Volume, load_segmentation, save_segmentation


def keep_prediction(labels: np.ndarray, volume: Volume, folder: Path, case_id: str) -> Path:
    """Write labels (D, H, W): NIfTI in the scan's own geometry; .npy for pictures, which have none."""
    folder.mkdir(parents=True, exist_ok=True)
    if volume.native is not None:
        return save_segmentation(labels, like=volume, path=folder / f"{case_id}.nii.gz")
    path = folder / f"{case_id}.npy"
    with written_aside(path) as partial:
        np.save(partial, labels, allow_pickle=False)
    return path


def load_prediction(volume: Volume, folder: Path, case_id: str) -> np.ndarray:
    """Labels uint8 (D, H, W) that `keep_prediction` wrote."""
    if volume.native is not None:
        return load_segmentation(folder / f"{case_id}.nii.gz", like=volume)
    return np.load(folder / f"{case_id}.npy", allow_pickle=False)
