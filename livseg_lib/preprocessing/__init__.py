"""Volume -> picture: windows, cleaning, geometry, extraction. One `Recipe` for training and prediction."""

from livseg_lib.preprocessing.cleaning import equalize, filter_noise
from livseg_lib.preprocessing.diagnosis import class_counts, diagnose_slices
from livseg_lib.preprocessing.extraction import extract_case, extract_dataset
from livseg_lib.preprocessing.overview import case_picture
from livseg_lib.preprocessing.prepare import (
    prepare_labels,
    prepare_slices,
    prepare_volume,
    restore_masks,
    restore_planes,
)
from livseg_lib.preprocessing.recipe import EQUALIZATIONS, NOISE_FILTERS, Recipe
from livseg_lib.preprocessing.slice_table import SLICE_COLUMNS, read_classified, read_slices
from livseg_lib.preprocessing.steps import show_steps
from livseg_lib.preprocessing.windows import (
    ADAPTIVE_WINDOWS,
    MR_WINDOWS,
    WINDOWS,
    Window,
    apply_window,
    choose_windows,
    window_bounds,
)

__all__ = [
    "ADAPTIVE_WINDOWS",
    "EQUALIZATIONS",
    "MR_WINDOWS",
    "NOISE_FILTERS",
    "SLICE_COLUMNS",
    "WINDOWS",
    "Recipe",
    "Window",
    "apply_window",
    "case_picture",
    "choose_windows",
    "class_counts",
    "diagnose_slices",
    "equalize",
    "extract_case",
    "extract_dataset",
    "filter_noise",
    "prepare_labels",
    "prepare_slices",
    "prepare_volume",
    "read_classified",
    "read_slices",
    "restore_masks",
    "restore_planes",
    "show_steps",
    "window_bounds",
]
