"""Labels from 8-bit mask pictures, whose grey levels were stretched picture by picture (system C)."""

from __future__ import annotations

import cv2
import numpy as np

RAW_LABEL_MAX = 2
CONSTANT_CONTRAST = 8
"""Grey levels between the darkest and the brightest pixel that JPEG alone can make of a constant picture."""

LIVER_ABOVE, TUMOR_ABOVE = 64, 191
"""Halfway between the plateaus 0, 127 and 255 of a picture that shows liver and tumour."""

STRETCHED_MAX = 224
"""A stretched picture reaches 255, of which JPEG leaves at least this even of a tumour of two pixels."""
MID_PLATEAU = (112, 142)
"""Where the median of the middle plateau lies, 127 in the export; that of anything else lies elsewhere."""
PATCH = np.ones((3, 3), np.uint8)
SMEAR_PIXELS = 2
"""JPEG and resizing turn the border between 0 and 255 into mid greys for about this many pixels."""


def decode_mask(grey: np.ndarray) -> np.ndarray:
    """Labels 0/1/2, uint8 (H, W), of the uint8 (H, W) picture `grey`.

    - A constant picture of any level is empty: such exports write "nothing" as 0 or as mid-grey.
    - Levels up to 2 are labels as they stand.
    - Two plateaus {0, x} are liver only, whatever x is: stretching makes 255 of a lone liver.
    - Three plateaus {0, about 127, about 255} are liver and tumour.

    Stretching loses information, and two pictures stay ambiguous: a tumour without any liver around
    it in its slice, and a tumour whose liver is a rim of four pixels or less (which smear looks like).
    Both are read as liver only.
    """
    darkest, brightest = int(grey.min()), int(grey.max())
    if darkest == brightest:
        return np.zeros(grey.shape, np.uint8)
    if brightest <= RAW_LABEL_MAX:
        return grey.astype(np.uint8)
    if brightest - darkest < CONSTANT_CONTRAST:
        return np.zeros(grey.shape, np.uint8)
    if brightest >= STRETCHED_MAX and _has_mid_plateau(grey):
        return (grey > LIVER_ABOVE).astype(np.uint8) + (grey > TUMOR_ABOVE)
    plateau = np.median(grey[grey > brightest / 2])  # the brightest pixel itself is often JPEG's overshoot
    return (grey > plateau / 2).astype(np.uint8)


def _has_mid_plateau(grey: np.ndarray) -> bool:
    """Whether mid greys beyond the smear around bright pixels are a plateau.

    They must fill a patch of 3 x 3 (less is ringing, or a speck that was resized) and have a middle
    level. Of thousands of random shapes at qualities 50 to 95 this told every one right.
    """
    bright = (grey > TUMOR_ABOVE).astype(np.uint8)
    smeared = cv2.dilate(bright, np.ones((2 * SMEAR_PIXELS + 1,) * 2, np.uint8))
    mid = (grey > LIVER_ABOVE) & (grey <= TUMOR_ABOVE) & (smeared == 0)
    patches = cv2.erode(mid.astype(np.uint8), PATCH, borderType=cv2.BORDER_CONSTANT, borderValue=0)
    if not patches.any():
        return False
    low, high = MID_PLATEAU
    return bool(low <= np.median(grey[mid]) <= high)
