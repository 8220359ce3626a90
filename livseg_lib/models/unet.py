"""U-Net (Ronneberger et al. 2015, arXiv:1505.04597) in the layout of system C."""

from __future__ import annotations

import keras

from livseg_lib.models import blocks


def unet(
    input_shape: tuple[int, int, int],
    num_classes: int,
    *,
    filters: int = 64,
    levels: int = 5,
    patch: int = 1,
    l2: float = 0.0,
    output: str = "sigmoid",
) -> keras.Model:
    """Encoder and decoder with skips by concatenation, filters doubling from level to level.

    The defaults are system C's network: 64-128-256-512-1024 filters, 31 million parameters.
    Departures from the paper, as in C: same padding, batch normalization.

    `patch` > 1 is ours, for laptops: a strided convolution folds patch x patch pixels into one
    position before the first level, and a transposed one unfolds them after the last. `output` "linear"
    suits squared error (system A, which does not name its own; see `blocks.probability_maps`).
    Input float32 in [0, 1], (H, W, C) with H and W divisible by patch * 2 ** (levels - 1).
    """
    blocks.require_divisible(input_shape, patch * 2 ** (levels - 1), "unet")
    inputs = keras.Input(input_shape, name="image")
    *skips, x = blocks.contracting_path(blocks.fold(inputs, filters, patch), filters, levels, l2=l2)
    for level in reversed(range(levels - 1)):
        x = blocks.upsample_and_join(x, [skips[level]], filters * 2**level, f"decoder{level}", l2=l2)
    x = blocks.unfold(x, filters // 2, patch)
    return keras.Model(inputs, blocks.probability_maps(x, num_classes, activation=output), name="unet")
