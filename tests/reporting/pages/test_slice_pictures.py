"""Slices as light pictures: the right box, the right grey, and an honest loss."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from livseg_lib.preprocessing.windows import WINDOWS, apply_window
from livseg_lib.reporting.pages.slice_pictures import (
    MAX_SIDE_PIXELS,
    STORED_WINDOW,
    stored_window,
    view_box,
    write_slice_pictures,
    write_thumbnail,
)

SHAPE = (20, 100, 120)


def marked(*box: slice) -> np.ndarray:
    labels = np.zeros(SHAPE, np.uint8)
    labels[box] = 1
    return labels


def test_the_box_holds_every_outline_with_a_margin_in_mm():
    outlines = [
        marked(slice(8, 10), slice(50, 60), slice(50, 60)),
        marked(slice(9, 12), slice(70, 71), slice(40, 41)),
    ]
    box = view_box(outlines, SHAPE, (10.0, 2.0, 1.0))  # 12 mm: 2 slices, 6 rows, 12 columns
    assert box == (slice(6, 14), slice(44, 77), slice(28, 72))


def test_the_box_stays_in_the_scan_and_is_all_of_it_without_outlines():
    everything = tuple(slice(0, size) for size in SHAPE)
    assert view_box([marked(slice(None), slice(0, 3), slice(118, 120))], SHAPE, (5, 1, 1))[0] == slice(0, 20)
    assert view_box([np.zeros(SHAPE, np.uint8)], SHAPE, (5, 1, 1)) == everything
    assert view_box([], SHAPE, (5, 1, 1)) == everything


def test_pictures_without_spacing_have_a_margin_within_the_slice_only():
    box = view_box([marked(slice(3, 4), slice(50, 51), slice(50, 51))], SHAPE, (np.nan,) * 3)
    assert box == (slice(3, 4), slice(34, 67), slice(34, 67))


def test_grey_levels_keep_their_range_and_hu_theirs():
    assert stored_window(np.array([[0, 255]])) == WINDOWS["stored"]
    assert stored_window(np.array([[-1000, 255]])) == STORED_WINDOW


def test_pictures_are_numbered_reduced_and_true_to_what_they_say(tmp_path):
    rng = np.random.default_rng(0)
    voxels = (rng.normal(60, 20, (3, 500, 800)) + np.linspace(0, 100, 800)).astype(np.int16)
    loss = write_slice_pictures(voxels, tmp_path, STORED_WINDOW)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["000.webp", "001.webp", "002.webp"]
    with Image.open(tmp_path / "001.webp") as picture:
        assert picture.size == (MAX_SIDE_PIXELS, 240)
        grey = np.asarray(picture.convert("L"), float)
    expected = apply_window(voxels[1], STORED_WINDOW).mean()
    assert grey.mean() == pytest.approx(expected, abs=1)
    assert loss.step == pytest.approx(500 / 255) and 0 < loss.error < 20


def test_what_has_no_noise_loses_next_to_nothing(tmp_path):
    loss = write_slice_pictures(np.full((2, 64, 64), 100, np.int16), tmp_path, STORED_WINDOW)
    assert loss.error <= 2 * loss.step


def test_a_thumbnail_shows_the_outlines_in_colour(tmp_path):
    labels = marked(slice(0, 1), slice(20, 80), slice(20, 80))[0]
    write_thumbnail(np.full(SHAPE[1:], 75, np.int16), labels, WINDOWS["liver"], tmp_path / "a.webp")
    write_thumbnail(np.full(SHAPE[1:], 75, np.int16), None, WINDOWS["liver"], tmp_path / "b.webp")
    spread = []
    for name in ("a", "b"):
        with Image.open(tmp_path / f"{name}.webp") as picture:
            rgb = np.asarray(picture.convert("RGB"), int)
        spread.append(np.ptp(rgb, axis=-1).max())
    assert spread[0] > 40 > 10 > spread[1]
