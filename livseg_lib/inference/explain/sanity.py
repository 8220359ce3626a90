"""Do maps hang on what a network has learnt? Its weights are made random, layer by layer from the output.

The cascading randomization of Adebayo et al. 2018 (arXiv:1810.03292): a map that hardly changes shows the
picture, not the network. One that changes has passed a necessary test; it need not be faithful.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import keras

from livseg_lib.runs import derived_seed


class Randomized(NamedTuple):
    """A network whose last layers are random."""

    count: int
    """How many of the layers with weights."""
    layer: str
    """The one randomized last; "" where none is."""
    network: keras.Model
    """A copy that the next step changes further."""


def randomize_from_output(network: keras.Model, seed: int) -> Iterator[Randomized]:
    """`network` as it is, then with its last layer random, its last two, ..., all of them.

    Random are the weights that the layers would start a training with, moving averages included. `network`
    keeps its own: what comes is one copy, changed from step to step.
    """
    copy = keras.models.clone_model(network)
    copy.set_weights(network.get_weights())
    fresh = _freshly_initialized(network, seed)
    yield Randomized(0, "", copy)
    for count, (layer, start) in enumerate(zip(_last_first(copy), _last_first(fresh), strict=True), 1):
        layer.set_weights(start.get_weights())
        yield Randomized(count, layer.name, copy)


def count_layers(network: keras.Model) -> int:
    """Layers with weights, those of a network within it one by one."""
    return len(_last_first(network))


def _last_first(network: keras.Model) -> list[keras.layers.Layer]:
    layers = [
        _last_first(layer)[::-1] if isinstance(layer, keras.Model) else [layer]
        for layer in network.layers
        if layer.weights
    ]
    return [layer for group in layers for layer in group][::-1]


def _freshly_initialized(network: keras.Model, seed: int) -> keras.Model:
    """A twin with the weights that a training would start from, by `seed` alone."""

    def seeded(layer: keras.layers.Layer) -> keras.layers.Layer:
        config = layer.get_config()
        for key, value in config.items():
            if key.endswith("_initializer") and "seed" in (value or {}).get("config", {}):
                value["config"]["seed"] = derived_seed(seed, layer.name, key)
        return type(layer).from_config(config)

    return keras.models.clone_model(network, clone_function=seeded, recursive=True)
