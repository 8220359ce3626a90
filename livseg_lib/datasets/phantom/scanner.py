"""What a scanner makes of a body: CT of several sites, and T1-weighted MR.

Lesions keep their sign: what is darker than the liver in CT is darker in MR.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np

from livseg_lib.datasets.phantom.anatomy import Anatomy, Grid
from livseg_lib.datasets.phantom.body import BODY_REACH_MM, CODE, TISSUE_TEXTURE_SD_HU, TISSUES, mean_hu
from livseg_lib.datasets.phantom.fields import SmoothNoise


@dataclass(frozen=True)
class Site:
    """A scanner and its protocol; ranges are (low, high)."""

    name: str
    matrix: int  # rows and columns of a slice
    pixel_mm: tuple[float, float]
    slice_mm: tuple[float, float]
    noise_hu: tuple[float, float]  # standard deviation in the liver
    kernel_mm: float  # Gaussian sigma of the point spread in the slice
    noise_grain_pixels: float  # Gaussian sigma of the noise's correlation in the slice
    sharpness: float
    """0 for a soft kernel; above, the noise loses its coarse part as edge-enhancing kernels make it."""
    slice_overlap: float  # weight of each neighbouring slice in a slice's profile
    orientation: str  # axis codes of the stored file, as nibabel names them
    modality: str = "ct"  # "ct" or "mr"; a magnet has noise of its own (`_MR_NOISE`)
    stores_organs: bool = False
    """Whether its label files hold codes of `Organ`, with a labels.json, instead of 0/1/2."""


SITES = {
    "A": Site("A", 512, (0.6, 0.9), (4.0, 5.0), (14, 19), 0.8, 0.58, 0.0, 0.10, "LPS"),
    "B": Site("B", 448, (0.6, 0.9), (2.5, 4.0), (16, 22), 0.7, 0.55, 0.0, 0.12, "RAS"),
    "C": Site("C", 448, (0.6, 0.9), (1.25, 2.0), (19, 26), 0.5, 0.55, 0.4, 0.15, "LAS"),
    "tiny": Site("tiny", 128, (2.0, 3.6), (8.0, 10.0), (4, 6), 1.5, 0.5, 0.0, 0.05, "RAS"),
    "mr": Site("mr", 320, (1.0, 1.5), (3.0, 5.0), (0, 0), 1.0, 0.5, 0.0, 0.08, "LAS", "mr", True),
    "tiny mr": Site("tiny mr", 128, (2.0, 3.6), (8.0, 10.0), (0, 0), 1.5, 0.5, 0.0, 0.05, "LAS", "mr", True),
}
"""Voxels, noise and stored orientation differ as between the centres of LiTS (there 0.6-1.0 mm in the
slice, 0.45-5 mm between slices). Liver noise measured in real CT: 18-20 HU (1.6-2 mm slices), 19-30 HU
in LiTS slices; the correlation of neighbours in real CT is 0.25-0.40, at two pixels -0.13 to 0.08.
Nobody scans like "tiny": it is for tests that need whole patients in a moment. "mr" stands for sets with many
organs in their label files, such as AMOS and TotalSegmentator's."""
ROTATION = "ABABABAC"  # sites of patients 0, 1, 2, ...: thin slices are rare, as they weigh most


def site_of(index: int) -> Site:
    """The site of patient number `index`."""
    return SITES[ROTATION[index % len(ROTATION)]]


