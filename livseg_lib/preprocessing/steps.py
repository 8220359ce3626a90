"""One slice after each step that a recipe can take, to look at."""

from __future__ import annotations

import numpy as np

from livseg_lib.preprocessing.cleaning import equalize, filter_noise
from livseg_lib.preprocessing.geometry import resample_slice, working_grid
from livseg_lib.preprocessing.prepare import channel_windows, prepare_slice
from livseg_lib.preprocessing.recipe import EQUALIZATIONS, NOISE_FILTERS, Recipe
from livseg_lib.preprocessing.windows import Window, apply_window, window_bounds
from livseg_lib.volumes import Volume

EVERYTHING = Window.between(-1024, 1024)


def show_steps(volume: Volume, recipe: Recipe, k: int) -> dict[str, np.ndarray]:
    """Title -> uint8 picture of slice `k`, in the order of the steps; the last is what the recipe makes.

    Noise filters and equalizations are all shown, whichever the recipe takes, each on the first window.
    Pictures are (H, W) grey, but for the last: (size, size, C), or (size, size) of its one channel.
    """
    shape, _ = working_grid(volume.voxels.shape, volume.spacing_mm, recipe.voxel_size_mm)
    hu = resample_slice(volume.voxels, shape, k)
    windows = channel_windows(volume.voxels, recipe)
    named = [(window.name, bounds) for window, bounds in zip(recipe.windows, windows, strict=True)]
    first_name, first = named[0]

    unit, whole = ("HU ", EVERYTHING) if recipe.modality == "ct" else ("", _whole_range(volume))
    steps = {f"scan, {unit}{whole.lower:.0f} to {whole.upper:.0f}": apply_window(hu, whole)}
    for name, window in named:
        title = f"{name}, {unit}{window.lower:.0f} to {window.upper:.0f}"
        steps[title] = apply_window(hu, window)
    for name in NOISE_FILTERS[1:]:
        steps[f"{first_name}, noise filter {name}"] = apply_window(filter_noise(hu, name), first)
    cleaned = apply_window(filter_noise(hu, recipe.noise_filter), first)
    for name in EQUALIZATIONS[1:]:
        steps[f"{first_name}, equalization {name}"] = equalize(cleaned, name)
    prepared = prepare_slice(hu, windows, recipe)
    steps[f"prepared: {len(windows)} channels, {recipe.size} px"] = (
        prepared.squeeze(-1) if len(windows) == 1 else prepared
    )
    return steps


def _whole_range(volume: Volume) -> Window:
    return Window.between(*window_bounds("min_max", volume.voxels))
