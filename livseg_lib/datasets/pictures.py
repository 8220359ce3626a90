"""Slices and masks as pictures: PNG and JPEG as grey levels, and which levels of a set of masks mean what."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.ExifTags import Base

from livseg_lib.datasets.files import LABELS_JSON, LabelMap
from livseg_lib.errors import InputError
from livseg_lib.files import require_there
from livseg_lib.labels import BACKGROUND, LIVER, TUMOR

MAX_PICTURE_PIXELS = 4096 * 4096  # 64 times a CT slice: more is a decompression bomb or not a slice
_FORMATS = ("PNG", "JPEG")
"""No other decoder is ever started: some of Pillow's run programs, and all are doors."""
_MODES = ("1", "L", "LA", "P", "RGB", "RGBA")
SIXTEEN_BIT = "I;16"
GREY_WITHIN = 16  # channels that differ by no more than this show a grey
OPAQUE = 128  # from here on alpha makes a pixel visible


class Picture(NamedTuple):
    """One picture file, upright as a viewer shows it."""

    grey: np.ndarray
    """uint8 (H, W). What is transparent is black; of black on nothing, its alpha."""
    lossless: bool = True  # PNG: every level is as it was written
    orientation: int = 1  # what EXIF says, 1 to 8; applied already
    colors: np.ndarray | None = None  # uint8 (H, W, 3) where the picture is not grey
    has_alpha: bool = False  # whether its alpha channel says something


def read_picture(path: Path, sixteen_bit: bool = False) -> Picture:
    """Read a PNG or JPEG file, checksums included, and turn it as its EXIF orientation says.

    `sixteen_bit` admits 16-bit grey of which nothing is lost in 8 bits (masks). Raises InputError for
    what is no picture, is damaged or cut short, is animated, holds other than 8 bits, or is too large.
    """
    require_there(path)
    try:
        with Image.open(path, formats=_FORMATS) as picture:
            _require_slice(picture, path, sixteen_bit)
            if picture.format == "JPEG":
                return _decoded(picture, path)
            picture.verify()  # the checksums: reading alone does not look at them
        with Image.open(path, formats=_FORMATS) as picture:
            return _decoded(picture, path)
    except InputError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _too_large(path, "more than 80 million") from error
    except Exception as error:  # a damaged file trips Pillow's readers in many ways
        problem = f"The picture cannot be read: {str(error) or type(error).__name__}."
        if isinstance(error, UnidentifiedImageError):  # whose own words hold the whole path
            problem = "This is no PNG or JPEG picture."
        raise InputError(path, problem, "Export or download it again, as PNG or JPEG.") from error


def _require_slice(picture: Image.Image, path: Path, sixteen_bit: bool) -> None:
    depth_lost = picture.mode != SIXTEEN_BIT and ";16" in str(picture.tile)
    if depth_lost or picture.mode not in (*_MODES, *([SIXTEEN_BIT] if sixteen_bit else [])):
        kind = "16 bits a channel" if depth_lost or picture.mode == SIXTEEN_BIT else f"mode {picture.mode}"
        problem = f"The picture is not 8-bit grey or colour ({kind})."
        raise InputError(path, problem, "Save it as 8-bit grey, a CT cut to the HU that you want to see.")
    if (frames := getattr(picture, "n_frames", 1)) > 1:
        raise InputError(path, f"The file holds {frames} pictures.", "Save each slice as a file of its own.")
    width, height = picture.size
    if width * height > MAX_PICTURE_PIXELS:
        raise _too_large(path, f"{width} x {height}")


def _too_large(path: Path, pixels: str) -> InputError:
    return InputError(path, f"The picture claims {pixels} pixels.", "Give slices of at most 4096 x 4096.")


def _decoded(picture: Image.Image, path: Path) -> Picture:
    orientation = picture.getexif().get(Base.Orientation, 1)
    upright = ImageOps.exif_transpose(picture) if orientation != 1 else picture
    return _of_mode(upright, path)._replace(orientation=orientation, lossless=picture.format == "PNG")


