"""Explanations as pictures: heat over a slice, what covering it takes away, where an answer is unsure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from livseg_lib.reporting.pictures import (
    DASHED,
    SOLID,
    draw_outlines,
    grid_of_tiles,
    legend,
    overlay,
    overlay_keys,
    zoom,
)
from livseg_lib.reporting.style import WIDTH, new_figure, styled

HEAT = "inferno"
"""Dark to bright: readable by colour-blind people and in print."""

AGAINST_AND_FOR = "PuOr_r"
"""Purple below 0, orange above."""

TILES_A_ROW = 6


class Explained(NamedTuple):
    """One tile: a network's map and what it outlines on the same slice."""

    name: str
    heat: np.ndarray
    """float32 (H, W), 0 to 1."""
    prediction: np.ndarray
    """Labels 0/1/2, (H, W)."""


@styled
def explanation_maps(grey: np.ndarray, reference: np.ndarray, tiles: Sequence[Explained]) -> Figure:
    """A slice, and a tile for each network's map on it, enlarged around what anyone outlines.

    `grey` uint8 (H, W), `reference` labels 0/1/2 (H, W). Truth solid, the network's own outline dashed.
    """
    rows = math.ceil((1 + len(tiles)) / TILES_A_ROW)
    fig, axes = grid_of_tiles(1 + len(tiles), math.ceil((1 + len(tiles)) / rows), footer=0.5)
    outlines = [reference, *(tile.prediction for tile in tiles)]
    overlay(grey, reference, None, axes[0], legend=False)
    axes[0].set_title("slice and truth", fontsize=8)
    for ax, tile in zip(axes[1:], tiles, strict=True):
        _heat_over(ax, grey, tile.heat)
        draw_outlines(ax, reference, SOLID)
        draw_outlines(ax, tile.prediction, DASHED)
        ax.set_title(tile.name, fontsize=8)
    for ax in axes:
        zoom(ax, *outlines)
    _heat_key(fig, axes, "highest = 1")
    keys = {key.get_label(): key for labels in outlines for key in overlay_keys(reference, labels)}
    legend(fig, list(keys.values()))
    return fig


@styled
def level_maps(grey: np.ndarray, reference: np.ndarray, heats: Mapping[str, np.ndarray]) -> Figure:
    """One network's maps at several of its layers, in order: title -> float32 (H, W), 0 to 1."""
    fig, axes = grid_of_tiles(len(heats), min(4, max(1, len(heats))), footer=0.4)
    for ax, (name, heat) in zip(axes, heats.items(), strict=True):
        _heat_over(ax, grey, heat)
        draw_outlines(ax, reference, SOLID)
        ax.set_title(name, fontsize=9)
        zoom(ax, reference)
    _heat_key(fig, axes, "highest = 1")
    legend(fig, overlay_keys(reference, None))
    return fig


@styled
def occlusion_map(
    grey: np.ndarray, reference: np.ndarray, prediction: np.ndarray, drops: np.ndarray
) -> Figure:
    """Left truth and prediction, right how far the probability of what was asked about falls, by place.

    Enlarged around the outlines. `prediction` labels 0/1/2 (H, W), `drops` float32 (H, W), -1 to 1.
    """
    fig = new_figure(WIDTH, WIDTH / 2 + 0.1)
    left, right = fig.subplots(1, 2)
    overlay(grey, reference, prediction, left, legend=False)
    left.set_title("truth and prediction")
    overlay(grey, None, None, right, legend=False)
    reach = max(float(np.nanmax(np.abs(drops), initial=0)), 1e-3)
    shown = right.imshow(
        drops, cmap=AGAINST_AND_FOR, vmin=-reach, vmax=reach, alpha=0.7 * np.abs(drops / reach) ** 0.5
    )
    draw_outlines(right, reference, SOLID)
    right.set_title("fall of its mean probability where covered")
    fig.colorbar(shown, ax=right, shrink=0.8, format=lambda value, _: f"{value:+.2f}".replace("-", "−"))
    for ax in (left, right):
        zoom(ax, reference, prediction)
    legend(fig, overlay_keys(reference, prediction))
    return fig


@styled
def warning_maps(
    grey: np.ndarray,
    reference: np.ndarray,
    prediction: np.ndarray,
    wrong: np.ndarray,
    warnings: Mapping[str, np.ndarray],
) -> Figure:
    """A slice with truth and prediction, its `wrong` pixels, and a tile for each warning, by name.

    `reference` and `prediction` are labels 0/1/2, `wrong` bool, `grey` uint8, warnings float32, all (H, W).
    Each warning has its own scale, dark where it is lowest: only their order is compared.
    """
    fig, axes = grid_of_tiles(2 + len(warnings), 4, footer=0.35)
    overlay(grey, reference, prediction, axes[0], legend=False)
    axes[0].set_title("truth and prediction", fontsize=9)
    tiles = {"wrong pixels": wrong.astype(np.float32), **warnings}
    for ax, (name, heat) in zip(axes[1:], tiles.items(), strict=True):
        ax.imshow(heat, cmap=HEAT)
        ax.set_axis_off()
        ax.set_title(name, fontsize=9)
    for ax in axes:
        zoom(ax, wrong, (reference == reference.max()) * reference)
    legend(fig, overlay_keys(reference, prediction))
    return fig


def _heat_over(ax: Axes, grey: np.ndarray, heat: np.ndarray) -> None:
    """Heat that lets the grey through where it is low."""
    overlay(grey, None, None, ax, legend=False)
    ax.imshow(heat, cmap=HEAT, vmin=0, vmax=1, alpha=np.clip(1.4 * heat, 0, 0.7))


def _heat_key(fig: Figure, axes: Sequence[Axes], text: str) -> None:
    place = {"ax": list(axes), "shrink": 0.6, "aspect": 30, "fraction": 0.03, "pad": 0.01}
    fig.colorbar(ScalarMappable(Normalize(0, 1), HEAT), label=text, **place)
