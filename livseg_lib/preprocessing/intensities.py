"""MR scans on a scale on which a liver looks as it does in CT, for whatever asks for HU."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from livseg_lib.labels import require_modality
from livseg_lib.preprocessing.windows import window_bounds
from livseg_lib.volumes import Volume

STRETCHED_HU = (-100.0, 300.0)
"""What the window "mr" comes to: from fat to strongly enhanced vessels."""


def as_hu(volume: Volume, modality: str) -> Volume:
    """A CT as it is; an MR scan stretched linearly so that its window "mr" covers STRETCHED_HU.

    Rules and pictures made for HU then see a patient's own range of intensities, whatever the scan's scale.
    """
    if require_modality(modality) == "ct":
        return volume
    (low, high), (darkest, brightest) = window_bounds("mr", volume.voxels), STRETCHED_HU
    voxels = np.empty_like(volume.voxels)
    for k, plane in enumerate(volume.voxels):
        stretched = (plane.astype(np.float32) - low) * ((brightest - darkest) / (high - low)) + darkest
        voxels[k] = np.rint(stretched).clip(-1024, 3071)
    return replace(volume, voxels=voxels)
