"""Seg-Grad-CAM: which places of a layer's map speak for a structure in a region of the picture.

Vinogradova, Dibrov and Myers 2020 (arXiv:2002.11434), after Grad-CAM (Selvaraju et al. 2017,
arXiv:1610.02391). What a place "speaks for" is a linear guess at the layer, not a proof: see `sanity`.
"""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf
from scipy import ndimage

from livseg_lib.errors import InputError
from livseg_lib.inference.explain.map_layers import find_map

CERTAIN = 1e-7
"""Probabilities this near to 0 or 1 have no gradient in float32: those pixels do not count."""


def seg_grad_cam(
    network: keras.Model,
    images: np.ndarray,
    region: np.ndarray,
    channel: int = 0,
    layer: str | None = None,
    signed: bool = False,
) -> np.ndarray:
    """Map float32 of the pictures' size, (B, H, W) or (B, D, H, W): 0 to 1, the highest in each picture 1.

    images: float32 (B, H, W, C) in [0, 1], or blocks (B, D, H, W, C).
    region: bool (B, H, W) or (B, D, H, W), the pixels asked about: those that the network outlines, or
    any others.
    channel: the structure, in the order of the network's output.
    layer: one of `map_layers.layer_maps`; None is the bottleneck.
    signed: keep what speaks against the structure; the map is then -1 to 1, the largest size 1.

    The features of the layer are summed, each weighed by the mean gradient of the region's logits; what is
    negative is cut off. 0 everywhere where the region is empty or nothing speaks for the structure.
    Raises InputError for a layer that is not there, or a region of another size.
    """
    if region.shape != images.shape[:-1]:
        problem = f"has the shape {region.shape}, and the pictures {images.shape}."
        raise InputError("region", problem, "Give a mask of each picture, without its channels.")
    twin = keras.Model(network.inputs, [find_map(network, layer).tensor, network.outputs[0]])
    pixels = tf.constant(region, tf.float32)
    with tf.GradientTape() as tape:
        images = tf.constant(images, tf.float32)
        tape.watch(images)
        features, answer = twin(images, training=False)
        score = tf.reduce_sum(pixels * logits(network, answer)[..., channel])
    gradient = tape.gradient(score, features)
    axes = list(range(1, len(images.shape) - 1))
    weights = tf.reduce_mean(gradient, axes, keepdims=True)
    maps = tf.reduce_sum(tf.cast(weights * features, tf.float32), -1).numpy()
    return np.stack([_enlarged(each if signed else np.maximum(each, 0), region.shape[1:]) for each in maps])


def logits(network: keras.Model, answer: tf.Tensor) -> tf.Tensor:
    """What a network answers, before its sigmoid; as it is where the answer is linear.

    By the inverse of the sigmoid, so that networks whose answer is a mean of several heads have logits too.
    """
    if getattr(network.layers[-1], "activation", None) is keras.activations.linear:
        return answer
    clipped = tf.clip_by_value(answer, CERTAIN, 1 - CERTAIN)
    return tf.math.log(clipped) - tf.math.log(1 - clipped)


def _enlarged(small: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """A map at another size, linearly, pixels being little areas; its largest size becomes 1."""
    factors = np.divide(shape, small.shape)
    large = ndimage.zoom(small, factors, order=1, mode="nearest", grid_mode=True)
    highest = np.abs(large).max()
    return large / highest if highest > 0 else large
