"""A small training, to be resumed: run as a program, so that it can be killed."""

import os
import signal
import sys
from pathlib import Path

import keras
import numpy as np
from keras import layers

from livseg_lib.training.fit import FitSettings, Stage, dice_metrics, fit

FILTERS = 4


def small_network(dropout: float = 0.1) -> keras.Model:
    """What a resumed training must find again: weights, moments of an optimizer, moving averages, seeds.

    Without biases that normalization takes back: Adam makes much of a gradient that is nearly zero.
    """
    inputs = keras.Input((16, 16, 1))
    x = layers.Conv2D(FILTERS, 3, padding="same", use_bias=False, name="first")(inputs)
    x = layers.Activation("relu", name="bend")(layers.BatchNormalization(name="norm")(x))
    x = layers.Dropout(dropout, name="dropout")(x)
    return keras.Model(inputs, layers.Conv2D(1, 1, activation="sigmoid", name="maps")(x), name="small")


def end() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class RandomBatches(keras.utils.PyDataset):
    """Batches of so many pictures that depend on (epoch, index) alone, as the project's own do."""

    def __init__(self, *sizes: int, side: int = 16, kill_at: tuple[int, int] | None = None) -> None:
        super().__init__()
        self.sizes, self.side, self.kill_at, self.epoch = sizes or (4, 4, 4, 4), side, kill_at, 0

    def start_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.sizes)

    def __getitem__(self, index: int):
        if self.kill_at == (self.epoch, index):
            end()
        shape = (self.sizes[index], self.side, self.side, 1)
        pictures = np.random.default_rng([self.epoch, index]).random(shape, np.float32)
        return pictures, (pictures > 0.6).astype(np.float32)


def run(folder: Path, name: str, kill_at: tuple[int, int] | None = None):
    """Train by SETTINGS[name] in `folder`; which `end` ends at (epoch, batch)."""
    policy = "mixed_float16" if name == "mixed precision" else "float32"
    keras.utils.set_random_seed(7)
    keras.mixed_precision.set_global_policy(policy)
    network, metrics = small_network(), lambda: dice_metrics(("liver",))
    training, validation = RandomBatches(kill_at=kill_at), RandomBatches()
    return network, fit(network, training, validation, metrics, SETTINGS[name], folder)


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
