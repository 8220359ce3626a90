"""What is done to the grey values of one slice beside windowing: less noise, more contrast."""

from __future__ import annotations

import cv2
import numpy as np

GAUSSIAN_SIGMA_PIXELS = 1.0
CLAHE_CLIP_LIMIT = 2.0
CLAHE_TILES = (8, 8)


def filter_noise(hu: np.ndarray, noise_filter: str) -> np.ndarray:
    """Slice (H, W) int16 without some of its noise, same shape and type (system E).

    "median" takes the 3 x 3 median, "gaussian" blurs with a sigma of one pixel, "none" returns `hu`.
    In plane only: slices lie up to 5 mm apart, so a neighbour above is other anatomy.
    """
    if noise_filter == "median":
        return cv2.medianBlur(hu, 3)
    if noise_filter == "gaussian":
        return cv2.GaussianBlur(hu, (0, 0), GAUSSIAN_SIGMA_PIXELS)
    return hu


def equalize(picture: np.ndarray, equalization: str) -> np.ndarray:
    """Windowed slice (H, W) uint8 with its histogram spread, same shape and type (system B).

    "global" uses one histogram, "clahe" one of each of 8 x 8 tiles with contrast limited to 2, "none"
    returns `picture`.
    """
    if equalization == "global":
        return cv2.equalizeHist(picture)
    if equalization == "clahe":
        return cv2.createCLAHE(CLAHE_CLIP_LIMIT, CLAHE_TILES).apply(picture)
    return picture
