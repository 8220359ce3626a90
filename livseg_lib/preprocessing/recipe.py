"""From a volume to what a network is shown: one `Recipe` for training and prediction."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from livseg_lib.errors import InputError
from livseg_lib.labels import STRUCTURES, fullest_slice, structure_mask
from livseg_lib.preprocessing.geometry import (
    Shape,
    Spacing,
    blend,
    fit_labels,
    fit_picture,
    resample_label_slice,
    resample_slice,
    resize,
    restore_plane,
    working_grid,
)
from livseg_lib.preprocessing.windows import (
    LIVER_WINDOWS,
    MR_WINDOWS,
    WINDOWS,
    Window,
    apply_window,
    as_window,
    measured,
)
from livseg_lib.provenance import as_tuples, code_of
from livseg_lib.volumes import Volume

if TYPE_CHECKING:  # only named in signatures
    from livseg_lib.datasets.case import Case

NOISE_FILTERS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "none": lambda hu: hu,
    "median": lambda hu: cv2.medianBlur(hu, 3),
    "gaussian": lambda hu: cv2.GaussianBlur(hu, (0, 0), 1.0),
}
"""Slice (H, W) int16 HU -> the same with less noise: median of 3 x 3 pixels, sigma of one pixel (system E).

In plane only: slices lie up to 5 mm apart, so a neighbour above is other anatomy.
"""

EQUALIZATIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "none": lambda picture: picture,
    "global": cv2.equalizeHist,
    "clahe": lambda picture: cv2.createCLAHE(clipLimit=2.0, tileGridSize=(8, 8)).apply(picture),
}
"""Windowed slice (H, W) uint8 -> the same with its histogram spread: one, or one of each tile (system B)."""


class JsonRecord:
    """A dataclass of plain values, as model.json keeps it."""

    def to_dict(self) -> dict:
        """JSON-ready mapping; `from_dict` reads it back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict):
        """Inverse of `to_dict` (lists become tuples)."""
        return cls(**as_tuples(values))


@dataclass(frozen=True)
class Recipe(JsonRecord):
    """Steps in the order they are applied. Written to `model.json`, so that prediction repeats them."""

    windows: tuple[Window, ...] = LIVER_WINDOWS
    """One channel each (system B). Given as `windows.as_window` takes them, such as "liver" or (-100, 200),
    and kept by their bounds: what a trained model is shown does not change with the table of names."""
    noise_filter: str = "none"
    """Applied in HU before windowing: none, median (3 x 3) or gaussian (system E)."""
    equalization: str = "none"
    """Applied to each windowed slice: none, global histogram or CLAHE (system B)."""
    voxel_size_mm: tuple[float, float, float] | None = None
    """Resample to this (D, H, W) voxel size first (system D); None keeps the scan's own."""
    size: int = 128
    """Pictures are size x size pixels, 32 to 512; systems B and C use 256."""

    def __post_init__(self) -> None:
        windows = [self.windows] if isinstance(self.windows, str) else self.windows
        object.__setattr__(self, "windows", tuple(map(as_window, windows)))
        for name, allowed in (("noise_filter", [*NOISE_FILTERS]), ("equalization", [*EQUALIZATIONS])):
            if getattr(self, name) not in allowed:
                raise InputError(name, f"is {getattr(self, name)!r}.", f"Choose one of {', '.join(allowed)}.")
        if not (isinstance(self.size, int | np.integer) and 32 <= self.size <= 512):
            raise InputError("size", f"is {self.size!r} pixels.", "Choose 32 to 512.")
        sides = self.voxel_size_mm or (1.0,) * 3
        if len(sides) != 3 or not 0.01 <= min(sides) <= max(sides) <= 1000:
            raise InputError("voxel_size_mm", f"is {sides}.", "Give three sides in mm, 0.01 to 1000.")

    @classmethod
    def of_case(cls, folder: Path) -> Recipe:
        """The recipe that the extracted case in `folder` was made by."""
        return cls.from_dict(json.loads((folder / "case.json").read_bytes())["request"]["recipe"])

    @property
    def modality(self) -> str:
        """ "mr" where a channel is a range of an MR scan's percentiles, else "ct"."""
        return "mr" if any(window.name in MR_WINDOWS for window in self.windows) else "ct"


@dataclass(frozen=True)
class NetworkInput(JsonRecord):
    """Which channels stand beside those of a slice's own picture. The default: none."""

    neighbours: int = 0
    """Slices on either side, feet first (system G): 2 gives 2.5D pictures of five slices."""
    sees_liver: bool = False
    """Whether the mask of the liver is the last channel (system I)."""
    block_overlap: int | None = None
    """Slices that neighbouring blocks share in prediction (system E); None is a quarter of a block."""

    def channels(self, of_picture: int) -> int:
        """How many there are in all, where a picture has `of_picture`."""
        return of_picture * (2 * self.neighbours + 1) + self.sees_liver

    def compose(
        self, pictures: Iterable[np.ndarray], liver: Iterable[np.ndarray] | None = None
    ) -> Iterator[np.ndarray]:
        """Pictures uint8 (s, s, C) from feet to head -> the network's, uint8 (s, s, channels).

        A stream: memory holds the neighbours alone. `liver` gives a mask, bool (s, s), for each picture.
        Raises InputError where the network sees the liver and none is given.
        """
        pictures = with_neighbours(pictures, self.neighbours)
        if not self.sees_liver:
            return iter(pictures)
        if liver is None:
            problem = "sees the liver as a channel, and no liver was found before."
            raise InputError("network", problem, "Use it as a later step of a cascade.")
        return map(with_liver, pictures, liver)


OWN_PICTURE = NetworkInput()
"""A slice's own picture and nothing else."""