def _of_mode(picture: Image.Image, path: Path) -> Picture:
    if picture.mode == SIXTEEN_BIT:
        return Picture(_in_eight_bits(np.asarray(picture), path))
    if picture.has_transparency_data:
        rgba = picture.convert("RGBA")
        alpha = np.asarray(rgba)[..., 3]
        if alpha.min() < alpha.max():
            return _on_black(rgba, alpha, path)._replace(has_alpha=True)
        picture = rgba
    return Picture(np.asarray(picture.convert("L"))) if picture.mode in ("1", "L") else _of_colors(picture)


def _of_colors(picture: Image.Image) -> Picture:
    picture = picture.convert("RGB")
    colors, grey = np.asarray(picture), np.asarray(picture.convert("L"))
    in_color = any(np.abs(colors[..., k].astype(np.int16) - grey).max() > GREY_WITHIN for k in range(3))
    return Picture(grey, colors=colors if in_color else None)


def _on_black(rgba: Image.Image, alpha: np.ndarray, path: Path) -> Picture:
    outline = np.asarray(rgba.convert("RGB").convert("L"))[alpha >= OPAQUE]
    if not outline.any():  # black on nothing
        return Picture(alpha.copy())
    if outline.min() == 0:
        problem = "Black is drawn beside transparent pixels (alpha): which is the background is unknown."
        raise InputError(path, problem, "Save it without transparency.")
    return _of_colors(Image.alpha_composite(Image.new("RGBA", rgba.size, "black"), rgba))


def _in_eight_bits(values: np.ndarray, path: Path) -> np.ndarray:
    if values.max() <= 255:
        return values.astype(np.uint8)
    reduced = np.rint(values / 257).astype(np.uint8)
    if len(np.unique(values)) > len(np.unique(reduced)):
        problem = "Its 16-bit levels are too close together for 8 bits."
        raise InputError(path, problem, "Save it as 8-bit grey.")
    return reduced


MOST_MASKS = 500
"""So many masks of a set are looked at, chosen by a fixed draw: one to three seconds, whatever its size.
A level that shows up in another mask alone is refused when that is read."""
MOST_LEVELS = 8  # a lossless picture of more values was smeared, by resizing or by JPEG before it
NEARLY_FLAT = 12  # grey levels within 3 x 3 pixels that JPEG leaves of a plateau
PLATEAU = 16  # grey levels to either side of a plateau that belong to it where JPEG smeared it
LEAST_PLATEAU = 9  # flat pixels of it in a set
PLATEAU_SHARE = 0.002  # of all flat pixels but the background's, those that the least plateau of a set holds
CONSTANT_CONTRAST = 8
"""Grey levels between the darkest and the brightest pixel that JPEG alone can make of a constant picture."""
LIVER_ABOVE, TUMOR_ABOVE = 64, 191
"""Halfway between the plateaus 0, 127 and 255 of a picture that shows liver and tumour."""
STRETCHED_MAX = 224
"""A stretched picture reaches 255, of which JPEG leaves at least this even of a tumour of two pixels."""
MID_PLATEAU = (112, 142)
"""Where the median of the middle plateau lies, 127 in the export; that of anything else lies elsewhere."""
_PATCH = np.ones((3, 3), np.uint8)
SMEAR_PIXELS = 2
"""JPEG and resizing turn the border between 0 and 255 into mid greys for about this many pixels."""
HALFWAY = (0.3, 0.62)
"""Where the middle one of three smeared levels must lie: JPEG overshoots an edge by 0.4 of its height."""
OVERSHOOT = 0.75  # what lies above a level by more than this share of its height was not made of it by JPEG
OUTER_SHARE = 2 / 3
"""Of two structures of which one lies within the other, the outer one has this share of the rim at least."""
PNG_ADVICE = "Export masks as grey PNG, without resizing."
DESCRIBE = (
    f'Say in {LABELS_JSON} in the folder of the whole set which are which: {{"liver": 9, "tumor": 99}}.'
)


