"""Superpixels on a slice, and the patches that a classifier sees of them (system J)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from skimage.segmentation import find_boundaries

from livseg_lib.labels import TUMOR
from livseg_lib.postprocessing.superpixels import Candidates, Superpixels
from livseg_lib.reporting.pictures import SOLID, draw_outlines, grid_of_tiles, legend
from livseg_lib.reporting.style import ORANGE, PURPLE, SKY_BLUE, YELLOW, styled

BORDER = "#ffffff70"
TINT = 0.6
"""Opacity of a superpixel of value 1."""


class PatchPicture(NamedTuple):
    """One tile of `patch_sheet`."""

    grey: np.ndarray
    """uint8 (h, w)."""
    labels: np.ndarray
    """0 outside the liver, 1 liver, 2 the superpixel, (h, w)."""
    title: str


@styled
def superpixel_scales(
    grey: np.ndarray, labels: np.ndarray, candidates: Candidates, values: np.ndarray, index: int, meaning: str
) -> Figure:
    """Slice `index` of the liver, a tile a scale: borders of its superpixels, candidates tinted by value.

    `grey` uint8 and `labels` 0/1/2 are the whole slice (H, W), the true tumour is outlined. `values` (n,), 0
    to 1, belong to the candidates, and `meaning` says what they are. The slice has to show liver.
    """
    fig, axes = grid_of_tiles(len(candidates.superpixels), 3, footer=0.35)
    for ax, each in zip(axes, candidates.superpixels, strict=True):
        depth, *plane = each.box
        cut, ids = tuple(plane), each.ids[index - depth.start]
        ax.imshow(grey[cut], vmin=0, vmax=255)
        ax.imshow(_tinted(ids, _value_of_ids(each, candidates, values)))
        draw_outlines(ax, np.where(labels[cut] == TUMOR, TUMOR, 0), SOLID)
        ax.set_title(f"{each.scale_mm:g} mm, {each.ids.max()} superpixels", fontsize=9)
        ax.set_axis_off()
    keys = [Patch(color=PURPLE, alpha=TINT, label=meaning), Line2D([], [], color=ORANGE, label="Tumour")]
    legend(fig, keys)
    return fig


@styled
def patch_sheet(patches: Sequence[PatchPicture]) -> Figure:
    """Patches at a glance: the liver outlined in blue, the superpixel that is asked about in yellow."""
    fig, axes = grid_of_tiles(len(patches), min(6, max(1, len(patches))), footer=0.35)
    for ax, patch in zip(axes, patches, strict=True):
        ax.imshow(patch.grey, vmin=0, vmax=255, interpolation="bilinear")
        for label, colour in ((1, SKY_BLUE), (2, YELLOW)):
            mask = (patch.labels >= label).astype(np.float32)
            if 0 < mask.mean() < 1:
                ax.contour(mask, levels=[0.5], colors=[colour], linewidths=1.4)
        ax.set_title(patch.title, fontsize=9)
        ax.set_axis_off()
    names = {"Liver": SKY_BLUE, "Superpixel": YELLOW}
    legend(fig, [Line2D([], [], color=colour, label=name) for name, colour in names.items()])
    return fig


def _value_of_ids(superpixels: Superpixels, candidates: Candidates, values: np.ndarray) -> np.ndarray:
    """Values by id, 0 to the largest; 0 for what is no candidate."""
    rows = (candidates.table["scale_mm"] == superpixels.scale_mm).to_numpy()
    by_id = np.zeros(superpixels.ids.max() + 1)
    by_id[candidates.table["superpixel"].to_numpy(int)[rows]] = np.asarray(values)[rows]
    return by_id


def _tinted(ids: np.ndarray, value_of_id: np.ndarray) -> np.ndarray:
    """A layer (H, W, 4) over the slice."""
    layer = np.empty((*ids.shape, 4))
    layer[:] = to_rgba(PURPLE)
    layer[..., 3] = TINT * value_of_id[ids]
    layer[find_boundaries(ids, mode="inner") & (ids > 0)] = to_rgba(BORDER)
    return layer
