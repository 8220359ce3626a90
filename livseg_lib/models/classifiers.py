"""Networks with one answer for a whole picture or patch, built by name: those of systems F and J."""

from __future__ import annotations

from collections.abc import Callable

import keras
from keras import layers

from livseg_lib.models import blocks, build_from


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


def slice_sorter(
    input_shape: tuple[int, int, int],
    num_classes: int,
    *,
    filters: int = 16,
    levels: int = 4,
    pixels: int = 64,
    dropout: float = 0.2,
) -> keras.Model:
    """Double convolutions and pooling, global averages, one softmax layer: (B, H, W, C) -> (B, num_classes).

    F's own layers are not known to us; these are ours, and cheap. Pictures of any size are first averaged
    down to about `pixels` a side: what a slice shows, though not every small tumour, can be seen there.
    """
    blocks.require_divisible(input_shape, 1, "slice_sorter")
    shrink = max(1, round(max(input_shape[:2]) / pixels))
    inputs = keras.Input(input_shape, name="image")
    x = layers.AveragePooling2D(shrink, padding="same", name="shrink")(inputs)
    *_, x = blocks.contracting_path(x, filters, levels)
    seen = [layers.GlobalAveragePooling2D(name="average")(x), layers.GlobalMaxPooling2D(name="most")(x)]
    x = layers.Concatenate(name="seen")(seen)
    x = layers.Dropout(dropout, name="dropout")(x)
    probabilities = layers.Dense(num_classes, activation="softmax", dtype="float32", name="probabilities")
    return keras.Model(inputs, probabilities(x), name="slice_sorter")


CLASSIFIERS: dict[str, Callable[..., keras.Model]] = {"slice_sorter": slice_sorter, "fractal3d": fractal3d}


def build_classifier(name: str, input_shape: tuple[int, ...], num_classes: int, **options) -> keras.Model:
    """Network `name` with random weights, float32 in [0, 1] -> (B, num_classes), sum 1.

    The slice sorter takes pictures (B, H, W, C), `fractal3d` patches (B, D, H, W, C). Raises InputError
    for an unknown name, option or size.
    """
    return build_from(CLASSIFIERS, name, input_shape, num_classes, options)
