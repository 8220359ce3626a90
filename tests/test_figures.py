"""Figures as files: small, whole, and carrying their caption."""

from __future__ import annotations

import numpy as np
from matplotlib import pyplot
from PIL import Image

from livseg_lib.outputs import MAX_FIGURE_BYTES, read_caption, save_figure
from livseg_lib.reporting.style import ORANGE, new_figure


def test_the_caption_travels_with_the_picture(tmp_path):
    caption = "Dice ≥ 0.9 of „π“ <b>"
    path = save_figure(new_figure(3, 2), tmp_path / "figures", "empty", caption)
    assert list(path.parent.iterdir()) == [tmp_path / "figures" / "empty.png"]  # nothing partial is left
    assert read_caption(path) == caption
    Image.new("L", (4, 4)).save(tmp_path / "plain.png")
    assert read_caption(tmp_path / "plain.png") == ""


def test_noise_is_still_written_below_the_limit(tmp_path):
    figure = new_figure(5, 5)
    noise = np.random.default_rng(0).integers(0, 255, (800, 800, 3), dtype=np.uint8)
    figure.add_axes((0, 0, 1, 1)).imshow(noise)
    assert save_figure(figure, tmp_path, "noise").stat().st_size <= MAX_FIGURE_BYTES


def test_colours_survive_greys_stay_neutral_and_nothing_stays_open(tmp_path):
    figure = pyplot.figure(figsize=(2, 2))
    ax = figure.add_axes((0, 0, 1, 1))
    ax.imshow(np.linspace(0, 255, 10000).reshape(100, 100), cmap="gray")
    ax.axvspan(10, 20, color=ORANGE)
    with Image.open(save_figure(figure, tmp_path, "mixed")) as image:
        colours = {colour for _, colour in image.convert("RGB").getcolors(1_000_000)}
    assert any(np.abs(np.subtract(colour, (0xE6, 0x9F, 0x00))).max() <= 4 for colour in colours)
    assert sum(len(set(colour)) == 1 for colour in colours) >= 30
    assert (255, 255, 255) in colours and (0, 0, 0) in colours
    assert not pyplot.get_fignums()


def test_a_notebook_shows_a_figure_without_pyplot():
    assert new_figure(1, 1)._repr_png_().startswith(b"\x89PNG")
