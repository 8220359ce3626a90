"""MA-Net: a residual U-Net with attention to positions and to channels (system D)."""

from __future__ import annotations

import math

import keras
from keras import layers

from livseg_lib.models import blocks

SQUEEZE = 16
"""A channel attention's inner layer has this many times fewer channels (Hu et al. 2018, arXiv:1709.01507)."""


def manet(
    input_shape: tuple[int, int, int],
    num_classes: int,
    *,
    filters: int = 64,
    levels: int = 5,
    attention_channels: int = 64,
    patch: int = 1,
    l2: float = 0.0,
) -> keras.Model:
    """MA-Net (Fan et al. 2020, doi:10.1109/ACCESS.2020.3025372): residual blocks, PAB, MFAB.

    Encoder of residual blocks, filters doubling from level to level; a position-wise attention block
    (PAB) on the deepest map; a multi-scale fusion attention block (MFAB) at each decoder level.
    Departures: sigmoid maps; the attention scores are scaled (see `position_attention`). The inner sizes
    (three 3 x 3 convolutions and a shortcut a block, 64 attention channels, a squeeze of 16) follow
    common descriptions of the paper, whose full text is not open.

    The attention matrix has (H W / s^2)^2 entries, s = patch * 2 ** (levels - 1): a million for
    512 x 512 pixels and the default five levels. Levels taken away make it 16 times larger each.

    `patch` > 1 is ours (see `unet`). Input float32 in [0, 1], (H, W, C) with H and W divisible by
    patch * 2 ** (levels - 1).
    """
    blocks.require_divisible(input_shape, patch * 2 ** (levels - 1), "manet")
    inputs = keras.Input(input_shape, name="image")
    x, block = blocks.fold(inputs, filters, patch), blocks.residual_block
    *skips, x = blocks.contracting_path(x, filters, levels, l2=l2, block=block)
    x = position_attention(x, attention_channels, "attention", l2=l2)
    for level in reversed(range(levels - 1)):
        x = fusion_attention(x, skips[level], f"decoder{level}", l2=l2)
    x = blocks.unfold(x, filters // 2, patch)
    return keras.Model(inputs, blocks.probability_maps(x, num_classes), name="manet")


def position_attention(x, channels: int, name: str, *, l2: float = 0.0):
    """PAB: every position takes from every other what resembles it; (B, h, w, C) -> (B, h, w, C).

    With N = h w positions, `{name}_map` is the attention matrix (B, N, N), float32, its rows summing
    to 1. The scores are divided by the root of `channels` (Vaswani et al. 2017, arXiv:1706.03762):
    as large as the paper leaves them, random weights start with each row on a single position.
    """
    height, width, depth = x.shape[1:]
    queries = blocks.convolution(x, channels, f"{name}_queries", size=1, l2=l2, activation=None)
    keys = blocks.convolution(x, channels, f"{name}_keys", size=1, l2=l2, activation=None)
    values = blocks.convolution(x, depth, f"{name}_values", l2=l2, activation=None)
    queries = layers.Reshape((height * width, channels), name=f"{name}_query_rows")(queries)
    keys = layers.Reshape((height * width, channels), name=f"{name}_key_rows")(keys)
    values = layers.Reshape((height * width, depth), name=f"{name}_value_rows")(values)
    scores = layers.Dot((2, 2), dtype="float32", name=f"{name}_scores")([queries, keys])
    scores = layers.Rescaling(1.0 / math.sqrt(channels), dtype="float32", name=f"{name}_scaled")(scores)
    attention = layers.Softmax(dtype="float32", name=f"{name}_map")(scores)
    gathered = layers.Dot((2, 1), name=f"{name}_gathered")([attention, values])
    gathered = layers.Reshape((height, width, depth), name=f"{name}_grid")(gathered)
    x = layers.Add(name=f"{name}_add")([x, gathered])
    return blocks.normalized_convolution(x, depth, f"{name}_out", l2=l2)


def fusion_attention(x, skip, name: str, *, l2: float = 0.0):
    """MFAB: upsample `x` and weigh its channels by what both it and the skip hold, then join the two."""
    depth = skip.shape[-1]
    x = blocks.normalized_convolution(x, x.shape[-1], f"{name}_deep", l2=l2)
    x = blocks.normalized_convolution(x, depth, f"{name}_reduce", size=1, l2=l2)
    x = layers.UpSampling2D(2, name=f"{name}_up")(x)
    weights = [channel_attention(x, f"{name}_deep_weights"), channel_attention(skip, f"{name}_skip_weights")]
    weights = layers.Add(name=f"{name}_weights")(weights)
    x = layers.Multiply(name=f"{name}_weighted")([x, weights])
    x = layers.Concatenate(name=f"{name}_join")([skip, x])
    return blocks.double_convolution(x, depth, name, l2=l2)


def channel_attention(x, name: str):
    """Squeeze and excitation: one weight from 0 to 1 a channel; (B, h, w, C) -> (B, 1, 1, C)."""
    depth = x.shape[-1]
    x = layers.GlobalAveragePooling2D(keepdims=True, name=f"{name}_pool")(x)
    x = layers.Dense(max(1, depth // SQUEEZE), activation="relu", name=f"{name}_squeeze")(x)
    return layers.Dense(depth, activation="sigmoid", name=f"{name}_excite")(x)
