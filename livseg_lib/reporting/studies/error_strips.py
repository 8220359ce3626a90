"""A patient as a strip of slices from feet to head: the truth, the prediction, and where they differ."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from livseg_lib.labels import STRUCTURE_LABELS, structure_mask
from livseg_lib.reporting.pictures import DASHED, SOLID, draw_outlines
from livseg_lib.reporting.style import GREY, ORANGE, SKY_BLUE, new_figure, structure_name, styled

ERROR_COLOURS = {"missed": ORANGE, "invented": SKY_BLUE, "right": "#ffffff"}
"""Apart for colour-blind readers; invented voxels are hatched as well."""

STRIP_WIDTH = 7.0
"""Inches: CT is noise, and a file of the report has to stay small."""

HATCH = "////"

ROOM = 1.1
"""Side of the square shown, by that of what is outlined."""

ROWS = ("truth", "prediction", "error")


class StripSlice(NamedTuple):
    """One column of a strip; arrays (H, W)."""

    index: int
    """From the feet."""
    grey: np.ndarray
    """uint8."""
    reference: np.ndarray
    """Labels 0/1/2."""
    prediction: np.ndarray
    """Labels 0/1/2."""


def choose_slices(reference: np.ndarray, prediction: np.ndarray, structure: str, count: int) -> list[int]:
    """At most `count` slices of labels (D, H, W), ascending: of each stretch that with most error.

    Slices that show the structure in truth or prediction are cut into `count` stretches alike.
    """
    true, found = structure_mask(reference, structure), structure_mask(prediction, structure)
    shown = np.flatnonzero((true | found).any(axis=(1, 2)))
    error = (true != found).sum(axis=(1, 2))
    stretches = np.array_split(shown, min(count, len(shown))) if len(shown) else []
    return [int(stretch[error[stretch].argmax()]) for stretch in stretches]


@styled
def error_strip(slices: Sequence[StripSlice], structure: str, title: str) -> Figure:
    """Three rows (ROWS) and a column a slice, at least one, all cut to one square around what is outlined."""
    tile = STRIP_WIDTH / max(len(slices), 4)
    fig = new_figure(tile * max(len(slices), 3), 3 * tile + 0.9)  # room for the title and the keys
    axes = fig.subplots(3, len(slices), squeeze=False)
    square = _square([mask for one in slices for mask in (one.reference > 0, _masks(one, structure)[1])])
    for column, one in zip(axes.T, slices, strict=True):
        true, found = (mask[square] for mask in _masks(one, structure))
        for ax in column:
            ax.imshow(one.grey[square], vmin=0, vmax=255, interpolation="bilinear")
            ax.set(xticks=[], yticks=[])
            ax.spines[:].set_visible(False)
        draw_outlines(column[0], true * STRUCTURE_LABELS[structure], SOLID)
        draw_outlines(column[1], found * STRUCTURE_LABELS[structure], DASHED)
        _paint(column[2], {"missed": true & ~found, "invented": found & ~true, "right": true & found})
        column[0].set_title(f"slice {one.index}", fontsize=9)
    for ax, name in zip(axes[:, 0], ROWS, strict=True):
        ax.set_ylabel(name, color=GREY)
    fig.suptitle(title, x=0.01, ha="left", fontsize=10.5, fontweight="bold")
    keys = [_key(name, structure) for name in ERROR_COLOURS]
    fig.legend(handles=keys, loc="outside lower left", ncols=len(keys), handlelength=1.6)
    return fig


def _masks(one: StripSlice, structure: str) -> tuple[np.ndarray, np.ndarray]:
    return structure_mask(one.reference, structure), structure_mask(one.prediction, structure)


def _square(masks: Sequence[np.ndarray]) -> tuple[slice, slice]:
    """Rows and columns of a square, as far as pictures go, around all masks (H, W), with a little room."""
    shown = np.any(masks, axis=0)
    if not shown.any():
        return slice(None), slice(None)
    places = np.nonzero(shown)
    half = ROOM * max(np.ptp(each) + 1 for each in places) / 2
    middles = ((each.min() + each.max() + 1) / 2 for each in places)
    return tuple(slice(max(0, round(middle - half)), round(middle + half)) for middle in middles)


def _paint(ax: Axes, masks: dict[str, np.ndarray]) -> None:
    painted = np.zeros((*masks["right"].shape, 4))
    for name, mask in masks.items():
        painted[mask] = to_rgba(ERROR_COLOURS[name], 0.3 if name == "right" else 0.75)
    ax.imshow(painted, interpolation="nearest")
    if masks["invented"].any():
        ax.contourf(masks["invented"].astype(float), levels=[0.5, 1.5], colors="none", hatches=[HATCH])


def _key(name: str, structure: str) -> Patch:
    text = f"{structure_name(structure)} {name}"
    hatch = HATCH if name == "invented" else None
    return Patch(facecolor=ERROR_COLOURS[name], edgecolor=GREY, hatch=hatch, label=text)
