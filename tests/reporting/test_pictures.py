"""Pictures: outlines lie where the labels are, and every builder takes what it may meet."""

import cv2
import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from solids import labelled

from livseg_lib.datasets.case import Case
from livseg_lib.preprocessing.recipe import Recipe
from livseg_lib.preprocessing.windows import WINDOWS
from livseg_lib.reporting import pictures as module
from livseg_lib.reporting import screen
from livseg_lib.volumes import Volume

GREY = np.linspace(0, 255, 32 * 32).reshape(32, 32).astype(np.uint8)


def labels_with_tumour() -> np.ndarray:
    return labelled((32, 32), np.s_[12:16, 8:12], liver=np.s_[8:24, 4:20])


def outline_extent(collection) -> tuple[float, float, float, float]:
    points = np.vstack([path.vertices for path in collection.get_paths()])
    return (*points.min(axis=0), *points.max(axis=0))


def test_outlines_run_half_a_pixel_outside_their_structure():
    ax = Figure().subplots()
    module.draw_outlines(ax, labels_with_tumour(), "truth")
    liver, tumour = ax.collections
    assert outline_extent(liver) == (3.5, 7.5, 19.5, 23.5)  # the liver includes its tumour
    assert outline_extent(tumour) == (7.5, 11.5, 11.5, 15.5)


def test_a_structure_that_fills_the_slice_is_outlined_all_around_and_nothing_not_at_all():
    ax = Figure().subplots()
    module.draw_outlines(ax, np.ones((10, 20), np.uint8), "truth")
    assert outline_extent(ax.collections[0]) == (-0.5, -0.5, 19.5, 9.5)
    assert module.draw_outlines(ax, np.zeros((8, 8), np.uint8), "prediction") == []
    assert len(ax.collections) == 1
    [key] = module.draw_outlines(ax, np.full((8, 8), 2, np.uint8), "prediction")  # it outlines tumours alone
    assert key.get_label() == "Tumour prediction"


@pytest.mark.parametrize("count", [0, 1, 3, 30])
def test_contact_sheet_shows_every_case_and_survives_hostile_titles(count):
    pictures = [(GREY, labels_with_tumour(), "$\\frac{"), (GREY, None, "x" * 300), (GREY, GREY * 0, "")]
    before = dict(matplotlib.rcParams)
    figure = module.contact_sheet((pictures * 10)[:count])
    figure.canvas.draw()
    assert dict(matplotlib.rcParams) == before
    assert sum(bool(ax.images) for ax in figure.axes) == count
    assert all(len(ax.get_title(loc="left")) <= 40 for ax in figure.axes)


def titles(figure) -> list[str]:
    return [ax.get_title(loc="left") for ax in figure.axes]


def test_tiles_outline_truth_solid_and_prediction_dashed_and_say_so():
    labels = labels_with_tumour()
    second = module.Tile(np.dstack([GREY] * 3), "b", prediction=labels & 1)
    figure = module.tiles([module.Tile(GREY, "a", truth=labels), second], 2)
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
    figure = module.tiles([module.Tile(GREY, heat=np.full((32, 32), at))], limits=limits, bar="heat")
    heat = figure.axes[0].images[1]
    assert heat.get_clim() == limits and np.allclose(heat.get_alpha(), opacity)
    assert figure.axes[-1].get_ylabel() == "heat"
    layer = np.zeros((32, 32, 4))
    assert module.tiles([module.Tile(GREY, heat=layer)]).axes[0].images[1].get_array().shape == layer.shape


def test_the_enlarged_view_stays_inside_the_picture():
    labels = labelled((32, 32), liver=np.s_[0:6, 26:32])
    (ax,) = module.tiles([module.Tile(GREY, around=labels)]).axes
    left, right, bottom, top = (*ax.get_xlim(), *ax.get_ylim())
    assert (left, right) == (7.5, 31.5) and (top, bottom) == (-0.5, 23.5)
    wide = np.zeros((100, 100), np.uint8)
    wide[50:53, 30:71] = 1  # 40 pixels from end to end: 25 to either side of the middle
    (ax,) = module.tiles([module.Tile(wide, around=wide)]).axes
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
    figure = module.best_median_worst(dice, "tumor", cases, tmp_path, Recipe(size=32))
    assert titles(figure) == ["Best: good\nDice 0.912", "Worst: bad\nDice 0.000", "", ""]
    # Slice 1, with liver and tumour of the truth, and slice 2, with the predicted tumour and no truth.
    assert [len(ax.collections) for ax in figure.axes[:2]] == [2, 1]
    whole, enlarged = (np.ptp(figure.axes[number].get_xlim()) for number in (1, 3))
    assert enlarged < 32 <= whole


