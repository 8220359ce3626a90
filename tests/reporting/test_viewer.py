"""Slices for a screen: outlines where the labels end, sliders that draw, a figure where nobody can slide."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from matplotlib.figure import Figure

from livseg_lib.preprocessing.windows import WINDOWS
from livseg_lib.reporting.pictures import HEADLESS, screen_slice, slice_to_show, slice_viewer

BOX = np.zeros((64, 64), np.uint8)
BOX[20:40, 10:30] = 1
BOX[25:30, 15:20] = 2


def coloured(picture: np.ndarray) -> np.ndarray:
    return picture.max(axis=2).astype(int) - picture.min(axis=2) > 40


def test_only_the_border_of_what_is_labelled_is_coloured():
    factor = 512 // 64
    picture = screen_slice(np.full((64, 64), 100, np.int16), WINDOWS["liver"], {"truth": BOX})
    assert picture.shape == (512, 512, 3)
    rows, columns = np.nonzero(coloured(picture))
    assert (rows.min(), rows.max()) == pytest.approx((20 * factor, 40 * factor - 1), abs=2)
    assert (columns.min(), columns.max()) == pytest.approx((10 * factor, 30 * factor - 1), abs=2)
    assert not coloured(picture)[22 * factor : 24 * factor, 12 * factor : 28 * factor].any()
    predicted = screen_slice(np.full((64, 64), 100, np.int16), WINDOWS["liver"], {"unet": BOX})
    assert not np.array_equal(picture, predicted)  # a prediction has colours of its own


def test_without_outlines_it_is_the_windowed_slice():
    hu = np.random.default_rng(0).integers(-200, 300, (512, 512)).astype(np.int16)
    picture = screen_slice(hu, WINDOWS["liver"], {})
    assert (picture == picture[..., :1]).all()
    assert picture[hu < -50].max() == 0 and picture[hu > 200].min() == 255


def test_the_slider_draws_another_slice(monkeypatch):
    pytest.importorskip("ipywidgets")
    monkeypatch.delenv(HEADLESS, raising=False)
    voxels = np.stack([np.full((64, 64), hu, np.int16) for hu in (0, 50, 100)])
    viewer = slice_viewer(voxels, {"truth": np.stack([BOX * 0, BOX, BOX * 0])})
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


@pytest.mark.parametrize(
    "outlines", [{}, {"truth": np.stack([BOX] * 9)}, {"unet": np.zeros((9, 64, 64), np.uint8)}]
)
def test_headless_it_is_a_figure(monkeypatch, outlines):
    monkeypatch.setenv(HEADLESS, "1")
    assert isinstance(slice_viewer(np.zeros((9, 64, 64), np.int16), outlines), Figure)


def test_a_viewer_begins_where_most_tumour_is_of_the_first_outline_with_any():
    nothing, liver, tumors = (np.zeros((7, 4, 4), np.uint8) for _ in range(3))
    liver[2:4, 0, 0] = liver[3, 1, 1] = 1
    tumors[5, 0, :2] = tumors[1, 0, 0] = 2
    assert slice_to_show([nothing, liver, tumors], 7) == ("tumor", 5)
    assert slice_to_show([nothing, liver], 7) == ("liver", 3)
    assert slice_to_show([nothing], 7) == slice_to_show([], 7) == ("", 3)
    assert slice_to_show([tumors * 0 + 2, tumors], 7) == ("tumor", 0)  # of equals the lowest
