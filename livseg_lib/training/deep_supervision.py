"""Training a network on each of its heads, while it is used by their mean.

A network with deep supervision has layers "head1", "head2", ... that each give whole probability maps,
and its output is their mean (the accurate mode of UNet++, Zhou et al. 2018, arXiv:1807.10165).
"""

from __future__ import annotations

import re

import keras
from keras import ops


def training_twin(model: keras.Model) -> keras.Model:
    """`model` itself, or of one with heads a twin on the same weights that gives them all.

    The twin's output is (B, ..., K, N): the maps of the N heads, one after another in the last axis.
    """
    heads = [layer.output for layer in model.layers if re.fullmatch(r"head\d+", layer.name)]
    if not heads:
        return model
    return keras.Model(model.inputs, ops.stack(heads, axis=-1), name=model.name)


def on_every_head(loss):
    """`loss` for outputs as they are, (B, ..., K); for (B, ..., K, N) its mean over the N heads."""

    def mean_loss(truth, maps):
        if len(maps.shape) == len(truth.shape):
            return loss(truth, maps)
        losses = [loss(truth, maps[..., head]) for head in range(maps.shape[-1])]
        return sum(losses) / len(losses)

    mean_loss.__name__ = getattr(loss, "__name__", "loss")  # Keras labels a loss by this
    return mean_loss


def mean_of_heads(truth, maps):
    """Maps as they are, or their mean over the last axis where they have one more than `truth`."""
    return maps if len(maps.shape) == len(truth.shape) else ops.mean(maps, axis=-1)