def test_a_cascade_numbers_its_steps_and_a_scan_without_truth_has_none():
    labels = labels_with_tumour()
    figure = module.cascade_stages(GREY, None, {"liver": labels & 1, "tumours": labels})
    assert titles(figure)[:2] == ["1  liver", "2  tumours"]
    words = [text.get_text() for text in figure.legends[0].get_texts()]
    assert words == ["Liver prediction", "Tumour prediction"]


def test_an_outlined_slice_is_enlarged_where_anything_is_outlined():
    square = labelled((40, 60), np.s_[12:16, 8:12], liver=np.s_[10:20, 5:15])
    grey = np.full((40, 60), 90, np.uint8)
    both = np.asarray(screen.outlined_slice(grey, square, "title", "a note", (2.0, 1.0)))
    assert both.shape == (screen.PANEL_PIXELS + 2 * screen.LINE_PIXELS, 2 * screen.PANEL_PIXELS, 3)
    left, right = np.split(both, 2, axis=1)
    of_whole, of_enlarged = (coloured(each[: screen.PANEL_PIXELS]).sum() for each in (left, right))
    assert of_enlarged > 1.5 * of_whole > 0
    assert coloured(left[-screen.LINE_PIXELS :]).any()  # the key of what is outlined
    grey = (left == 90).all(axis=2)  # 40 rows of 2 mm and 60 columns of 1 mm
    height, width = (np.ptp(np.flatnonzero(grey.any(axis=axis))) for axis in (1, 0))
    assert height / width == pytest.approx(80 / 60, rel=0.02)
    alone = screen.outlined_slice(GREY, GREY * 0, "title", "", (np.nan, np.nan))
    assert alone.width == screen.PANEL_PIXELS and not coloured(np.asarray(alone)).any()


def test_the_square_around_what_is_labelled_stays_in_the_picture():
    labels = labelled((100, 80), liver=np.s_[95:99, 0:40])
    rows, columns = screen.around(labels)
    assert (rows.stop, columns.start) == (100, 0) and labels[rows, columns].sum() == labels.sum()
    assert [side.stop - side.start for side in (rows, columns)] == pytest.approx([49, 49], abs=1)


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
    assert module.pick_best_median_worst(pd.Series(dice, index=list("abcd")[: len(dice)])) == expected


BOX = labelled((64, 64), np.s_[25:30, 15:20], liver=np.s_[20:40, 10:30])


def coloured(picture: np.ndarray) -> np.ndarray:
    return picture.max(axis=2).astype(int) - picture.min(axis=2) > 40


def test_only_the_border_of_what_is_labelled_is_coloured():
    factor = 512 // 64
    picture = screen.screen_slice(np.full((64, 64), 100, np.int16), WINDOWS["liver"], {"truth": BOX})
    assert picture.shape == (512, 512, 3)
    rows, columns = np.nonzero(coloured(picture))
    assert (rows.min(), rows.max()) == pytest.approx((20 * factor, 40 * factor - 1), abs=2)
    assert (columns.min(), columns.max()) == pytest.approx((10 * factor, 30 * factor - 1), abs=2)
    assert not coloured(picture)[22 * factor : 24 * factor, 12 * factor : 28 * factor].any()
    predicted = screen.screen_slice(np.full((64, 64), 100, np.int16), WINDOWS["liver"], {"unet": BOX})
    assert not np.array_equal(picture, predicted)  # a prediction has colours of its own


def test_without_outlines_it_is_the_windowed_slice():
    hu = np.random.default_rng(0).integers(-200, 300, (512, 512)).astype(np.int16)
    picture = screen.screen_slice(hu, WINDOWS["liver"], {})
    assert (picture == picture[..., :1]).all()
    assert picture[hu < -50].max() == 0 and picture[hu > 200].min() == 255


