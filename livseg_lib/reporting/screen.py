"""Slices for a screen, drawn in milliseconds without matplotlib: outlined, in a window, beside a title."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from livseg_lib.labels import STRUCTURES, structure_mask
from livseg_lib.preprocessing.windows import WINDOWS, Window, apply_window
from livseg_lib.reporting.style import BLACK, STRUCTURE_COLOURS, YELLOW, structure_name

PREDICTION_COLOURS = {"liver": "#ffffff", "tumor": YELLOW}
TRUTH = "truth"
VIEW_WINDOWS = {
    "liver": WINDOWS["liver"],
    "soft tissue": WINDOWS["abdomen"],
    "narrow": WINDOWS["liver_narrow"],
    "wide": WINDOWS["liver_wide"],
}
"""What a reader may choose, in notebooks, in the app and on a patient page; the first at the start."""

SHORTEST_SIDE_PIXELS = 512  # smaller slices are enlarged, so that an outline is thinner than what it outlines


def slice_to_show(outlines: Iterable[np.ndarray], depth: int) -> tuple[str, int]:
    """Of labels 0/1/2 (D, H, W) "tumor" in the first with any, else "liver" in the first with any, and the
    slice that shows most of it; "" and the middle of `depth` slices where nothing is outlined."""
    outlines = list(outlines)
    for structure in reversed(STRUCTURES):
        for labels in outlines:
            area = structure_mask(labels, structure).sum(axis=(1, 2))
            if area.any():
                return structure, int(area.argmax())
    return "", depth // 2


def screen_slice(hu: np.ndarray, window: Window, outlines: Mapping[str, np.ndarray]) -> np.ndarray:
    """RGB uint8 (H', W', 3) of one slice, int16 (H, W), with the outlines of labels 0/1/2 (H, W) by name.

    "truth" is drawn in the colours of truth in all figures, everything else in those of predictions.
    """
    factor = max(1, -(-SHORTEST_SIDE_PIXELS // min(hu.shape)))
    grey = cv2.resize(apply_window(hu, window), None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC)
    picture = np.repeat(grey[..., None], 3, axis=2)
    for name, labels in outlines.items():
        colours = STRUCTURE_COLOURS if name == TRUTH else PREDICTION_COLOURS
        draw_outlined(picture, labels, colours, thickness=min(factor, 2))
    return picture


def draw_outlined(
    picture: np.ndarray, labels: np.ndarray, colours: Mapping[str, str], thickness: int
) -> None:
    """Draw the borders of liver and tumours of labels 0/1/2 (H, W) into an RGB picture of any size."""
    for structure in STRUCTURES:
        mask = structure_mask(labels, structure).astype(np.float32)
        share = cv2.resize(mask, picture.shape[1::-1], interpolation=cv2.INTER_AREA)
        found, _ = cv2.findContours((share >= 0.5).astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
        colour = [*bytes.fromhex(colours[structure][1:])]
        cv2.drawContours(picture, found, -1, colour, thickness, cv2.LINE_AA)


PANEL_PIXELS, LINE_PIXELS = 640, 28  # of a panel of `outlined_slice`, and of a line of text


def outlined_slice(
    grey: np.ndarray,
    labels: np.ndarray,
    title: str,
    note: str,
    pixel_sides_mm: Sequence[float] = (1.0, 1.0),
) -> Image.Image:
    """One slice, uint8 (H, W), with outlined labels 0/1/2 (H, W); a second, enlarged picture of these.

    A key and `note` stand below. `pixel_sides_mm` (H, W) keeps proportions; NaN counts as square.
    """
    aspect = pixel_sides_mm[0] / pixel_sides_mm[1]
    stretch = np.array([aspect if np.isfinite(aspect) else 1.0, 1.0])
    cuts = [(slice(None), slice(None)), *([around(labels)] if labels.any() else [])]
    sheet = Image.new("RGB", (PANEL_PIXELS * len(cuts), PANEL_PIXELS + 2 * LINE_PIXELS), "white")
    for number, cut in enumerate(cuts):
        sides = np.array(grey[cut].shape) * stretch
        rows, columns = np.maximum(1, np.rint(sides * (PANEL_PIXELS - 8) / sides.max()).astype(int))
        larger = cv2.resize(grey[cut], (int(columns), int(rows)), interpolation=cv2.INTER_CUBIC)
        picture = np.repeat(larger[..., None], 3, axis=2)
        draw_outlined(picture, labels[cut], PREDICTION_COLOURS, thickness=2)
        left = PANEL_PIXELS * number + (PANEL_PIXELS - int(columns)) // 2
        sheet.paste(Image.fromarray(picture), (left, LINE_PIXELS + (PANEL_PIXELS - int(rows)) // 2))
    draw, style = ImageDraw.Draw(sheet), {"fill": BLACK, "font": ImageFont.load_default(15)}
    title = title if len(title) <= 70 else f"{title[:69]}…"
    draw.text((6, LINE_PIXELS // 2), title, anchor="lm", **style)
    low = sheet.height - LINE_PIXELS // 2
    draw.text((sheet.width - 6, low), note, anchor="rm", **style)
    for number, structure in enumerate(each for each in STRUCTURES if structure_mask(labels, each).any()):
        left = 6 + 180 * number
        draw.rectangle((left, low - 7, left + 26, low + 7), fill=BLACK)
        draw.line((left + 3, low, left + 23, low), fill=PREDICTION_COLOURS[structure], width=2)
        draw.text(
            (left + 32, low), f"{structure_name(structure).capitalize()} prediction", anchor="lm", **style
        )
    return sheet


def sides_around(labels: np.ndarray) -> list[tuple[float, float]]:
    """Where the square around all of `labels` (H, W), not all 0, begins and ends, in rows and in columns (row
    0: 0 to 1): with a margin of a quarter of its size, as far as the picture goes; at least 24 pixels
    wide."""
    indices = np.nonzero(labels)
    half = min(max(12, 0.625 * max(np.ptp(each) for each in indices)), min(labels.shape) / 2)
    middles = [
        np.clip((each.min() + each.max() + 1) / 2, half, size - half)  # stay in the picture
        for each, size in zip(indices, labels.shape, strict=True)
    ]
    return [(middle - half, middle + half) for middle in middles]


def around(labels: np.ndarray) -> tuple[slice, slice]:
    """The whole pixels of `sides_around`."""
    return tuple(slice(int(low), int(np.ceil(high))) for low, high in sides_around(labels))
