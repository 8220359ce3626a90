"""One printed line an epoch, with the time left: reads the same in a notebook, a terminal and a log."""

from __future__ import annotations

import time

import keras

FIRST_GUESS_AFTER_BATCHES = 20


class ProgressLines(keras.callbacks.Callback):
    """Prints losses and Dice after each epoch, and a first guess of the duration early in the first."""

    def __init__(self, title: str, first_epoch: int, last_epoch: int) -> None:
        super().__init__()
        self.title, self.first_epoch, self.last_epoch = title, first_epoch, last_epoch
        self.started = self.first_batch = None

    def on_train_batch_end(self, batch: int, logs=None) -> None:
        """After some batches (the first compiles and does not count), say how long all will take."""
        if self.first_batch is None:
            self.started = self.first_batch = time.monotonic()
        elif (
            batch == FIRST_GUESS_AFTER_BATCHES and self.params["epochs"] and self.started == self.first_batch
        ):
            seconds = (time.monotonic() - self.first_batch) / batch * self.params["steps"]
            left = seconds * (self.last_epoch - self.first_epoch)
            print(
                f"{self.title}: {self.last_epoch - self.first_epoch} epochs, {describe_duration(left)} to go"
            )
            self.started = None

    def on_epoch_end(self, epoch: int, logs=None) -> None:
        """The epoch's line."""
        elapsed = time.monotonic() - self.first_batch
        left = elapsed / (epoch + 1 - self.first_epoch) * (self.last_epoch - epoch - 1)
        values = "  ".join(f"{name} {value:.3g}" for name, value in (logs or {}).items())
        print(
            f"{self.title}: epoch {epoch + 1}/{self.last_epoch}  {values}  {describe_duration(left)} left",
            flush=True,
        )


def describe_duration(seconds: float) -> str:
    """Such as "40 s", "12 min" or "3.5 h"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
