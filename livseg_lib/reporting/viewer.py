"""A scan to leaf through: slices drawn in milliseconds for the app and, with a slider, for notebooks."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING

import cv2
import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from livseg_lib.labels import STRUCTURES, structure_mask
from livseg_lib.preprocessing.windows import WINDOWS, Window, apply_window
from livseg_lib.reporting.pictures import PREDICTION_COLOURS, Tile, tiles
from livseg_lib.reporting.style import STRUCTURE_COLOURS

if TYPE_CHECKING:
    from ipywidgets import Widget

HEADLESS = "LIVSEG_HEADLESS"  # set where notebooks are executed for a report (`livseg_lib.notebooks`)

STATIC_SLICES = 5

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
    """The structure to look at first, and the slice that shows most of it.

    Of labels 0/1/2 (D, H, W) it is "tumor" in the first with any, else "liver" in the first with any; ""
    and the middle of `depth` slices where nothing is outlined.
    """
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
        colour = [round(255 * part) for part in to_rgb(colours[structure])]
        cv2.drawContours(picture, found, -1, colour, thickness, cv2.LINE_AA)


def slice_viewer(voxels: np.ndarray, outlines: Mapping[str, np.ndarray]) -> Widget | Figure:
    """Slices int16 HU (D, H, W) with a slider, window presets and a switch for each outline.

    `outlines` maps a name ("truth", a system) to labels 0/1/2 (D, H, W). Begins at the slice with most
    tumour. Executed headlessly, or without ipywidgets, a figure of some slices through the outlines.
    """
    is_static = os.environ.get(HEADLESS) or find_spec("ipywidgets") is None
    return (_side_by_side if is_static else _interactive)(voxels, outlines)


def _side_by_side(voxels: np.ndarray, outlines: Mapping[str, np.ndarray]) -> Figure:
    """STATIC_SLICES slices from feet to head over what is outlined; truth solid, the first other dashed."""
    marked = np.flatnonzero(np.any([labels.any(axis=(1, 2)) for labels in outlines.values()], axis=0))
    low, high = (marked[0], marked[-1]) if marked.size else (0, len(voxels) - 1)
    chosen = sorted({round(index) for index in np.linspace(low, high, STATIC_SLICES + 2)[1:-1]})
    truth = outlines.get(TRUTH)
    found = next((labels for name, labels in outlines.items() if name != TRUTH), None)
    pictures = []
    for index in chosen:
        shown = (None if labels is None else labels[index] for labels in (truth, found))
        pictures.append(Tile(apply_window(voxels[index], VIEW_WINDOWS["liver"]), f"slice {index}", *shown))
    return tiles(pictures, columns=len(chosen))


def _interactive(voxels: np.ndarray, outlines: Mapping[str, np.ndarray]) -> Widget:
    import ipywidgets as widgets

    _, start = slice_to_show(outlines.values(), len(voxels))
    index = widgets.IntSlider(start, 0, len(voxels) - 1, description="slice", layout={"width": "480px"})
    window = widgets.Dropdown(options=list(VIEW_WINDOWS), description="window")
    switches = {name: widgets.Checkbox(True, description=name, indent=False) for name in outlines}
    picture = widgets.Image(format="png", width=560)

    def draw(_change: object = None) -> None:
        shown = {name: outlines[name][index.value] for name, switch in switches.items() if switch.value}
        rgb = screen_slice(voxels[index.value], VIEW_WINDOWS[window.value], shown)
        picture.value = cv2.imencode(".png", rgb[..., ::-1])[1].tobytes()

    for control in (index, window, *switches.values()):
        control.observe(draw, "value")
    draw()
    return widgets.VBox([widgets.HBox([index, window]), widgets.HBox(list(switches.values())), picture])
