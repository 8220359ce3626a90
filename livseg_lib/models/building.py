"""Building a network by its name in a catalogue, with a clear word where that cannot be."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import keras

from livseg_lib.errors import InputError

Catalogue = Mapping[str, Callable[..., keras.Model]]
"""Name -> function of (input_shape, num_classes, **options)."""


def build_from(
    catalogue: Catalogue, name: str, input_shape: tuple[int, ...], num_classes: int, options: dict
) -> keras.Model:
    """Network `name` of `catalogue` with random weights. Raises InputError for an unknown name or option."""
    if name not in catalogue:
        raise InputError(name, "is not in the catalogue.", f"Choose one of {', '.join(catalogue)}.")
    try:
        return catalogue[name](tuple(input_shape), num_classes, **options)
    except TypeError as error:
        remedy = "Give options that its function takes, or use the model folder as it was saved."
        raise InputError(name, f"cannot be built with {options}: {error}.", remedy) from error
