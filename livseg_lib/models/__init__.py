"""The catalogue: one architecture a file, built by name.

The networks at the size of a laptop: options with which each learns 128-pixel pictures in minutes.

Ours, not the papers'. Those with an encoder of their own fold 2 x 2 pixels before it, in blocks those of each
slice; those with a ResNet-50 keep all its layers at a quarter of the filters (without ImageNet weights,
which fit width 1).
Their cost stands in docs/networks.md.
"""

from __future__ import annotations

import livseg_lib.quiet_tensorflow  # noqa: F401 (before Keras imports it)

# isort: split

from collections.abc import Callable

import keras

from livseg_lib.models.attention_unet import attention_unet
from livseg_lib.models.blocks import build_from
from livseg_lib.models.cdnn import cdnn
from livseg_lib.models.deeplabv3plus import deeplabv3plus
from livseg_lib.models.encoders import load_imagenet_weights
from livseg_lib.models.manet import manet
from livseg_lib.models.residual_unet import residual_unet
from livseg_lib.models.resnet50_unet import resnet50_unet
from livseg_lib.models.unet import unet
from livseg_lib.models.unet3d import unet3d
from livseg_lib.models.unetplusplus import unetplusplus

SMALL_OPTIONS: dict[str, dict] = {
    "unet": {"filters": 16, "levels": 4, "patch": 2},
    "resnet50_unet": {"encoder_width": 0.25, "decoder_filters": (96, 48, 32, 16, 16)},
    "unet++": {"filters": 16, "levels": 4, "patch": 2},
    "manet": {"filters": 16, "levels": 4, "patch": 2},
    # Atrous rates that a map of 8 x 8 positions has room for.
    "deeplabv3+": {"encoder_width": 0.25, "atrous_rates": (2, 4, 6), "filters": 48},
    "attention_unet": {"filters": 16, "levels": 4, "patch": 2},
    "residual_unet": {"filters": 16, "levels": 4, "patch": 2},
    # Half the dropout: in minutes nothing is learnt by heart.
    "cdnn": {"filters": 12, "levels": 4, "patch": 2, "dropout": 0.25},
    "unet3d": {"filters": 8, "levels": 4, "patch": (1, 2, 2), "flat_levels": 1},
}
"""Network -> options of `build_model`."""


MODELS: dict[str, Callable[..., keras.Model]] = {
    "unet": unet,
    "resnet50_unet": resnet50_unet,
    "unet++": unetplusplus,
    "manet": manet,
    "deeplabv3+": deeplabv3plus,
    "attention_unet": attention_unet,
    "residual_unet": residual_unet,
    "cdnn": cdnn,
    "unet3d": unet3d,
}

VOLUME_MODELS = frozenset({"unet3d"})
"""Those that take blocks of slices, (D, H, W, C); all others take pictures, (H, W, C)."""


def build_model(name: str, input_shape: tuple[int, ...], num_classes: int, **options) -> keras.Model:
    """Network `name` with random weights, (B, H, W, C) float32 in [0, 1] -> (B, H, W, num_classes).

    Those of `VOLUME_MODELS` have a depth before the height, in what they take and in what they give. The
    outputs are `num_classes` independent sigmoid maps, one a structure: a voxel may be liver and tumour at
    once. Raises InputError for an unknown name, option or size.
    """
    return build_from(MODELS, name, input_shape, num_classes, options)


__all__ = ["MODELS", "SMALL_OPTIONS", "VOLUME_MODELS", "build_model", "load_imagenet_weights"]
