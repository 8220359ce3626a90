"""Pictures: outlines lie where the labels are, and every builder takes what it may meet."""

from __future__ import annotations

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from livseg_lib.datasets.case import Case
from livseg_lib.preprocessing.recipe import Recipe
from livseg_lib.reporting.pictures import (
    Tile,
    best_median_worst,
    cascade_stages,
    contact_sheet,
    draw_outlines,
    lesion_picture,
    outlined_slice,
    pick_best_median_worst,
    tiles,
)
from livseg_lib.volumes import Volume

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
    draw_outlines(ax, labels_with_tumour(), "truth")
    liver, tumour = ax.collections
    assert outline_extent(liver) == (3.5, 7.5, 19.5, 23.5)  # the liver includes its tumour
    assert outline_extent(tumour) == (7.5, 11.5, 11.5, 15.5)


def test_a_structure_that_fills_the_slice_is_outlined_all_around_and_nothing_not_at_all():
    ax = Figure().subplots()
    draw_outlines(ax, np.ones((10, 20), np.uint8), "truth")
    assert outline_extent(ax.collections[0]) == (-0.5, -0.5, 19.5, 9.5)
    assert draw_outlines(ax, np.zeros((8, 8), np.uint8), "prediction") == [] and len(ax.collections) == 1


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


def titles(figure) -> list[str]:
    return [ax.get_title(loc="left") for ax in figure.axes]


def test_tiles_outline_truth_solid_and_prediction_dashed_and_say_so():
    labels = labels_with_tumour()
    figure = tiles(
        [Tile(GREY, "a", truth=labels), Tile(np.dstack([GREY] * 3), "b", prediction=labels & 1)], 2
    )
    assert titles(figure) == ["a", "b"]
    assert [len(ax.collections) for ax in figure.axes] == [2, 1]
    assert outline_extent(figure.axes[0].collections[0]) == (3.5, 7.5, 19.5, 23.5)
    words = [text.get_text() for text in figure.legends[0].get_texts()]
    assert words == ["Liver truth", "Tumour truth", "Liver prediction"]


@pytest.mark.parametrize(
    ("limits", "at", "opacity"),
    [((0, 1), 0.0, 0.0), ((0, 1), 0.25, 0.35), ((0, 1), 1.0, 0.7), ((-2, 2), -0.5, 0.35), ((-2, 2), 2, 0.7)],
)
def test_heat_is_clear_where_it_is_low(limits, at, opacity):
    figure = tiles([Tile(GREY, heat=np.full((32, 32), at))], limits=limits, bar="heat")
    heat = figure.axes[0].images[1]
    assert heat.get_clim() == limits and np.allclose(heat.get_alpha(), opacity)
    assert figure.axes[-1].get_ylabel() == "heat"
    layer = np.zeros((32, 32, 4))
    assert tiles([Tile(GREY, heat=layer)]).axes[0].images[1].get_array().shape == layer.shape


def test_the_enlarged_view_stays_inside_the_picture():
    labels = np.zeros((32, 32), np.uint8)
    labels[0:6, 26:32] = 1
    (ax,) = tiles([Tile(GREY, around=labels)]).axes
    left, right, bottom, top = (*ax.get_xlim(), *ax.get_ylim())
    assert (left, right) == (7.5, 31.5) and (top, bottom) == (-0.5, 23.5)
    wide = np.zeros((100, 100), np.uint8)
    wide[50:53, 30:71] = 1  # 40 pixels from end to end: 25 to either side of the middle
    (ax,) = tiles([Tile(wide, around=wide)]).axes
    assert (*ax.get_xlim(), *ax.get_ylim()) == (25, 75, 76, 26)


