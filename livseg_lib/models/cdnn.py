"""The convolutional-deconvolutional network of system I's hierarchical framework (Yuan 2017)."""

from __future__ import annotations

import keras
from keras import layers

from livseg_lib.models import blocks


def cdnn(
    input_shape: tuple[int, int, int],
    num_classes: int,
    *,
    filters: int = 16,
    levels: int = 5,
    patch: int = 1,
    dropout: float = 0.5,
    l2: float = 0.0,
) -> keras.Model:
    """Convolutions and pooling down, upsampling and stride-1 deconvolutions up, skips by summation.

    Any number of channels goes in: neighbouring slices, and in the framework's last step the mask of the
    liver. The framework (arXiv:1710.04540) runs three such networks, for a coarse liver, a fine liver and
    tumours; their layers are not known to us. These are those of the author's network for skin lesions of
    the same year (arXiv:1703.05165), as far as others describe it: 16-32, 64-64, 128-128, 256-256 and 512
    filters down, 256, 256-128, 128-64, 64-32 and 16 up, batch normalization behind each, dropout before
    the fourth level and before the last deconvolution.

    With input, pooling, upsampling and dropout counted it has that network's 29 layers, and 4.7 of its 5.0
    million parameters. Departures: 3 x 3 kernels throughout, where two are 4 x 4; skips by summation, to
    which one deconvolution is fitted by half its width, and which cost no weights. `patch` > 1 is ours, for
    laptops: folded as in `unet`, unfolded by upsampling and one more deconvolution. Input float32 in [0, 1],
    (H, W, C) with H and W divisible by patch * 2 ** (levels - 1). Raises InputError for other sizes and for a
    single level.
    """
    blocks.require_levels(levels, 2, "cdnn")
    blocks.require_divisible(input_shape, patch * 2 ** (levels - 1), "cdnn")
    widths = [2 * filters * 2**level for level in range(levels)]
    inputs = keras.Input(input_shape, name="image")
    x = blocks.fold(inputs, filters, patch)
    skips = []
    for level, width in enumerate(widths[:-1]):
        if level == levels - 2:
            x = layers.Dropout(dropout, name=f"encoder{level}_dropout")(x)
        x = blocks.normalized_convolution(x, width if level else filters, f"encoder{level}_1", l2=l2)
        x = blocks.normalized_convolution(x, width, f"encoder{level}_2", l2=l2)
        skips.append(x)
        x = layers.MaxPooling2D(2, name=f"encoder{level}_pool")(x)
    x = blocks.normalized_convolution(x, widths[-1], "deepest_1", l2=l2)
    x = _deconvolution(x, widths[-2], "deepest_2", l2)
    for level in reversed(range(levels - 1)):
        x = layers.UpSampling2D(2, name=f"decoder{level}_up")(x)
        x = layers.Add(name=f"decoder{level}_sum")([skips[level], x])
        if level:
            x = _deconvolution(x, widths[level], f"decoder{level}_1", l2)
            x = _deconvolution(x, widths[level - 1], f"decoder{level}_2", l2)
    x = layers.Dropout(dropout, name="decoder0_dropout")(x)
    x = _deconvolution(x, filters, "decoder0", l2)
    if patch > 1:  # by upsampling, as above: with weights for each place of the patch, one can fall silent
        x = layers.UpSampling2D(patch, name="unfold_up")(x)
        x = _deconvolution(x, filters, "unfold", l2)
    return keras.Model(inputs, blocks.probability_maps(x, num_classes), name="cdnn")


def _deconvolution(x, filters: int, name: str, l2: float):
    return blocks.normalized_convolution(x, filters, name, transposed=True, l2=l2)
