"""Where a training stands, on disk: weights, optimizer, epoch, and what made them.

After each epoch one file holds everything the next epoch depends on: weights, optimizer state, seeds of
dropout, history, best value, and the counters of the other callbacks. It is a safetensors file, bare named
arrays and a JSON record, so that nothing is unpickled; it is written aside and renamed, so that it is always
a whole epoch old or a whole epoch new.
"""

from __future__ import annotations

import json
import math
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import psutil

from livseg_lib.backend import seed_dropout
from livseg_lib.errors import InputError
from livseg_lib.files import file_checksum, written_aside
from livseg_lib.models import keras
from livseg_lib.provenance import changes, digest
from livseg_lib.runs import git_revision
from livseg_lib.training.weights import assign_arrays, load_arrays, save_variables

KEPT = ("last.safetensors", "best.safetensors")
"""What a training goes on from."""

COUNTERS = ("best", "wait", "cooldown_counter", "stopped_epoch", "best_epoch")
"""What Keras' plateau and early-stopping callbacks remember between epochs."""


@dataclass
class Progress:
    """How far a training has come; travels inside the checkpoint as JSON."""

    made_by: dict = field(default_factory=dict)
    """All that defines the training: another one must not go on from here."""
    revision: str = ""
    """Of the repository when the training began."""
    epochs: list[int] = field(default_factory=list)
    """Of each stage, where minutes decided; else empty."""
    stage: int = 0
    stage_start: int = 0
    """Epochs done when the stage began."""
    stage_done: bool = False
    best: float = float("inf")
    best_sha256: str = ""
    """Of the file with the weights of the best epoch."""
    history: list[dict[str, float]] = field(default_factory=list)
    """A row an epoch, over all stages."""
    counters: list[dict[str, float | None]] = field(default_factory=list)
    """Those of the companions, in their order."""
    seeds: list[list[int]] = field(default_factory=list)
    """Where the dropout of each layer stands."""


