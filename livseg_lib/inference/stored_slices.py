"""Extracted slices read back: the pictures and truths of one case, mapped into memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np


def stored_pictures(folder: Path, case_id: str) -> np.ndarray:
    """Pictures of a case, uint8 (D, size, size, C), read from disk as they are used."""
    return np.load(folder / case_id / "images.npy", mmap_mode="r", allow_pickle=False)


def stored_labels(folder: Path, case_id: str) -> np.ndarray:
    """Their labels 0/1/2, uint8 (D, size, size)."""
    return np.load(folder / case_id / "masks.npy", mmap_mode="r", allow_pickle=False)
