"""A scan to leaf through in a notebook; a few slices side by side where nobody can move a slider."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

import cv2
import numpy as np
from matplotlib.figure import Figure

from livseg_lib.preprocessing.windows import apply_window
from livseg_lib.reporting.pictures import (
    TRUTH,
    VIEW_WINDOWS,
    grid_of_tiles,
    legend,
    overlay,
    overlay_keys,
    screen_slice,
    slice_to_show,
)
from livseg_lib.reporting.style import styled

if TYPE_CHECKING:
    from ipywidgets import Widget

HEADLESS = "LIVSEG_HEADLESS"
"""Set where notebooks are executed for a report (`livseg_lib.notebooks`)."""

STATIC_SLICES = 5


def slice_viewer(voxels: np.ndarray, outlines: Mapping[str, np.ndarray]) -> Widget | Figure:
    """Slices int16 HU (D, H, W) with a slider, window presets and a switch for each outline.

    `outlines` maps a name ("truth", a system) to labels 0/1/2 (D, H, W). Begins at the slice with most
    tumour. Executed headlessly, or without ipywidgets, a figure of some slices through the outlines.
    """
    if os.environ.get(HEADLESS):
        return slices_side_by_side(voxels, outlines)
    try:
        return _interactive(voxels, outlines)
    except ImportError:
        return slices_side_by_side(voxels, outlines)


@styled
def slices_side_by_side(voxels: np.ndarray, outlines: Mapping[str, np.ndarray]) -> Figure:
    """STATIC_SLICES slices from feet to head over what is outlined; truth solid, the first other dashed."""
    marked = [np.flatnonzero(labels.any(axis=(1, 2))) for labels in outlines.values()]
    marked = np.concatenate([np.arange(0), *marked])
    low, high = (marked.min(), marked.max()) if marked.size else (0, len(voxels) - 1)
    chosen = sorted({round(index) for index in np.linspace(low, high, STATIC_SLICES + 2)[1:-1]})
    truth = outlines.get(TRUTH)
    found = next((labels for name, labels in outlines.items() if name != TRUTH), None)
    figure, axes = grid_of_tiles(len(chosen), len(chosen), footer=0.35)
    for ax, index in zip(axes, chosen, strict=True):
        grey = apply_window(voxels[index], VIEW_WINDOWS["liver"])
        of_slice = (None if labels is None else labels[index] for labels in (truth, found))
        overlay(grey, *of_slice, ax, legend=False)
        ax.set_title(f"slice {index}", fontsize=9)
    legend(figure, overlay_keys(truth, found))
    return figure


def _interactive(voxels: np.ndarray, outlines: Mapping[str, np.ndarray]) -> Widget:
    import ipywidgets as widgets

    start = slice_to_show(next(iter(outlines.values()), np.zeros(voxels.shape, np.uint8)))
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
