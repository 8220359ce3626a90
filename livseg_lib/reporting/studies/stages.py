"""What each step of a cascade has found, on one slice."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from livseg_lib.reporting.pictures import grid_of_tiles, legend, overlay, overlay_keys, zoom
from livseg_lib.reporting.style import styled


@styled
def cascade_stages(grey: np.ndarray, reference: np.ndarray | None, found: Mapping[str, np.ndarray]) -> Figure:
    """A tile a step, enlarged around the liver: truth solid, what is found so far dashed.

    `grey` uint8 (H, W); `reference` labels 0/1/2 (H, W) or None; `found` name -> labels 0/1/2 (H, W).
    """
    fig, axes = grid_of_tiles(len(found), min(4, max(1, len(found))), footer=0.35)
    anything = [labels for labels in (reference, *found.values()) if labels is not None]
    for number, (ax, (name, labels)) in enumerate(zip(axes, found.items(), strict=True), start=1):
        overlay(grey, reference, labels, ax, legend=False)
        ax.set_title(f"{number}  {name}", fontsize=9)
        zoom(ax, *anything)
    keys = {key.get_label(): key for labels in found.values() for key in overlay_keys(reference, labels)}
    legend(fig, list(keys.values()))
    return fig
