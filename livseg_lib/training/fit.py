"""Training by stages that can be killed at any moment and goes on as if it had not been.

Knows batches and losses, not which network it trains. A network with layers "head1", "head2", ... that each
give whole probability maps is trained on each of them (deep supervision), while it is used by their mean
(the accurate mode of UNet++, Zhou et al. 2018, arXiv:1807.10165).
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd

from livseg_lib.backend import backend_name, gpus
from livseg_lib.errors import InputError, format_duration
from livseg_lib.models import keras
from livseg_lib.provenance import code_of, digest, made_with, name_of
from livseg_lib.training.checkpoint import KEPT, Checkpoint
from livseg_lib.training.devices import training_devices
from livseg_lib.training.losses import CLASS_LOSSES, LOSSES, Loss, find_loss, get_loss, ops
from livseg_lib.training.weights import assign_arrays, describe_network, load_arrays, number_in_order

WARM_UP_BATCHES = 50

MEASURED_BATCHES = 10
"""Whose time says how many epochs fit into some minutes."""


class CosineSchedule(keras.callbacks.Callback):
    """Batch by batch from `learning_rate` down to zero along half a cosine, after a short warm-up.

    The rate is a function of (epoch, batch) alone, so a resumed training meets the same rates.
    """

    def __init__(self, learning_rate: float, first_epoch: int, epochs: int, batches_per_epoch: int) -> None:
        super().__init__()
        self.learning_rate, self.first_epoch = learning_rate, first_epoch
        self.batches_per_epoch, self.batches = batches_per_epoch, epochs * batches_per_epoch

    def on_epoch_begin(self, epoch: int, logs=None) -> None:
        self.done = (epoch - self.first_epoch) * self.batches_per_epoch

    def on_train_batch_begin(self, batch: int, logs=None) -> None:
        if hasattr(self.model, "jax_state_sync"):
            self.model.jax_state_sync()  # or JAX would keep the rate with which the epoch began
        step = self.done + batch
        cosine = 0.5 * (1.0 + math.cos(math.pi * min(step / self.batches, 1.0)))
        warmth = min(1.0, (step + 1) / WARM_UP_BATCHES)
        self.model.optimizer.learning_rate = self.learning_rate * cosine * warmth


class StepSchedule(keras.callbacks.Callback):
    """Divides the rate by ten once, after 30 epochs of the stage (system C)."""

    def __init__(self, first_epoch: int) -> None:
        super().__init__()
        self.epoch = first_epoch + 30

    def on_epoch_begin(self, epoch: int, logs=None) -> None:
        if epoch == self.epoch:
            self.model.optimizer.learning_rate = float(np.array(self.model.optimizer.learning_rate)) * 0.1


def schedule_callbacks(
    name: str, learning_rate: float, first_epoch: int, epochs: int, batches_per_epoch: int
) -> list[keras.callbacks.Callback]:
    """Callbacks of the schedule called `name` for a stage of `epochs` epochs from `first_epoch` on."""
    cosine = CosineSchedule(learning_rate, first_epoch, epochs, batches_per_epoch)
    schedules = {"constant": [], "step": [StepSchedule(first_epoch)], "cosine": [cosine]}
    if name not in schedules:
        raise InputError(name, "is not a schedule.", f"Choose one of {', '.join(schedules)}.")
    return schedules[name]


FIRST_GUESS_AFTER_BATCHES = 20


class ProgressLines(keras.callbacks.Callback):
    """Prints losses and Dice after each epoch, and a first guess of the duration early in the first."""

    def __init__(self, title: str, first_epoch: int, last_epoch: int) -> None:
        super().__init__()
        self.title, self.first_epoch, self.last_epoch = title, first_epoch, last_epoch

    def on_epoch_begin(self, epoch: int, logs=None) -> None:
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
        seconds_an_epoch = (time.monotonic() - self.started) / (epoch + 1 - self.first_epoch)
        left = format_duration(seconds_an_epoch * (self.last_epoch - epoch - 1))
        values = "  ".join(f"{name} {value:.3g}" for name, value in (logs or {}).items())
        print(f"{self.title}: epoch {epoch + 1}/{self.last_epoch}  {values}  {left} left", flush=True)


def training_twin(model: keras.Model) -> keras.Model:
    """`model` itself, or of one with heads a twin on the same weights that gives them all.

    The twin's output is (B, ..., K, N): the maps of the N heads, one after another in the last axis.
    """
    heads = [layer.output for layer in model.layers if re.fullmatch(r"head\d+", layer.name)]
    if not heads:
        return model
    return keras.Model(model.inputs, ops.stack(heads, axis=-1), name=model.name)


def on_every_head(loss):
    """`loss` for outputs as they are, (B, ..., K); for (B, ..., K, N) its mean over the N heads."""

    def mean_loss(truth, maps):
        if (given := maps.shape[len(truth.shape) - 1]) != truth.shape[-1]:
            problem = f"has {given} outputs where the truth has {truth.shape[-1]}."
            raise InputError("network", problem, "Give it one sigmoid output for each structure.")
        if len(maps.shape) == len(truth.shape):
            return loss(truth, maps)
        losses = [loss(truth, maps[..., head]) for head in range(maps.shape[-1])]
        return sum(losses) / len(losses)

    mean_loss.__name__ = getattr(loss, "__name__", "loss")  # Keras labels a loss by this
    return mean_loss


def mean_of_heads(truth, maps):
    """Maps as they are, or their mean over the last axis where they have one more than `truth`."""
    return maps if len(maps.shape) == len(truth.shape) else ops.mean(maps, axis=-1)


class RegionDice(keras.metrics.Metric):
    """2 TP / (2 TP + FP + FN) of one channel over all pixels seen since the epoch began.

    Probabilities count from 0.5 up. No structure in truth nor prediction gives 1.
    """

    def __init__(self, channel: int, name: str) -> None:
        super().__init__(name=name, dtype="float32")
        self.channel = channel
        self.overlap = self.add_weight(name="overlap", initializer="zeros")
        self.total = self.add_weight(name="total", initializer="zeros")

    def update_state(self, truth, probability, sample_weight=None) -> None:
        """Add one batch, both (B, ..., K); of several heads (B, ..., K, N) the mean counts."""
        probability = mean_of_heads(truth, probability)
        reference = ops.cast(truth[..., self.channel] >= 0.5, "float32")
        prediction = ops.cast(probability[..., self.channel] >= 0.5, "float32")
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


Metrics = Callable[[], list[keras.metrics.Metric]]
"""Makes fresh metrics: each stage compiles again."""


@dataclass(frozen=True)
class Stage:
    """A stretch of epochs with one optimizer; `frozen` names layers whose weights stand still in it."""

    epochs: int
    learning_rate: float
    frozen: tuple[str, ...] = ()


@dataclass(frozen=True)
class FitSettings:
    """What a training follows besides its data. Adam with beta 0.9 / 0.999 throughout (system C)."""

    stages: tuple[Stage, ...]
    loss: str | Loss = "bce_dice"
    """Its name in `losses.LOSSES`, or a function of (truth, probability)."""
    loss_options: dict = field(default_factory=dict)
    """Of `get_loss`, such as {"positive_weight": 5.0}."""
    schedule: str = "constant"
    plateau_patience: int = 0
    """Epochs without a better validation loss before the rate is divided by ten; 0 is off (B, C: 5)."""
    early_stopping_patience: int = 0
    """Epochs without a better validation loss before the stage ends; 0 is off."""
    monitor: str = "val_loss"
    minutes: float | None = None
    """How long all stages take together on this machine; their epochs are then their shares of it. None:
    as many epochs as they say."""


def use_mixed_precision_on_gpu() -> str:
    """Compute in float16 where a GPU is there (weights stay float32). Returns the policy's name.

    Never in bfloat16 on a processor, though its steps are faster: there TensorFlow 2.21 sums the gradient of
    a bias in bfloat16, which loses most of it, and that of a 3D kernel on maps smaller than itself is noise.
    """
    policy = "mixed_float16" if gpus() else "float32"
    keras.mixed_precision.set_global_policy(policy)
    return policy


def fit(
    model: keras.Model,
    training: keras.utils.PyDataset,
    validation: keras.utils.PyDataset | None,
    metrics: Metrics,
    settings: FitSettings,
    folder: Path,
    description: dict | None = None,
) -> pd.DataFrame:
    """Train `model` and leave it with the weights of its best epoch. Returns a row an epoch.

    `training.start_epoch(n)` must make the batches a function of the epoch; where batches have
    `description()` and `code()`, as those of `sampling.batches`, these tell what they are made of. Without
    `validation` the training loss tells which epoch is best.

    Killed and called again with the same arguments it goes on after the last whole epoch, or keeps what is
    finished. Where anything that makes the result has changed since (the code of the network, loss, batches
    or this loop, the pictures, a setting, a library) it trains again and says why; `description` (JSON-ready)
    adds what else tells one training from another. `attrs["made_by"]` of the returned rows says by what they
    were made, and at which revision.

    Writes last.safetensors, best.safetensors and history.csv into `folder`, with TensorFlow also logs for
    TensorBoard. A network with deep supervision is trained on each of its heads. `LIVSEG_DEVICES` shares it
    out (`training.devices`); of several processes the first alone writes.
    """
    settings = settings if validation is not None else replace(settings, monitor="loss")
    if sum(stage.epochs for stage in settings.stages) < 1:
        raise InputError("epochs", "are none, so nothing would be learnt.", "Give at least 1.")
    if isinstance(settings.loss, str) and not settings.loss.endswith("mse"):  # others take any number
        require_probabilities(model)
    number_in_order(model)
    made_by = describe_training(model, training, validation, metrics, settings, description or {})
    devices = training_devices()
    with devices.place(folder, made_by, KEPT) as folder, devices.scope():
        checkpoint = Checkpoint(folder, settings.monitor, made_by)
        print(f"{model.name}: {checkpoint.state}", flush=True)
        twin = training_twin(devices.copy(model))
        if settings.minutes is not None:
            progress = checkpoint.progress
            progress.epochs = progress.epochs or epochs_in(twin, training, validation, settings)
            lengths = zip(settings.stages, progress.epochs, strict=True)
            settings = replace(settings, stages=tuple(replace(each, epochs=n) for each, n in lengths))
        for number, stage in enumerate(settings.stages):
            current = checkpoint.progress.stage
            if number > current or (number == current and not _is_over(checkpoint, stage)):
                _fit_stage(twin, training, validation, metrics, settings, number, checkpoint, folder)
        assign_arrays(model.weights, load_arrays(checkpoint.best_path)[0], checkpoint.best_path)
    history = pd.DataFrame(checkpoint.progress.history)
    parts = {part: made_by[part] for part in ("code", "libraries")}
    history.attrs["made_by"] = {"revision": checkpoint.progress.revision, **parts}
    return history


def require_probabilities(model: keras.Model) -> None:
    """Refuse a last layer whose numbers are no probabilities, on which losses but squared errors count."""
    last = model.layers[-1] if model.layers else model
    activation = getattr(last, "activation", None)
    is_alone = activation is keras.activations.softmax and last.output.shape[-1] == 1  # it is always 1
    if activation is keras.activations.linear or is_alone:
        problem = f"ends with {activation.__name__}: its numbers are no probabilities."
        raise InputError(model.name, problem, 'Give its last layer activation="sigmoid".')


def training_facts(
    slices: pd.DataFrame,
    history: pd.DataFrame,
    settings: FitSettings,
    batch_size: int,
    slices_per_epoch: int | None,
) -> dict:
    """What model.json says about a training on `slices` with the `history` that `fit` returned."""
    return {
        "n_train_patients": int(slices.patient.nunique()),
        "n_slices": len(slices),
        "batch_size": batch_size,
        "slices_seen": len(history) * (slices_per_epoch or len(slices)),
        "epochs": len(history),
        "seconds": float(history.seconds.sum()),
        "peak_memory_mb": int(history.memory_mb.max()),
        "loss": name_of(settings.loss),
        "loss_options": settings.loss_options,
        "made_by": history.attrs["made_by"],
    }


def describe_training(model, training, validation, metrics, settings, description) -> dict:
    """All that decides about the result of `fit`, JSON-ready; code as digests."""
    machine = {"devices": training_devices().count, "precision": keras.mixed_precision.dtype_policy().name}
    usual = {"devices": 1, "precision": "float32"}
    machine = {name: value for name, value in machine.items() if value != usual[name]}
    return {
        "code": {
            "network": describe_network(model),
            "loss": code_of(find_loss(settings.loss)),
            **(training.code() if hasattr(training, "code") else {"batches": code_of(type(training))}),
            "metrics": digest([(code_of(type(metric)), metric.get_config()) for metric in metrics()]),
            "training loop": code_of(fit, apart=(LOSSES, CLASS_LOSSES)),
        },
        "settings": asdict(settings) | {"loss": name_of(settings.loss)} | machine,
        "training": description,
        "training data": getattr(training, "description", dict)(),
        "validation data": getattr(validation, "description", dict)(),
        "libraries": made_with("keras", "tensorflow", "jax", "torch", "numpy", "imgaug"),
    }


def epochs_in(model, training, validation, settings: FitSettings) -> list[int]:
    """Epochs of each stage with which all stages take `settings.minutes`: at least one each.

    The rate and the weights follow the number, so a resumed training must keep the one it began with.
    """
    if not 0 < settings.minutes < 1e5:
        raise InputError("minutes", f"is {settings.minutes}.", "Give more than 0, or None to count epochs.")
    seconds = training_devices().agreed(seconds_an_epoch(model, training, validation, settings))
    epochs = 60 * settings.minutes / float(seconds)
    planned = sum(stage.epochs for stage in settings.stages)
    return [max(1, round(epochs * stage.epochs / planned)) for stage in settings.stages]


def seconds_an_epoch(model, training, validation, settings: FitSettings) -> float:
    """Measured on a few batches once all is compiled; the weights are left as they were."""
    before, devices = [np.array(variable) for variable in model.variables], training_devices()
    model.compile(_adam(settings.stages[0].learning_rate), _loss(settings))
    seconds = 0.0
    steps = (model.train_on_batch, training, True), (model.test_on_batch, validation, False)
    for step, batches, learns in steps:
        for turn in range(MEASURED_BATCHES + 2 if batches is not None else 0):
            if turn == 2:  # the first two compile
                began = time.monotonic()
            batch = batches[turn % len(batches)]
            devices.whole = devices.is_mirrored or not learns  # TensorFlow gathers only what it has cut
            step(*(devices.share(batch) if learns else batch))
        if batches is not None:
            seconds += (time.monotonic() - began) / MEASURED_BATCHES * len(batches)
    for variable, value in zip(model.variables, before, strict=True):
        variable.assign(value)
    return seconds


def _is_over(checkpoint: Checkpoint, stage: Stage) -> bool:
    progress = checkpoint.progress
    return progress.stage_done or checkpoint.epochs_done >= progress.stage_start + stage.epochs


def _fit_stage(model, training, validation, metrics, settings, number, checkpoint, folder) -> None:
    stage = settings.stages[number]
    for name in {layer for any_stage in settings.stages for layer in any_stage.frozen}:
        model.get_layer(name).trainable = name not in stage.frozen
    model.compile(_adam(stage.learning_rate), _loss(settings), metrics=metrics())
    devices, companions = training_devices(), _companions(settings)
    devices.whole = False  # an interrupt may have left it otherwise
    checkpoint.begin_stage(number, model, companions)
    first, done = checkpoint.progress.stage_start, checkpoint.epochs_done
    last = first + stage.epochs
    board = [keras.callbacks.TensorBoard(folder / "tensorboard", write_graph=False)]
    model.fit(
        devices.training(training),
        shuffle=False,  # Keras would draw the order from Python's global random state, which no resume knows
        validation_data=devices.validation(validation),
        initial_epoch=done,
        epochs=last,
        verbose=0,
        callbacks=[
            # Keras calls a PyDataset's own on_epoch_end more often than there are epochs: tell it each one.
            keras.callbacks.LambdaCallback(
                on_epoch_begin=lambda epoch, logs: training.start_epoch(epoch),
                on_test_begin=lambda logs: setattr(devices, "whole", True),
                on_test_end=lambda logs: setattr(devices, "whole", False),
            ),
            *schedule_callbacks(settings.schedule, stage.learning_rate, first, stage.epochs, len(training)),
            *companions,
            ProgressLines(f"{model.name}, stage {number + 1} of {len(settings.stages)}", done, last),
            *(board if backend_name() == "tensorflow" else []),  # Keras draws it by TensorFlow alone
            checkpoint,
        ],
    )


def _adam(learning_rate: float) -> keras.optimizers.Optimizer:
    """Adam, its loss scaled where numbers are float16. Fixed names: a checkpoint's variables go by them."""
    adam = keras.optimizers.Adam(learning_rate, name="adam")
    if keras.mixed_precision.dtype_policy().name != "mixed_float16":
        return adam
    return training_devices().loss_scale(adam, name="loss_scale")


def _loss(settings: FitSettings) -> Loss:
    loss = on_every_head(get_loss(settings.loss, **settings.loss_options))
    return training_devices().loss(loss)


def _companions(settings: FitSettings) -> list[keras.callbacks.Callback]:
    kinds, monitor = keras.callbacks, settings.monitor
    plateau = kinds.ReduceLROnPlateau(monitor, factor=0.1, patience=settings.plateau_patience)
    stopping = kinds.EarlyStopping(monitor, patience=settings.early_stopping_patience)
    return [each for each in (plateau, stopping) if each.patience]
