"""The few blocks that the networks share, the ResNet-50 encoder among them, for any number of channels.

Every layer is named, so that weights can be found again. Building an encoder never downloads anything.

What is said of pictures (B, H, W, C) holds for blocks of slices (B, D, H, W, C) too where a function
takes its layers from `convolution_layer`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import keras
import numpy as np
from keras import layers

from livseg_lib.errors import InputError

PRIOR = 0.05
"""Probability that an untrained network gives: structures are small, so learning starts near the truth
(Lin et al. 2017, arXiv:1708.02002)."""

NORM_MOMENTUM = 0.9
"""Keras' 0.99 needs some 500 batches before validation means anything; a quick run has fewer an epoch."""

PRELU_SLOPE = 0.25
"""Of an untrained PReLU, for negative numbers, as in its paper."""


Sides = int | tuple[int, int, int]
"""One number for every axis in space, or three for those of a block of slices: depth, height, width."""


def convolution_layer(x, transposed: bool = False) -> type[layers.Layer]:
    """Keras' convolution for `x`: pictures (B, H, W, C) or blocks of slices (B, D, H, W, C)."""
    return getattr(layers, f"Conv{len(x.shape) - 2}D{'Transpose' if transposed else ''}")


def convolution(
    x,
    filters: int,
    name: str,
    *,
    size: Sides = 3,
    transposed: bool = False,
    l2: float = 0.0,
    activation: str | None = "relu",
    **options,
):
    """Same-padded convolution of stride 1 with He-normal weights and optional L2 (systems B, C).

    `options` are those of Keras' layer, such as `dilation_rate`.
    """
    return convolution_layer(x, transposed)(
        filters,
        size,
        padding="same",
        activation=activation,
        kernel_initializer="he_normal",
        kernel_regularizer=keras.regularizers.L2(l2) if l2 else None,
        name=name,
        **options,
    )(x)


def normalized_convolution(x, filters: int, name: str, *, activation: str | None = "relu", **options):
    """Convolution with `options` of `convolution`, batch normalization, activation ("relu", "prelu")."""
    x = convolution(x, filters, f"{name}_conv", activation=None, **options)
    x = layers.BatchNormalization(momentum=NORM_MOMENTUM, name=f"{name}_norm")(x)
    return activated(x, activation, f"{name}_{activation}") if activation else x


def activated(x, activation: str, name: str):
    """`x` after "relu", or after "prelu": one learnt slope a channel (He et al. 2015, arXiv:1502.01852)."""
    if activation != "prelu":
        return layers.Activation(activation, name=name)(x)
    space = range(1, len(x.shape) - 1)
    start = keras.initializers.Constant(PRELU_SLOPE)
    return layers.PReLU(start, shared_axes=list(space), name=name)(x)


def residual_block(x, filters: int, name: str, *, l2: float = 0.0, activation: str = "relu"):
    """Three 3 x 3 convolutions, added to their input, which a 1 x 1 convolution brings to `filters`."""
    shortcut = convolution(x, filters, f"{name}_shortcut", size=1, l2=l2, activation=None)
    x = normalized_convolution(x, filters, f"{name}_1", l2=l2, activation=activation)
    x = normalized_convolution(x, filters, f"{name}_2", l2=l2, activation=activation)
    x = normalized_convolution(x, filters, f"{name}_3", l2=l2, activation=None)
    x = layers.Add(name=f"{name}_add")([shortcut, x])
    return activated(x, activation, f"{name}_out")


def double_convolution(x, filters: int, name: str, *, l2: float = 0.0):
    """Two 3 x 3 convolutions, batch normalization after the second (system C)."""
    x = convolution(x, filters, f"{name}_conv1", l2=l2)
    x = convolution(x, filters, f"{name}_conv2", l2=l2, activation=None)
    x = layers.BatchNormalization(momentum=NORM_MOMENTUM, name=f"{name}_norm")(x)
    return layers.Activation("relu", name=f"{name}_relu")(x)


def contracting_path(
    x, filters: int, levels: int, *, l2: float = 0.0, block: Callable = double_convolution
) -> list:
    """A `block` a level, 2 x 2 max pooling between them, filters doubling; outputs by level."""
    outputs = []
    for level in range(levels):
        if level:
            x = layers.MaxPooling2D(2, name=f"encoder{level - 1}_pool")(x)
        x = block(x, filters * 2**level, f"encoder{level}", l2=l2)
        outputs.append(x)
    return outputs


