"""Dice as a Keras metric: counts are gathered over the whole epoch, never averaged over batches."""

from __future__ import annotations

import keras
from keras import ops

from livseg_lib.training.deep_supervision import mean_of_heads


class RegionDice(keras.metrics.Metric):
    """2 TP / (2 TP + FP + FN) of one channel over all pixels seen since the epoch began.

    Probabilities count from `threshold` up. No structure in truth nor prediction gives 1.
    """

    def __init__(self, channel: int, name: str, threshold: float = 0.5) -> None:
        super().__init__(name=name, dtype="float32")
        self.channel, self.threshold = channel, threshold
        self.overlap = self.add_weight(name="overlap", initializer="zeros")
        self.total = self.add_weight(name="total", initializer="zeros")

    def update_state(self, truth, probability, sample_weight=None) -> None:
        """Add one batch, both (B, ..., K); of several heads (B, ..., K, N) the mean counts."""
        probability = mean_of_heads(truth, probability)
        reference = ops.cast(truth[..., self.channel] >= 0.5, "float32")
        prediction = ops.cast(probability[..., self.channel] >= self.threshold, "float32")
        self.overlap.assign_add(ops.sum(reference * prediction))
        self.total.assign_add(ops.sum(reference) + ops.sum(prediction))

    def result(self):
        """Dice so far, 0 to 1."""
        return ops.where(self.total > 0, 2.0 * self.overlap / ops.maximum(self.total, 1.0), 1.0)


class ClassAccuracy(keras.metrics.CategoricalAccuracy):
    """Share of inputs whose likeliest class is the right one; both (B, K)."""

    def update_state(self, truth, probability, sample_weight=None) -> None:
        """Add one batch; of several heads (B, K, N) the mean counts."""
        super().update_state(truth, mean_of_heads(truth, probability), sample_weight)


def dice_metrics(structures: tuple[str, ...]) -> list[RegionDice]:
    """One metric a structure, named "liver_dice", "tumor_dice"."""
    return [RegionDice(channel, f"{structure}_dice") for channel, structure in enumerate(structures)]
