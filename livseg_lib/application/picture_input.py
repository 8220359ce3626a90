"""Pictures as a scan: greys become HU by a range that someone has to say, and nothing is known of mm."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from livseg_lib.application.scan import Scan
from livseg_lib.datasets.pictures import read_grey
from livseg_lib.errors import InputError
from livseg_lib.preprocessing.windows import Window
from livseg_lib.volumes import Volume

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg")
STORED_HU = (0.0, 255.0)
"""HU of black and white in the public sets of LiTS slices: grey level and HU are the same there."""


def read_pictures(
    read_volume: Callable[[], Volume],
    slice_numbers: tuple[int, ...] | None = None,
    hu: tuple[float, float] = STORED_HU,
    left_out: int = 0,
) -> Scan:
    """The grey levels 0..255 that `read_volume` gives, as HU from `hu[0]` (black) to `hu[1]` (white)."""
    low, high = hu
    greys = read_volume()
    voxels = np.rint(low + greys.voxels * ((high - low) / 255.0)).astype(np.int16)
    notes = [
        f"A picture has no HU and no spacing: black is taken for {low:g} HU and white for {high:g} HU "
        "(--picture-hu), and what is measured in mm or ml is undefined."
    ]
    if left_out:
        notes.append(f"{left_out} pictures without a mask, among others with one, were left out.")
    volume = Volume(voxels, greys.spacing_mm)
    return Scan(volume, Window.between(low, high), slice_numbers, notes=tuple(notes))


def read_one_picture(path: Path) -> Volume:
    """Grey levels of one picture as int16 (1, H, W); nothing is known of the spacing."""
    return Volume(read_grey(path)[np.newaxis].astype(np.int16), (np.nan, np.nan, np.nan))


def parse_hu_range(text: str) -> tuple[float, float]:
    """ "-160,240" -> (-160.0, 240.0). Raises InputError unless these are two rising numbers."""
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        low = high = 0.0
    if not (np.isfinite([low, high]).all() and -32768 <= low < high <= 32767):
        problem = f"is {text!r}, not the HU of black and of white."
        raise InputError("--picture-hu", problem, "Write two numbers such as --picture-hu=-160,240.")
    return low, high
