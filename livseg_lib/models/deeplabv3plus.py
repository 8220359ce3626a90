"""DeepLabV3+ (Chen et al. 2018, arXiv:1802.02611; system D)."""

from __future__ import annotations

from functools import partial

import keras
from keras import layers

from livseg_lib.models import blocks
from livseg_lib.models.blocks import resnet50_encoder

_convolution = partial(blocks.normalized_convolution, use_bias=False)


def deeplabv3plus(
    input_shape: tuple[int, int, int],
    num_classes: int,
    *,
    encoder_width: float = 1.0,
    output_stride: int = 16,
    atrous_rates: tuple[int, ...] = (6, 12, 18),
    filters: int = 256,
    low_level_filters: int = 48,
    l2: float = 0.0,
) -> keras.Model:
    """ResNet-50 with dilation, atrous spatial pyramid pooling, and a decoder with features at stride 4.

    The defaults are the paper's. Departures: sigmoid maps instead of a softmax; plain convolutions, as
    in its ResNet experiments, where its Xception has separable ones; ResNet-50 for ResNet-101, without
    multi-grid; no dropout. `l2` weighs on the head, not on the encoder.

    An atrous rate beyond the map's size sees little but padding: at 128 pixels and stride 16 the map is
    8 x 8, where rates 12 and 18 come down to 1 x 1 convolutions. Small pictures want smaller rates or
    `output_stride` 8 (the paper then doubles the rates).

    Input float32 in [0, 1], (H, W, C) with H and W divisible by `output_stride` (8, 16 or 32). The
    encoder is the layer named "encoder"; `encoder_width` multiplies its filters (ImageNet weights fit 1).
    """
    blocks.require_divisible(input_shape, output_stride, "deeplabv3+")
    inputs = keras.Input(input_shape, name="image")
    encoder = resnet50_encoder(input_shape, width=encoder_width, output_stride=output_stride)
    _, low_level, _, _, x = encoder(inputs)
    x = pyramid_pooling(x, filters, atrous_rates, l2=l2)
    x = layers.UpSampling2D(output_stride // 4, interpolation="bilinear", name="aspp_up")(x)
    low_level = _convolution(low_level, low_level_filters, "low_level", size=1, l2=l2)
    x = layers.Concatenate(name="decoder_join")([low_level, x])
    x = _convolution(x, filters, "decoder_1", l2=l2)
    x = _convolution(x, filters, "decoder_2", l2=l2)
    x = blocks.probability_maps(x, num_classes, "logits", activation=None)
    x = layers.UpSampling2D(4, interpolation="bilinear", dtype="float32", name="decoder_up")(x)
    maps = layers.Activation("sigmoid", dtype="float32", name="probabilities")(x)
    return keras.Model(inputs, maps, name="deeplabv3plus")


def pyramid_pooling(x, filters: int, atrous_rates: tuple[int, ...], *, l2: float = 0.0):
    """Side by side: a 1 x 1 convolution, a 3 x 3 one an atrous rate, and the mean of the whole map.

    Atrous spatial pyramid pooling with image-level features (Chen et al. 2017, arXiv:1706.05587);
    (B, h, w, C) -> (B, h, w, filters).
    """
    height, width = x.shape[1:3]
    branches = [_convolution(x, filters, "aspp_point", size=1, l2=l2)]
    for rate in atrous_rates:
        branches.append(_convolution(x, filters, f"aspp_rate{rate}", dilation_rate=rate, l2=l2))
    pooled = layers.GlobalAveragePooling2D(keepdims=True, name="aspp_image_pool")(x)
    pooled = _convolution(pooled, filters, "aspp_image", size=1, l2=l2)
    branches.append(layers.UpSampling2D((height, width), name="aspp_image_spread")(pooled))
    x = layers.Concatenate(name="aspp_join")(branches)
    return _convolution(x, filters, "aspp_project", size=1, l2=l2)