def upsample_and_join(x, skips: Sequence, filters: int, name: str, *, l2: float = 0.0):
    """2 x 2 transposed convolution, concatenation behind the skips, double convolution (systems B, C)."""
    x = layers.Conv2DTranspose(filters, 2, strides=2, name=f"{name}_up")(x)
    x = layers.Concatenate(name=f"{name}_join")([*skips, x])
    return double_convolution(x, filters, name, l2=l2)


def fold(x, filters: int, patch: Sides):
    """Ours, for laptops: a strided convolution makes a patch of pixels, or of voxels, one position."""
    if math.prod(sides(patch, x)) == 1:
        return x
    return convolution_layer(x)(filters, patch, strides=patch, name="fold")(x)


def unfold(x, filters: int, patch: Sides, name: str = "unfold"):
    """Back to what was there before `fold`, by a transposed convolution.

    Without an activation: behind a ReLU, a place of the patch can die, and a quarter of all pixels with it.
    """
    if math.prod(sides(patch, x)) == 1:
        return x
    return convolution_layer(x, transposed=True)(filters, patch, strides=patch, name=name)(x)


def sides(size: Sides, x) -> tuple[int, ...]:
    """`size` along each axis of the pictures or blocks `x`."""
    return (size,) * (len(x.shape) - 2) if isinstance(size, int) else tuple(size)


def probability_maps(x, num_classes: int, name: str = "probabilities", activation: str | None = "sigmoid"):
    """One sigmoid map a structure, or its logits with no activation: `x` with num_classes channels.

    "linear" is for learning by squared error: a sigmoid's flat ends would hide the few pixels of a tumour.
    Such maps may leave 0 to 1; whoever reads them clips. Always float32 (mixed precision safe).
    """
    prior = PRIOR if activation == "linear" else math.log(PRIOR / (1.0 - PRIOR))
    return convolution_layer(x)(
        num_classes,
        1,
        activation=activation,
        bias_initializer=keras.initializers.Constant(prior),
        dtype="float32",
        name=name,
    )(x)


def require_divisible(input_shape: tuple[int, ...], stride: int | tuple[int, int, int], network: str) -> None:
    """Refuse an input that the network cannot halve down to its deepest level.

    A `stride` that is one number asks for pictures, (H, W, C); three ask for blocks, (D, H, W, C).
    """
    strides = {"height": stride, "width": stride}
    if not isinstance(stride, int):
        strides = dict(zip(("depth", "height", "width"), stride, strict=True))
    extent = input_shape[:-1]
    fits = len(extent) == len(strides) and not any(map(int.__mod__, extent, strides.values()))
    if not fits or min(input_shape) < 1:
        kind = "pictures" if isinstance(stride, int) else "blocks of slices"
        wanted = ", ".join(f"{axis} divisible by {number}" for axis, number in strides.items())
        problem = f"takes {kind}, but not of {' x '.join(map(str, input_shape))}."
        remedy = f"Choose ({', '.join(strides)}, channels) with {wanted}, and at least one channel."
        raise InputError(network, problem, remedy)


def require_levels(levels: int, least: int, network: str, parts: str = "levels") -> None:
    """Refuse a depth at which the network would lack what it is named after."""
    if levels < least:
        raise InputError(network, f"cannot have {levels} {parts}.", f"Choose {least} {parts} or more.")


IMAGENET_MEAN_LEVEL = 117.0
"""Mean grey level (0-255) of ImageNet's channels. One for all: HU windows are not colours."""

STEM_FILTERS = 64
STAGES = ((64, 3), (128, 4), (256, 6), (512, 3))
"""Inner filters and number of the bottleneck blocks, a stage; a block puts out four times its filters."""

OUTPUT_STRIDES = (8, 16, 32)