@dataclass(frozen=True)
class MaskLevels:
    """What was decided for a set."""

    meaning: tuple[tuple[int, int], ...] = ()  # each level and its label, from dark to bright
    smeared: bool = False  # whether some masks hold other greys than these, by JPEG or resizing
    stretched: bool = False
    """Each picture reaches the brightest level: that is liver where a picture shows nothing else."""
    problem: str = ""  # why nothing can be read from such masks; "" where it can
    decisions: tuple[str, ...] = ()
    """What a reader should know of it, sentences; nothing of a set as exports usually write it."""

    def decode(self, path: Path, picture: Picture) -> np.ndarray:
        """Labels 0/1/2, uint8 (H, W). Raises InputError where they are not certain.

        A constant picture of any level is empty: such exports write "nothing" as 0 or as mid-grey.
        Stretching loses information: a tumour without any liver around it in its slice, and a smeared one
        whose liver is a rim of four pixels or less, are read as liver only.
        """
        values, levels = _values(picture.grey), [level for level, _ in self.meaning]
        if len(values) == 1:
            return np.zeros(picture.grey.shape, np.uint8)
        if self.problem:
            raise _uncertain(path, self.problem)
        if picture.colors is not None and not picture.lossless:
            raise _uncertain(path, "Colours cannot be told apart in a JPEG.", PNG_ADVICE)
        if self._is_new(picture, values, levels):
            own, known = _listed(values[:MOST_LEVELS]), _listed(levels) or "none"
            raise _uncertain(path, f"Its levels {own} are not those of the other masks: {known}.")
        if set(values) <= set(levels):
            table = np.zeros(256, np.uint8)
            table[levels] = [label for _, label in self.meaning]
            if self.stretched and len(values) == 2:
                table[values[-1]] = LIVER
            labels = table[picture.grey]
        else:
            labels = self._smeared(path, picture.grey, levels)
        edge = np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])
        if (edge > 0).mean() > 0.5 and (labels > 0).mean() > 0.5:
            problem = "Most of the picture and of its edge would be liver: black and white are exchanged."
            raise _uncertain(path, problem, "Invert the masks, so that the background is black.")
        return labels

    def _is_new(self, picture: Picture, values: list[int], levels: list[int]) -> bool:
        """Whether the picture has a plateau that is none of the set's."""
        if set(values) <= set(levels) or not levels:
            return not levels
        if values[-1] - values[0] < CONSTANT_CONTRAST:
            return np.count_nonzero(_flat_pixels(picture.grey, 0) >= LEAST_PLATEAU) > 1
        clean = _is_clean(picture, values)
        flat = _flat_pixels(picture.grey, 0 if clean else NEARLY_FLAT)
        distance = np.abs(np.subtract.outer(np.arange(256), levels)).min(axis=1)
        exact = clean and not self.smeared
        far = flat[distance > (0 if exact else PLATEAU)].sum()
        least = 1 if clean else max(LEAST_PLATEAU, 0.05 * flat[levels[0] + PLATEAU :].sum())
        beyond = 0 if exact else max(PLATEAU, OVERSHOOT * (levels[-1] - levels[0]))  # JPEG overshoots
        return bool(far >= least or values[-1] > levels[-1] + beyond)

    def _smeared(self, path: Path, grey: np.ndarray, levels: list[int]) -> np.ndarray:
        labels = [np.uint8(label) for _, label in self.meaning]
        if labels != sorted(labels) or len(levels) > 3:
            problem = f"It is smeared, and levels {_listed(levels)} run into one another."
            raise _uncertain(path, problem, PNG_ADVICE)
        if len(levels) == 1:
            return np.zeros(grey.shape, np.uint8)
        if len(levels) == 2:
            if _has_mid_plateau(_scaled(grey, [levels[0], round(sum(levels) / 2), levels[1]])):
                problem = f"Between the levels of the other masks, {_listed(levels)}, it has a third."
                raise _uncertain(path, problem)
            return (grey > sum(levels) / 2) * labels[1]
        scaled = _scaled(grey, levels)
        has_mid, has_top = _shows(grey, levels)
        if has_top and self.stretched and not has_mid:
            return (scaled > 127) * labels[1]
        if has_top:
            return np.select([scaled > TUMOR_ABOVE, scaled > LIVER_ABOVE], labels[:0:-1], np.uint8(0))
        return (scaled > LIVER_ABOVE) * labels[1]


