"""Windows: which intensities a picture shows, and what intensities organs have.

HU windows: which HU become black, which become white, and the grey between.

MR scans on a scale on which a liver looks as it does in CT, for whatever asks for HU.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import numpy as np

from livseg_lib.errors import InputError
from livseg_lib.labels import require_modality
from livseg_lib.volumes import Volume

_INT16_MIN = -(2**15)


@dataclass(frozen=True)
class Window:
    """Linear grey scale, as radiologists give it: `level_hu` is mid-grey, `width_hu` from black to white."""

    level_hu: float
    width_hu: float

    @classmethod
    def between(cls, lower_hu: float, upper_hu: float) -> Window:
        """The window that shows `lower_hu` as 0 and `upper_hu` as 255."""
        return cls(level_hu=(lower_hu + upper_hu) / 2, width_hu=upper_hu - lower_hu)

    @property
    def lower(self) -> float:
        """HU shown as 0; everything below is 0 too."""
        return self.level_hu - self.width_hu / 2

    @property
    def upper(self) -> float:
        """HU shown as 255; everything above is 255 too."""
        return self.level_hu + self.width_hu / 2


WINDOWS: dict[str, Window] = {
    # Enhanced liver (80 to 130 HU), plain liver (40 to 70) and fatty margins, each with room for noise.
    "liver": Window.between(-50, 200),
    # The 150 HU that readers give a liver, moved up from 30 to 75 because LiTS is portal-venous:
    # a tumour 20 HU darker than the liver then differs by 34 grey levels.
    "liver_narrow": Window.between(0, 150),
    # H-DenseUNet (Li et al. 2018): lung, fat, soft tissue and bright vessels stay apart.
    "liver_wide": Window.between(-200, 250),
    # The usual soft-tissue setting of reading rooms: level 50, width 400.
    "abdomen": Window(level_hu=50, width_hu=400),
    # The usual reading-room settings.
    "bone": Window(level_hu=400, width_hu=1800),
    "lung": Window(level_hu=-600, width_hu=1500),
    # Pictures that are 8-bit already, grey level in and the same grey level out. On a CT it cuts HU to
    # 0..255, which is how the public LiTS picture sets were made.
    "stored": Window.between(0, 255),
}
"""Fixed windows by name. The three liver windows are the default channels (system B)."""

LIVER_WINDOWS = ("liver", "liver_narrow", "liver_wide")


class ChannelWindow(NamedTuple):
    """A window as recipes and model.json keep it: by its bounds, so that a name may change its meaning."""

    name: str
    lower_hu: float | None
    """HU shown as 0; None: measured on each volume, as `ADAPTIVE_WINDOWS` says."""
    upper_hu: float | None
    """HU shown as 255, or None."""


Choice = str | Sequence
"""A window: a name, (low, high) in HU, or (name, low, high) as `ChannelWindow` is stored in JSON."""


def as_channel(choice: Choice) -> ChannelWindow:
    """The window that `choice` means today. Raises InputError for an unknown name and impossible bounds."""
    if isinstance(choice, str):
        if choice in ADAPTIVE_WINDOWS:
            return ChannelWindow(choice, None, None)
        if choice not in WINDOWS:
            known = ", ".join([*WINDOWS, *ADAPTIVE_WINDOWS])
            raise InputError(
                "windows",
                f"There is no window {choice!r}.",
                f"Choose from: {known}, or give [low, high] in HU.",
            )
        return ChannelWindow(choice, WINDOWS[choice].lower, WINDOWS[choice].upper)
    name, *bounds = choice if len(choice) == 3 else (None, *choice)
    if bounds == [None, None] and name in ADAPTIVE_WINDOWS:
        return ChannelWindow(name, None, None)
    try:
        lower, upper = (float(bound) for bound in bounds)
        possible = -(2**15) <= lower < upper <= 2**15
    except (TypeError, ValueError):
        possible = False
    if not possible or not isinstance(name, str | None):
        raise InputError("windows", f"{choice!r} is no window.", "Give [low, high] in HU, low below high.")
    return ChannelWindow(name or f"{lower:g}..{upper:g}", lower, upper)


def choose_windows(
    choices: str | Sequence[Choice], of_pictures: bool, modality: str = "ct"
) -> tuple[Choice, ...]:
    """`choices` as they are; for "auto" the liver windows, or the stored greys of a set of pictures.

    Scans of the `modality` "mr" get MR_WINDOWS. Raises InputError for another modality, for what
    `as_channel` refuses, and for HU windows of MR scans, whose intensities have no unit.
    """
    is_mr = require_modality(modality) == "mr" and not of_pictures
    if choices == "auto":
        choices = tuple(MR_WINDOWS) if is_mr else ("stored",) if of_pictures else LIVER_WINDOWS
    chosen = (choices,) if isinstance(choices, str) else tuple(choices)
    windows = map(as_channel, chosen)
    if is_mr and (in_hu := [window.name for window in windows if window.lower_hu is not None]):
        problem = f"{', '.join(in_hu)}: bounds in HU, which MR scans do not have."
        raise InputError("windows", problem, f"Choose from: {', '.join([*MR_WINDOWS, *ADAPTIVE_WINDOWS])}.")
    return chosen


def _min_max(counts: np.ndarray) -> tuple[float, float]:
    present = np.flatnonzero(counts) + _INT16_MIN
    return float(present[0]), float(present[-1])


def _percentile(counts: np.ndarray) -> tuple[float, float]:
    cumulative = np.cumsum(counts)
    low, high = np.searchsorted(cumulative, np.array([0.005, 0.995]) * cumulative[-1]) + _INT16_MIN
    return float(low), float(high)


def _z_score(counts: np.ndarray) -> tuple[float, float]:
    hu = np.arange(len(counts)) + _INT16_MIN
    mean = np.average(hu, weights=counts)
    deviation = np.sqrt(np.average((hu - mean) ** 2, weights=counts))
    return float(mean - 3 * deviation), float(mean + 3 * deviation)


def _body_percentiles(counts: np.ndarray, low: float, high: float) -> tuple[float, float]:
    values = np.arange(len(counts)) + _INT16_MIN
    body = np.where(values > np.average(values, weights=counts) / 2, counts, 0)
    if not body.any():
        return _min_max(counts)
    cumulative = np.cumsum(body)
    ranks = np.maximum(np.array([low, high]) / 100 * cumulative[-1], 1)
    first, last = np.searchsorted(cumulative, ranks) + _INT16_MIN
    return float(first), float(last)


MR_WINDOWS: dict[str, Callable[[np.ndarray], tuple[float, float]]] = {
    "mr": partial(_body_percentiles, low=2, high=98),
    "mr_narrow": partial(_body_percentiles, low=10, high=90),
    "mr_wide": partial(_body_percentiles, low=0, high=99.8),
}
"""What the liver windows are to CT: three ranges of percentiles of the body's own intensities, which in MR
have neither unit nor scale. Nyul and Udupa 1999 take as body what is brighter than the scan's mean
(doi 10.1002/(SICI)1522-2594(199912)42:6<1072::AID-MRM11>3.0.CO;2-M); here it is half the mean, so that dark
tumours and vessels count too. Multiplying a scan by any number changes no picture, but for rounding."""

ADAPTIVE_WINDOWS: dict[str, Callable[[np.ndarray], tuple[float, float]]] = {
    "min_max": _min_max,
    "percentile": _percentile,
    "z_score": _z_score,
    **MR_WINDOWS,
}
"""System E's cleaning as windows whose bounds come from the volume itself, from its HU histogram.

