"""Sorted slices as pictures: which region is taken for which, and where along a patient."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from livseg_lib.preprocessing.recipe import display_window
from livseg_lib.preprocessing.windows import apply_window
from livseg_lib.reporting.style import (
    BLACK,
    BLUE,
    GREY,
    LIGHT_GREY,
    ORANGE,
    SKY_BLUE,
    WIDTH,
    new_figure,
    styled,
)
from livseg_lib.volumes import Volume

REGION_NAMES = {
    "below_liver": "below the liver",
    "liver": "liver",
    "liver_with_tumor": "liver with tumour",
    "above_liver": "above the liver",
}
REGION_COLOURS = {
    "below_liver": LIGHT_GREY,
    "liver": SKY_BLUE,
    "liver_with_tumor": ORANGE,
    "above_liver": "#9aa1ab",
}


SHARES = LinearSegmentedColormap.from_list("shares", ["white", BLUE])


class PatientStrip(NamedTuple):
    """One patient of `region_strips`, slices from feet to head."""

    patient: str
    truth: Sequence[str]
    """Regions (D,); any other name is left white."""
    predicted: Sequence[str]
    """Regions (D,)."""
    opened: np.ndarray
    """Bool (D,): slices that the gate lets through."""


def reading_tiles(volume: Volume, order: pd.DataFrame, count: int) -> list[tuple[np.ndarray, None, str]]:
    """The first `count` slices of a reading order, as `contact_sheet` takes them.

    `order` has `place`, `slice`, `array_index` and `region`.
    """
    window = display_window(volume)
    return [
        (
            apply_window(volume.voxels[row.array_index], window),
            None,
            f"{row.place}: slice {row.slice}\n{REGION_NAMES[row.region]}",
        )
        for row in order.head(count).itertuples()
    ]


@styled
def confusion_matrices(confusions: Mapping[str, pd.DataFrame]) -> Figure:
    """One panel a set of slices: title -> counts (K, K), rows the truth, columns what it was called.

    Shades are shares of a row, so that a rare region reads like a frequent one; an empty row stays white.
    """
    size = max((len(confusion) for confusion in confusions.values()), default=1)
    fig = new_figure(WIDTH, 1.2 + 0.85 * size)
    panels = fig.subplots(1, max(1, len(confusions)), squeeze=False, sharey=True)[0]
    for ax, (title, confusion) in zip(panels, confusions.items(), strict=False):
        _draw_confusion(ax, confusion)
        ax.set(title=title, xlabel="called")
    panels[0].set_ylabel("is")
    return fig


@styled
def region_strips(patients: Sequence[PatientStrip]) -> Figure:
    """A pair of strips a patient along the slices: truth above, prediction below, line: let through."""
    fig = new_figure(WIDTH, 1.0 + 0.52 * max(1, len(patients)))
    axes = fig.subplots(max(1, len(patients)), 1, squeeze=False, sharex=True)[:, 0]
    for ax, strip in zip(axes, patients, strict=False):
        _draw_strip(ax, strip)
    axes[-1].set_xlabel("slice, from feet (left) to head")
    shown = {region for strip in patients for region in (*strip.truth, *strip.predicted)}
    keys = [Patch(color=REGION_COLOURS[r], label=REGION_NAMES[r]) for r in REGION_NAMES if r in shown]
    keys.append(Patch(color=BLACK, label="let through by the gate"))
    fig.legend(handles=keys, loc="outside lower left", ncols=len(keys), handlelength=1)
    return fig


def _draw_confusion(ax: Axes, confusion: pd.DataFrame) -> None:
    counts = confusion.to_numpy()
    shares = np.divide(
        counts,
        counts.sum(axis=1, keepdims=True),
        where=counts.sum(axis=1, keepdims=True) > 0,
        out=np.zeros(counts.shape),
    )
    ax.imshow(shares, cmap=SHARES, vmin=0, vmax=1, aspect="auto")
    for (row, column), count in np.ndenumerate(counts):
        text = f"{count}\n{shares[row, column]:.0%}" if count else "0"
        colour = "white" if shares[row, column] > 0.6 else BLACK if count else GREY
        ax.text(column, row, text, ha="center", va="center", fontsize=9, color=colour)
    names = [REGION_NAMES.get(name, name).replace(" ", "\n", 1) for name in confusion]
    ax.set_xticks(range(len(names)), names, color=BLACK, fontsize=8.5)
    ax.set_yticks(range(len(names)), names, color=BLACK, fontsize=8.5)
    ax.grid(visible=False)


def _draw_strip(ax: Axes, strip: PatientStrip) -> None:
    regions = list(REGION_COLOURS)
    colours = ListedColormap([*REGION_COLOURS.values(), "white"])
    for row, names in enumerate((strip.truth, strip.predicted)):
        numbers = [regions.index(name) if name in regions else len(regions) for name in names]
        ax.pcolormesh(
            np.arange(len(numbers) + 1), [row, row + 0.9], [numbers], cmap=colours, vmin=0, vmax=len(regions)
        )
    for start, stop in _runs(np.asarray(strip.opened, dtype=bool)):
        ax.plot([start, stop], [2.2, 2.2], color=BLACK, linewidth=2.2, solid_capstyle="butt")
    ax.set_ylim(2.6, -0.1)
    ax.set_yticks([0.45, 1.45], ["truth", "called"], fontsize=7.5)
    ax.set_ylabel(strip.patient, rotation=0, ha="right", va="center", labelpad=8, color=BLACK)
    ax.grid(visible=False)


def _runs(opened: np.ndarray) -> list[tuple[int, int]]:
    """(first, one past the last) of each run of True in `opened` (D,)."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], opened, [False]]).astype(int)))
    return [(int(start), int(stop)) for start, stop in edges.reshape(-1, 2)]
