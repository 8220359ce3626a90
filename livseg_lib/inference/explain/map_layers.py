"""The layers of a network whose maps in space can be explained, found by walking its graph."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import keras

from livseg_lib.errors import InputError


class LayerMap(NamedTuple):
    """What one layer of a network gives: a map in space, (B, H, W, C) or (B, D, H, W, C)."""

    name: str
    """The layer's; "encoder/conv5_block3_out" for one output of a network within the network."""
    tensor: keras.KerasTensor

    @property
    def grid(self) -> tuple[int, ...]:
        """Its positions along each axis in space."""
        return tuple(self.tensor.shape[1:-1])

    @property
    def channels(self) -> int:
        """How many features it has."""
        return self.tensor.shape[-1]


def layer_maps(network: keras.Model) -> list[LayerMap]:
    """Every map in space between the picture and the answer, each behind those that it is computed from.

    What a network within the network keeps to itself is not among them; its outputs are.
    """
    places = {layer.name: place for place, layer in enumerate(network.layers)}
    inner = [
        layer for layer in network.layers if not isinstance(layer, (keras.layers.InputLayer, keras.Model))
    ]
    found = {}
    for tensor in keras.tree.flatten([layer.input for layer in inner]):
        source, _, output = tensor._keras_history
        is_picture = isinstance(source, keras.layers.InputLayer)
        if len(tensor.shape) == len(network.input_shape) and not is_picture:
            found[places[source.name], output] = LayerMap(_name(source, output), tensor)
    return [found[key] for key in sorted(found)]


def encoder_maps(network: keras.Model) -> list[LayerMap]:
    """One map a level on the way down, finest first; the last one is the bottleneck.

    The bottleneck is the widest map, of equally wide ones the last, on the coarsest grid that still has
    several positions: maps of a single one are means over the picture. The levels before it are chosen in
    the same way, on each finer grid, from the maps that it is computed from. Raises InputError where there
    is nothing in space between the picture and the answer.
    """
    maps = [each for each in layer_maps(network) if math.prod(each.grid) > 1]
    if not maps:
        problem = "has no map in space between its picture and its answer."
        raise InputError(network.name, problem, "Choose a network that outlines.")
    coarsest = min((each.grid for each in maps), key=math.prod)
    bottleneck = _widest([each for each in maps if each.grid == coarsest])
    on_the_way = {layer.name for layer in keras.Model(network.inputs, bottleneck.tensor).layers}
    levels: dict[tuple[int, ...], list[LayerMap]] = {}
    for each in maps:
        if each.name.split("/")[0] in on_the_way:
            levels.setdefault(each.grid, []).append(each)
    return [_widest(level) for level in levels.values()]


def find_map(network: keras.Model, name: str | None) -> LayerMap:
    """The map called `name`, or the bottleneck. Raises InputError where the network has no such map."""
    if name is None:
        return encoder_maps(network)[-1]
    maps = {each.name: each for each in layer_maps(network)}
    if name not in maps:
        raise InputError(network.name, f"has no map called {name}.", f"It has {', '.join(maps)}.")
    return maps[name]


def _name(source: keras.layers.Layer, output: int) -> str:
    if not isinstance(source, keras.Model):
        return source.name
    return f"{source.name}/{source.outputs[output]._keras_history.operation.name}"


def _widest(maps: Sequence[LayerMap]) -> LayerMap:
    return max(reversed(maps), key=lambda each: each.channels)