def decide_levels(paths: Sequence[Path], label_map: LabelMap | None = None) -> MaskLevels:
    """What the levels of the masks `paths` mean, by those that stand in MOST_MASKS of them.

    - Levels up to 2 are labels as they stand.
    - Two levels are background and liver.
    - Of three, the darkest is background; of the others, that which lies around the other is the liver;
      where that is not clear, the darker one, but of colours neither.
      Levels 0, about 127 and 255 may be stretched picture by picture: then 255 alone is a liver.
    - Anything else is a `problem`; `label_map` (a labels.json) settles it.

    Masks that cannot be read are reported where their case is read.
    """
    if len(paths) > MOST_MASKS:
        draw = np.random.default_rng(0).choice(len(paths), MOST_MASKS, replace=False)
        paths = [paths[index] for index in sorted(draw)]
    levels, smeared, alpha, problem = _survey(paths)
    decisions = (f"The outlines were read from the alpha channel ({alpha} masks).",) if alpha else ()
    if label_map is not None:
        named = {level for level in (*label_map.liver, *label_map.tumor) if level < 256}
        min_distance = PLATEAU if smeared else 0
        known = sorted(named | {v for v in levels if all(abs(v - level) > min_distance for level in named)})
        meaning = tuple(zip(known, label_map(np.array(known)).tolist(), strict=True))
        return MaskLevels(meaning, smeared, decisions=decisions)
    raw = set(levels) <= {BACKGROUND, LIVER, TUMOR}
    if problem or not levels:
        return MaskLevels(problem=problem)
    if len(levels) > 3:
        return MaskLevels(problem=f"The masks of this set have levels {_listed(levels)}: which is which?")
    if len(levels) == 3 and not raw:
        return _three(levels, smeared, paths, decisions)
    if len(levels) == 2 and not raw and levels[1] < STRETCHED_MAX:
        decisions += (f"Levels {_listed(levels)} were taken for background and liver.",)
    meaning = tuple(zip(levels, levels if raw else (BACKGROUND, LIVER), strict=False))
    return MaskLevels(meaning, smeared, decisions=decisions)


def _three(levels: list[int], smeared: bool, paths: Sequence[Path], decisions: tuple[str, ...]) -> MaskLevels:
    shown, rims, listed, in_color = Counter(), np.zeros(2), _listed(levels), False
    if smeared and not HALFWAY[0] <= (levels[1] - levels[0]) / (levels[2] - levels[0]) <= HALFWAY[1]:
        return MaskLevels(problem=f"Levels {listed} are too close together for masks that are smeared.")
    for picture in _readable(paths):
        in_color |= picture.colors is not None
        shown[_shows(picture.grey, levels)] += 1
        rims += _rims(picture.grey, levels)
    if not shown[True, True] or not rims.any():
        problem = f"The set has levels {listed}, and no mask shows liver and tumour together."
        return MaskLevels(problem=problem)
    share = rims[0] / rims.sum()
    if in_color and 1 - OUTER_SHARE < share < OUTER_SHARE:
        return MaskLevels(problem=f"Of levels {listed}, which is the liver around the other is not clear.")
    dark, liver, tumor = levels if share > 1 - OUTER_SHARE else (levels[0], levels[2], levels[1])
    half = (liver - dark) * 255 / (tumor - dark) if tumor > liver else 0
    only_liver, only_tumor = shown[True, False], shown[False, True]
    stretchable = tumor >= STRETCHED_MAX and MID_PLATEAU[0] <= half <= MID_PLATEAU[1]
    if stretchable and only_tumor >= only_liver > 0:
        problem = f"{only_tumor} masks show {tumor} alone and {only_liver} show {liver} alone:"
        return MaskLevels(problem=f"{problem} only some seem to be stretched to full contrast.")
    stretched = stretchable and not only_liver
    if not stretched:
        decisions += (f"Levels {dark}, {liver}, {tumor} were taken for background, liver, tumour.",)
    labels = {dark: BACKGROUND, liver: LIVER, tumor: TUMOR}
    return MaskLevels(tuple(sorted(labels.items())), smeared, stretched, decisions=decisions)


