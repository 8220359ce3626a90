"""Pictures of slices: outlines of truth and prediction, heat over them, many side by side, sorted series.

And a scan to leaf through: slices drawn in milliseconds for the app and, with a slider, for notebooks.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np
import pandas as pd
from matplotlib import patheffects
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from livseg_lib.datasets.case import Case
from livseg_lib.labels import STRUCTURE_LABELS, STRUCTURES, structure_mask
from livseg_lib.postprocessing.components import label_components
from livseg_lib.preprocessing.recipe import Recipe, channel_windows, display_window
from livseg_lib.preprocessing.windows import apply_window
from livseg_lib.reporting import style
from livseg_lib.reporting.folder import format_number
from livseg_lib.reporting.screen import (
    PREDICTION_COLOURS,
    TRUTH,
    VIEW_WINDOWS,
    screen_slice,
    sides_around,
    slice_to_show,
)
from livseg_lib.volumes import Volume, load_prediction

if TYPE_CHECKING:
    from ipywidgets import Widget


SIDES = {"truth": ("solid", style.STRUCTURE_COLOURS), "prediction": ((0, (2.4, 1.6)), PREDICTION_COLOURS)}
"""Predictions are dashed, and lighter than the truth that they may cover."""


class Tile(NamedTuple):
    """One picture of `tiles`; arrays (H, W)."""

    picture: np.ndarray  # uint8 grey or RGB (H, W, 3); floats are drawn as heat, on a scale of their own
    title: str = ""
    truth: np.ndarray | None = None  # labels 0/1/2, outlined solid
    prediction: np.ndarray | None = None  # labels 0/1/2, outlined dashed
    heat: np.ndarray | None = None
    """float over the picture, clear where it is low; or a layer of colours (H, W, 4)."""
    around: np.ndarray | None = None
    """(H, W): the square around everything that is not 0 is shown; None: the whole picture."""


@style.styled
def tiles(
    pictures: Sequence[Tile],
    columns: int | None = None,
    limits: tuple[float, float] = (0.0, 1.0),
    bar: str | None = None,
    keys: Sequence[Artist] = (),
) -> Figure:
    """Pictures side by side, `columns` in a row, with a legend of what is outlined.

    `limits` are those of heat: from 0 dark to bright, from below 0 purple to orange. `bar` is the label of
    their colour bar, None for none. `keys` are further entries of the legend.
    """
    columns = columns or min(len(pictures), 8, max(4, math.ceil(math.sqrt(1.5 * len(pictures))))) or 1
    rows, side = max(1, math.ceil(len(pictures) / columns)), style.WIDTH / max(columns, 2)
    fig = style.new_figure(side * columns, (side + 0.25) * rows + 0.4)
    axes = list(fig.subplots(rows, columns, squeeze=False).ravel())
    for ax in axes:
        ax.set_axis_off()
    axes = axes[: len(pictures)]
    colour_map = "PuOr_r" if limits[0] < 0 else "inferno"
    shown: dict[str, Artist] = {}
    for ax, tile in zip(axes, pictures, strict=True):
        scale = {"cmap": colour_map} if tile.picture.dtype.kind == "f" else {"vmin": 0, "vmax": 255}
        ax.imshow(tile.picture, interpolation="bilinear" if "vmax" in scale else None, **scale)
        if tile.heat is not None:
            share = np.abs(np.nan_to_num(tile.heat)) / max(np.abs(limits))
            opacity = np.clip(1.4 * share, 0, 0.7) if limits[0] >= 0 else 0.7 * np.sqrt(np.clip(share, 0, 1))
            heat = {"cmap": colour_map, "vmin": limits[0], "vmax": limits[1], "alpha": opacity}
            ax.imshow(tile.heat, **(heat if tile.heat.ndim == 2 else {}))
        for side, labels in (("truth", tile.truth), ("prediction", tile.prediction)):
            if labels is not None:
                shown |= {key.get_label(): key for key in draw_outlines(ax, labels, side)}
        if tile.around is not None and tile.around.any():
            (top, bottom), (left, right) = np.array(sides_around(tile.around)) - 0.5  # pixel 0 is around 0
            ax.set(xlim=(left, right), ylim=(bottom, top))
        title_lines = [text if len(text) <= 40 else f"{text[:39]}…" for text in tile.title.split("\n")]
        ax.set_title("\n".join(title_lines), fontsize=9 if columns <= 6 else 8)
    if bar is not None:
        scale = ScalarMappable(Normalize(*limits), colour_map)
        fig.colorbar(scale, ax=axes, label=bar, shrink=0.7, aspect=30, fraction=0.03, pad=0.01)
    if handles := [*shown.values(), *keys]:
        fig.legend(handles=handles, loc="outside lower left", ncols=len(handles), handlelength=2.6)
    return fig


def contact_sheet(pictures: Sequence[tuple[np.ndarray, np.ndarray | None, str]]) -> Figure:
    """Cases at a glance: (grey uint8 (H, W), labels 0/1/2 or None, title) with outlined truth."""
    return tiles([Tile(grey, title, labels) for grey, labels, title in pictures])


def cascade_stages(grey: np.ndarray, reference: np.ndarray | None, found: Mapping[str, np.ndarray]) -> Figure:
    """A tile a step, enlarged around the liver: truth solid, what is found so far dashed.

    `grey` uint8 (H, W); `reference` labels 0/1/2 (H, W) or None; `found` name -> labels 0/1/2 (H, W).
    """
    around = np.any([labels for labels in (reference, *found.values()) if labels is not None], axis=0)
    shown = [
        Tile(grey, f"{number}  {name}", reference, labels, around=around)
        for number, (name, labels) in enumerate(found.items(), start=1)
    ]
    return tiles(shown, columns=min(4, max(1, len(found))))


def best_median_worst(
    dice: pd.Series, structure: str, cases: Mapping[str, Case], predictions: Path, recipe: Recipe
) -> Figure:
    """The cases with the best, the median and the worst Dice: a slice of each, and below it enlarged.

    `dice` by the name of the case, NaN where undefined. Shown is the slice with most of `structure` in the
    truth, or else in the prediction, or else with most liver, in the recipe's first window.
    """
    chosen = []
    for rank, name in pick_best_median_worst(dice).items():
        volume = cases[name].read_volume()
        reference, prediction = cases[name].read_labels(volume), load_prediction(volume, predictions, name)
        candidates = [structure_mask(reference, structure), structure_mask(prediction, structure)]
        shown = next((mask for mask in candidates if mask.any()), structure_mask(reference, "liver"))
        index = int(shown.sum(axis=(1, 2)).argmax())
        grey = apply_window(volume.voxels[index], channel_windows(volume.voxels, recipe)[0])
        title = f"{rank.capitalize()}: {name}\nDice {format_number('dice', dice[name])}"
        chosen.append(Tile(grey, title, reference[index], prediction[index]))
    enlarged = [tile._replace(title="", around=tile.truth | tile.prediction) for tile in chosen]
    return tiles([*chosen, *enlarged], columns=max(1, len(chosen)))


def pick_best_median_worst(dice: pd.Series) -> dict[str, str]:
    """Patients (the index) with the highest, the median (of an even number the upper one) and the lowest
    Dice; NaN is left out. Fewer than three patients give fewer entries, never the same patient twice."""
    ordered = list(dice.dropna().sort_values(kind="stable", ascending=False).index)
    last = len(ordered) - 1
    rank_of = {last // 2: "median", last: "worst", 0: "best"}  # of one patient the last name counts
    return {rank_of[place]: ordered[place] for place in sorted(rank_of) if ordered}


def draw_outlines(ax: Axes, labels: np.ndarray, side: str) -> list[Line2D]:
    """Closed outlines of every structure in `labels` (H, W), also where one touches the border.

    `side` is "truth" or "prediction". Gives their entries for a legend. Labels of tumours alone, as of a
    system that outlines nothing else, have no liver.
    """
    line, colours = SIDES[side]
    keys = []
    for structure in STRUCTURES:
        if not (labels == STRUCTURE_LABELS[structure]).any():
            continue
        mask = np.pad(structure_mask(labels, structure), 1).astype(np.float32)
        rows, columns = (np.arange(-1, size - 1) for size in mask.shape)
        colour = colours[structure]
        options = {"levels": [0.5], "colors": [colour], "linewidths": 1.6, "linestyles": [line]}
        outline = ax.contour(columns, rows, mask, **options)
        outline.set_path_effects([patheffects.withStroke(linewidth=2.6, foreground="#000000a0")])
        label = f"{style.structure_name(structure).capitalize()} {side}"
        stroke = [patheffects.withStroke(linewidth=3.4, foreground="#000000c0")]
        keys.append(Line2D([], [], color=colour, linestyle=line, label=label, path_effects=stroke))
    return keys


def lesion_picture(
    case: Case, lesion: int, title: str, field_mm: float = 90.0
) -> tuple[np.ndarray, np.ndarray, str]:
    """(grey uint8, labels 0/1/2, title), both (h, w): the slice with most of the tumour, cut out around it.

    `lesion` counts the face-connected tumours of the case from 1, as `lesion_hits` does. The cut is
    `field_mm` wide, less where the scan ends; without a known spacing it is the whole slice.
    """
    volume = case.read_volume()
    labels = case.read_labels(volume)
    tumor = label_components(structure_mask(labels, "tumor"))[0] == lesion
    index = int(tumor.sum(axis=(1, 2)).argmax())
    cut = slice(None), slice(None)
    if np.isfinite(volume.spacing_mm).all():
        middles = (indices.mean() for indices in np.nonzero(tumor[index]))
        halves = (field_mm / side_mm / 2 for side_mm in volume.spacing_mm[1:])
        ends = zip(middles, halves, strict=True)
        cut = tuple(slice(max(0, int(mid - half)), int(mid + half) + 1) for mid, half in ends)
    grey = apply_window(volume.voxels[index][cut], display_window(volume))
    return grey, labels[index][cut], title


REGION_NAMES = {
    "below_liver": "below the liver",
    "liver": "liver",
    "liver_with_tumor": "liver with tumour",
    "above_liver": "above the liver",
}
COLOURS = {
    "below the liver": style.LIGHT_GREY,
    "liver": style.SKY_BLUE,
    "liver with tumour": style.ORANGE,
    "above the liver": "#9aa1ab",
    "let through by the gate": style.BLACK,
}


class PatientStrip(NamedTuple):
    """One patient of `region_strips`, slices from feet to head."""

    patient: str
    truth: Sequence[str]  # regions (D,); any other name is left white
    predicted: Sequence[str]  # regions (D,)
    opened: np.ndarray  # bool (D,): slices that the gate lets through


def reading_tiles(volume: Volume, order: pd.DataFrame, count: int) -> list[Tile]:
    """The first `count` slices of a reading order: `place`, `slice`, `array_index` and `region`."""
    rows, window = order.head(count).itertuples(), display_window(volume)
    titles = {row.array_index: f"{row.place}: slice {row.slice}\n{REGION_NAMES[row.region]}" for row in rows}
    return [Tile(apply_window(volume.voxels[index], window), title) for index, title in titles.items()]


@style.styled
def region_strips(patients: Sequence[PatientStrip]) -> Figure:
    """Three strips a patient along the slices: the truth, the prediction, and what the gate lets through."""
    names = [*COLOURS, ""]
    fig = style.new_figure(style.WIDTH, 1.0 + 0.52 * max(1, len(patients)))
    axes = fig.subplots(max(1, len(patients)), 1, squeeze=False, sharex=True)[:, 0]
    for ax, strip in zip(axes, patients, strict=False):
        shown = [[REGION_NAMES.get(name, "") for name in side] for side in (strip.truth, strip.predicted)]
        shown.append([names[-2] if opened else "" for opened in strip.opened])
        numbers = [[names.index(name) for name in row] for row in shown]
        colours = ListedColormap([*COLOURS.values(), "white"])
        options = {"cmap": colours, "vmin": 0, "vmax": len(COLOURS), "interpolation": "nearest"}
        ax.imshow(numbers, aspect="auto", **options)
        ax.set_yticks([0, 1], ["truth", "called"], fontsize=7.5)
        ax.set_ylabel(strip.patient, rotation=0, ha="right", va="center", labelpad=8, color=style.BLACK)
        ax.grid(visible=False)
    axes[-1].set_xlabel("slice, from feet (left) to head")
    keys = [Patch(color=colour, label=name) for name, colour in COLOURS.items()]
    fig.legend(handles=keys, loc="outside lower left", ncols=len(keys), handlelength=1)
    return fig


HEADLESS = "LIVSEG_HEADLESS"  # set where notebooks are executed for a report (`livseg_lib.notebooks`)
STATIC_SLICES = 5


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