- `min_max`: smallest to largest HU, so grey / 255 is E's min-max normalization to [0, 1].
- `percentile`: 0.5th to 99.5th percentile, so it is E's clipping of outliers followed by min-max.
- `z_score`: mean - 3 to mean + 3 standard deviations, so grey / 255 * 6 - 3 is E's standardized value,
  clipped at 3.

And the windows of MR scans.
"""


def _histogram(voxels: np.ndarray) -> np.ndarray:
    counts = np.zeros(2**16, np.int64)
    for plane in voxels:  # one slice at a time: the shifted copy must not be as large as the volume
        counts += np.bincount(plane.ravel().astype(np.int32) - _INT16_MIN, minlength=2**16)
    return counts


def window_bounds(window: Choice, voxels: np.ndarray) -> tuple[float, float]:
    """HU shown as 0 and as 255 by `window` (see `as_channel`) on the volume `voxels` (int16, (D, H, W)).

    Fixed windows never look at the voxels; adaptive ones read them once. A volume of one single value
    gets a window 1 HU wide.
    """
    name, lower, upper = as_channel(window)
    if lower is None:
        lower, upper = ADAPTIVE_WINDOWS[name](_histogram(voxels))
        upper = max(upper, lower + 1)
    return lower, upper


def apply_window(hu: np.ndarray, window: Window) -> np.ndarray:
    """Grey levels, uint8 and the shape of `hu`: 0 at `window.lower`, 255 at `window.upper`, linear between.

    Rounded to the nearest level, halves up.
    """
    grey = (hu.astype(np.float32) - window.lower) * (255 / window.width_hu)
    return np.clip(grey + 0.5, 0, 255).astype(np.uint8)


STRETCHED_HU = (-100.0, 300.0)
"""What the window "mr" comes to: from fat to strongly enhanced vessels."""


def as_hu(volume: Volume, modality: str) -> Volume:
    """A CT as it is; an MR scan stretched linearly so that its window "mr" covers STRETCHED_HU.

    Rules and pictures made for HU then see a patient's own range of intensities, whatever the scan's scale.
    """
    if require_modality(modality) == "ct":
        return volume
    (low, high), (darkest, brightest) = window_bounds("mr", volume.voxels), STRETCHED_HU
    voxels = np.empty_like(volume.voxels)
    for k, plane in enumerate(volume.voxels):
        stretched = (plane.astype(np.float32) - low) * ((brightest - darkest) / (high - low)) + darkest
        voxels[k] = np.rint(stretched).clip(-1024, 3071)
    return replace(volume, voxels=voxels)
