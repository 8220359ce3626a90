"""The 2.5D residual U-Net of system G (Han 2017, arXiv:1704.07239)."""

from __future__ import annotations

from functools import partial

import keras
from keras import layers

from livseg_lib.models import blocks


def residual_unet(
    input_shape: tuple[int, int, int],
    num_classes: int,
    *,
    filters: int = 64,
    levels: int = 5,
    patch: int = 1,
    l2: float = 0.0,
) -> keras.Model:
    """A stack of neighbouring axial slices as channels in, the maps of the centre slice out.

    Short connections as in ResNet within each block, long ones by concatenation as in U-Net between
    encoder and decoder; PReLU and batch normalization behind every 3 x 3 convolution. The paper stacks
    five slices; any number of channels will do.

    The paper counts 32 layers but has its blocks only in a figure. Ours, at the default five levels:
    three convolutions in each of nine blocks, four transposed convolutions and the last one, 32 without
    the 1 x 1 projections of the short connections. Filters double from level to level. Departures:
    sigmoid maps instead of a softmax over background, liver and lesion; kernels of 2 x 2 in the
    transposed convolutions, of 1 x 1 in the last one.

    `patch` > 1 is ours, for laptops (see `unet`). Input float32 in [0, 1], (H, W, C) with H and W
    divisible by patch * 2 ** (levels - 1).
    """
    blocks.require_divisible(input_shape, patch * 2 ** (levels - 1), "residual_unet")
    inputs = keras.Input(input_shape, name="image")
    block = partial(blocks.residual_block, activation="prelu")
    x = blocks.fold(inputs, filters, patch)
    *skips, x = blocks.contracting_path(x, filters, levels, l2=l2, block=block)
    for level in reversed(range(levels - 1)):
        x = layers.Conv2DTranspose(filters * 2**level, 2, strides=2, name=f"decoder{level}_up")(x)
        x = layers.Concatenate(name=f"decoder{level}_join")([skips[level], x])
        x = block(x, filters * 2**level, f"decoder{level}", l2=l2)
    x = blocks.unfold(x, filters // 2, patch)
    return keras.Model(inputs, blocks.probability_maps(x, num_classes), name="residual_unet")
