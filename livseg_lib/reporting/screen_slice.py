"""One slice as a picture for a screen, drawn in milliseconds: for viewers with a slider."""

from __future__ import annotations

from collections.abc import Mapping

import cv2
import numpy as np
from matplotlib.colors import to_rgb

from livseg_lib.labels import STRUCTURES, structure_mask
from livseg_lib.preprocessing.windows import WINDOWS, Window, apply_window
from livseg_lib.reporting.pictures import PREDICTION_COLOURS
from livseg_lib.reporting.style import STRUCTURE_COLOURS

TRUTH = "truth"
VIEW_WINDOWS = {
    "liver": WINDOWS["liver"],
    "soft tissue": WINDOWS["abdomen"],
    "narrow": WINDOWS["liver_narrow"],
    "wide": WINDOWS["liver_wide"],
}
"""Presets of a viewer."""

SHORTEST_SIDE_PIXELS = 512
"""Smaller slices are enlarged, so that an outline is thinner than what it outlines."""


def screen_slice(hu: np.ndarray, window: Window, outlines: Mapping[str, np.ndarray]) -> np.ndarray:
    """RGB uint8 (H', W', 3) of one slice, int16 (H, W), with the outlines of labels 0/1/2 (H, W) by name.

    "truth" is drawn in the colours of truth in all figures, everything else in those of predictions.
    """
    factor = max(1, -(-SHORTEST_SIDE_PIXELS // min(hu.shape)))
    grey = _enlarged(apply_window(hu, window), factor, cv2.INTER_CUBIC)
    picture = np.repeat(grey[..., None], 3, axis=2)
    for name, labels in outlines.items():
        colours = STRUCTURE_COLOURS if name == TRUTH else PREDICTION_COLOURS
        for structure in STRUCTURES:
            mask = structure_mask(labels, structure).astype(np.uint8)
            found, _ = cv2.findContours(
                _enlarged(mask, factor, cv2.INTER_NEAREST), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE
            )
            cv2.drawContours(picture, found, -1, _rgb(colours[structure]), min(factor, 2), cv2.LINE_AA)
    return picture


def _enlarged(picture: np.ndarray, factor: int, interpolation: int) -> np.ndarray:
    return cv2.resize(picture, None, fx=factor, fy=factor, interpolation=interpolation)


def _rgb(colour: str) -> tuple[int, int, int]:
    return tuple(round(255 * part) for part in to_rgb(colour))
