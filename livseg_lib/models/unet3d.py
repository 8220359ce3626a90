"""3D U-Net (Cicek et al. 2016, arXiv:1606.06650), system E's network and system J's for the liver."""

from __future__ import annotations

import keras
import numpy as np
from keras import layers

from livseg_lib.models import blocks

ALONG_Z, IN_PLANE = 3, (1, 3, 3)
"""Kernel sizes of a level that looks at neighbouring slices, and of a flat one."""


def unet3d(
    input_shape: tuple[int, int, int, int],
    num_classes: int,
    *,
    filters: int = 32,
    levels: int = 4,
    patch: tuple[int, int, int] = (1, 1, 1),
    flat_levels: int = 0,
    l2: float = 0.0,
) -> keras.Model:
    """Blocks of slices (D, H, W, C) in, one map a structure (D, H, W, num_classes) out.

    Each level has two 3 x 3 x 3 convolutions, filters doubling within and between levels; the decoder
    joins the encoder's maps. The defaults are the paper's network: 32-64 to 256-512 filters, 19.08
    million parameters for three channels and structures. Departures: same padding; sigmoid maps.

    Ours, as slices are thicker than pixels are wide: the first `flat_levels` levels look and pool in plane
    only, with kernels of 1 x 3 x 3 and pooling of 1 x 2 x 2. `patch`, (depth, height, width), is ours for
    laptops: a strided convolution folds as many voxels into one position before the first level, and a
    transposed one unfolds them after the last.

    Input float32 in [0, 1]; H and W divisible by patch * 2 ** (levels - 1), D by patch * 2 ** (levels - 1 -
    flat_levels). Raises InputError for other sizes.
    """
    pools = [(1, 2, 2) if level < flat_levels else (2, 2, 2) for level in range(levels - 1)]
    stride = np.prod([patch, *pools], axis=0)  # voxels in one position of the deepest level
    blocks.require_divisible(input_shape, tuple(stride.tolist()), "unet3d")
    kernels = [IN_PLANE] * flat_levels + [ALONG_Z] * (levels - flat_levels)
    inputs = keras.Input(input_shape, name="image")
    x = blocks.fold(inputs, filters, patch)
    skips = []
    for level in range(levels):
        widths = (filters * 2**level, 2 * filters * 2**level)
        x = _two_convolutions(x, widths, f"encoder{level}", kernels[level], l2)
        if level < levels - 1:
            skips.append(x)
            x = layers.MaxPooling3D(pools[level], name=f"encoder{level}_pool")(x)
    for level in reversed(range(levels - 1)):
        deep, width = 4 * filters * 2**level, 2 * filters * 2**level
        x = layers.Conv3DTranspose(deep, pools[level], strides=pools[level], name=f"decoder{level}_up")(x)
        x = layers.Concatenate(name=f"decoder{level}_join")([skips[level], x])
        x = _two_convolutions(x, (width, width), f"decoder{level}", kernels[level], l2)
    x = blocks.unfold(x, filters, patch)
    return keras.Model(inputs, blocks.probability_maps(x, num_classes), name="unet3d")


def _two_convolutions(x, widths: tuple[int, int], name: str, kernel: blocks.Sides, l2: float):
    x = blocks.normalized_convolution(x, widths[0], f"{name}_1", size=kernel, l2=l2)
    return blocks.normalized_convolution(x, widths[1], f"{name}_2", size=kernel, l2=l2)
