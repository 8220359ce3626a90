"""3D fractal residual classifier of candidates (system J, Bai et al. 2019)."""

from __future__ import annotations

import keras
from keras import layers

from livseg_lib.models import blocks


def fractal3d(
    input_shape: tuple[int, int, int, int],
    num_classes: int,
    *,
    filters: int = 16,
    columns: int = 3,
    stages: int = 3,
    l2: float = 0.0,
) -> keras.Model:
    """Patches (D, H, W, C) around a candidate in, one class a patch out: (B, num_classes), sum 1.

    Each stage is a fractal block (FractalNet, Larsson et al. 2016, arXiv:1605.07648) with a residual
    connection around it, then 2 x 2 x 2 pooling; filters double. Each stage has a classifier of its own,
    the layers "head1", "head2", ...: the auxiliary outputs. The output is the mean of the heads, and a
    training applies its loss to each.

    J's full text (doi:10.1109/ACCESS.2019.2923218) is not open to us: a 3D fractal residual network with
    auxiliary outputs is what we know; sizes, the shape of the residual connection and equal weights of
    the heads are ours. FractalNet's drop-path is left out.

    Input float32 in [0, 1], D, H and W divisible by 2 ** (stages - 1). Raises InputError for other sizes
    and for fewer than two columns or stages.
    """
    blocks.require_levels(stages, 2, "fractal3d", "stages")
    blocks.require_levels(columns, 2, "fractal3d", "columns")
    blocks.require_divisible(input_shape, (2 ** (stages - 1),) * 3, "fractal3d")
    x = inputs = keras.Input(input_shape, name="patch")
    heads = []
    for stage in range(1, stages + 1):
        x = fractal_residual(x, filters * 2 ** (stage - 1), columns, f"stage{stage}", l2=l2)
        seen = layers.GlobalAveragePooling3D(name=f"stage{stage}_average")(x)
        head = layers.Dense(num_classes, activation="softmax", dtype="float32", name=f"head{stage}")
        heads.append(head(seen))
        if stage < stages:
            x = layers.MaxPooling3D(2, name=f"stage{stage}_pool")(x)
    probabilities = layers.Average(dtype="float32", name="probabilities")(heads)
    return keras.Model(inputs, probabilities, name="fractal3d")


def fractal_residual(x, filters: int, columns: int, name: str, *, l2: float = 0.0):
    """The joined columns of a fractal, added to their input, which a 1 x 1 x 1 convolution widens."""
    shortcut = blocks.convolution(x, filters, f"{name}_shortcut", size=1, l2=l2, activation=None)
    ends = fractal_columns(x, filters, columns, f"{name}_fractal", l2=l2)
    x = layers.Average(name=f"{name}_fractal_end")(ends)
    x = layers.Add(name=f"{name}_add")([shortcut, x])
    return layers.Activation("relu", name=f"{name}_out")(x)


def fractal_columns(x, filters: int, columns: int, name: str, *, l2: float = 0.0) -> list:
    """The ends of all columns, from the deepest, 2 ** (columns - 1) convolutions, to a single one.

    The expansion rule: a fractal of C columns is two of C - 1 one behind the other, beside one more
    convolution. Where columns meet they are joined by their mean, all at once.
    """
    single = blocks.normalized_convolution(x, filters, f"{name}_column{columns}", l2=l2)
    if columns == 1:
        return [single]
    above = fractal_columns(x, filters, columns - 1, f"{name}_above", l2=l2)
    x = layers.Average(name=f"{name}_join")(above) if len(above) > 1 else above[0]
    return [*fractal_columns(x, filters, columns - 1, f"{name}_below", l2=l2), single]
