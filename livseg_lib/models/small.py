"""The networks at the size of a laptop: options with which each learns 128-pixel pictures in minutes.

Ours, not the papers'. Those with an encoder of their own fold 2 x 2 pixels before it, in blocks those of each
slice; those with a ResNet-50 keep all its layers at a quarter of the filters (without ImageNet weights,
which fit width 1).
Their cost stands in docs/networks.md.
"""

from __future__ import annotations

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
