"""How the learning rate moves during a stage."""

from __future__ import annotations

import math

import keras

from livseg_lib.errors import InputError

WARM_UP_BATCHES = 50


class CosineSchedule(keras.callbacks.Callback):
    """Batch by batch from `learning_rate` down to zero along half a cosine, after a short warm-up.

    The rate is a function of (epoch, batch) alone, so a resumed training meets the same rates.
    """

    def __init__(self, learning_rate: float, first_epoch: int, epochs: int, batches_per_epoch: int) -> None:
        super().__init__()
        self.learning_rate, self.first_epoch = learning_rate, first_epoch
        self.batches_per_epoch, self.batches = batches_per_epoch, epochs * batches_per_epoch
        self.done = 0

    def on_epoch_begin(self, epoch: int, logs=None) -> None:
        """Note how many batches lie behind."""
        self.done = (epoch - self.first_epoch) * self.batches_per_epoch

    def on_train_batch_begin(self, batch: int, logs=None) -> None:
        """Set the rate of this batch."""
        step = self.done + batch
        cosine = 0.5 * (1.0 + math.cos(math.pi * min(step / self.batches, 1.0)))
        self.model.optimizer.learning_rate = (
            self.learning_rate * cosine * min(1.0, (step + 1) / WARM_UP_BATCHES)
        )


class StepSchedule(keras.callbacks.Callback):
    """Multiplies the rate by `factor` once, after `epochs_before` epochs of the stage (system C: 30, 0.1)."""

    def __init__(self, first_epoch: int, epochs_before: int = 30, factor: float = 0.1) -> None:
        super().__init__()
        self.epoch, self.factor = first_epoch + epochs_before, factor

    def on_epoch_begin(self, epoch: int, logs=None) -> None:
        """Drop the rate when its epoch comes."""
        if epoch == self.epoch:
            self.model.optimizer.learning_rate = float(self.model.optimizer.learning_rate) * self.factor


SCHEDULES = ("constant", "step", "cosine")


def schedule_callbacks(
    name: str, learning_rate: float, first_epoch: int, epochs: int, batches_per_epoch: int
) -> list[keras.callbacks.Callback]:
    """Callbacks of the schedule called `name` for a stage of `epochs` epochs from `first_epoch` on."""
    if name == "constant":
        return []
    if name == "step":
        return [StepSchedule(first_epoch)]
    if name == "cosine":
        return [CosineSchedule(learning_rate, first_epoch, epochs, batches_per_epoch)]
    raise InputError(name, "is not a schedule.", f"Choose one of {', '.join(SCHEDULES)}.")