def resnet50_encoder(
    input_shape: tuple[int, int, int], *, width: float = 1.0, output_stride: int = 32
) -> keras.Model:
    """ResNet-50 (He et al. 2015, arXiv:1512.03385) without its top; five outputs, at strides 2 to 32.

    Layout and layer names are those of `keras.applications.ResNet50`, so that its weights fit by name.
    What that one lacks: `output_stride` 16 or 8 keeps the last outputs at that stride and dilates the
    convolutions that follow instead (Chen et al. 2017, arXiv:1706.05587). `width` multiplies every
    number of filters; below 1 is ours, for laptops.

    Input float32 in [0, 1]; weights are random until `load_imagenet_weights`. Raises InputError for
    another output stride.
    """
    if output_stride not in OUTPUT_STRIDES:
        problem = f"cannot have the output stride {output_stride}."
        remedy = f"Choose one of {', '.join(map(str, OUTPUT_STRIDES))}."
        raise InputError("resnet50_encoder", problem, remedy)
    inputs = keras.Input(input_shape, name="encoder_image")
    x = layers.Rescaling(255.0, offset=-IMAGENET_MEAN_LEVEL, name="imagenet_levels")(inputs)
    x = layers.ZeroPadding2D(3, name="conv1_pad")(x)
    outputs = [_resnet_convolution(x, _widened(STEM_FILTERS, width), 7, "conv1", strides=2)]
    x = layers.ZeroPadding2D(1, name="pool1_pad")(outputs[0])
    x = layers.MaxPooling2D(3, strides=2, name="pool1_pool")(x)
    stride, dilation = 4, 1
    for stage, (filters, blocks) in enumerate(STAGES, start=2):
        step = 1 if stage == 2 else 2
        if stride * step > output_stride:
            step, dilation = 1, dilation * step
        stride *= step
        for block in range(1, blocks + 1):
            name = f"conv{stage}_block{block}"
            x = _bottleneck(x, _widened(filters, width), name, step if block == 1 else 1, dilation)
        outputs.append(x)
    return keras.Model(inputs, outputs, name="encoder")


def _widened(filters: int, width: float) -> int:
    return max(1, round(filters * width))


def _bottleneck(x, filters: int, name: str, stride: int, dilation: int):
    """1 x 1, 3 x 3, 1 x 1, and the shortcut; a stage's first block ("block1") projects its shortcut."""
    shortcut = x
    if name.endswith("block1"):
        shortcut = _resnet_convolution(x, 4 * filters, 1, f"{name}_0", has_relu=False, strides=stride)
    x = _resnet_convolution(x, filters, 1, f"{name}_1", strides=stride)
    # Dilated already in a stage's first block: the stride it replaces stood before this convolution.
    x = _resnet_convolution(x, filters, 3, f"{name}_2", padding="same", dilation_rate=dilation)
    x = _resnet_convolution(x, 4 * filters, 1, f"{name}_3", has_relu=False)
    x = layers.Add(name=f"{name}_add")([shortcut, x])
    return layers.Activation("relu", name=f"{name}_out")(x)


def _resnet_convolution(x, filters: int, size: int, name: str, has_relu: bool = True, **options):
    x = layers.Conv2D(filters, size, name=f"{name}_conv", **options)(x)
    x = layers.BatchNormalization(momentum=NORM_MOMENTUM, epsilon=1.001e-5, name=f"{name}_bn")(x)
    return layers.Activation("relu", name=f"{name}_relu")(x) if has_relu else x


def load_imagenet_weights(model: keras.Model) -> str:
    """Fill `model`'s encoder with ImageNet weights. Returns "" or why it could not: offline, or narrower.

    Other numbers of channels than three take the mean of the first kernel over its colours, scaled
    so that the response to a grey picture stays the same.
    """
    encoder = model.get_layer("encoder")
    filters = encoder.get_layer("conv1_conv").filters
    if filters != STEM_FILTERS:
        problem = f"ImageNet weights fit width 1, and this encoder has {filters / STEM_FILTERS:g}"
        return f"{problem}: it starts from random ones."
    try:
        source = keras.applications.ResNet50(include_top=False, weights="imagenet")
    except Exception as error:  # Keras wraps network errors in several types, all of them meaning "not here"
        return f"No ImageNet weights ({error}): the encoder starts from random ones."
    for layer in source.layers:
        if layer.weights:
            encoder.get_layer(layer.name).set_weights(_fit_channels(layer, encoder.get_layer(layer.name)))
    return ""


def _fit_channels(source: layers.Layer, target: layers.Layer) -> list[np.ndarray]:
    weights = source.get_weights()
    channels = target.get_weights()[0].shape[-2] if weights[0].ndim == 4 else None
    if channels is not None and channels != weights[0].shape[-2]:
        grey = weights[0].sum(axis=2, keepdims=True) / channels  # (7, 7, 1, 64)
        weights[0] = np.repeat(grey, channels, axis=2)
    return weights
