"""Reading picture files, PNG and JPEG, as grey levels."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.ExifTags import Base

from livseg_lib.errors import InputError

MAX_PICTURE_PIXELS = 4096 * 4096
"""64 times a CT slice: more is a decompression bomb or not a slice."""

FORMATS = ("PNG", "JPEG")
"""No other decoder is ever started: some of Pillow's run programs, and all are doors."""
MODES = ("1", "L", "LA", "P", "RGB", "RGBA")
SIXTEEN_BIT = "I;16"
GREY_WITHIN = 16
"""Channels that differ by no more than this show a grey."""
OPAQUE = 128
"""From here on alpha makes a pixel visible."""


class Picture(NamedTuple):
    """One picture file, upright as a viewer shows it."""

    grey: np.ndarray
    """uint8 (H, W). What is transparent is black; of black on nothing, its alpha."""
    lossless: bool
    """PNG: every level is as it was written."""
    orientation: int = 1
    """What EXIF says, 1 to 8; applied already."""
    colors: np.ndarray | None = None
    """uint8 (H, W, 3) where the picture is not grey."""
    has_alpha: bool = False
    """Whether its alpha channel says something."""


def read_grey(path: Path) -> np.ndarray:
    """Grey levels 0-255, uint8 (H, W), of a PNG or JPEG file; see `read_picture`."""
    return read_picture(path).grey


def read_picture(path: Path, sixteen_bit: bool = False) -> Picture:
    """Read a PNG or JPEG file, checksums included, and turn it as its EXIF orientation says.

    `sixteen_bit` admits 16-bit grey of which nothing is lost in 8 bits (masks). Raises InputError for
    what is no picture, is damaged or cut short, is animated, holds other than 8 bits, or is too large.
    """
    try:
        with Image.open(path, formats=FORMATS) as picture:
            _require_slice(picture, path, sixteen_bit)
            if picture.format == "JPEG":
                return _upright(picture, path)._replace(lossless=False)
            picture.verify()  # the checksums: reading alone does not look at them
        with Image.open(path, formats=FORMATS) as picture:
            return _upright(picture, path)
    except InputError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _too_large(path, "more than 80 million") from error
    except UnidentifiedImageError as error:  # its own words hold the whole path
        problem = "This is no PNG or JPEG picture."
        raise InputError(path, problem, "Export or download it again, as PNG or JPEG.") from error
    except Exception as error:  # a damaged file trips Pillow's readers in many ways
        problem = f"The picture cannot be read: {str(error) or type(error).__name__}."
        raise InputError(path, problem, "Export or download it again, as PNG or JPEG.") from error


def _require_slice(picture: Image.Image, path: Path, sixteen_bit: bool) -> None:
    depth_lost = picture.mode != SIXTEEN_BIT and ";16" in str(picture.tile)
    if depth_lost or picture.mode not in (*MODES, *([SIXTEEN_BIT] if sixteen_bit else [])):
        kind = "16 bits a channel" if depth_lost or picture.mode == SIXTEEN_BIT else f"mode {picture.mode}"
        problem = f"The picture is not 8-bit grey or colour ({kind})."
        raise InputError(path, problem, "Save it as 8-bit grey, a CT cut to the HU that you want to see.")
    frames = getattr(picture, "n_frames", 1)
    if frames > 1:
        raise InputError(path, f"The file holds {frames} pictures.", "Save each slice as a file of its own.")
    width, height = picture.size
    if width * height > MAX_PICTURE_PIXELS:
        raise _too_large(path, f"{width} x {height}")


def _too_large(path: Path, pixels: str) -> InputError:
    return InputError(path, f"The picture claims {pixels} pixels.", "Give slices of at most 4096 x 4096.")


def _upright(picture: Image.Image, path: Path) -> Picture:
    orientation = picture.getexif().get(Base.Orientation, 1)
    turned = ImageOps.exif_transpose(picture) if orientation != 1 else picture
    return _decoded(turned, path)._replace(orientation=orientation)


def _decoded(picture: Image.Image, path: Path) -> Picture:
    if picture.mode == SIXTEEN_BIT:
        return Picture(_in_eight_bits(np.asarray(picture), path), lossless=True)
    if picture.has_transparency_data:
        rgba = picture.convert("RGBA")
        alpha = np.asarray(rgba)[..., 3]
        if alpha.min() < alpha.max():
            return _on_black(rgba, alpha, path)._replace(has_alpha=True)
        picture = rgba
    if picture.mode in ("1", "L"):
        return Picture(np.asarray(picture.convert("L")), lossless=True)
    return _of_colors(picture.convert("RGB"))


def _of_colors(picture: Image.Image) -> Picture:
    colors, grey = np.asarray(picture), np.asarray(picture.convert("L"))
    in_color = any(np.abs(colors[..., k].astype(np.int16) - grey).max() > GREY_WITHIN for k in range(3))
    return Picture(grey, lossless=True, colors=colors if in_color else None)


def _on_black(rgba: Image.Image, alpha: np.ndarray, path: Path) -> Picture:
    drawn = np.asarray(rgba.convert("RGB").convert("L"))[alpha >= OPAQUE]
    if not drawn.any():  # black on nothing
        return Picture(alpha.copy(), lossless=True)
    if drawn.min() == 0:
        problem = "Black is drawn beside transparent pixels (alpha): which is the background is unknown."
        raise InputError(path, problem, "Save it without transparency.")
    black = Image.new("RGBA", rgba.size, "black")
    return _of_colors(Image.alpha_composite(black, rgba).convert("RGB"))


def _in_eight_bits(values: np.ndarray, path: Path) -> np.ndarray:
    if values.max() <= 255:
        return values.astype(np.uint8)
    reduced = np.rint(values / 257).astype(np.uint8)
    if len(np.unique(values)) > len(np.unique(reduced)):
        raise InputError(
            path, "Its 16-bit levels are too close together for 8 bits.", "Save it as 8-bit grey."
        )
    return reduced
