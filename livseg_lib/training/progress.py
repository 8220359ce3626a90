"""One printed line an epoch, with the time left: reads the same in a notebook, a terminal and a log."""

from __future__ import annotations

import time

import keras

from livseg_lib.durations import format_duration

FIRST_GUESS_AFTER_BATCHES = 20


class ProgressLines(keras.callbacks.Callback):
    """Prints losses and Dice after each epoch, and a first guess of the duration early in the first."""

    def __init__(self, title: str, first_epoch: int, last_epoch: int) -> None:
        super().__init__()
        self.title, self.first_epoch, self.last_epoch = title, first_epoch, last_epoch
        self.epoch, self.started = first_epoch, 0.0

    def on_epoch_begin(self, epoch: int, logs=None) -> None:
        """Note which epoch it is."""
        self.epoch = epoch

    def on_train_batch_end(self, batch: int, logs=None) -> None:
        """Start the clock after the first batch, which compiles; soon after, say how long all will take."""
        if self.epoch != self.first_epoch:
            return
        if batch == 0:
            self.started = time.monotonic()
        elif batch == FIRST_GUESS_AFTER_BATCHES:
            epochs = self.last_epoch - self.first_epoch
            seconds = (time.monotonic() - self.started) / batch * self.params["steps"] * epochs
            print(f"{self.title}: {epochs} epochs, about {format_duration(seconds)}", flush=True)

    def on_epoch_end(self, epoch: int, logs=None) -> None:
        """The epoch's line."""
        seconds_an_epoch = (time.monotonic() - self.started) / (epoch + 1 - self.first_epoch)
        left = format_duration(seconds_an_epoch * (self.last_epoch - epoch - 1))
        values = "  ".join(f"{name} {value:.3g}" for name, value in (logs or {}).items())
        print(f"{self.title}: epoch {epoch + 1}/{self.last_epoch}  {values}  {left} left", flush=True)
