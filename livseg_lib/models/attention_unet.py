"""Attention U-Net (Oktay et al. 2018, arXiv:1804.03999): the skips pass attention gates."""

from __future__ import annotations

import keras
from keras import layers

from livseg_lib.models import blocks

OPEN_GATE = 3.0
"""Bias of an untrained gate: its coefficients start near sigmoid(3) = 0.95, and the skips pass, as in the
paper."""


def attention_unet(
    input_shape: tuple[int, int, int],
    num_classes: int,
    *,
    filters: int = 64,
    levels: int = 5,
    patch: int = 1,
    l2: float = 0.0,
) -> keras.Model:
    """`unet` with an attention gate on each skip but the first, whose features the paper finds too low.

    A gate is steered by the map one level deeper, on that map's grid (grid attention). The paper's
    network is 3D, starts from fewer filters and supervises its decoder deeply: ours is 2D and is `unet`
    but for the gates, so that the two differ in nothing else. The gates follow the paper's formula; its
    code adds a 1 x 1 convolution before the deepest one and behind each.

    `patch` > 1 is ours (see `unet`). Input float32 in [0, 1], (H, W, C) with H and W divisible by
    patch * 2 ** (levels - 1). Raises InputError for other sizes and for fewer than three levels.
    """
    blocks.require_levels(levels, 3, "attention_unet")
    blocks.require_divisible(input_shape, patch * 2 ** (levels - 1), "attention_unet")
    inputs = keras.Input(input_shape, name="image")
    *skips, x = blocks.contracting_path(blocks.fold(inputs, filters, patch), filters, levels, l2=l2)
    for level in reversed(range(levels - 1)):
        skip = attention_gate(skips[level], x, f"gate{level}") if level else skips[level]
        x = blocks.upsample_and_join(x, [skip], filters * 2**level, f"decoder{level}", l2=l2)
    x = blocks.unfold(x, filters // 2, patch)
    return keras.Model(inputs, blocks.probability_maps(x, num_classes), name="attention_unet")


def attention_gate(skip, gating, name: str):
    """Additive attention: `skip` (B, H, W, F) times coefficients from it and `gating` (B, H/2, W/2, G).

    On the grid of the gating signal: sigmoid(psi . relu(theta * skip + phi * gating)), theta a 2 x 2
    convolution of stride 2. The layer `{name}_coefficients` gives them upsampled: (B, H, W, 1) in [0, 1].
    """
    filters = skip.shape[-1]
    options = {"strides": 2, "use_bias": False, "kernel_initializer": "he_normal"}
    skip_part = layers.Conv2D(filters, 2, **options, name=f"{name}_theta")(skip)
    gating_part = blocks.convolution(gating, filters, f"{name}_phi", size=1, activation=None)
    x = layers.Add(name=f"{name}_add")([skip_part, gating_part])
    x = layers.Activation("relu", name=f"{name}_relu")(x)
    start = keras.initializers.Constant(OPEN_GATE)
    x = layers.Conv2D(1, 1, activation="sigmoid", bias_initializer=start, name=f"{name}_psi")(x)
    coefficients = layers.UpSampling2D(2, interpolation="bilinear", name=f"{name}_coefficients")(x)
    return layers.Multiply(name=f"{name}_gated")([skip, coefficients])