def _survey(paths: Sequence[Path]) -> tuple[list[int], bool, int, str]:
    """Levels of a set, whether some of it is smeared, how many masks lie in alpha, and what is wrong."""
    exact, near, inner, tops, colors = *np.zeros((3, 256)), {0}, {}
    alpha = faint = brightest = 0
    for picture in _readable(paths):
        values = _values(picture.grey)
        alpha += picture.has_alpha
        if len(values) == 1:
            continue
        if _is_clean(picture, values):
            exact += _flat_pixels(picture.grey, 0)
            inside = cv2.erode(picture.grey, np.ones((2 * SMEAR_PIXELS + 1,) * 2, np.uint8)) > values[0]
            inner += np.bincount(picture.grey[inside], minlength=256)
            tops |= {values[-1]} if len(values) <= 3 else set()
            if not _one_color_a_level(picture, colors):
                return [], False, 0, "Two of the colours in these masks are equally bright."
        elif values[-1] - values[0] < CONSTANT_CONTRAST:
            faint += 1
        else:
            near += _flat_pixels(picture.grey, NEARLY_FLAT)
            brightest = max(brightest, values[-1])
    levels = set(np.flatnonzero(exact).tolist())
    if levels and max(tops) > max(levels):
        levels.add(max(tops))  # tumours may all be specks; a dark grey without any patch is smear, ...
    if len(levels) == 2:
        levels |= set(np.flatnonzero(inner).tolist())  # ... but not far from all background
    levels |= {level for level in _peaks(near) if all(abs(level - other) > PLATEAU for other in levels)}
    if len(levels) == 2 and near.any():
        dark, liver = sorted(levels)
        half = liver - dark
        if OVERSHOOT * half < brightest - liver <= 1.35 * half:  # all tumours are specks
            levels.add(min(liver + half, 255))
    too_faint = "The levels of these masks are too close together for JPEG." if faint and not levels else ""
    return sorted(levels), bool(near.any()), alpha, too_faint


def _one_color_a_level(picture: Picture, colors: dict[int, int]) -> bool:
    """Whether each grey of a clean picture is one colour, in it and in those whose `colors` came before."""
    if picture.colors is None:
        return True
    packed = picture.colors.astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], np.uint32)
    pairs = np.unique(np.stack([picture.grey.ravel(), packed.ravel()]), axis=1)
    return all(colors.setdefault(level, color) == color for level, color in pairs.T.tolist())


def _peaks(flat: np.ndarray) -> list[int]:
    """The levels around which flat pixels gather, of which JPEG makes a few greys each."""
    flat, found = flat.copy(), []
    while flat.any():
        peak = int(np.convolve(flat, np.ones(9), "same").argmax())
        low, high = max(peak - PLATEAU, 0), peak + PLATEAU + 1
        share = flat[low:high].cumsum()
        found.append((share[-1], low + int(np.searchsorted(share, share[-1] / 2))))
        flat[low:high] = 0
    foreground = sum(pixels for pixels, _ in sorted(found)[:-1])
    least = max(LEAST_PLATEAU, PLATEAU_SHARE * foreground)
    return [level for pixels, level in found if pixels >= least]


