"""Pictures: outlines lie where the labels are, and every builder takes what it may meet."""

from __future__ import annotations

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from livseg_lib.reporting.pictures import (
    DASHED,
    SOLID,
    PatientSlice,
    best_median_worst,
    contact_sheet,
    draw_outlines,
    overlay,
    pick_best_median_worst,
    preprocessing_steps,
)

GREY = np.linspace(0, 255, 32 * 32).reshape(32, 32).astype(np.uint8)


def labels_with_tumour() -> np.ndarray:
    labels = np.zeros((32, 32), np.uint8)
    labels[8:24, 4:20] = 1
    labels[12:16, 8:12] = 2
    return labels


def outline_extent(collection) -> tuple[float, float, float, float]:
    points = np.vstack([path.vertices for path in collection.get_paths()])
    return (*points.min(axis=0), *points.max(axis=0))


def test_outlines_run_half_a_pixel_outside_their_structure():
    ax = Figure().subplots()
    draw_outlines(ax, labels_with_tumour(), SOLID)
    liver, tumour = ax.collections
    assert outline_extent(liver) == (3.5, 7.5, 19.5, 23.5)  # the liver includes its tumour
    assert outline_extent(tumour) == (7.5, 11.5, 11.5, 15.5)


def test_a_structure_that_fills_the_slice_is_outlined_all_around():
    ax = Figure().subplots()
    draw_outlines(ax, np.ones((10, 20), np.uint8), SOLID)
    assert outline_extent(ax.collections[0]) == (-0.5, -0.5, 19.5, 9.5)


def test_nothing_is_drawn_for_empty_labels():
    ax = Figure().subplots()
    draw_outlines(ax, np.zeros((8, 8), np.uint8), DASHED)
    assert not ax.collections


def test_overlay_names_what_it_shows():
    ax = Figure().subplots()
    overlay(GREY, labels_with_tumour(), (labels_with_tumour() > 0).astype(np.uint8), ax)
    assert [text.get_text() for text in ax.get_legend().get_texts()] == [
        "Liver truth",
        "Tumour truth",
        "Liver prediction",
    ]


def test_contact_sheet_shows_every_case_and_survives_hostile_titles():
    pictures = [(GREY, labels_with_tumour(), "$\\frac{"), (GREY, None, "x" * 300), (GREY, GREY * 0, "")]
    figure = contact_sheet(pictures)
    figure.canvas.draw()
    assert sum(bool(ax.images) for ax in figure.axes) == 3
    assert max(len(ax.get_title(loc="left")) for ax in figure.axes) <= 40


@pytest.mark.parametrize("count", [0, 1, 9, 30])
def test_contact_sheet_of_any_number(count):
    figure = contact_sheet([(GREY, None, str(k)) for k in range(count)])
    assert sum(bool(ax.images) for ax in figure.axes) == count


def test_preprocessing_steps_are_numbered_in_order():
    figure = preprocessing_steps({"as read": GREY, "windows": np.dstack([GREY] * 3)})
    assert [ax.get_title(loc="left") for ax in figure.axes] == ["1  as read", "2  windows"]


def test_best_median_worst_tells_an_undefined_dice_as_a_dash():
    labels = labels_with_tumour()
    figure = best_median_worst(
        [
            PatientSlice("best", "p-nan", GREY, labels, labels, 0.91234),
            PatientSlice("worst", "p2", GREY, labels * 0, labels * 0, float("nan")),
        ]
    )
    titles = [ax.get_title(loc="left") for ax in figure.axes]
    assert titles[:2] == ["Best: p-nan\nDice 0.912", "Worst: p2\nDice –"]


def test_the_enlarged_view_stays_inside_the_picture():
    labels = np.zeros((32, 32), np.uint8)
    labels[0:6, 26:32] = 1
    figure = best_median_worst([PatientSlice("best", "p", GREY, labels, labels, 1.0)])
    left, right, bottom, top = (*figure.axes[1].get_xlim(), *figure.axes[1].get_ylim())
    assert (left, right) == (7.5, 31.5) and (top, bottom) == (-0.5, 23.5)


@pytest.mark.parametrize(
    ("dice", "expected"),
    [
        ([0.5, 0.9, 0.7], {"best": "b", "median": "c", "worst": "a"}),
        ([0.5, np.nan, 0.7], {"best": "c", "worst": "a"}),
        ([np.nan, 0.4, np.nan], {"best": "b"}),
        ([np.nan, np.nan, np.nan], {}),
    ],
)
def test_pick_best_median_worst(dice, expected):
    assert pick_best_median_worst(pd.Series(dice, index=list("abc"))) == expected


def test_drawing_leaves_the_readers_style_alone():
    before = dict(matplotlib.rcParams)
    preprocessing_steps({"a": GREY})
    assert dict(matplotlib.rcParams) == before