def with_neighbours(pictures: Iterable[np.ndarray], count: int) -> Iterator[np.ndarray]:
    """Each picture (s, s, C) joined with `count` on either side: (s, s, C * (2 * count + 1)).

    Beyond the first and the last picture these come again.
    """
    window: deque[np.ndarray] = deque(maxlen=2 * count + 1)
    for picture in pictures:
        window.extend([picture] * (1 if window else count + 1))
        if len(window) == window.maxlen:
            yield np.concatenate(window, axis=-1)
    for last in [window[-1]] * count if window else []:
        window.append(last)
        if len(window) == window.maxlen:
            yield np.concatenate(window, axis=-1)


def with_liver(picture: np.ndarray, liver: np.ndarray) -> np.ndarray:
    """Pictures uint8 (..., C) with the mask, bool (...), as a last channel of 0 and 255."""
    return np.concatenate([picture, (liver * np.uint8(255))[..., np.newaxis]], axis=-1)


def with_masks(greys: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Greys uint8 (..., C), then the masks of labels 0/1/2 (...), liver and tumour, as 0 and 255."""
    for structure in STRUCTURES:
        greys = with_liver(greys, structure_mask(labels, structure))
    return greys


def channel_windows(voxels: np.ndarray, recipe: Recipe) -> tuple[Window, ...]:
    """The recipe's windows for this volume, one a channel; adaptive ones are measured on all its voxels."""
    if not recipe.windows:
        raise InputError("windows", "The list is empty.", "Name at least one window.")
    return tuple(measured(window, voxels) for window in recipe.windows)


def prepare_slice(hu: np.ndarray, windows: Sequence[Window], recipe: Recipe) -> np.ndarray:
    """One slice (H, W) int16 HU -> picture (size, size, C) uint8."""
    filtered = NOISE_FILTERS[recipe.noise_filter](hu)
    # Equalized before padding: the padding would count as tissue in the histogram.
    equalize = EQUALIZATIONS[recipe.equalization]
    pictures = [equalize(apply_window(filtered, window)) for window in windows]
    return np.stack([fit_picture(picture, recipe.size) for picture in pictures], axis=-1)


def prepare_slices(volume: Volume, recipe: Recipe) -> Iterator[np.ndarray]:
    """Pictures (size, size, C) uint8 from feet to head, one at a time: memory holds one slice.

    There are as many as the volume has slices, or as `working_grid` says where the recipe resamples.
    """
    shape, _ = working_grid(volume.voxels.shape, volume.spacing_mm, recipe.voxel_size_mm)
    windows = channel_windows(volume.voxels, recipe)
    for index in range(shape[0]):
        yield prepare_slice(resample_slice(volume.voxels, shape, index), windows, recipe)


def picture_code() -> str:
    """Digest of the code that makes pictures of volumes. Windows do not count: recipes hold their own."""
    return code_of(prepare_slices, apart=[WINDOWS])


def prepare_labels(labels: np.ndarray, spacing_mm: Spacing, recipe: Recipe) -> np.ndarray:
    """Labels 0/1/2 (D, H, W) as the truth for those pictures, uint8 (D, size, size)."""
    shape, _ = working_grid(labels.shape, spacing_mm, recipe.voxel_size_mm)
    slices = (resample_label_slice(labels, shape, index) for index in range(shape[0]))
    return np.stack([fit_labels(plane, recipe.size) for plane in slices])


def restore_planes(
    planes: np.ndarray, shape: Shape, spacing_mm: Spacing, recipe: Recipe
) -> Iterator[np.ndarray]:
    """Inverse of `prepare_slices` for what a network answers, one slice of the volume at a time.

    planes: (D', size, size), one for each picture; uint8 0..255 or float32 0..1.
    shape, spacing_mm: of the volume, (D, H, W). Yields D arrays (H, W) on the scale of `planes`,
    linearly interpolated.
    """
    (depth, height, width), _ = working_grid(shape, spacing_mm, recipe.voxel_size_mm)
    if planes.shape != (depth, recipe.size, recipe.size):
        raise ValueError(f"planes are {planes.shape}, the recipe makes {(depth, recipe.size, recipe.size)}")
    for index in range(shape[0]):
        plane = restore_plane(blend(planes, index, shape[0]), (height, width))
        yield resize(plane, shape[1:])


def restore_masks(
    planes: np.ndarray, shape: Shape, spacing_mm: Spacing, recipe: Recipe, threshold: float = 0.5
) -> np.ndarray:
    """Mask bool (D, H, W) on the volume's own grid, where the restored planes reach `threshold` (0..1).

    Takes what `restore_planes` takes. Each slice is thresholded at once: full-size probabilities of a
    whole volume never exist.
    """
    scale = 255 if planes.dtype == np.uint8 else 1
    mask = np.empty(shape, bool)
    for index, plane in enumerate(restore_planes(planes, shape, spacing_mm, recipe)):
        np.greater_equal(plane, threshold * scale, out=mask[index])
    return mask


def case_picture(case: Case, modality: str = "ct") -> tuple[np.ndarray, np.ndarray | None, str]:
    """(grey uint8 (H, W), labels (H, W) or None, case id): the slice with most tumour, else most liver.

    A scan without labels shows its middle slice.
    """
    volume = case.read_volume()
    labels = case.read_labels(volume) if case.read_labels else None
    index = len(volume.voxels) // 2 if labels is None else fullest_slice(labels)
    grey = apply_window(volume.voxels[index], display_window(volume, modality))
    return grey, None if labels is None else labels[index], case.case_id


def display_window(volume: Volume, modality: str = "ct") -> Window:
    """The liver window; for pictures, which are windowed already, their greys as they are."""
    if volume.native is None:
        return WINDOWS["stored"]
    return measured(as_window("mr" if modality == "mr" else "liver"), volume.voxels)
