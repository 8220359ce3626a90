"""Losses by name, for maps of probability against maps of truth.

Every loss takes `(truth, probability)`, both (B, H, W, K), or (B, D, H, W, K) of blocks of slices, with one
channel a structure, and gives one float32 scalar. Inputs are cast to float32 first: sums over a batch
overflow in float16. Regions are summed over the whole batch, channel by channel, then averaged over
channels.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from functools import partial

from livseg_lib.errors import InputError
from livseg_lib.models import keras
from livseg_lib.provenance import name_of

ops = keras.ops

SMOOTHING = 1.0
"""Added above and below the Dice and Jaccard fractions, in pixels (system C): empty against empty is 1."""

Loss = Callable[[object, object], object]
Weight = float | Sequence[float]
"""One number for all structures, or one for each."""


def _float32(truth, probability):
    return ops.cast(truth, "float32"), ops.cast(probability, "float32")


def _region_sum(maps, first_axis: int = 0):
    """Sum over the axes from `first_axis` to the last but one: (K,) of maps (B, ..., K); from 1, (B, K)."""
    return ops.sum(maps, axis=tuple(range(first_axis, len(maps.shape) - 1)))


def _cross_entropies(truth, probability):
    """(-log p, -log(1 - p)), each of the maps' shape, with p kept away from 0 and 1."""
    epsilon = keras.backend.epsilon()
    probability = ops.clip(probability, epsilon, 1.0 - epsilon)
    return -ops.log(probability), -ops.log(1.0 - probability)


def binary_cross_entropy(truth, probability):
    """Mean binary cross-entropy over pixels."""
    return weighted_binary_cross_entropy(truth, probability, positive_weight=1.0)


def weighted_binary_cross_entropy(truth, probability, positive_weight: Weight = 5.0):
    """Cross-entropy in which a structure's pixel counts `positive_weight` times (systems B, E)."""
    truth, probability = _float32(truth, probability)
    if_positive, if_negative = _cross_entropies(truth, probability)
    positive_weight = ops.convert_to_tensor(positive_weight, "float32")
    return ops.mean(positive_weight * truth * if_positive + (1.0 - truth) * if_negative)


def focal(truth, probability, gamma: float = 2.0, alpha: Weight = 0.25):
    """Focal loss (Lin et al. 2017, arXiv:1708.02002), the mitigation that system B names.

    A pixel counts less the surer it is already, by `gamma`; `alpha` is the share of a structure's pixels
    against 1 - alpha of the others.
    """
    truth, probability = _float32(truth, probability)
    if_positive, if_negative = _cross_entropies(truth, probability)
    alpha = ops.convert_to_tensor(alpha, "float32")
    positive = alpha * truth * (1.0 - probability) ** gamma * if_positive
    negative = (1.0 - alpha) * (1.0 - truth) * probability**gamma * if_negative
    return ops.mean(positive + negative)


def tversky(truth, probability, false_positive_weight: float = 0.3, false_negative_weight: float = 0.7):
    """1 - Tversky index (Salehi et al. 2017, arXiv:1706.05721); with both weights 0.5 it is Dice."""
    truth, probability = _float32(truth, probability)
    hit = _region_sum(truth * probability)
    false_positive = _region_sum((1.0 - truth) * probability)
    false_negative = _region_sum(truth * (1.0 - probability))
    missed = false_positive_weight * false_positive + false_negative_weight * false_negative
    half = SMOOTHING / 2.0  # so that Dice with its smoothing is the special case
    return ops.mean(1.0 - (hit + half) / (hit + missed + half))


def dice_loss(truth, probability):
    """1 - (2 |A B| + 1) / (|A| + |B| + 1) (systems B, C)."""
    return tversky(truth, probability, false_positive_weight=0.5, false_negative_weight=0.5)


def jaccard_loss(truth, probability):
    """1 - (|A B| + 1) / (|A or B| + 1), the Jaccard distance (system I, Yuan 2017)."""
    truth, probability = _float32(truth, probability)
    hit = _region_sum(truth * probability)
    union = _region_sum(truth + probability) - hit
    return ops.mean(1.0 - (hit + SMOOTHING) / (union + SMOOTHING))


