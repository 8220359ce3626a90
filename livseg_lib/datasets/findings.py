"""The rules of `livseg check` for one case: what speaks against its voxels and its labels."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from livseg_lib.labels import BACKGROUND, LIVER, TUMOR, structure_mask
from livseg_lib.nifti import RIGHT_ANGLE_DEGREES
from livseg_lib.volumes import Volume

PLAUSIBLE_HU = (-4096, 20000)
"""Padding goes down to -3072, metal in an extended CT scale up to about 20,000."""
AIR_HU = -500
"""Every CT shows some air below this, around the patient or in the bowel."""
FEWEST_LEVELS = 64
"""Of an MR scan; a picture of fewer shows steps."""
PLAUSIBLE_LIVER_HU = (-20.0, 250.0)
"""Of the median: from a very fatty liver to a strong contrast phase."""
PLAUSIBLE_SPACING_MM = (0.2, 10.0)

ACROSS_SLICES = np.ones((3, 3, 3), bool)
WITHIN_SLICE = np.stack([np.zeros((3, 3), bool), np.ones((3, 3), bool), np.zeros((3, 3), bool)])
"""Neighbourhoods: whole volumes are connected across slices, sets of single pictures are not."""


class Verdict(NamedTuple):
    """One finding before it is tied to a case and a file."""

    severity: str
    """ "error" excludes the case, "warning" does not."""
    code: str
    message: str


def volume_findings(volume: Volume, modality: str = "ct") -> Iterator[Verdict]:
    """What speaks against the geometry and the intensities of a whole volume (not of grey pictures)."""
    yield from spacing_findings(volume)
    yield from (intensity_findings(volume) if modality == "mr" else hu_findings(volume))


def spacing_findings(volume: Volume) -> Iterator[Verdict]:
    """What speaks against the geometry."""
    spacing = " x ".join(f"{mm:.2f}" for mm in volume.spacing_mm)
    low, high = PLAUSIBLE_SPACING_MM
    if volume.native is not None and np.array_equal(np.abs(volume.native.affine), np.eye(4)):
        yield Verdict(
            "warning", "suspicious-spacing", "The affine is the identity: volumes in ml cannot be trusted."
        )
    elif not all(low <= mm <= high for mm in volume.spacing_mm):
        yield Verdict(
            "warning", "suspicious-spacing", f"The spacing is {spacing} mm, outside {low} to {high} mm."
        )
    if volume.native is not None and (shear := volume.native.shear_degrees) > RIGHT_ANGLE_DEGREES:
        yield Verdict(
            "warning",
            "sheared-grid",
            f"The grid is sheared by {shear:.1f} degrees (gantry tilt): volumes are right, distances across "
            "planes and shapes in 3D approximate. Convert the scan with tilt correction.",
        )


def hu_findings(volume: Volume) -> Iterator[Verdict]:
    """What speaks against the HU of a CT."""
    lowest, highest = int(volume.voxels.min()), int(volume.voxels.max())
    if lowest > AIR_HU:
        yield Verdict(
            "warning", "implausible-hu", f"No air: the lowest value is {lowest} HU. Clipped or rescaled?"
        )
    if lowest < PLAUSIBLE_HU[0] or highest > PLAUSIBLE_HU[1]:
        yield Verdict("warning", "implausible-hu", f"The values run from {lowest} to {highest} HU.")


def intensity_findings(volume: Volume) -> Iterator[Verdict]:
    """What speaks against the intensities of an MR scan, which have no unit."""
    levels = len(np.unique(volume.voxels))
    if levels < FEWEST_LEVELS:
        message = f"Only {levels} whole numbers are left: values between them were rounded. Scale them up."
        yield Verdict("warning", "few-levels", message)
    if int(volume.voxels.min()) < AIR_HU:
        message = f"The lowest value is {volume.voxels.min()}: this looks like a CT, not like MR."
        yield Verdict("warning", "not-mr", message)


def liver_hu_findings(volume: Volume, labels: np.ndarray) -> Iterator[Verdict]:
    """Whether the labelled liver looks like liver, or lies elsewhere (shifted, mirrored)."""
    liver = volume.voxels[structure_mask(labels, "liver")]
    median = float(np.median(liver)) if liver.size else np.nan
    if not np.isnan(median) and not PLAUSIBLE_LIVER_HU[0] <= median <= PLAUSIBLE_LIVER_HU[1]:
        yield Verdict("warning", "implausible-hu", f"The median of the labelled liver is {median:.0f} HU.")


def label_findings(labels: np.ndarray, pictures: bool) -> Iterator[Verdict]:
    """What speaks against labels 0/1/2, (D, H, W). `pictures`: single slices, not a whole volume."""
    if not structure_mask(labels, "liver").any():
        # A handful of slices may well show no liver; a whole scan for liver tumours may not.
        yield Verdict("warning" if pictures else "error", "empty-liver", "No voxel is labelled as liver.")
        return
    components, voxels = tumor_outside_liver(labels, pictures)
    if components:
        yield Verdict(
            "warning",
            "tumor-outside-liver",
            f"{components} tumour component(s), {voxels} voxels, touch no voxel labelled liver.",
        )
    labels = labels[wider(bounding_box(labels))]
    liver, tumor = labels == LIVER, labels == TUMOR
    rims = [shared_faces(mask, labels == BACKGROUND, axes=(1, 2)) for mask in (liver, tumor)]
    if tumor.sum() > liver.sum() > 0 and rims[1] > 2 * rims[0]:
        message = "The tumour lies around the liver and is larger. Were the two labels exchanged?"
        yield Verdict("warning", "labels-exchanged", message)


def shared_faces(one: np.ndarray, other: np.ndarray, axes: tuple[int, ...] = (0, 1, 2)) -> int:
    """Number of voxel faces, across `axes`, that have one mask before them and the other behind."""
    faces = 0
    for axis in axes:
        first, second = np.moveaxis(one, axis, 0), np.moveaxis(other, axis, 0)
        faces += np.count_nonzero(first[:-1] & second[1:]) + np.count_nonzero(second[:-1] & first[1:])
    return faces


def tumor_outside_liver(labels: np.ndarray, pictures: bool) -> tuple[int, int]:
    """Number of tumour components without a liver voxel beside them, and of their voxels.

    LiTS cuts tumours out of the liver, so liver and tumour together form components of which each
    should hold some label 1. Neighbours share a face, an edge or a corner.
    """
    components, count = label_components(structure_mask(labels, "liver"), pictures)
    labels = labels[bounding_box(labels)]
    with_liver = np.bincount(components[labels == LIVER], minlength=count + 1) > 0
    sizes = np.bincount(components[labels == TUMOR], minlength=count + 1)
    outside = ~with_liver & (sizes > 0)
    return int(outside.sum()), int(sizes[outside].sum())


def count_tumors(labels: np.ndarray) -> int:
    """Number of tumour components of a whole volume, 26-connected."""
    return label_components(structure_mask(labels, "tumor"), pictures=False)[1]


def label_components(mask: np.ndarray, pictures: bool) -> tuple[np.ndarray, int]:
    """Component numbers within the bounding box of `mask`, and how many there are."""
    return ndimage.label(mask[bounding_box(mask)], WITHIN_SLICE if pictures else ACROSS_SLICES)


def bounding_box(mask: np.ndarray) -> tuple[slice, ...]:
    """Slices around everything that is not 0; the whole array where nothing is."""
    box = ndimage.find_objects((mask != 0).astype(np.uint8))
    return box[0] if box else (slice(None),) * mask.ndim


def wider(box: tuple[slice, ...]) -> tuple[slice, ...]:
    """`box` and one voxel more on every side."""
    return tuple(slice(max(part.start - 1, 0), part.stop + 1) for part in box)
