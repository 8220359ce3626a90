"""Every network of the catalogue with a few filters, for 64 x 64 pixels."""

from __future__ import annotations

import keras

from livseg_lib.models import VOLUME_MODELS, build_model

THIN = {
    "unet": {"filters": 4, "levels": 3, "patch": 2},
    "resnet50_unet": {"encoder_width": 1 / 16, "decoder_filters": (16, 8, 8, 8, 8)},
    "unet++": {"filters": 4, "levels": 3, "patch": 2},
    "manet": {"filters": 4, "levels": 3, "patch": 2, "attention_channels": 4},
    "deeplabv3+": {"encoder_width": 1 / 16, "atrous_rates": (1, 2), "filters": 8, "low_level_filters": 8},
    "attention_unet": {"filters": 4, "levels": 3, "patch": 2},
    "residual_unet": {"filters": 4, "levels": 3, "patch": 2},
    "cdnn": {"filters": 4, "levels": 3, "patch": 2},
    "unet3d": {"filters": 2, "levels": 3, "patch": (1, 2, 2), "flat_levels": 1},
}


def thin(name: str) -> keras.Model:
    """Three channels in, two structures out; blocks have four slices."""
    shape = (4, 64, 64, 3)[name not in VOLUME_MODELS :]
    return build_model(name, shape, 2, **THIN[name])
