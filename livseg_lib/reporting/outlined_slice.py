"""What was outlined in a scan that has no truth: the slice that shows most of it, whole and enlarged."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from livseg_lib.labels import structure_mask
from livseg_lib.reporting.pictures import legend, overlay, overlay_keys, zoom
from livseg_lib.reporting.style import WIDTH, new_figure, styled


@styled
def outlined_slice(
    grey: np.ndarray,
    labels: np.ndarray,
    title: str,
    note: str,
    pixel_sides_mm: tuple[float, float] = (1.0, 1.0),
) -> Figure:
    """One slice, uint8 (H, W), with outlined labels 0/1/2 (H, W); a second, enlarged picture of these.

    `note` stands below. `pixel_sides_mm` (H, W) keeps bodies in their proportions; NaN counts as square.
    """
    tiles = 2 if labels.any() else 1
    fig = new_figure(WIDTH * tiles / 2, WIDTH / 2 + 0.8)
    aspect = pixel_sides_mm[0] / pixel_sides_mm[1]
    for number, ax in enumerate(fig.subplots(1, tiles, squeeze=False)[0]):
        overlay(grey, None, labels, ax, legend=False)
        ax.set_aspect(aspect if np.isfinite(aspect) else 1.0)
        if number:
            zoom(ax, labels)
    fig.axes[0].set_title(title)
    fig.supxlabel(note, x=0.99, ha="right", fontsize=9)
    legend(fig, overlay_keys(None, labels))
    return fig


def slice_to_show(labels: np.ndarray) -> int:
    """The slice of labels (D, H, W) with most tumour, else with most liver, else the middle one."""
    for structure in ("tumor", "liver"):
        area = structure_mask(labels, structure).sum(axis=(1, 2))
        if area.any():
            return int(area.argmax())
    return len(labels) // 2