def picture_dice(truth, probability):
    """1 - Dice of each picture, averaged: a sliver of liver counts as much as a whole section of it.

    Of blocks, each block's.
    """
    truth, probability = _float32(truth, probability)
    hit = _region_sum(truth * probability, first_axis=1)
    total = _region_sum(truth + probability, first_axis=1)
    return ops.mean(1.0 - (2.0 * hit + SMOOTHING) / (total + SMOOTHING))


def bce_picture_dice(truth, probability):
    """Binary cross-entropy + Dice of each picture."""
    return binary_cross_entropy(truth, probability) + picture_dice(truth, probability)


def bce_dice(truth, probability):
    """Binary cross-entropy + Dice (systems B, C)."""
    return binary_cross_entropy(truth, probability) + dice_loss(truth, probability)


def weighted_bce_dice(truth, probability, positive_weight: Weight = 5.0):
    """Weighted binary cross-entropy + Dice: system B's loss with the class weights that it proposes."""
    return weighted_binary_cross_entropy(truth, probability, positive_weight) + dice_loss(truth, probability)


def focal_dice(truth, probability, gamma: float = 2.0, alpha: Weight = 0.25):
    """Focal loss + Dice: system B's loss with the focal one, as it proposes, for its cross-entropy."""
    return focal(truth, probability, gamma, alpha) + dice_loss(truth, probability)


def mean_squared_error(truth, probability):
    """Mean squared error over pixels (system A)."""
    return weighted_mean_squared_error(truth, probability, positive_weight=1.0)


def weighted_mean_squared_error(truth, probability, positive_weight: Weight = 20.0):
    """Squared error in which a structure's pixel counts `positive_weight` times.

    Ours, for system A: of plain squared error tumours are too small a part to be learnt in minutes.
    """
    truth, probability = _float32(truth, probability)
    weight = 1.0 + (ops.convert_to_tensor(positive_weight, "float32") - 1.0) * truth
    return ops.mean(weight * ops.square(truth - probability))


def cross_entropy(truth, probability):
    """Mean categorical cross-entropy: both (B, K), one class a picture."""
    truth, probability = _float32(truth, probability)
    if_class, _ = _cross_entropies(truth, probability)
    return ops.mean(ops.sum(truth * if_class, axis=-1))


LOSSES: dict[str, Loss] = {
    "bce_dice": bce_dice,
    "bce": binary_cross_entropy,
    "weighted_bce": weighted_binary_cross_entropy,
    "weighted_bce_dice": weighted_bce_dice,
    "dice": dice_loss,
    "bce_picture_dice": bce_picture_dice,
    "picture_dice": picture_dice,
    "focal": focal,
    "focal_dice": focal_dice,
    "tversky": tversky,
    "jaccard": jaccard_loss,
    "mse": mean_squared_error,
    "weighted_mse": weighted_mean_squared_error,
}


CLASS_LOSSES: dict[str, Loss] = {"cross_entropy": cross_entropy}
"""For one class a picture, (B, K), in place of maps."""


def find_loss(loss: str | Loss) -> Loss:
    """The loss called so; a function of (truth, probability) is one itself. Raises InputError for others."""
    losses = LOSSES | CLASS_LOSSES
    if isinstance(loss, str) and loss in losses:
        return losses[loss]
    if isinstance(loss, partial) or inspect.isfunction(loss):
        return loss
    choice = f"Choose one of {', '.join(losses)}, or give a function of (truth, probability)."
    raise InputError(str(loss), "is not a loss.", choice)


def loss_options(loss: str | Loss) -> tuple[str, ...]:
    """Names of its keyword options. Raises InputError for what is no loss."""
    return tuple(inspect.signature(find_loss(loss)).parameters)[2:]  # past truth and probability


def get_loss(loss: str | Loss, **options: Weight) -> Loss:
    """The loss, by its name or as a function, its keyword options bound.

    Raises InputError for what is no loss, and for an unknown option.
    """
    known, name = loss_options(loss), name_of(loss)
    if unknown := sorted(set(options) - set(known)):
        problem = f"has no option {', '.join(unknown)}."
        raise InputError(f"loss {name}", problem, f"Its options are {', '.join(known) or 'none'}.")
    bound = partial(find_loss(loss), **options)
    bound.__name__ = name  # Keras labels a loss by this
    return bound
