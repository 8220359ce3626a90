"""Figures as files: small PNG pictures that carry their own caption."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from matplotlib import pyplot
from matplotlib.figure import Figure
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from livseg_lib.files import write_atomically

MAX_FIGURE_BYTES = 150_000
GREYS, COLOURS = 32, 96
"""Of the palette: noise hides the steps of CT, and a third of the bytes is saved."""
RESOLUTIONS_DPI = (160, 140, 120, 105, 90, 70, 50, 30)


def save_figure(fig: Figure, folder: Path | str, name: str, caption: str = "") -> Path:
    """Write `folder/name.png`, at most 150 kB, and close the figure.

    The caption travels inside the file (PNG text "Description"), where `read_caption` and the report
    page find it. Colours are cut to a palette, which neither grey CT nor charts miss; a figure
    still too large is drawn at a lower resolution.
    """
    for dpi in RESOLUTIONS_DPI:
        content = figure_png(fig, dpi, caption)
        if len(content) <= MAX_FIGURE_BYTES:
            break
    pyplot.close(fig)
    return write_atomically(Path(folder) / f"{name}.png", content)


def read_caption(path: Path | str) -> str:
    """The caption that `save_figure` put into the PNG at `path`; "" if it has none."""
    with Image.open(path) as image:
        return str(image.info.get("Description", ""))


def figure_png(fig: Figure, dpi: int, caption: str = "") -> bytes:
    """The figure as a PNG of few colours with its caption inside."""
    drawn, small = io.BytesIO(), io.BytesIO()
    fig.savefig(drawn, format="png", dpi=dpi)
    information = PngInfo()
    information.add_text("Description", caption)
    with Image.open(drawn) as image:
        _to_palette(image.convert("RGB")).save(small, format="png", optimize=True, pnginfo=information)
    return small.getvalue()


def _to_palette(image: Image.Image) -> Image.Image:
    """GREYS, so that CT stays neutral, and COLOURS for all else."""
    rgb = np.asarray(image)
    is_grey = np.ptp(rgb, axis=-1) <= 2
    coarse = np.where(is_grey[..., None], 0, (rgb & 0xF8) | 4)  # choosing among millions would take minutes
    coloured = Image.fromarray(coarse).quantize(COLOURS, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    index = np.where(is_grey, rgb[..., 1] // (256 // GREYS), GREYS + np.asarray(coloured))
    small = Image.fromarray(index.astype(np.uint8))
    greys = np.linspace(0, 255, GREYS).round().astype(int).repeat(3)
    small.putpalette([*greys.tolist(), *coloured.getpalette()])
    return small
