"""The few blocks that the networks share. Every layer is named, so that weights can be found again."""

from __future__ import annotations

import math
from collections.abc import Sequence

import keras
from keras import layers

from livseg_lib.errors import InputError

PRIOR = 0.05
"""Probability that an untrained network gives: structures are small, so learning starts near the truth
(Lin et al. 2017, arXiv:1708.02002)."""

NORM_MOMENTUM = 0.9
"""Keras' 0.99 needs some 500 batches before validation means anything; a quick run has fewer an epoch."""


def convolution(
    x, filters: int, name: str, *, size: int = 3, l2: float = 0.0, activation: str | None = "relu"
):
    """Same-padded convolution with He-normal weights and optional L2 (systems B, C)."""
    return layers.Conv2D(
        filters,
        size,
        padding="same",
        activation=activation,
        kernel_initializer="he_normal",
        kernel_regularizer=keras.regularizers.L2(l2) if l2 else None,
        name=name,
    )(x)


def double_convolution(x, filters: int, name: str, *, l2: float = 0.0):
    """Two 3 x 3 convolutions, batch normalization after the second (system C)."""
    x = convolution(x, filters, f"{name}_conv1", l2=l2)
    x = convolution(x, filters, f"{name}_conv2", l2=l2, activation=None)
    x = layers.BatchNormalization(momentum=NORM_MOMENTUM, name=f"{name}_norm")(x)
    return layers.Activation("relu", name=f"{name}_relu")(x)


def contracting_path(x, filters: int, levels: int, *, l2: float = 0.0) -> list:
    """A double convolution a level, 2 x 2 max pooling between them, filters doubling; outputs by level."""
    outputs = []
    for level in range(levels):
        if level:
            x = layers.MaxPooling2D(2, name=f"encoder{level - 1}_pool")(x)
        x = double_convolution(x, filters * 2**level, f"encoder{level}", l2=l2)
        outputs.append(x)
    return outputs


def upsample_and_join(x, skips: Sequence, filters: int, name: str, *, l2: float = 0.0):
    """2 x 2 transposed convolution, concatenation behind the skips, double convolution (systems B, C)."""
    x = layers.Conv2DTranspose(filters, 2, strides=2, name=f"{name}_up")(x)
    x = layers.Concatenate(name=f"{name}_join")([*skips, x])
    return double_convolution(x, filters, name, l2=l2)


def fold(x, filters: int, patch: int):
    """Ours, for laptops: a strided convolution makes patch x patch pixels one position."""
    return layers.Conv2D(filters, patch, strides=patch, name="fold")(x) if patch > 1 else x


def unfold(x, filters: int, patch: int, name: str = "unfold"):
    """Back to the pixels of before `fold`, by a transposed convolution."""
    if patch == 1:
        return x
    return layers.Conv2DTranspose(filters, patch, strides=patch, activation="relu", name=name)(x)


def probability_maps(x, num_classes: int, name: str = "probabilities"):
    """One sigmoid map a structure, (H, W, num_classes), always float32 (mixed precision safe)."""
    prior = keras.initializers.Constant(math.log(PRIOR / (1.0 - PRIOR)))
    return layers.Conv2D(
        num_classes, 1, activation="sigmoid", bias_initializer=prior, dtype="float32", name=name
    )(x)


def require_divisible(input_shape: tuple[int, int, int], stride: int, network: str) -> None:
    """Refuse an image size that the network cannot halve down to its deepest level."""
    height, width, channels = input_shape
    if height % stride or width % stride or min(height, width, channels) < 1:
        raise InputError(
            network,
            f"cannot take pictures of {height} x {width} x {channels}.",
            f"Choose height and width divisible by {stride}, and at least one channel.",
        )


def require_levels(levels: int, least: int, network: str) -> None:
    """Refuse a depth at which the network would lack what it is named after."""
    if levels < least:
        raise InputError(network, f"cannot have {levels} levels.", f"Choose {least} levels or more.")
