"""From tissues to HU: brightness, texture, blur and correlated noise."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np

from livseg_lib.datasets.phantom.anatomy import Anatomy, Grid
from livseg_lib.datasets.phantom.sites import Site
from livseg_lib.datasets.phantom.tissues import CODE, TEXTURE_SD_HU, mean_hu

LIVER_TISSUES = [CODE[name] for name in ("liver", "cyst", "tumor")]
PADDING_HU = -1024
NOISE_BETWEEN_SLICES = 0.25
"""Correlation of the noise of neighbouring slices (0.29 measured at 1.6 mm)."""


def patient_hu(rng: np.random.Generator, phase: str) -> np.ndarray:
    """Mean HU of every tissue code in this patient: enhancement and organs vary between patients."""
    native, enhanced = mean_hu("native"), mean_hu(phase)
    hu = native + (enhanced - native) * rng.uniform(0.82, 1.18)
    soft = np.abs(native) < 120
    hu += np.where(soft, rng.normal(0, 4, hu.shape), 0).astype(np.float32)
    hu[LIVER_TISSUES] = hu[CODE["liver"]] + np.clip(rng.normal(-2, 6), -18, 10)
    return hu.astype(np.float32)


def scan(
    rng: np.random.Generator, site: Site, anatomy: Anatomy, grid: Grid, hu: np.ndarray, added: np.ndarray
) -> np.ndarray:
    """The CT that `site` makes, int16 HU (D, H, W); `hu` a tissue code, `added` HU a voxel."""
    voxels = np.empty(anatomy.tissues.shape, np.int16)
    noise_hu = np.float32(rng.uniform(*site.noise_hu)) * _noise_map(grid)
    outside = _outside_field_of_view(grid)
    slices = overlapping(clean_slices(site, anatomy, grid, hu, added), site.slice_overlap)
    for k, (clean, noise) in enumerate(zip(slices, _noise_slices(rng, site, grid.matrix), strict=False)):
        noise *= noise_hu
        noise[anatomy.tissues[k] == CODE["air"]] = 0  # scanners clip air; the files get smaller, too
        picture = np.rint(clean + noise)
        picture[outside] = PADDING_HU
        voxels[k] = np.clip(picture, PADDING_HU, 3071)
    return voxels


def clean_slices(
    site: Site, anatomy: Anatomy, grid: Grid, hu: np.ndarray, added: np.ndarray
) -> Iterator[np.ndarray]:
    """Blurred slices without noise, float32; `hu` and `added` may be any brightness."""
    sigma = site.kernel_mm / grid.pixel_mm
    brightness, texture_sd = _table(hu), _table(TEXTURE_SD_HU)
    for k, tissues in enumerate(anatomy.tissues):
        texture = cv2.resize(anatomy.grain[k], tissues.shape, interpolation=cv2.INTER_LINEAR)
        picture = cv2.LUT(tissues, brightness) + cv2.LUT(tissues, texture_sd) * texture + added[k]
        yield cv2.GaussianBlur(picture, (7, 7), sigma)


def _table(values: np.ndarray) -> np.ndarray:
    table = np.zeros(256, np.float32)
    table[: len(values)] = values
    return table


def overlapping(slices: Iterator[np.ndarray], weight: float) -> Iterator[np.ndarray]:
    """Each slice mixed with its neighbours, as thick slices are; the outermost with themselves."""
    before = current = next(slices)
    for after in slices:
        yield (1 - 2 * weight) * current + weight * (before + after)
        before, current = current, after
    yield (1 - weight) * current + weight * before


def _noise_slices(rng: np.random.Generator, site: Site, matrix: int) -> Iterator[np.ndarray]:
    """Endless slices of correlated noise of unit variance, float32."""
    kept, fresh = np.float32(NOISE_BETWEEN_SLICES), np.float32(np.sqrt(1 - NOISE_BETWEEN_SLICES**2))
    scale = None
    noise = np.float32(0)
    while True:
        white = rng.standard_normal((matrix, matrix), dtype=np.float32)
        grain = cv2.GaussianBlur(white, (5, 5), site.noise_grain_pixels)
        if site.sharpness:
            grain -= np.float32(site.sharpness) * cv2.GaussianBlur(white, (9, 9), 2 * site.noise_grain_pixels)
        scale = scale or np.float32(1 / grain.std())
        noise = kept * noise + fresh * scale * grain if np.ndim(noise) else scale * grain
        yield noise.copy()


def _noise_map(grid: Grid) -> np.ndarray:
    """Relative noise, float32 (H, W): more in the middle of the body, which fewer photons leave."""
    _, y, x = grid.axes()
    squared = (y[:, None] / 90) ** 2 + (x[None] / 120) ** 2
    return (0.72 + 0.42 * np.exp(-squared)).astype(np.float32)


def _outside_field_of_view(grid: Grid) -> np.ndarray:
    from_middle = np.arange(grid.matrix) + 0.5 - grid.matrix / 2
    return np.hypot(from_middle[:, None], from_middle[None]) > grid.matrix / 2
