"""Windows: which intensities become black, which white, and the grey between."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import numpy as np

from livseg_lib.errors import InputError
from livseg_lib.labels import require_modality
from livseg_lib.volumes import Volume

_INT16_MIN = -(2**15)


class Window(NamedTuple):
    """Linear grey scale. Recipes and model.json keep its bounds, so that a name may change its meaning."""

    name: str
    lower: float | None
    """HU shown as 0, as all below is; None: measured on each volume, as `ADAPTIVE_WINDOWS` says."""
    upper: float | None
    """HU shown as 255, as all above is, or None."""

    @classmethod
    def between(cls, lower: float, upper: float) -> Window:
        """The window that shows `lower` as 0 and `upper` as 255, named after both."""
        return cls(f"{lower:g}..{upper:g}", float(lower), float(upper))


_BOUNDS_HU = {
    # Enhanced liver (80 to 130 HU), plain liver (40 to 70) and fatty margins, each with room for noise.
    "liver": (-50, 200),
    # The 150 HU that readers give a liver, moved up from 30 to 75 because LiTS is portal-venous:
    # a tumour 20 HU darker than the liver then differs by 34 grey levels.
    "liver_narrow": (0, 150),
    # H-DenseUNet (Li et al. 2018): lung, fat, soft tissue and bright vessels stay apart.
    "liver_wide": (-200, 250),
    # The usual soft-tissue setting of reading rooms: level 50, width 400; then those of bone and lung.
    "abdomen": (-150, 250),
    "bone": (-500, 1300),
    "lung": (-1350, 150),
    # Pictures that are 8-bit already, grey level in and the same grey level out. On a CT it cuts HU to
    # 0..255, which is how the public LiTS picture sets were made.
    "stored": (0, 255),
}
WINDOWS = {name: Window(name, float(low), float(high)) for name, (low, high) in _BOUNDS_HU.items()}
"""Fixed windows by name. The three liver windows are the default channels (system B)."""

LIVER_WINDOWS = ("liver", "liver_narrow", "liver_wide")

Choice = str | Sequence
"""A window: a name, (low, high) or "low..high" in HU, or (name, low, high) as JSON keeps a `Window`."""


def as_window(choice: Choice) -> Window:
    """The window that `choice` means today. Raises InputError for an unknown name and impossible bounds."""
    if isinstance(choice, str):
        if choice in ADAPTIVE_WINDOWS:
            return Window(choice, None, None)
        if bounds := re.fullmatch(r"(-?[\d.]+)\.\.(-?[\d.]+)", choice):
            return as_window(bounds.groups())
        if choice not in WINDOWS:
            known = ", ".join([*WINDOWS, *ADAPTIVE_WINDOWS])
            remedy = f"Choose from: {known}, or give HU, such as -100..200."
            raise InputError("windows", f"There is no window {choice!r}.", remedy)
        return WINDOWS[choice]
    try:
        name, *bounds = choice if len(choice) == 3 else (None, *choice)
        if bounds == [None, None] and name in ADAPTIVE_WINDOWS:
            return Window(name, None, None)
        lower, upper = (float(bound) for bound in bounds)
        possible = -(2**15) <= lower < upper <= 2**15 and isinstance(name, str | None)
    except (TypeError, ValueError):
        possible = False
    if not possible:
        remedy = "Give [low, high] in HU, low below high, and of several a list: [[-100, 200]]."
        raise InputError("windows", f"{choice!r} is no window.", remedy)
    return Window(name, lower, upper) if name else Window.between(lower, upper)


def choose_windows(
    choices: str | Sequence[Choice], of_pictures: bool, modality: str = "ct"
) -> tuple[Choice, ...]:
    """`choices` as they are; for "auto" the liver windows, or the stored greys of a set of pictures.

    Scans of the `modality` "mr" get MR_WINDOWS. Raises InputError for another modality, for what
    `as_window` refuses, and for HU windows of MR scans, whose intensities have no unit.
    """
    is_mr = require_modality(modality) == "mr" and not of_pictures
    if choices == "auto":
        choices = tuple(MR_WINDOWS) if is_mr else ("stored",) if of_pictures else LIVER_WINDOWS
    chosen = (choices,) if isinstance(choices, str) else tuple(choices)
    windows = map(as_window, chosen)
    if is_mr and (in_hu := [window.name for window in windows if window.lower is not None]):
        problem = f"{', '.join(in_hu)}: bounds in HU, which MR scans do not have."
        raise InputError("windows", problem, f"Choose from: {', '.join([*MR_WINDOWS, *ADAPTIVE_WINDOWS])}.")
    return chosen


def _percentiles(counts: np.ndarray, low: float, high: float) -> tuple[float, float]:
    """Of the values that came so many times each, from the lowest int16 on; 0 and 100 are the extremes."""
    cumulative = np.cumsum(counts)
    ranks = np.maximum(np.array([low, high]) / 100 * cumulative[-1], 1)
    first, last = np.searchsorted(cumulative, ranks) + _INT16_MIN
    return float(first), float(last)


def _body_percentiles(counts: np.ndarray, low: float, high: float) -> tuple[float, float]:
    values = np.arange(len(counts)) + _INT16_MIN
    body = np.where(values > np.average(values, weights=counts) / 2, counts, 0)
    return _percentiles(body, low, high) if body.any() else _percentiles(counts, 0, 100)


def _z_score(counts: np.ndarray) -> tuple[float, float]:
    values = np.arange(len(counts)) + _INT16_MIN
    mean = np.average(values, weights=counts)
    deviation = np.sqrt(np.average((values - mean) ** 2, weights=counts))
    return float(mean - 3 * deviation), float(mean + 3 * deviation)


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
    "min_max": partial(_percentiles, low=0, high=100),
    "percentile": partial(_percentiles, low=0.5, high=99.5),
    "z_score": _z_score,
    **MR_WINDOWS,
}
"""Windows whose bounds come from the volume's own histogram: system E's cleaning, and those of MR scans.