class Checkpoint(keras.callbacks.Callback):
    """Keeps `last.safetensors` (to go on from), `best.safetensors` (weights alone) and `history.csv`.

    Best is the lowest `monitor` seen. `companions` are callbacks with counters of their own
    (`ReduceLROnPlateau`, `EarlyStopping`), which Keras sets to zero when a fit begins: give this
    callback the last place in the list, so that it restores them after that.
    """

    def __init__(self, folder: Path, monitor: str, made_by: dict) -> None:
        super().__init__()
        self.last_path, self.best_path = (folder / name for name in KEPT)
        self.monitor, self.companions = monitor, []
        self.progress, self.arrays, self.state = Progress(made_by, git_revision()), None, "training begins"
        if not self.last_path.exists():
            return
        try:
            arrays, found = self._read()
        except InputError as error:
            reasons = [f"the checkpoint cannot be used: {error.problem}"]
        else:
            reasons = changes(found.made_by, made_by)
        if reasons:
            self.state = f"trained anew, changed since: {', '.join(reasons)}"
            for stale in (self.last_path, self.best_path):
                stale.unlink(missing_ok=True)
        else:
            self.progress, self.arrays = found, arrays
            self.state = f"unchanged since, goes on from epoch {self.epochs_done}"

    def _read(self) -> tuple[dict[str, np.ndarray], Progress]:
        """What the last epoch left. Raises InputError where that, or the best weights, is not whole."""
        arrays, record = load_arrays(self.last_path)
        if record.pop("digest", "") != _digest(record, arrays):
            raise InputError(self.last_path, f"{self.last_path.name} is not as a training wrote it.")
        progress = Progress(**record)
        best = load_arrays(self.best_path)[1].get("epoch")
        # A kill between the two files leaves the weights of an epoch that comes again.
        if best != len(progress.history) + 1 and file_checksum(self.best_path) != progress.best_sha256:
            raise InputError(self.best_path, f"{self.best_path.name} is of another training.")
        return arrays, progress

    @property
    def epochs_done(self) -> int:
        """Epochs finished since the training first began, over all its stages."""
        return len(self.progress.history)

    def begin_stage(self, stage: int, model: keras.Model, companions: list[keras.callbacks.Callback]) -> None:
        """Call after compiling. Goes on inside `stage` where the checkpoint stands in it, else starts it."""
        self.companions = companions
        if stage != self.progress.stage:
            self.progress.stage, self.progress.stage_start = stage, self.epochs_done
            self.progress.stage_done, self.progress.counters = False, []
        # Now: built inside fit, its variables would have other names.
        model.optimizer.build(model.trainable_variables)
        if self.arrays is not None:  # just loaded: weights always, the optimizer within its own stage
            variables = _variables(model) if self.epochs_done > self.progress.stage_start else model.weights
            paths = self.arrays.keys() & {variable.path for variable in variables}
            assign_arrays(variables, {path: self.arrays[path] for path in paths}, self.last_path)
            for variable, seed in zip(_seeds(model), self.progress.seeds, strict=True):
                variable.assign(np.array(seed))
            self.arrays = None

    def on_train_begin(self, logs=None) -> None:
        for companion, counters in zip(self.companions, self.progress.counters, strict=False):
            vars(companion).update(counters)

    def on_epoch_begin(self, epoch: int, logs=None) -> None:
        """Start the epoch's clock, and its dropout from a seed that a resumed training knows."""
        for seed in _seeds(self.model)[:1]:
            seed_dropout(int(np.array(seed)[0]) + epoch)
        self.epoch_began = time.monotonic()

    def on_epoch_end(self, epoch: int, logs=None) -> None:
        """Record the epoch, keep the best weights, then the state to go on from, then history.csv."""
        values = {name: float(value) for name, value in (logs or {}).items()}
        if diverged := [name for name in ("loss", self.monitor) if not math.isfinite(values[name])]:
            problem = f"diverged in epoch {epoch + 1}: the {diverged[0]} is {values[diverged[0]]}."
            raise InputError("training", problem, "Lower the learning rate.")
        seconds, memory = time.monotonic() - self.epoch_began, psutil.Process().memory_info().rss
        cost = {"seconds": round(seconds, 2), "memory_mb": round(memory / 2**20)}
        self.progress.history.append({"epoch": epoch + 1, "stage": self.progress.stage, **values, **cost})
        if values[self.monitor] < self.progress.best:
            self.progress.best = values[self.monitor]
            save_variables(self.best_path, self.model.weights, {"epoch": epoch + 1})
            self.progress.best_sha256 = file_checksum(self.best_path)
        self.progress.stage_done = bool(self.model.stop_training)
        self.progress.seeds = [np.array(variable).tolist() for variable in _seeds(self.model)]
        self.progress.counters = [_counters(companion) for companion in self.companions]
        variables, record = _variables(self.model), asdict(self.progress)
        record["digest"] = _digest(record, {variable.path: variable for variable in variables})
        save_variables(self.last_path, variables, record)
        with written_aside(self.last_path.with_name("history.csv")) as partial:
            pd.DataFrame(self.progress.history).to_csv(partial, index=False)


def _digest(record: dict, arrays: dict) -> str:
    """Of all that a checkpoint holds; `arrays`, or variables, by their paths."""
    return digest([json.dumps(record), [(path, np.array(arrays[path])) for path in sorted(arrays)]])


def _variables(model: keras.Model) -> list:
    return [*model.weights, *model.optimizer.variables]


def _seeds(model: keras.Model) -> list:
    """Variables from which dropout draws, in the order of its layers: Keras numbers them by the process."""
    return [each for each in model.non_trainable_variables if each.name == "seed_generator_state"]


def _counters(callback: keras.callbacks.Callback) -> dict[str, float | None]:
    found = {name: getattr(callback, name) for name in COUNTERS if hasattr(callback, name)}
    return {name: None if value is None else float(value) for name, value in found.items()}
