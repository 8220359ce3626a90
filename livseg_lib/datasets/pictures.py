"""Reading 8-bit picture files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from livseg_lib.errors import InputError

MAX_PICTURE_PIXELS = 4096 * 4096
"""64 times a CT slice: more is a decompression bomb or not a slice."""

EIGHT_BIT_MODES = ("L", "LA", "RGB", "RGBA", "1")


def read_grey(path: Path) -> np.ndarray:
    """Grey levels 0-255, uint8 (H, W), of a PNG or JPEG file.

    Raises InputError for what is no picture, is cut short, holds other than 8 bits, or is too large.
    """
    try:
        with Image.open(path) as picture:
            _require_eight_bit_slice(picture, path)
            return np.asarray(picture.convert("L"))
    except InputError:
        raise
    except (OSError, SyntaxError, ValueError) as error:
        problem = f"The picture cannot be read: {error}."
        raise InputError(path, problem, "Export or download it again.") from error


def _require_eight_bit_slice(picture: Image.Image, path: Path) -> None:
    if picture.mode not in EIGHT_BIT_MODES:
        problem = f"The picture is not 8-bit grey or colour (its mode is {picture.mode})."
        raise InputError(path, problem, "Save it as 8-bit grey.")
    width, height = picture.size
    if width * height > MAX_PICTURE_PIXELS:
        problem = f"The picture claims {width} x {height} pixels."
        raise InputError(path, problem, "Give slices of at most 4096 x 4096.")