LIVER_TISSUES = [CODE[name] for name in ("liver", "cyst", "tumor")]
PADDING_HU = -1024
NOISE_BETWEEN_SLICES = 0.25  # correlation of the noise of neighbouring slices (0.29 measured at 1.6 mm)


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
    _, y, x = grid.axes()
    middle = np.exp(-((y[:, None] / 90) ** 2 + (x[None] / 120) ** 2))  # which fewer photons leave
    noise_hu = np.float32(rng.uniform(*site.noise_hu)) * (0.72 + 0.42 * middle).astype(np.float32)
    from_middle = np.arange(grid.matrix) + 0.5 - grid.matrix / 2
    outside = np.hypot(from_middle[:, None], from_middle[None]) > grid.matrix / 2
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
    brightness, texture_sd = np.zeros((2, 256), np.float32)
    brightness[: len(hu)], texture_sd[: len(hu)] = hu, TISSUE_TEXTURE_SD_HU
    for k, tissues in enumerate(anatomy.tissues):
        texture = cv2.resize(anatomy.grain[k], tissues.shape, interpolation=cv2.INTER_LINEAR)
        picture = cv2.LUT(tissues, brightness) + cv2.LUT(tissues, texture_sd) * texture + added[k]
        yield cv2.GaussianBlur(picture, (7, 7), sigma)


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
    scale, noise = None, np.float32(0)
    while True:
        white = rng.standard_normal((matrix, matrix), dtype=np.float32)
        grain = cv2.GaussianBlur(white, (5, 5), site.noise_grain_pixels)
        if site.sharpness:
            grain -= np.float32(site.sharpness) * cv2.GaussianBlur(white, (9, 9), 2 * site.noise_grain_pixels)
        scale = scale or np.float32(1 / grain.std())
        noise = kept * noise + fresh * scale * grain if np.ndim(noise) else scale * grain
        yield noise.copy()


REPETITION_MS, FLIP_DEGREES = 150.0, 70.0  # of a T1-weighted gradient echo in one breath-hold
LIVER_SIGNAL = 1000.0  # signals are counted so until the scan gets its own scale
PER_HU = 7.0
"""Signal that a lesion adds for each HU that it adds in CT: 30 HU darker is a fifth of the liver's signal."""
BIAS, BIAS_PITCH_MM = 0.15, 180.0
"""Standard deviation of the field's logarithm, and over which distance it varies: surface coils."""
_MR_NOISE = (25.0, 60.0)  # standard deviation of each of the two channels, whose magnitude is stored
LIVER_STORED = (150.0, 3000.0)
"""What the liver comes to in the file: the scale of MR means nothing and differs from scan to scan."""


def mean_signal() -> np.ndarray:
    """Signal of each tissue code, float32, the liver's being LIVER_SIGNAL: Ernst's equation."""
    t1, protons = np.array([magnetic for *_, magnetic in TISSUES.values()]).T
    decay, angle = np.exp(-REPETITION_MS / t1), np.deg2rad(FLIP_DEGREES)
    signal = protons * np.sin(angle) * (1 - decay) / (1 - np.cos(angle) * decay)
    return (LIVER_SIGNAL * signal / signal[list(TISSUES).index("liver")]).astype(np.float32)


def scan_mr(
    rng: np.random.Generator, site: Site, anatomy: Anatomy, grid: Grid, hu: np.ndarray, added: np.ndarray
) -> np.ndarray:
    """The scan that `site` makes, int16 (D, H, W) of no unit; `added` is what lesions add in HU a voxel.
    Takes what `scan` takes; `hu` means nothing to a magnet."""
    signal = mean_signal() * rng.normal(1.0, 0.04, len(TISSUES)).astype(np.float32)
    scale = np.exp(rng.uniform(*np.log(LIVER_STORED))) / LIVER_SIGNAL
    noise = rng.uniform(*_MR_NOISE)
    bias = SmoothNoise.draw(rng, BIAS_PITCH_MM, BODY_REACH_MM)(*grid.axes(grid.coarsening))
    lesions = np.rint(added * np.float32(PER_HU)).astype(np.int16)
    voxels = np.empty(anatomy.tissues.shape, np.int16)
    slices = overlapping(clean_slices(site, anatomy, grid, signal, lesions), site.slice_overlap)
    for k, clean in enumerate(slices):
        field = cv2.resize(np.exp(BIAS * bias[k]), clean.shape[::-1], interpolation=cv2.INTER_LINEAR)
        real, imaginary = noise * rng.standard_normal((2, *clean.shape), dtype=np.float32)
        magnitude = np.hypot(np.maximum(clean, 0) * field + real, imaginary)
        voxels[k] = np.clip(np.rint(scale * magnitude), 0, np.iinfo(np.int16).max)
    return voxels
