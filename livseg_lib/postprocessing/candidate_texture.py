"""What the HU say about one object: how bright it is, how even, and how sharp its border is.

Masks are boolean (D, H, W), HU int16 of the same shape, `spacing_mm` (D, H, W) float64. A feature that a
small object cannot have is NaN, as each function says.
"""

from __future__ import annotations

import numpy as np
from scipy.ndimage import binary_erosion, gaussian_filter, generate_binary_structure
from skimage.feature import graycomatrix, graycoprops

LOWEST_HU, HIGHEST_HU = -50, 250
"""HU are cut here for textures and gradients, or lung and bone beside the liver would rule them."""
GREY_LEVELS = 16
"""Of about 19 HU each: about the noise of one voxel."""
TEXTURE_STEP_MM = 2.0
"""Distance of the two pixels that a co-occurrence compares."""
EDGE_SMOOTHING_MM = 1.0
"""Standard deviation of the Gaussian filter before the gradient."""
FACES = generate_binary_structure(3, 1)


def intensity_features(hu: np.ndarray, inside: np.ndarray) -> dict[str, float]:
    """Mean, standard deviation and percentiles of an object's HU."""
    values = hu[inside].astype(np.float64)
    low, middle, high = np.percentile(values, (10, 50, 90))
    return {
        "mean_hu": float(values.mean()),
        "std_hu": float(values.std()),
        "p10_hu": float(low),
        "median_hu": float(middle),
        "p90_hu": float(high),
    }


def border_gradient(hu: np.ndarray, inside: np.ndarray, spacing_mm: np.ndarray) -> float:
    """Mean size of the HU gradient, in HU per mm, over an object's voxels with a face outside it.

    `hu` should reach some mm beyond the object. Axes of one voxel have no gradient. The mask's own faces on
    the volume's edge are no border; NaN where an object has no other.
    """
    border = inside & ~binary_erosion(inside, FACES, border_value=1)
    if not border.any():
        return float("nan")
    clipped = np.clip(hu, LOWEST_HU, HIGHEST_HU).astype(np.float32)
    smooth = gaussian_filter(clipped, EDGE_SMOOTHING_MM / spacing_mm, mode="nearest")
    slopes = [np.gradient(smooth, spacing_mm[axis], axis=axis) for axis in range(3) if hu.shape[axis] > 1]
    if not slopes:
        return float("nan")
    return float(np.sqrt(sum(np.square(slope[border], dtype=np.float64) for slope in slopes)).mean())


def texture_features(hu: np.ndarray, inside: np.ndarray, spacing_mm: np.ndarray) -> dict[str, float]:
    """Grey-level co-occurrence (Haralick 1973, doi:10.1109/TSMC.1973.4309314) of an object's largest slice.

    Pairs of its own pixels `TEXTURE_STEP_MM` apart, in four directions together. All NaN where it has no
    such pair.
    """
    names = ("contrast", "homogeneity", "energy", "correlation")
    pairs = _pairs_of_levels(hu, inside, spacing_mm)
    if not pairs.any():
        return {f"texture_{name}": float("nan") for name in names}
    shares = (pairs / pairs.sum())[:, :, None, None]
    return {f"texture_{name}": float(graycoprops(shares, name)[0, 0]) for name in names}


def _pairs_of_levels(hu: np.ndarray, inside: np.ndarray, spacing_mm: np.ndarray) -> np.ndarray:
    """How often two levels stand beside each other, float64 (GREY_LEVELS, GREY_LEVELS)."""
    largest = int(inside.sum(axis=(1, 2)).argmax())
    share = (np.clip(hu[largest], LOWEST_HU, HIGHEST_HU) - LOWEST_HU) / (HIGHEST_HU - LOWEST_HU)
    levels = 1 + np.minimum(share * GREY_LEVELS, GREY_LEVELS - 1).astype(np.uint8)
    levels[~inside[largest]] = 0  # an extra level for the outside, whose pairs are then left out
    step = max(1, round(TEXTURE_STEP_MM / float(spacing_mm[1:].mean())))
    angles = np.arange(4) * np.pi / 4
    counts = graycomatrix(levels, [step], angles, levels=GREY_LEVELS + 1, symmetric=True)
    return counts[1:, 1:].sum(axis=(2, 3)).astype(np.float64)
