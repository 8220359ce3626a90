"""ResNet-50 encoder with an upsampling segmentation head (system B)."""

from __future__ import annotations

import keras
from keras import layers

from livseg_lib.models import blocks
from livseg_lib.models.blocks import resnet50_encoder


def resnet50_unet(
    input_shape: tuple[int, int, int],
    num_classes: int,
    *,
    encoder_width: float = 1.0,
    decoder_filters: tuple[int, ...] = (256, 128, 64, 32, 16),
    l2: float = 0.0,
) -> keras.Model:
    """ResNet-50 without its top, then five upsampling steps; the first four join the encoder's skips.

    B names the encoder, `include_top=False` and a custom head, not the head's layers: ours upsamples
    bilinearly and ends in double convolutions. H and W divisible by 32; input float32 in [0, 1].
    The encoder is the layer named "encoder": freeze it by `model.get_layer("encoder").trainable`.
    `encoder_width` multiplies its filters (ImageNet weights fit 1); choose `decoder_filters` to match.
    """
    blocks.require_divisible(input_shape, 32, "resnet50_unet")
    inputs = keras.Input(input_shape, name="image")
    *skips, x = resnet50_encoder(input_shape, width=encoder_width)(inputs)
    for step, filters in enumerate(decoder_filters):
        x = layers.UpSampling2D(2, interpolation="bilinear", name=f"decoder{step}_up")(x)
        if skips:
            x = layers.Concatenate(name=f"decoder{step}_join")([skips.pop(), x])
        x = blocks.double_convolution(x, filters, f"decoder{step}", l2=l2)
    return keras.Model(inputs, blocks.probability_maps(x, num_classes), name="resnet50_unet")