- `min_max`: smallest to largest HU, so grey / 255 is E's min-max normalization to [0, 1].
- `percentile`: 0.5th to 99.5th percentile, so it is E's clipping of outliers followed by min-max.
- `z_score`: mean - 3 to mean + 3 standard deviations, so grey / 255 * 6 - 3 is E's standardized value,
  clipped at 3.
"""


def _histogram(voxels: np.ndarray) -> np.ndarray:
    counts = np.zeros(2**16, np.int64)
    for plane in voxels:  # one slice at a time: the shifted copy must not be as large as the volume
        counts += np.bincount(plane.ravel().astype(np.int32) - _INT16_MIN, minlength=2**16)
    return counts


def measured(window: Window, voxels: np.ndarray) -> Window:
    """`window` with bounds: its own, or those that it takes from the volume `voxels` (int16, (D, H, W)).

    Fixed windows never look at the voxels; adaptive ones read them once. A volume of one single value
    gets a window 1 HU wide.
    """
    if window.lower is not None:
        return window
    lower, upper = ADAPTIVE_WINDOWS[window.name](_histogram(voxels))
    return Window(window.name, lower, max(upper, lower + 1))


def apply_window(hu: np.ndarray, window: Window) -> np.ndarray:
    """Grey levels, uint8 and the shape of `hu`: 0 at `window.lower`, 255 at `window.upper`, linear between.

    Rounded to the nearest level, halves up.
    """
    grey = (hu.astype(np.float32) - window.lower) * (255 / (window.upper - window.lower))
    return np.clip(grey + 0.5, 0, 255).astype(np.uint8)


STRETCHED_HU = (-100.0, 300.0)
"""What the window "mr" comes to: from fat to strongly enhanced vessels."""


def as_hu(volume: Volume, modality: str) -> Volume:
    """A CT as it is; an MR scan stretched linearly so that its window "mr" covers STRETCHED_HU.

    Rules and pictures made for HU then see a patient's own range of intensities, whatever the scan's scale.
    """
    if require_modality(modality) == "ct":
        return volume
    _, low, high = measured(as_window("mr"), volume.voxels)
    darkest, brightest = STRETCHED_HU
    voxels = np.empty_like(volume.voxels)
    for k, plane in enumerate(volume.voxels):
        stretched = (plane.astype(np.float32) - low) * ((brightest - darkest) / (high - low)) + darkest
        voxels[k] = np.rint(stretched).clip(-1024, 3071)
    return replace(volume, voxels=voxels)
