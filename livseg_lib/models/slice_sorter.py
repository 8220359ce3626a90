"""A small plain CNN that says what a whole slice shows (system F, Kaur et al. 2021)."""

from __future__ import annotations

import keras
from keras import layers

from livseg_lib.models import blocks


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
