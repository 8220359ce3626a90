"""The catalogue: one architecture a file, built by name. What a name stands for: `livseg_lib.systems`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from importlib import import_module

from livseg_lib.backend import import_backend
from livseg_lib.errors import InputError
from livseg_lib.systems import SYSTEMS

import_backend()
import keras  # noqa: E402 (after its backend)

Build = Callable[..., keras.Model]
"""A function of (input_shape, num_classes, **options)."""


class _Catalogue(Mapping[str, Build]):
    """Network -> its function, whose file is imported when it is asked for."""

    def __getitem__(self, name: str) -> Build:
        function = SYSTEMS[name].network
        if not function:
            raise KeyError(name)
        return getattr(import_module(f"livseg_lib.models.{function}"), function)

    def __iter__(self) -> Iterator[str]:
        return (name for name, system in SYSTEMS.items() if system.network)

    def __len__(self) -> int:
        return len(list(iter(self)))


MODELS = _Catalogue()


def build_model(name: str, input_shape: tuple[int, ...], num_classes: int, **options) -> keras.Model:
    """Network `name` with random weights, (B, H, W, C) float32 in [0, 1] -> (B, H, W, num_classes).

    Networks of blocks have a depth before the height, in what they take and in what they give. The outputs
    are `num_classes` independent sigmoid maps, one a structure: a voxel may be liver and tumour at once.
    Raises InputError for an unknown name, option or size.
    """
    return build_from(MODELS, name, input_shape, num_classes, options)


def build_from(
    catalogue: Mapping[str, Build], name: str, input_shape: tuple[int, ...], num_classes: int, options: dict
) -> keras.Model:
    """Network `name` of `catalogue` with random weights. Raises InputError for an unknown name or option."""
    if name not in catalogue:
        raise InputError(name, "is not in the catalogue.", f"Choose one of {', '.join(catalogue)}.")
    try:
        return catalogue[name](tuple(input_shape), num_classes, **options)
    except TypeError as error:
        remedy = "Give options that its function takes, or use the model folder as it was saved."
        raise InputError(name, f"cannot be built with {options}: {error}.", remedy) from error
