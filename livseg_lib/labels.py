"""What a label means: 0 background, 1 liver, 2 tumour (a tumour is liver too), and what a slice shows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from livseg_lib.errors import InputError

if TYPE_CHECKING:  # only named in signatures: help must not wait for it
    from pathlib import Path

    import pandas as pd

BACKGROUND, LIVER, TUMOR = 0, 1, 2
STRUCTURES = ("liver", "tumor")
STRUCTURE_LABELS = {"liver": LIVER, "tumor": TUMOR}
TARGETS = {"liver": ("liver",), "tumor": ("tumor",), "both": ("liver", "tumor")}
"""What a network is asked to outline, and the structures that it answers for."""
MODALITIES = ("ct", "mr")
"""What made the scans: HU mean something, or intensities only differ from each other."""
REGIONS = ("below_liver", "liver", "liver_with_tumor", "above_liver")
"""What a slice shows, from feet to head; below the liver lie lower abdomen and pelvis, above it the chest."""
LIVER_REGIONS = ("liver", "liver_with_tumor")  # those that a segmentation of the liver cannot do without
KINDS = ("liver", "tumor")
"""What the object in the middle of a patch is; the outputs of the classifier, in order."""
SLICE_CLASSES = {0: "empty", 1: "liver only", 2: "liver and tumour"}  # system C's diagnosis of a slice


MOSTLY_TUMOR = "more is tumour (2) than other liver (1): are both exchanged, or is the liver missing?"
"""What is to be said where that is so: no liver that is treated has so much."""


def structure_mask(labels: np.ndarray, structure: str) -> np.ndarray:
    """Boolean mask, same shape, of `structure` ("liver": label >= 1, "tumor": label == 2)."""
    if structure == "liver":
        return labels >= LIVER
    if structure == "tumor":
        return labels == TUMOR
    raise ValueError(f"structure must be one of {STRUCTURES}, not {structure!r}")


def bounding_box(labels: np.ndarray) -> tuple[slice, ...] | None:
    """Slices around everything above 0 (or True) of `labels`, of any shape; None where there is nothing.

    Axis by axis, each on what the one before has left: SciPy's find_objects takes many times as long.
    """
    box, left = [], labels if labels.dtype == bool else labels > BACKGROUND
    for axis in range(labels.ndim):
        others = tuple(each for each in range(labels.ndim) if each != axis)
        there = np.flatnonzero(left.any(axis=others))
        if not there.size:
            return None
        box.append(slice(int(there[0]), int(there[-1]) + 1))
        left = left[(slice(None),) * axis + (box[-1],)]
    return tuple(box)


def fullest_slice(labels: np.ndarray) -> int:
    """The slice of labels 0/1/2 (D, H, W) with most tumour, or without any with most liver."""
    return int((labels == labels.max()).sum(axis=(1, 2)).argmax())


def require_labels(labels: np.ndarray, where: Path | str, shape: tuple[int, ...] | None = None) -> None:
    """Raises InputError for another `shape` than their volume's, and for labels that mean nothing."""
    if shape is not None and labels.shape != shape:
        problem = f"The labels are {labels.shape}, the volume is {shape}."
        raise InputError(where, problem, "Give each volume its own segmentation.", "shape-mismatch")
    if labels.size and (labels.min() < BACKGROUND or labels.max() > TUMOR):
        values, counts = np.unique(labels[(labels < BACKGROUND) | (labels > TUMOR)], return_counts=True)
        found = ", ".join(f"{v} ({n:,} voxels)" for v, n in zip(values[:5], counts[:5], strict=True))
        more = f" and {len(values) - 5} more" if len(values) > 5 else ""
        remedy = f"Recode it to {BACKGROUND} background, {LIVER} liver, {TUMOR} tumour,"
        remedy += ' or write labels.json into the folder of all, such as {"liver": 127, "tumor": 255}.'
        problem = f"The segmentation has labels other than 0, 1, 2: {found}{more}."
        raise InputError(where, problem, remedy, code="label-values")


def require_modality(modality: str) -> str:
    """`modality` itself. Raises InputError unless it is one of MODALITIES."""
    if modality not in MODALITIES:
        raise InputError("modality", f"is {modality!r}.", f"Choose one of {', '.join(MODALITIES)}.")
    return modality


SYSTEM_C_SLICES = {0: 19_777, 1: 6_948, 2: 2_631}
"""Published counts by class, 29 356 in all, of LiTS's 130 scans."""


def diagnose_slices(slices: pd.DataFrame) -> pd.DataFrame:
    """`slices` with `class`: 2 where a slice has tumour pixels, else 1 where it has liver, else 0.

    Judges `liver_pixels` and `tumor_pixels` of the label arrays, which the readers have freed of JPEG
    smear and constant grey. Raises InputError where a count is missing.
    """
    counts = ["liver_pixels", "tumor_pixels"]
    unlabelled = slices[counts].isna().any(axis=1)
    if unlabelled.any():
        problem = f"{int(unlabelled.sum())} of {len(slices)} have no truth to judge."
        raise InputError("slices", problem, "Leave out the cases without labels.")
    liver_pixels, tumor_pixels = (slices[count].to_numpy(dtype=np.int64) for count in counts)
    return slices.assign(**{"class": np.select([tumor_pixels > 0, liver_pixels > 0], [2, 1], 0)})


def class_counts(slices: pd.DataFrame) -> pd.DataFrame:
    """Diagnosed slices counted beside system C's, a row a class and one for all. Columns `slices, share,
    system_c_slices, system_c_share`; shares are 0 to 1, NaN of no slices."""
    import pandas as pd

    found = slices["class"].value_counts().reindex(list(SLICE_CLASSES), fill_value=0)
    table = pd.DataFrame({"slices": found, "system_c_slices": pd.Series(SYSTEM_C_SLICES)})
    table.index = pd.Index(SLICE_CLASSES.values(), name="diagnosis")
    table.loc["all"] = table.sum()
    table[["share", "system_c_share"]] = table / table.loc["all"]
    return table[["slices", "share", "system_c_slices", "system_c_share"]]
