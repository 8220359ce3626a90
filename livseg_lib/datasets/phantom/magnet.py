"""From tissues to a T1-weighted MR scan: contrast, a field that is not even, Rician noise, any scale.

The same bodies as in CT, seen by another machine. Lesions keep their sign: what is darker than the liver in
CT is darker here.
"""

from __future__ import annotations

import cv2
import numpy as np

from livseg_lib.datasets.phantom.anatomy import Anatomy, Grid
from livseg_lib.datasets.phantom.body import REACH_MM
from livseg_lib.datasets.phantom.fields import SmoothNoise
from livseg_lib.datasets.phantom.scanner import clean_slices, overlapping
from livseg_lib.datasets.phantom.sites import Site
from livseg_lib.datasets.phantom.tissues import TISSUES

REPETITION_MS, FLIP_DEGREES = 150.0, 70.0
"""Of a T1-weighted gradient echo in one breath-hold."""
LIVER_SIGNAL = 1000.0
"""Signals are counted so until the scan gets its own scale."""
PER_HU = 7.0
"""Signal that a lesion adds for each HU that it adds in CT: 30 HU darker is a fifth of the liver's signal."""
BIAS, BIAS_PITCH_MM = 0.15, 180.0
"""Standard deviation of the field's logarithm, and over which distance it varies: surface coils."""
NOISE = (25.0, 60.0)
"""Standard deviation of each of the two channels, whose magnitude is stored."""
LIVER_STORED = (150.0, 3000.0)
"""What the liver comes to in the file: the scale of MR means nothing and differs from scan to scan."""

FLUID, GAS = (2800.0, 1.0), (1000.0, 0.0)
SIGNAL: dict[str, tuple[float, float]] = {
    # tissue: T1 in ms at 1.5 T, protons relative to the liver's
    "fat": (343, 0.95),
    "skin": (850, 0.7),
    "muscle": (856, 0.95),
    "muscle streak": (500, 0.95),
    "compact bone": (800, 0.08),
    "marrow": (549, 0.8),
    "cartilage": (1000, 0.6),
    "spinal canal": FLUID,
    "lung": (1000, 0.1),
    "lung vessel": (1400, 0.7),
    "heart muscle": (1000, 1.0),
    "heart chamber": (1441, 1.0),
    "diaphragm": (856, 0.95),
    "aorta": (1441, 1.0),
    "vena cava": (1441, 1.0),
    "mesenteric vessel": (1441, 1.0),
    "portal vein": (1441, 1.0),
    "liver": (586, 1.0),
    "hepatic vein": (1441, 1.0),
    "portal branch": (1441, 1.0),
    "cyst": (586, 1.0),  # as the liver: the lesion adds its own contrast
    "tumor": (586, 1.0),
    "spleen": (1057, 1.05),
    "kidney cortex": (966, 1.0),
    "kidney medulla": (1412, 1.05),
    "stomach wall": (900, 0.95),
    "stomach fluid": FLUID,
    "stomach gas": GAS,
    "gallbladder": FLUID,
    "pancreas": (584, 1.0),
    "bowel wall": (900, 0.95),
    "bowel content": (1500, 0.9),
    "faeces": (700, 0.6),
    "bowel gas": GAS,
    "oesophagus": (900, 0.95),
}
"""T1 of liver, spleen, kidney, pancreas, muscle, marrow and fat as de Bazelaire et al. 2004 measured them
(doi 10.1148/radiol.2303021331), of blood as Stanisz et al. 2005 (doi 10.1002/mrm.20605); the others and all
protons are rough values of ours. What is not named gives no signal: air, and the table."""


def mean_signal() -> np.ndarray:
    """Signal of each tissue code, float32, the liver's being LIVER_SIGNAL: Ernst's equation."""
    t1, protons = np.array([SIGNAL.get(name, GAS) for name in TISSUES]).T
    decay, angle = np.exp(-REPETITION_MS / t1), np.deg2rad(FLIP_DEGREES)
    signal = protons * np.sin(angle) * (1 - decay) / (1 - np.cos(angle) * decay)
    return (LIVER_SIGNAL * signal / signal[list(TISSUES).index("liver")]).astype(np.float32)


def scan_mr(
    rng: np.random.Generator, site: Site, anatomy: Anatomy, grid: Grid, hu: np.ndarray, added: np.ndarray
) -> np.ndarray:
    """The scan that `site` makes, int16 (D, H, W) of no unit; `added` is what lesions add in HU a voxel.

    Takes what `scanner.scan` takes; `hu` means nothing to a magnet.
    """
    signal = mean_signal() * rng.normal(1.0, 0.04, len(TISSUES)).astype(np.float32)
    scale = np.exp(rng.uniform(*np.log(LIVER_STORED))) / LIVER_SIGNAL
    noise = rng.uniform(*NOISE)
    bias = SmoothNoise.draw(rng, BIAS_PITCH_MM, REACH_MM)(*grid.axes(grid.coarsening))
    lesions = np.rint(added * np.float32(PER_HU)).astype(np.int16)
    voxels = np.empty(anatomy.tissues.shape, np.int16)
    slices = overlapping(clean_slices(site, anatomy, grid, signal, lesions), site.slice_overlap)
    for k, clean in enumerate(slices):
        field = cv2.resize(np.exp(BIAS * bias[k]), clean.shape[::-1], interpolation=cv2.INTER_LINEAR)
        real, imaginary = noise * rng.standard_normal((2, *clean.shape), dtype=np.float32)
        magnitude = np.hypot(np.maximum(clean, 0) * field + real, imaginary)
        voxels[k] = np.clip(np.rint(scale * magnitude), 0, np.iinfo(np.int16).max)
    return voxels
