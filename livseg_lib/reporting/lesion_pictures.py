"""One tumour as one picture: near enough to judge whether a reader could have seen it."""

from __future__ import annotations

import numpy as np

from livseg_lib.datasets.case import Case
from livseg_lib.labels import structure_mask
from livseg_lib.postprocessing.components import label_components
from livseg_lib.preprocessing.overview import display_window
from livseg_lib.preprocessing.windows import apply_window

FIELD_MM = 90.0
"""Width of the square shown."""


def lesion_picture(
    case: Case, lesion: int, title: str, field_mm: float = FIELD_MM
) -> tuple[np.ndarray, np.ndarray, str]:
    """(grey uint8, labels 0/1/2, title), both (h, w): the slice with most of the tumour, cut out around it.

    `lesion` counts the face-connected tumours of the case from 1, as `describe_lesions` does. The cut is
    `field_mm` wide, less where the scan ends; without a known spacing it is the whole slice.
    """
    volume = case.read_volume()
    labels = case.read_labels(volume)
    tumor = label_components(structure_mask(labels, "tumor"))[0] == lesion
    index = int(tumor.sum(axis=(1, 2)).argmax())
    cut = tuple(
        _around(places.mean(), size, field_mm / spacing / 2)
        for places, size, spacing in zip(
            np.nonzero(tumor[index]), tumor[index].shape, volume.spacing_mm[1:], strict=True
        )
    )
    grey = apply_window(volume.voxels[index][cut], display_window(volume))
    return grey, labels[index][cut], title


def _around(center: float, size: int, half: float) -> slice:
    """`half` pixels to either side of `center`, within 0 to `size`; all where `half` is NaN."""
    if np.isnan(half):
        return slice(0, size)
    return slice(max(0, int(center - half)), min(size, int(center + half) + 1))