def test_best_median_worst_shows_the_slice_with_most_of_the_structure(tmp_path):
    truth = np.zeros((3, 32, 32), np.uint8)
    truth[1], truth[2, :4, :4] = labels_with_tumour(), 1
    found = np.zeros_like(truth)
    found[2, 3:9, 3:9] = 2
    volume = Volume(np.zeros(truth.shape, np.int16), (5.0, 1.0, 1.0))
    cases, true = {}, {"good": truth, "bad": truth * 0}
    for name, labels in true.items():
        np.save(tmp_path / f"{name}.npy", found)
        cases[name] = Case(name, name, (), lambda: volume, lambda _, labels=labels: labels)
    dice = pd.Series({"good": 0.91234, "gone": np.nan, "bad": 0.0})
    figure = best_median_worst(dice, "tumor", cases, tmp_path, Recipe(size=32))
    assert titles(figure) == ["Best: good\nDice 0.912", "Worst: bad\nDice 0.000", "", ""]
    # Slice 1, with the tumour of the truth, and slice 2, with that of the prediction where there is no truth.
    assert [len(ax.collections) for ax in figure.axes[:2]] == [2, 2]
    whole, enlarged = (np.ptp(figure.axes[number].get_xlim()) for number in (1, 3))
    assert enlarged < 32 <= whole


def test_a_tumour_is_cut_out_of_the_slice_with_most_of_it():
    labels = np.ones((3, 60, 60), np.uint8)
    labels[0, 5:10, 5:10] = 2
    labels[1, 30:33, 39:42] = labels[2, 29:34, 38:43] = 2  # the second tumour, most of it in slice 2
    for spacing_mm, shape, corner in (
        ((5.0, 2.0, 1.0), (11, 21), (26, 30)),
        ((np.nan,) * 3, (60, 60), (0, 0)),
    ):
        volume = Volume(np.arange(labels.size, dtype=np.int16).reshape(labels.shape), spacing_mm)
        case = Case("a", "a", (), lambda volume=volume: volume, lambda _: labels)
        grey, cut, title = lesion_picture(case, 2, "two", field_mm=20)
        assert grey.shape == cut.shape == shape and title == "two"
        rows, columns = np.nonzero(cut == 2)
        in_sight = (rows + corner[0] >= 29) & (columns + corner[1] >= 38)
        assert in_sight.sum() == 25


def test_a_cascade_numbers_its_steps_and_a_scan_without_truth_has_none():
    labels = labels_with_tumour()
    figure = cascade_stages(GREY, None, {"liver": labels & 1, "tumours": labels})
    assert titles(figure)[:2] == ["1  liver", "2  tumours"]
    words = [text.get_text() for text in figure.legends[0].get_texts()]
    assert words == ["Liver prediction", "Tumour prediction"]


def test_an_outlined_slice_is_enlarged_where_anything_is_outlined():
    figure = outlined_slice(GREY, labels_with_tumour(), "title", "a note", (2.0, 1.0))
    assert titles(figure) == ["title", ""] and figure.get_supxlabel() == "a note"
    assert [ax.get_aspect() for ax in figure.axes] == [2.0, 2.0]
    (ax,) = outlined_slice(GREY, GREY * 0, "title", "", (np.nan, np.nan)).axes
    assert ax.get_aspect() == 1.0


@pytest.mark.parametrize(
    ("dice", "expected"),
    [
        ([0.5, 0.9, 0.7], {"best": "b", "median": "c", "worst": "a"}),
        ([0.5, np.nan, 0.7], {"best": "c", "worst": "a"}),
        ([0.5, 0.6, 0.7, 0.8], {"best": "d", "median": "c", "worst": "a"}),
        ([np.nan, 0.4, np.nan], {"best": "b"}),
        ([np.nan, np.nan, np.nan], {}),
    ],
)
def test_pick_best_median_worst(dice, expected):
    assert pick_best_median_worst(pd.Series(dice, index=list("abcd")[: len(dice)])) == expected


def test_drawing_leaves_the_readers_style_alone():
    before = dict(matplotlib.rcParams)
    tiles([Tile(GREY, "a")])
    assert dict(matplotlib.rcParams) == before
