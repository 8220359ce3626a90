"""What a label means: 0 background, 1 liver, 2 tumour (LiTS). A tumour is liver too."""

from __future__ import annotations

import numpy as np

from livseg_lib.errors import InputError

BACKGROUND, LIVER, TUMOR = 0, 1, 2
STRUCTURES = ("liver", "tumor")
STRUCTURE_LABELS = {"liver": LIVER, "tumor": TUMOR}
TARGETS = {"liver": ("liver",), "tumor": ("tumor",), "both": ("liver", "tumor")}
"""What a network is asked to outline, and the structures that it answers for."""

MODALITIES = ("ct", "mr")
"""What made the scans: HU mean something, or intensities are only told from each other."""

SLICE_CLASSES = {0: "empty", 1: "liver only", 2: "liver and tumour"}
"""System C's diagnosis of a slice."""


def structure_mask(labels: np.ndarray, structure: str) -> np.ndarray:
    """Boolean mask, same shape, of `structure` ("liver": label >= 1, "tumor": label == 2)."""
    if structure == "liver":
        return labels >= LIVER
    if structure == "tumor":
        return labels == TUMOR
    raise ValueError(f"structure must be one of {STRUCTURES}, not {structure!r}")


def require_modality(modality: str) -> str:
    """`modality` itself. Raises InputError unless it is one of MODALITIES."""
    if modality not in MODALITIES:
        raise InputError("modality", f"is {modality!r}.", f"Choose one of {', '.join(MODALITIES)}.")
    return modality


def slice_class(labels: np.ndarray) -> int:
    """0 empty, 1 liver only, 2 liver and tumour, for the label array of one slice (system C)."""
    if (labels == TUMOR).any():
        return 2
    return int((labels == LIVER).any())