def test_the_slider_draws_another_slice(monkeypatch):
    pytest.importorskip("ipywidgets")
    monkeypatch.delenv(module.HEADLESS, raising=False)
    voxels = np.stack([np.full((64, 64), hu, np.int16) for hu in (0, 50, 100)])
    viewer = module.slice_viewer(voxels, {"truth": np.stack([BOX * 0, BOX, BOX * 0])})
    controls, switches, picture = viewer.children
    before = picture.value
    controls.children[0].value = 2
    shown = cv2.imdecode(np.frombuffer(picture.value, np.uint8), cv2.IMREAD_COLOR)
    assert picture.value != before
    assert not coloured(shown).any() and shown[0, 0, 0] == pytest.approx(255 * 150 / 250, abs=1)
    controls.children[0].value = 1
    assert picture.value == before
    switches.children[0].value = False
    assert picture.value != before


@pytest.mark.parametrize("outlines", [{}, {"truth": np.stack([BOX] * 9)}, {"unet": np.stack([BOX * 0] * 9)}])
def test_headless_it_is_a_figure(monkeypatch, outlines):
    monkeypatch.setenv(module.HEADLESS, "1")
    assert isinstance(module.slice_viewer(np.zeros((9, 64, 64), np.int16), outlines), Figure)


def test_a_viewer_begins_where_most_tumour_is_of_the_first_outline_with_any():
    nothing, liver, tumors = (np.zeros((7, 4, 4), np.uint8) for _ in range(3))
    liver[2:4, 0, 0] = liver[3, 1, 1] = 1
    tumors[5, 0, :2] = tumors[1, 0, 0] = 2
    assert screen.slice_to_show([nothing, liver, tumors], 7) == ("tumor", 5)
    assert screen.slice_to_show([nothing, liver], 7) == ("liver", 3)
    assert screen.slice_to_show([nothing], 7) == screen.slice_to_show([], 7) == ("", 3)
    assert screen.slice_to_show([tumors * 0 + 2, tumors], 7) == ("tumor", 0)  # of equals the lowest


def pixels(figure) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(figure._repr_png_(), np.uint8), cv2.IMREAD_COLOR)


def test_strips_show_truth_prediction_and_what_is_let_through():
    truth = ["below_liver"] * 2 + ["liver"] * 3 + ["above_liver"]
    opened = np.array([False, True, True, True, False, True])
    unnamed = module.PatientStrip("8", ["", "liver"], truth[:2], opened[:2])
    figure = module.region_strips([module.PatientStrip("7", truth, truth, opened), unnamed])
    assert [ax.get_ylabel() for ax in figure.axes] == ["7", "8"]
    truth, called, passing = figure.axes[0].images[0].get_array()
    assert truth.tolist() == called.tolist() == [0, 0, 1, 1, 1, 3]
    assert passing.tolist() == [5, 4, 4, 4, 5, 4]
    assert figure.axes[1].images[0].get_array()[0].tolist() == [5, 1]  # what has no name is left white
    assert pixels(figure).std() > 10 and pixels(module.region_strips([])).size


def test_tiles_follow_the_reading_order():
    voxels = np.array([0, 50, 100, 200], np.int16)[:, None, None] * np.ones((1, 8, 8), np.int16)
    rows = [(1, 12, 2, "liver_with_tumor"), (2, 10, 0, "liver"), (3, 13, 3, "above_liver")]
    order = pd.DataFrame(rows, columns=["place", "slice", "array_index", "region"])
    shown = module.reading_tiles(Volume(voxels, (1.0, 1.0, 1.0)), order, count=2)
    assert [tile.title for tile in shown] == ["1: slice 12\nliver with tumour", "2: slice 10\nliver"]
    assert [int(tile.picture[0, 0]) for tile in shown] == [100, 0] and shown[0].picture.dtype == np.uint8


def test_a_tumour_is_cut_out_of_the_slice_with_most_of_it():
    labels = np.ones((3, 60, 60), np.uint8)
    labels[0, 5:10, 5:10] = 2
    labels[1, 30:33, 39:42] = labels[2, 29:34, 38:43] = 2  # the second tumour, most of it in slice 2
    known, unknown = ((5.0, 2.0, 1.0), (11, 21), (26, 30)), ((np.nan,) * 3, (60, 60), (0, 0))
    for spacing_mm, shape, corner in (known, unknown):
        volume = Volume(np.arange(labels.size, dtype=np.int16).reshape(labels.shape), spacing_mm)
        case = Case("a", "a", (), lambda volume=volume: volume, lambda _: labels)
        grey, cut, title = module.lesion_picture(case, 2, "two", field_mm=20)
        assert grey.shape == cut.shape == shape and title == "two"
        rows, columns = np.nonzero(cut == 2)
        in_sight = (rows + corner[0] >= 29) & (columns + corner[1] >= 38)
        assert in_sight.sum() == 25
