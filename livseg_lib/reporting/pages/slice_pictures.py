"""Slices of a scan as light pictures for a web page: 8 bit, a WebP each, windowed later by the reader."""

from __future__ import annotations

import io
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from matplotlib.colors import to_rgb
from PIL import Image

from livseg_lib.labels import STRUCTURES, structure_mask
from livseg_lib.postprocessing.components import Box
from livseg_lib.preprocessing.windows import WINDOWS, Window, apply_window
from livseg_lib.reporting.style import STRUCTURE_COLOURS

MARGIN_MM = 12.0
MARGIN_PIXELS = 16
"""Around everything outlined; the second where the size of a pixel is unknown."""

MAX_SIDE_PIXELS, THUMBNAIL_PIXELS = 384, 144
THUMBNAIL = "thumbnail.webp"
"""In the folder of a patient page: the slice that it opens on, with the first outline."""

QUALITY = 60
"""Of WebP, which loses most where a picture is noise."""

STORED_WINDOW = Window.between(-200, 300)
"""HU kept in a picture, in steps of 2 HU: all that the windows of a liver page show."""


@dataclass(frozen=True)
class PictureLoss:
    """What pictures lost against the voxels that they were made of."""

    step: float
    """HU from one grey level to the next."""
    error: float
    """HU, root mean square over all pixels of the reduced pictures."""


def view_box(outlines: Iterable[np.ndarray], shape: tuple[int, int, int], spacing_mm: Iterable[float]) -> Box:
    """The box of all that any of `outlines` (labels (D, H, W)) marks, with a margin; all if they are empty.

    The margin is MARGIN_MM, or MARGIN_PIXELS within the slice where `spacing_mm` (D, H, W) is NaN.
    """
    marked = [_extent(labels) for labels in outlines if labels.any()]
    if not marked:
        return tuple(slice(0, size) for size in shape)
    low, high = np.min([m[0] for m in marked], axis=0), np.max([m[1] for m in marked], axis=0)
    spacing = np.asarray(tuple(spacing_mm), float)
    margin = np.where(np.isfinite(spacing), np.ceil(MARGIN_MM / spacing), (0, MARGIN_PIXELS, MARGIN_PIXELS))
    low, high = np.maximum(low - margin, 0).astype(int), np.minimum(high + margin, shape).astype(int)
    return tuple(slice(a, b) for a, b in zip(low.tolist(), high.tolist(), strict=True))


def has_grey_levels(voxels: np.ndarray) -> bool:
    """Whether `voxels` look like those of pictures, 0 to 255, rather than HU, which go below 0."""
    return bool(voxels.min() >= 0 and voxels.max() <= 255)


def stored_window(voxels: np.ndarray) -> Window:
    """What pictures of `voxels` keep: all of grey levels, STORED_WINDOW of HU."""
    return WINDOWS["stored"] if has_grey_levels(voxels) else STORED_WINDOW


def write_slice_pictures(voxels: np.ndarray, folder: Path, window: Window) -> PictureLoss:
    """Write `folder/000.webp` and on, `voxels` (int16 HU (D, H, W)) slice by slice, cut to `window`.

    The longer side has at most MAX_SIDE_PIXELS. What windowing, reducing to 8 bit and compressing cost is
    returned, so that a page can say it.
    """
    squares = 0.0
    for index, hu in enumerate(voxels):
        grey = _reduced(apply_window(hu, window))
        content = io.BytesIO()
        Image.fromarray(grey).save(content, "webp", quality=QUALITY)
        (folder / f"{index:03d}.webp").write_bytes(content.getvalue())
        with Image.open(content) as kept:
            squares += float(np.mean((np.asarray(kept.convert("L"), np.float32) - grey) ** 2))
    step = window.width_hu / 255
    return PictureLoss(step, step * (squares / len(voxels)) ** 0.5)


def write_thumbnail(hu: np.ndarray, labels: np.ndarray | None, window: Window, path: Path) -> None:
    """Write one slice, int16 (H, W), as a small WebP; liver and tumours of labels 0/1/2 (H, W) outlined."""
    grey = _reduced(apply_window(hu, window), THUMBNAIL_PIXELS)
    picture = np.repeat(grey[..., None], 3, axis=2)
    for structure in STRUCTURES if labels is not None else ():
        mask = structure_mask(labels, structure).astype(np.float32)
        share = cv2.resize(mask, grey.shape[::-1], interpolation=cv2.INTER_AREA)
        outlines, _ = cv2.findContours((share >= 0.5).astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
        colour = [round(255 * part) for part in to_rgb(STRUCTURE_COLOURS[structure])]
        cv2.drawContours(picture, outlines, -1, colour, thickness=1)
    Image.fromarray(picture).save(path, "webp", quality=QUALITY)


def _reduced(grey: np.ndarray, max_side: int = MAX_SIDE_PIXELS) -> np.ndarray:
    factor = max_side / max(grey.shape)
    if factor >= 1:
        return grey
    height, width = (max(1, round(side * factor)) for side in grey.shape)
    return cv2.resize(grey, (width, height), interpolation=cv2.INTER_AREA)


def _extent(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """First and one past the last marked voxel along each axis."""
    sides = [np.flatnonzero(labels.any(axis=others)) for others in ((1, 2), (0, 2), (0, 1))]
    return np.array([side[0] for side in sides]), np.array([side[-1] + 1 for side in sides])
