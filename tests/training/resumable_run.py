"""A small training for the resume test: run as a program, so that it can be killed."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import keras
import numpy as np

from livseg_lib.models import build_model
from livseg_lib.training.fit import FitSettings, Stage, dice_metrics, fit

SMALL = {"filters": 4, "levels": 2}


class RandomBatches(keras.utils.PyDataset):
    """Batches that depend on (epoch, index) alone, as the project's own do."""

    epoch = 0
    kill_at: tuple[int, int] | None = None

    def start_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int):
        if self.kill_at == (self.epoch, index):
            os.kill(os.getpid(), signal.SIGKILL)
        pictures = np.random.default_rng([self.epoch, index]).random((4, 16, 16, 1), np.float32)
        return pictures, (pictures > 0.6).astype(np.float32)


def run(folder: Path, kill_at: tuple[int, int] | None, name: str):
    """Train by SETTINGS[name] in `folder`; the process ends itself by SIGKILL at (epoch, batch)."""
    policy = "mixed_float16" if name == "mixed precision" else "float32"
    keras.utils.set_random_seed(7)
    keras.mixed_precision.set_global_policy(policy)
    network = build_model("unet", (16, 16, 1), 1, **SMALL)
    training, validation = RandomBatches(), RandomBatches()
    training.kill_at = kill_at
    return network, fit(
        network, training, validation, lambda: dice_metrics(("liver",)), SETTINGS[name], folder
    )


PLAIN = FitSettings((Stage(6, 3e-3),), schedule="constant", plateau_patience=1)
STAGED = FitSettings(
    (Stage(2, 1e-2, frozen=("encoder0_conv1",)), Stage(4, 1e-2)), schedule="cosine", early_stopping_patience=2
)
FROZEN = FitSettings((Stage(1, 1e-2, frozen=("encoder0_conv1",)),))
SETTINGS = {"frozen": FROZEN, "plateau": PLAIN, "staged": STAGED, "mixed precision": STAGED}

if __name__ == "__main__":
    name, folder, epoch, batch = sys.argv[1:]
    run(Path(folder), (int(epoch), int(batch)), name)
