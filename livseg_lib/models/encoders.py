"""ImageNet encoders with any number of input channels. Building one never downloads anything."""

from __future__ import annotations

import keras
import numpy as np
from keras import layers

from livseg_lib.models.blocks import NORM_MOMENTUM

IMAGENET_MEAN_LEVEL = 117.0
"""Mean grey level (0-255) of ImageNet's channels. One for all: HU windows are not colours."""

RESNET50_SKIPS = (
    "conv1_relu",
    "conv2_block3_out",
    "conv3_block4_out",
    "conv4_block6_out",
    "conv5_block3_out",
)
"""Outputs at strides 2, 4, 8, 16, 32."""


def resnet50_encoder(input_shape: tuple[int, int, int]) -> keras.Model:
    """ResNet-50 (He et al. 2015, arXiv:1512.03385) without its top; outputs at strides 2 to 32.

    Input float32 in [0, 1]; weights are random until `load_imagenet_weights`.
    """
    inputs = keras.Input(input_shape, name="encoder_image")
    levels = layers.Rescaling(255.0, offset=-IMAGENET_MEAN_LEVEL, name="imagenet_levels")(inputs)
    base = keras.applications.ResNet50(include_top=False, weights=None, input_tensor=levels)
    for layer in base.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.momentum = NORM_MOMENTUM
    return keras.Model(inputs, [base.get_layer(name).output for name in RESNET50_SKIPS], name="encoder")


def load_imagenet_weights(model: keras.Model) -> str:
    """Fill `model`'s encoder with ImageNet weights. Returns "" or, offline, why it could not.

    Other numbers of channels than three take the mean of the first kernel over its colours, scaled
    so that the response to a grey picture stays the same.
    """
    try:
        source = keras.applications.ResNet50(include_top=False, weights="imagenet")
    except Exception as error:  # Keras wraps network errors in several types, all of them meaning "not here"
        return f"No ImageNet weights ({error}): the encoder starts from random ones."
    encoder = model.get_layer("encoder")
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
