"""A study of a made-up score, quick enough to test with; run as a program, it ends itself by SIGKILL."""

from __future__ import annotations

import math
import os
import signal
import sys
from pathlib import Path

import pandas as pd

from livseg_lib.studies.training import TrainingPlan
from livseg_lib.studies.tuning import SearchSpace, TuningPlan, tune
from livseg_lib.training.fit import Stage

START = TrainingPlan(
    system="tuned", architecture="unet", target="liver", stages=(Stage(2, 0.001),), batch_size=8, seed=7
)
SPACE = SearchSpace(
    learning_rate=(1e-4, 1e-2),
    batch_size=(4, 8, 16),
    loss=("bce_dice", "focal", "weighted_bce_dice"),
    positive_weight=(1.0, 20.0),
)
TUNING = TuningPlan(START, SPACE, folds=(0, 1), made_by={"slices": "made up"})


class MadeUpScore:
    """Best at a rate of 0.003; keeps its calls, and kills the process in the one numbered `kill_at`."""

    def __init__(self, kill_at: int | None = None) -> None:
        self.calls, self.kill_at = [], kill_at

    def __call__(self, plan: TrainingPlan, fold: int) -> pd.DataFrame:
        if len(self.calls) == self.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        self.calls.append((plan, fold))
        dice = 0.8 - 0.1 * abs(math.log10(plan.stages[0].learning_rate / 0.003)) - 0.02 * fold
        return pd.DataFrame({"patient": [f"{fold}-{number}" for number in range(3)], "dice": dice})


if __name__ == "__main__":
    database, kill_at, n_trials = sys.argv[1:]
    tune(TUNING, MadeUpScore(int(kill_at)), int(n_trials), Path(database))