def _readable(paths: Sequence[Path]) -> Iterator[Picture]:
    for path in paths:
        try:
            yield read_picture(path, sixteen_bit=True)
        except InputError:
            continue  # reported where its case is read


def _values(grey: np.ndarray) -> list[int]:
    return np.flatnonzero(np.bincount(grey.ravel(), minlength=256)).tolist()


def _is_clean(picture: Picture, values: list[int]) -> bool:
    return picture.lossless and len(values) <= MOST_LEVELS


def _flat_pixels(grey: np.ndarray, contrast: int) -> np.ndarray:
    """By grey level, how many pixels lie amid 3 x 3 of one level, or of some within `contrast`."""
    flat = cv2.dilate(grey, _PATCH) - cv2.erode(grey, _PATCH) <= contrast
    return np.bincount(grey[flat], minlength=256)


def _scaled(grey: np.ndarray, levels: list[int]) -> np.ndarray:
    """Three `levels` of `grey` brought to 0, 127 and 255."""
    return np.rint(np.interp(np.arange(256), levels, [0, 127, 255])).astype(np.uint8)[grey]


def _shows(grey: np.ndarray, levels: list[int]) -> tuple[bool, bool]:
    """Whether a picture shows the middle and the brightest of three `levels`."""
    values = set(_values(grey))
    if len(values) == 1:
        return False, False
    if values <= set(levels):
        return levels[1] in values, levels[2] in values
    scaled = _scaled(grey, levels)
    if scaled.max() < STRETCHED_MAX:
        return bool((scaled > LIVER_ABOVE).any()), False
    return _has_mid_plateau(scaled), True


def _rims(grey: np.ndarray, levels: list[int]) -> np.ndarray:
    """Pixels of the middle and the brightest of three `levels` beside background, in a picture of both."""
    if not all(_shows(grey, levels)):
        return np.zeros(2)
    smear = 0 if set(_values(grey)) <= set(levels) else SMEAR_PIXELS
    third = np.digitize(_scaled(grey, levels), [LIVER_ABOVE, TUMOR_ABOVE], right=True)
    near = cv2.dilate((third == 0).astype(np.uint8), np.ones((2 * smear + 3,) * 2, np.uint8)) > 0
    smeared = cv2.dilate((third == 2).astype(np.uint8), np.ones((2 * smear + 1,) * 2, np.uint8)) > 0
    return np.array([((third == 1) & ~smeared & near).sum(), ((third == 2) & near).sum()])


def _has_mid_plateau(grey: np.ndarray) -> bool:
    """Whether mid greys beyond the smear around bright pixels are a plateau.

    They must fill a patch of 3 x 3 (less is ringing, or a speck that was resized) and have a middle
    level. Of thousands of random shapes at qualities 50 to 95 this got every one right.
    """
    bright = (grey > TUMOR_ABOVE).astype(np.uint8)
    smeared = cv2.dilate(bright, np.ones((2 * SMEAR_PIXELS + 1,) * 2, np.uint8))
    mid = (grey > LIVER_ABOVE) & (grey <= TUMOR_ABOVE) & (smeared == 0)
    patches = cv2.erode(mid.astype(np.uint8), _PATCH, borderType=cv2.BORDER_CONSTANT, borderValue=0)
    if not patches.any():
        return False
    low, high = MID_PLATEAU
    return bool(low <= np.median(grey[mid]) <= high)


def _uncertain(path: Path, problem: str, remedy: str = DESCRIBE) -> InputError:
    return InputError(path, problem, remedy, code="mask-levels")


def _listed(levels: Sequence[int]) -> str:
    return ", ".join(map(str, levels))
