"""Balls and boxes of known shape in livers of known HU, for the tests of several rooms."""

import numpy as np


def ball(shape, center_mm, radius_mm: float, spacing_mm) -> np.ndarray:
    """Boolean (D, H, W): voxel centres within `radius_mm` of `center_mm`, from the centre of voxel 0."""
    grid = np.ogrid[tuple(slice(size) for size in shape)]
    parts = ((g * mm - c) ** 2 for g, mm, c in zip(grid, spacing_mm, center_mm, strict=True))
    return sum(parts) <= radius_mm**2


def box(shape, start, stop) -> np.ndarray:
    """Boolean (D, H, W): from voxel `start` up to but without `stop`."""
    mask = np.zeros(shape, bool)
    mask[tuple(slice(a, b) for a, b in zip(start, stop, strict=True))] = True
    return mask


NOWHERE = np.s_[:0]


def labelled(shape, *tumors, liver=np.s_[:]) -> np.ndarray:
    """Labels 0/1/2, uint8, of a liver and tumours in it (indices or masks). All is liver by default."""
    labels = np.zeros(shape, np.uint8)
    labels[liver] = 1
    for tumor in tumors:
        labels[tumor] = 2
    return labels


def scan(liver: np.ndarray, tumor: np.ndarray, contrast_hu: float = 50, noise_hu: float = 0.0) -> np.ndarray:
    """int16 HU: air outside, liver at 100, tumours darker by `contrast_hu`."""
    hu = np.where(tumor, 100.0 - contrast_hu, np.where(liver, 100.0, -900.0))
    return (hu + np.random.default_rng(0).normal(0, noise_hu, liver.shape)).astype(np.int16)


def dice(found: np.ndarray, truth: np.ndarray) -> float:
    """Of two masks, not both empty."""
    return 2 * (found & truth).sum() / (found.sum() + truth.sum())
