"""A small training for the resume test: run as a program, so that it can be killed."""

import os
import signal
import sys
from pathlib import Path

import keras
import numpy as np
from keras import layers

from livseg_lib.training.fit import FitSettings, Stage, dice_metrics, fit

FILTERS = 4


def small_network() -> keras.Model:
    """What a resumed training must find again: weights, moments of an optimizer, moving averages, seeds."""
    inputs = keras.Input((16, 16, 1))
    x = layers.Conv2D(FILTERS, 3, padding="same", activation="relu", name="first")(inputs)
    x = layers.BatchNormalization(name="norm")(x)
    x = layers.Dropout(0.1, name="dropout")(x)
    return keras.Model(inputs, layers.Conv2D(1, 1, activation="sigmoid", name="maps")(x), name="small")


def end() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class RandomBatches(keras.utils.PyDataset):
    """Batches that depend on (epoch, index) alone, as the project's own do."""

    epoch, size = 0, 16
    kill_at: tuple[int, int] | None = None

    def start_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int):
        if self.kill_at == (self.epoch, index):
            end()
        pictures = np.random.default_rng([self.epoch, index]).random((4, self.size, self.size, 1), np.float32)
        return pictures, (pictures > 0.6).astype(np.float32)


def run(folder: Path, name: str, kill_at: tuple[int, int] | None = None):
    """Train by SETTINGS[name] in `folder`; which `end` ends at (epoch, batch)."""
    policy = "mixed_float16" if name == "mixed precision" else "float32"
    keras.utils.set_random_seed(7)
    keras.mixed_precision.set_global_policy(policy)
    network = small_network()
    training, validation = RandomBatches(), RandomBatches()
    training.kill_at = kill_at
    return network, fit(
        network, training, validation, lambda: dice_metrics(("liver",)), SETTINGS[name], folder
    )


PLAIN = FitSettings((Stage(6, 0.1),), schedule="constant", plateau_patience=1)
"""So fast that epochs grow worse: the plateau counts them."""
STAGED = FitSettings(
    (Stage(2, 1e-2, frozen=("first",)), Stage(4, 1e-2)), schedule="cosine", early_stopping_patience=2
)
FROZEN = FitSettings((Stage(1, 1e-2, frozen=("first",)),))
SETTINGS = {"frozen": FROZEN, "plateau": PLAIN, "staged": STAGED, "mixed precision": STAGED}

if __name__ == "__main__":
    name, folder, epoch, batch = sys.argv[1:]
    run(Path(folder), name, (int(epoch), int(batch)))
