"""UNet++ (Zhou et al. 2018, arXiv:1807.10165; 2019, arXiv:1912.05074), one of system D's networks."""

from __future__ import annotations

import keras
from keras import layers

from livseg_lib.models import blocks


def unetplusplus(
    input_shape: tuple[int, int, int],
    num_classes: int,
    *,
    filters: int = 32,
    levels: int = 5,
    patch: int = 1,
    deep_supervision: bool = True,
    l2: float = 0.0,
) -> keras.Model:
    """U-Nets of every depth up to `levels`, nested in one: levels * (levels + 1) / 2 nodes.

    Node X(i, j) of level i joins X(i, 0) ... X(i, j - 1) with the upsampled X(i + 1, j - 1); X(i, 0) is
    the encoder. Layers go by "encoder{i}" and "node{i}_{j}". The defaults are the papers' network:
    32-64-128-256-512 filters, 9 million parameters.

    With `deep_supervision` each X(0, j), j >= 1, has a head: the layer "head{j}", a map
    (H, W, num_classes) in [0, 1], float32. The output is the mean of the heads (the papers' accurate
    mode), and a training applies its loss to each head. Without it the last node alone gives the maps.

    Departures: batch normalization as in `unet` where the papers' own code has dropout; `patch` > 1 is
    ours (see `unet`), each head unfolding for itself. Input float32 in [0, 1], (H, W, C) with H and W
    divisible by patch * 2 ** (levels - 1). Raises InputError for other sizes and for a single level.
    """
    blocks.require_levels(levels, 2, "unet++")
    blocks.require_divisible(input_shape, patch * 2 ** (levels - 1), "unet++")
    inputs = keras.Input(input_shape, name="image")
    column = blocks.contracting_path(blocks.fold(inputs, filters, patch), filters, levels, l2=l2)
    nodes = nested_nodes(column, filters, l2=l2)
    if deep_supervision:
        maps = heads_and_mean(nodes, num_classes, filters // 2, patch)
    else:
        maps = blocks.probability_maps(blocks.unfold(nodes[-1], filters // 2, patch), num_classes)
    return keras.Model(inputs, maps, name="unetplusplus")  # TensorFlow takes no "+" in a scope's name


def nested_nodes(column: list, filters: int, *, l2: float = 0.0) -> list:
    """X(0, 1) ... X(0, levels - 1), at the first level's size, from the encoder's X(0, 0) ... X(i, 0)."""
    rows = [[x] for x in column]
    for step in range(1, len(column)):
        for level in range(len(column) - step):
            below, name = rows[level + 1][-1], f"node{level}_{step}"
            node = blocks.upsample_and_join(below, rows[level], filters * 2**level, name, l2=l2)
            rows[level].append(node)
    return rows[0][1:]


def heads_and_mean(nodes: list, num_classes: int, unfolded_filters: int, patch: int):
    """A head a node, and the mean of their maps."""
    heads = []
    for number, x in enumerate(nodes, start=1):
        x = blocks.unfold(x, unfolded_filters, patch, f"head{number}_unfold")
        heads.append(blocks.probability_maps(x, num_classes, f"head{number}"))
    return layers.Average(dtype="float32", name="probabilities")(heads)
