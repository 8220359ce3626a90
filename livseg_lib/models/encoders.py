"""The ResNet-50 encoder, for any number of input channels. Building one never downloads anything."""

from __future__ import annotations

import keras
import numpy as np
from keras import layers

from livseg_lib.errors import InputError
from livseg_lib.models.blocks import NORM_MOMENTUM

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
        raise InputError(
            "resnet50_encoder",
            f"cannot have the output stride {output_stride}.",
            f"Choose one of {', '.join(map(str, OUTPUT_STRIDES))}.",
        )
    inputs = keras.Input(input_shape, name="encoder_image")
    outputs = [_stem(inputs, _widened(STEM_FILTERS, width))]
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


def _stem(x, filters: int):
    x = layers.Rescaling(255.0, offset=-IMAGENET_MEAN_LEVEL, name="imagenet_levels")(x)
    x = layers.ZeroPadding2D(3, name="conv1_pad")(x)
    return _relu(_normalized(layers.Conv2D(filters, 7, strides=2, name="conv1_conv")(x), "conv1"), "conv1")


def _bottleneck(x, filters: int, name: str, stride: int, dilation: int):
    """1 x 1, 3 x 3, 1 x 1, and the shortcut; a stage's first block ("block1") projects its shortcut."""
    shortcut = x
    if name.endswith("block1"):
        shortcut = layers.Conv2D(4 * filters, 1, strides=stride, name=f"{name}_0_conv")(x)
        shortcut = _normalized(shortcut, f"{name}_0")
    x = layers.Conv2D(filters, 1, strides=stride, name=f"{name}_1_conv")(x)
    x = _relu(_normalized(x, f"{name}_1"), f"{name}_1")
    # Dilated already in a stage's first block: the stride it replaces stood before this convolution.
    x = layers.Conv2D(filters, 3, padding="same", dilation_rate=dilation, name=f"{name}_2_conv")(x)
    x = _relu(_normalized(x, f"{name}_2"), f"{name}_2")
    x = _normalized(layers.Conv2D(4 * filters, 1, name=f"{name}_3_conv")(x), f"{name}_3")
    x = layers.Add(name=f"{name}_add")([shortcut, x])
    return layers.Activation("relu", name=f"{name}_out")(x)


def _normalized(x, name: str):
    return layers.BatchNormalization(momentum=NORM_MOMENTUM, epsilon=1.001e-5, name=f"{name}_bn")(x)


def _relu(x, name: str):
    return layers.Activation("relu", name=f"{name}_relu")(x)


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
