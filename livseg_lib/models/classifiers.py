"""The catalogue of networks that give one answer for a whole picture or patch, built by name."""

from __future__ import annotations

from collections.abc import Callable

import keras

from livseg_lib.models.building import build_from
from livseg_lib.models.fractal_classifier import fractal3d
from livseg_lib.models.slice_sorter import slice_sorter

CLASSIFIERS: dict[str, Callable[..., keras.Model]] = {"slice_sorter": slice_sorter, "fractal3d": fractal3d}


def build_classifier(name: str, input_shape: tuple[int, ...], num_classes: int, **options) -> keras.Model:
    """Network `name` with random weights, float32 in [0, 1] -> (B, num_classes), sum 1.

    The slice sorter takes pictures (B, H, W, C), `fractal3d` patches (B, D, H, W, C). Raises InputError
    for an unknown name, option or size.
    """
    return build_from(CLASSIFIERS, name, input_shape, num_classes, options)
