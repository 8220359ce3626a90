"""Every network of the catalogue with a few filters."""

import inspect

from livseg_lib.models import MODELS, build_model
from livseg_lib.systems import BLOCKS, SYSTEMS

FEW = {
    "levels": 3,
    "dropout": 0.0,
    "encoder_width": 1 / 16,
    "decoder_filters": (16, 8, 8, 8, 8),
    "atrous_rates": (1, 2, 3),
    "attention_channels": 4,
    "low_level_filters": 8,
}
"""For networks that have the option; filters are a quarter of the small version's."""


def options_of(name: str) -> dict:
    """Options of `build_model`."""
    options = dict(SYSTEMS[name].small)
    if "filters" in options:
        options["filters"] //= 4
    known = inspect.signature(MODELS[name]).parameters
    return options | {option: value for option, value in FEW.items() if option in known}


def thin(name: str, height: int = 64, width: int = 64, channels: int = 3, classes: int = 2, **more):
    """Network `name` for such pictures; blocks have four slices. `more` are options of it."""
    shape = shape_for(name, height, width, channels)
    return build_model(name, shape, classes, **(options_of(name) | more))


def shape_for(name: str, height: int, width: int, channels: int) -> tuple[int, ...]:
    """Of one input of the network: a picture, or four slices."""
    return (4, height, width, channels)[SYSTEMS[name].kind != BLOCKS :]
