"""The box of a scan that a network looks at, cut out and pasted back voxel by voxel."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from scipy.ndimage import find_objects

from livseg_lib.datasets.case import Case
from livseg_lib.errors import InputError
from livseg_lib.labels import structure_mask
from livseg_lib.volumes import Volume

Spacing = tuple[float, float, float]


@dataclass(frozen=True)
class Region:
    """A box of voxels, from `start` up to but without `stop`, along (D, H, W)."""

    start: tuple[int, int, int]
    stop: tuple[int, int, int]

    @property
    def slices(self) -> tuple[slice, slice, slice]:
        """Index of the box: `array[region.slices]`."""
        return tuple(slice(start, stop) for start, stop in zip(self.start, self.stop, strict=True))


def whole_scan(mask: np.ndarray, spacing_mm: Spacing, margin_mm: float = 0.0) -> Region:
    """All of it, whatever `mask` (D, H, W) shows."""
    return Region((0, 0, 0), mask.shape)


def box_around(mask: np.ndarray, spacing_mm: Spacing, margin_mm: float) -> Region | None:
    """The smallest box that leaves `margin_mm` around `mask`, bool (D, H, W), cut at the scan's border.

    None where the mask is empty. Raises InputError for a stack of pictures, whose spacing is unknown (NaN).
    """
    if not np.isfinite(spacing_mm).all():
        problem = "are a stack of pictures without a known spacing, and margins are millimetres."
        raise InputError("pictures", problem, "Give whole scans, or take a system that sees single slices.")
    found = find_objects(mask.view(np.uint8), max_label=1)[0]
    if found is None:
        return None
    margins = [int(np.ceil(margin_mm / step)) for step in spacing_mm]
    sides = list(zip(found, margins, mask.shape, strict=True))
    start = tuple(max(part.start - margin, 0) for part, margin, _ in sides)
    return Region(start, tuple(min(part.stop + margin, side) for part, margin, side in sides))


def slices_around(mask: np.ndarray, spacing_mm: Spacing, margin_mm: float) -> Region | None:
    """As `box_around` along D, but whole slices."""
    box = box_around(mask, spacing_mm, margin_mm)
    return box and Region((box.start[0], 0, 0), (box.stop[0], *mask.shape[1:]))


REGIONS = {"scan": whole_scan, "slices": slices_around, "box": box_around}
"""By name: (mask of the liver, spacing_mm, margin_mm) -> where to look next."""


def crop_volume(volume: Volume, region: Region) -> Volume:
    """The voxels of the region, copied; without a grid to save on, as it is not a scan of its own."""
    return replace(volume, voxels=np.ascontiguousarray(volume.voxels[region.slices]), native=None)


def paste(part: np.ndarray, whole: np.ndarray, region: Region) -> np.ndarray:
    """A copy of `whole` (D, H, W) with `part` in the region, voxel by voxel."""
    pasted = whole.copy()
    pasted[region.slices] = part
    return pasted


def case_around_liver(case: Case, kind: str, margin_mm: float) -> Case:
    """`case` as a scan of nothing but the region around its true liver, to learn from.

    `kind` is one of `REGIONS`. Reading it raises InputError where the case has no liver. Its labels ask
    for the scan a second time, so that the two readers stay independent.
    """
    read = partial(_read_region, case, kind, margin_mm)
    return replace(
        case,
        read_volume=partial(_first, read),
        read_labels=partial(_second, read),
        slice_numbers=None,
    )


def _read_region(case: Case, kind: str, margin_mm: float) -> tuple[Volume, np.ndarray]:
    volume = case.read_volume()
    labels = case.read_labels(volume)
    region = REGIONS[kind](structure_mask(labels, "liver"), volume.spacing_mm, margin_mm)
    if region is None:
        raise InputError(case.case_id, "shows no liver.", "Leave it out of what is learnt from.")
    return crop_volume(volume, region), labels[region.slices].copy()


def _first(read) -> Volume:
    return read()[0]


def _second(read, volume: Volume) -> np.ndarray:
    return read()[1]
