"""Predicted labels made tidy, each habit by itself, so that its effect can be measured and it can be chosen.

Every function takes labels 0/1/2, uint8 (D, H, W), and `spacing_mm` (D, H, W), leaves them as they are and
returns new ones; empty stays empty. `FINISHES` names them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps

import numpy as np
from scipy.ndimage import find_objects

from livseg_lib.errors import InputError
from livseg_lib.labels import BACKGROUND, LIVER, TUMOR, structure_mask
from livseg_lib.postprocessing.boxes import known_spacing
from livseg_lib.postprocessing.components import (
    fill_holes,
    label_components,
    largest_component,
    remove_small_components,
)

Spacing = Sequence[float]
Finish = Callable[[np.ndarray, Spacing], np.ndarray]

SMALLEST_TUMOR_ML = 0.1
"""A ball of 5.8 mm. What is smaller is not measured in the clinic (RECIST 1.1 starts at 10 mm)."""


def _where_labels_are(finish: Finish) -> Finish:
    """`finish` on the smallest box with all labels: the rest of a scan would cost most of the time."""

    @wraps(finish)
    def on_box(labels: np.ndarray, spacing_mm: Spacing) -> np.ndarray:
        finished = labels.copy()
        [box] = find_objects((labels > BACKGROUND).view(np.uint8), max_label=1)
        if box is not None:
            finished[box] = finish(labels[box], spacing_mm)
        return finished

    return on_box


@_where_labels_are
def keep_largest_liver(labels: np.ndarray, spacing_mm: Spacing) -> np.ndarray:
    """Only the largest component of the liver (its tumours included): a patient has one."""
    return np.where(largest_component(structure_mask(labels, "liver")), labels, np.uint8(BACKGROUND))


@_where_labels_are
def fill_liver(labels: np.ndarray, spacing_mm: Spacing) -> np.ndarray:
    """Cavities of the liver become liver."""
    liver = structure_mask(labels, "liver")
    return np.where(fill_holes(liver) & ~liver, np.uint8(LIVER), labels)


@_where_labels_are
def fill_tumors(labels: np.ndarray, spacing_mm: Spacing) -> np.ndarray:
    """Cavities of tumours become tumour, whatever they were."""
    return np.where(fill_holes(structure_mask(labels, "tumor")), np.uint8(TUMOR), labels)


@_where_labels_are
def drop_small_tumors(labels: np.ndarray, spacing_mm: Spacing) -> np.ndarray:
    """Tumours of less than `SMALLEST_TUMOR_ML` become liver. Raises InputError for an unknown spacing."""
    voxel_volume_ml = float(known_spacing(spacing_mm).prod()) / 1000.0
    tumor = structure_mask(labels, "tumor")
    kept = remove_small_components(tumor, SMALLEST_TUMOR_ML, voxel_volume_ml)
    return np.where(tumor & ~kept, np.uint8(LIVER), labels)


@_where_labels_are
def keep_tumors_in_liver(labels: np.ndarray, spacing_mm: Spacing) -> np.ndarray:
    """Tumours that touch no liver (label 1) by a face become background: nothing shows a liver there."""
    ids, count = label_components(structure_mask(labels, "tumor"))
    touches = np.zeros(count + 1, bool)
    for axis in range(3):
        below, above = np.moveaxis(ids, axis, 0), np.moveaxis(labels == LIVER, axis, 0)
        touches[below[:-1][above[1:]]] = True
        touches[below[1:][above[:-1]]] = True
    touches[0] = True  # what is no tumour stays
    return np.where(touches[ids], labels, np.uint8(BACKGROUND))


FINISHES: dict[str, Finish] = {
    finish.__name__: finish
    for finish in (keep_largest_liver, fill_liver, fill_tumors, keep_tumors_in_liver, drop_small_tumors)
}
"""By name, in an order that makes sense: each may rely on those before it."""


def finish_labels(labels: np.ndarray, spacing_mm: Spacing, names: Sequence[str]) -> np.ndarray:
    """`labels` after the finishes `names`, one after another in that order; a copy where there are none.

    Raises InputError for a name that is not in `FINISHES`.
    """
    unknown = [name for name in names if name not in FINISHES]
    if unknown:
        raise InputError(
            ", ".join(unknown), "are no ways to finish labels.", f"Choose of {', '.join(FINISHES)}."
        )
    finished = labels.copy()
    for name in names:
        finished = FINISHES[name](finished, spacing_mm)
    return finished


def finish_title(name: str) -> str:
    """A finish in words: "drop_small_tumors" reads "drop small tumours"."""
    return name.replace("tumor", "tumour").replace("_", " ")
