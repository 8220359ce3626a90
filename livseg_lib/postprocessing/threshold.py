"""Liver and tumours by thresholds and components alone, on smoothed slices: what a network has to beat.

The liver is the largest connected part of what has its HU, after an opening that cuts the bridges to its
neighbours. Tumours are what is darker than the rest of that liver, away from its blurred edge.
Thresholds apply on slices of `PIXEL_MM`: an average over the noise, and a fraction of the voxels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

import cv2
import numpy as np

from livseg_lib.labels import LIVER, TUMOR
from livseg_lib.postprocessing.components import fill_holes, largest_component, remove_small_components
from livseg_lib.preprocessing.geometry import resize
from livseg_lib.volumes import Volume

PIXEL_MM = 2.0
_SMOOTHING_MM = 2.0
"""Standard deviation of the Gaussian filter within slices."""
LOWEST_HU, HIGHEST_HU = -100, 300
"""HU are cut here before smoothing, or lung and bone would colour their neighbourhood."""
_SMALLEST_ML = 1.0
"""A ball of 12 mm. Smaller spots are mostly noise, and vessels before the contrast reaches them."""
PICTURE_SPACING_MM = (5.0, 350.0)
"""Thickness and width that pictures are taken to have, which do not tell their spacing."""


@dataclass(frozen=True)
class LiverRule:
    """What counts as liver; HU, or grey levels of pictures."""

    lowest_hu: float
    highest_hu: float
    opening_mm: float
    """Radius: what is thinner than twice that is cut off."""


@dataclass(frozen=True)
class TumorRule:
    """What counts as tumour inside a liver."""

    cut_hu: float
    """What is at most so bright."""
    margin_mm: float
    """The outermost part of a liver is dark by its blur, and left out."""
    is_relative: bool = True
    """Whether `cut_hu` counts from the median of the liver at hand: contrast differs from scan to scan."""


@dataclass(frozen=True)
class SmoothScan:
    """A volume as the rules see it."""

    planes: np.ndarray
    """float32 HU, (D, h, w), pixels of about PIXEL_MM."""
    voxel_volume_ml: float
    is_contiguous: bool
    """Whether neighbouring planes touch; single pictures of a patient do not."""

    @property
    def blocks(self) -> list[slice]:
        """Planes that belong together: all, or each picture by itself."""
        if self.is_contiguous:
            return [slice(None)]
        return [slice(index, index + 1) for index in range(len(self.planes))]


def smooth_scan(volume: Volume) -> SmoothScan:
    """Slices averaged to `PIXEL_MM` and smoothed, one after another. No full-size copy is made."""
    depth, height, width = volume.voxels.shape
    is_contiguous = bool(np.isfinite(volume.spacing_mm).all())
    thickness_mm, *sides_mm = volume.spacing_mm if is_contiguous else _assumed_spacing(height, width)
    shape = tuple(max(round(n * mm / PIXEL_MM), 1) for n, mm in zip((height, width), sides_mm, strict=True))
    pixels_mm = (height * sides_mm[0] / shape[0], width * sides_mm[1] / shape[1])
    planes = np.empty((depth, *shape), np.float32)
    for plane, hu in zip(planes, volume.voxels, strict=True):
        small = resize(np.clip(hu, LOWEST_HU, HIGHEST_HU).astype(np.float32), shape)
        cv2.GaussianBlur(small, (0, 0), _SMOOTHING_MM / PIXEL_MM, dst=plane)
    return SmoothScan(planes, prod((thickness_mm, *pixels_mm)) / 1000.0, is_contiguous)


def shrink_mask(mask: np.ndarray, scan: SmoothScan) -> np.ndarray:
    """Mask bool (D, H, W) of the volume on the scan's planes, (D, h, w): covered by at least half."""
    return _resized(mask, scan.planes.shape[1:])


def liver_by_hu(scan: SmoothScan, rule: LiverRule) -> np.ndarray:
    """Mask bool (D, h, w); empty where nothing has a liver's HU."""
    in_range = (scan.planes >= rule.lowest_hu) & (scan.planes <= rule.highest_hu)
    opened = _by_plane(in_range, cv2.MORPH_OPEN, rule.opening_mm)
    return np.concatenate([fill_holes(largest_component(opened[block])) for block in scan.blocks])


def find_tumors(scan: SmoothScan, liver: np.ndarray, rule: TumorRule) -> np.ndarray:
    """Mask bool (D, h, w) inside `liver`, a mask of the same shape."""
    inner = _by_plane(liver, cv2.MORPH_ERODE, rule.margin_mm)
    found = np.zeros_like(liver)
    for block in scan.blocks:
        hu = scan.planes[block]
        if inner[block].any():
            zero_hu = np.median(hu[liver[block]]) if rule.is_relative else 0.0
            dark = inner[block] & (hu <= zero_hu + rule.cut_hu)
            found[block] = remove_small_components(dark, _SMALLEST_ML, scan.voxel_volume_ml)
    return found


def outline_by_hu(volume: Volume, liver_rule: LiverRule, tumor_rule: TumorRule | None = None) -> np.ndarray:
    """Labels 0/1/2, uint8 (D, H, W), on the grid of `volume`; no tumour without a rule for it."""
    scan = smooth_scan(volume)
    liver = liver_by_hu(scan, liver_rule)
    labels = np.where(_resized(liver, volume.voxels.shape[1:]), np.uint8(LIVER), np.uint8(0))
    if tumor_rule is not None:
        tumor = _resized(find_tumors(scan, liver, tumor_rule), volume.voxels.shape[1:])
        labels[tumor & (labels == LIVER)] = TUMOR
    return labels


def _assumed_spacing(height: int, width: int) -> tuple[float, float, float]:
    thickness_mm, width_mm = PICTURE_SPACING_MM
    return thickness_mm, width_mm / max(height, width), width_mm / max(height, width)


def _by_plane(mask: np.ndarray, operation: int, radius_mm: float) -> np.ndarray:
    """Morphology with a disc, plane by plane; what lies beyond the picture counts as outside."""
    side = 2 * round(radius_mm / PIXEL_MM) + 1
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
    planes = (
        cv2.morphologyEx(plane, operation, disc, borderType=cv2.BORDER_CONSTANT, borderValue=0)
        for plane in mask.view(np.uint8)
    )
    return np.stack(list(planes)).astype(bool)


def _resized(mask: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Planes (D, ...) in another size, bool."""
    planes: Iterator[np.ndarray] = (resize(plane.astype(np.float32), shape) >= 0.5 for plane in mask)
    return np.stack(list(planes))
