"""Labels as the maps that a network is trained to give."""

from __future__ import annotations

import numpy as np

from livseg_lib.errors import InputError
from livseg_lib.labels import STRUCTURE_LABELS, TARGETS, structure_mask


def encode_target(labels: np.ndarray, target: str) -> np.ndarray:
    """Labels 0/1/2, any shape (...), as float32 0/1 maps (..., K), one a structure of `TARGETS[target]`.

    K is 1 for "liver" and "tumor" and 2 for "both": liver (label >= 1), then tumour (label == 2), which
    overlap as a tumour is liver too. Raises InputError for an unknown target.
    """
    if target not in TARGETS:
        raise InputError("target", f"is {target!r}.", f"Choose one of {', '.join(TARGETS)}.")
    return np.stack([structure_mask(labels, name) for name in TARGETS[target]], axis=-1).astype(np.float32)


def decode_target(maps: np.ndarray, target: str) -> np.ndarray:
    """Inverse of `encode_target`: maps (..., K) from 0.5 up -> labels 0/1/2, uint8 (...)."""
    labels = np.zeros(maps.shape[:-1], np.uint8)
    for channel, structure in enumerate(TARGETS[target]):
        labels[maps[..., channel] >= 0.5] = STRUCTURE_LABELS[structure]
    return labels
