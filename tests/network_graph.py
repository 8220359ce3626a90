"""Walking the graph of a network, for tests of how its layers are connected."""

import keras


def sources(layer: keras.layers.Layer) -> list[str]:
    """Names of the layers whose outputs `layer` takes, in order."""
    taken = layer.input if isinstance(layer.input, list) else [layer.input]
    return [tensor._keras_history.operation.name for tensor in taken]


def path_lengths(network: keras.Model, start: str, end: str, kind: type) -> set[int]:
    """How many layers of `kind` lie on each path from behind layer `start` to layer `end`, both by name."""
    if start == end:
        return {0}
    layer = network.get_layer(end)
    if isinstance(layer, keras.layers.InputLayer):
        return set()
    before = set().union(*(path_lengths(network, start, name, kind) for name in sources(layer)))
    return {length + isinstance(layer, kind) for length in before}
