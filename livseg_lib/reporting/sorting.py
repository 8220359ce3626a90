"""Sorted slices as pictures: a series in reading order, and what was called what along a patient."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from livseg_lib.preprocessing.recipe import display_window
from livseg_lib.preprocessing.windows import apply_window
from livseg_lib.reporting.pictures import Tile
from livseg_lib.reporting.style import BLACK, LIGHT_GREY, ORANGE, SKY_BLUE, WIDTH, new_figure, styled
from livseg_lib.volumes import Volume

REGION_NAMES = {
    "below_liver": "below the liver",
    "liver": "liver",
    "liver_with_tumor": "liver with tumour",
    "above_liver": "above the liver",
}
COLOURS = {
    "below the liver": LIGHT_GREY,
    "liver": SKY_BLUE,
    "liver with tumour": ORANGE,
    "above the liver": "#9aa1ab",
    "let through by the gate": BLACK,
}


class PatientStrip(NamedTuple):
    """One patient of `region_strips`, slices from feet to head."""

    patient: str
    truth: Sequence[str]
    """Regions (D,); any other name is left white."""
    predicted: Sequence[str]
    """Regions (D,)."""
    opened: np.ndarray
    """Bool (D,): slices that the gate lets through."""


def reading_tiles(volume: Volume, order: pd.DataFrame, count: int) -> list[Tile]:
    """The first `count` slices of a reading order: `place`, `slice`, `array_index` and `region`."""
    window = display_window(volume)
    return [
        Tile(
            apply_window(volume.voxels[row.array_index], window),
            f"{row.place}: slice {row.slice}\n{REGION_NAMES[row.region]}",
        )
        for row in order.head(count).itertuples()
    ]


@styled
def region_strips(patients: Sequence[PatientStrip]) -> Figure:
    """Three strips a patient along the slices: the truth, the prediction, and what the gate lets through."""
    names = [*COLOURS, ""]
    fig = new_figure(WIDTH, 1.0 + 0.52 * max(1, len(patients)))
    axes = fig.subplots(max(1, len(patients)), 1, squeeze=False, sharex=True)[:, 0]
    for ax, strip in zip(axes, patients, strict=False):
        shown = [[REGION_NAMES.get(name, "") for name in side] for side in (strip.truth, strip.predicted)]
        shown.append([names[-2] if opened else "" for opened in strip.opened])
        numbers = [[names.index(name) for name in row] for row in shown]
        colours = ListedColormap([*COLOURS.values(), "white"])
        look = {"cmap": colours, "vmin": 0, "vmax": len(COLOURS), "interpolation": "nearest"}
        ax.imshow(numbers, aspect="auto", **look)
        ax.set_yticks([0, 1], ["truth", "called"], fontsize=7.5)
        ax.set_ylabel(strip.patient, rotation=0, ha="right", va="center", labelpad=8, color=BLACK)
        ax.grid(visible=False)
    axes[-1].set_xlabel("slice, from feet (left) to head")
    keys = [Patch(color=colour, label=name) for name, colour in COLOURS.items()]
    fig.legend(handles=keys, loc="outside lower left", ncols=len(keys), handlelength=1)
    return fig
