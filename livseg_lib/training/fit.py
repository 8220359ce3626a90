"""Training by stages, resumable. Knows batches and losses, not which network it trains."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import keras
import pandas as pd

from livseg_lib.atomic import locked, written_aside
from livseg_lib.provenance import code_of, digest, made_with
from livseg_lib.training.checkpoint import Checkpoint
from livseg_lib.training.deep_supervision import on_every_head, training_twin
from livseg_lib.training.losses import CLASS_LOSSES, LOSSES, get_loss, loss_options
from livseg_lib.training.progress import ProgressLines
from livseg_lib.training.schedules import schedule_callbacks
from livseg_lib.training.weights_file import assign_arrays, load_arrays

Metrics = Callable[[], list[keras.metrics.Metric]]
"""Makes fresh metrics: each stage compiles anew."""


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
    loss: str = "bce_dice"
    loss_options: dict = field(default_factory=dict)
    """Of `get_loss`, such as {"positive_weight": 5.0}."""
    schedule: str = "constant"
    plateau_patience: int = 0
    """Epochs without a better validation loss before the rate is divided by ten; 0 is off (B, C: 5)."""
    early_stopping_patience: int = 0
    """Epochs without a better validation loss before the stage ends; 0 is off."""
    monitor: str = "val_loss"


def use_mixed_precision_on_gpu() -> str:
    """Compute in float16 where a GPU is there (weights stay float32). Returns the policy's name."""
    policy = "mixed_float16" if _has_gpu() else "float32"
    keras.mixed_precision.set_global_policy(policy)
    return policy


def _has_gpu() -> bool:
    if keras.backend.backend() != "tensorflow":
        return False
    import tensorflow as tf

    return bool(tf.config.list_physical_devices("GPU"))


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
    or this loop, the pictures, a setting, a library) it trains anew and says why; `description` (JSON-ready)
    adds what else tells one training from another. `attrs["made_by"]` of the returned rows says by what they
    were made, and at which revision.

    Writes last.safetensors, best.safetensors, history.csv and TensorBoard logs into `folder`. A network with
    deep supervision is trained on each of its heads.
    """
    folder.mkdir(parents=True, exist_ok=True)
    settings = settings if validation is not None else replace(settings, monitor="loss")
    made_by = describe_training(model, training, validation, metrics, settings, description or {})
    with locked(folder / "training"):  # of two at once the second finds what the first has done
        checkpoint = Checkpoint(folder, settings.monitor, made_by)
        print(f"{model.name}: {checkpoint.state}", flush=True)
        twin = training_twin(model)
        for number, stage in enumerate(settings.stages):
            current = checkpoint.progress.stage
            if number > current or (number == current and not _is_over(checkpoint, stage)):
                _fit_stage(twin, training, validation, metrics, settings, number, checkpoint, folder)
        assign_arrays(model.weights, load_arrays(checkpoint.best_path)[0], checkpoint.best_path)
    history = pd.DataFrame(checkpoint.progress.history)
    history.attrs["made_by"] = {
        "revision": checkpoint.progress.revision,
        **{part: made_by[part] for part in ("code", "libraries")},
    }
    return history


def describe_training(model, training, validation, metrics, settings, description) -> dict:
    """All that decides about the result of `fit`, JSON-ready; code as digests."""
    loss_options(settings.loss)  # refuses an unknown name
    loss = (LOSSES | CLASS_LOSSES)[settings.loss]
    return {
        "code": {
            "network": describe_network(model),
            "loss": code_of(loss),
            **(training.code() if hasattr(training, "code") else {"batches": code_of(type(training))}),
            "metrics": digest([(code_of(type(metric)), metric.get_config()) for metric in metrics()]),
            "training loop": code_of(fit, apart=(LOSSES, CLASS_LOSSES)),
        },
        "settings": asdict(settings),
        "training": description,
        "training data": getattr(training, "description", dict)(),
        "validation data": getattr(validation, "description", dict)(),
        "libraries": made_with("keras", "tensorflow", "jax", "torch", "numpy", "imgaug"),
    }


def describe_network(model: keras.Model) -> str:
    """Digest of a network's layers, their wiring and weights' shapes, and of the code of layers of ours.

    Keras numbers what has no name by what was built before in the process: here it goes by its order.
    """
    config = model.get_config()
    order = {name: f"node {number}" for number, name in enumerate(_node_names(config))}
    return digest(
        [
            _renamed(config, order),
            [tuple(weight.shape) for weight in model.weights],
            sorted(code_of(type(layer)) for layer in model._flatten_layers()),
        ]
    )


def _node_names(config: object) -> Iterator[str]:
    """Names of all nodes of a configuration, nested networks included, in their order."""
    if isinstance(config, dict):
        if "inbound_nodes" in config:
            yield config["name"]
        config = list(config.values())
    if isinstance(config, list | tuple):
        for item in config:
            yield from _node_names(item)


def _renamed(config: object, order: dict[str, str]) -> object:
    if isinstance(config, dict):
        return {key: _renamed(item, order) for key, item in config.items()}
    if isinstance(config, list | tuple):
        return [_renamed(item, order) for item in config]
    return order.get(config, config) if isinstance(config, str) else config


def _is_over(checkpoint: Checkpoint, stage: Stage) -> bool:
    progress = checkpoint.progress
    return progress.stage_done or checkpoint.epochs_done >= progress.stage_start + stage.epochs


def _fit_stage(model, training, validation, metrics, settings, number, checkpoint, folder) -> None:
    stage = settings.stages[number]
    for name in {layer for any_stage in settings.stages for layer in any_stage.frozen}:
        model.get_layer(name).trainable = name not in stage.frozen
    loss = on_every_head(get_loss(settings.loss, **settings.loss_options))
    model.compile(_adam(stage.learning_rate), loss, metrics=metrics())
    companions = _companions(settings)
    checkpoint.begin_stage(number, model, companions)
    first, done = checkpoint.progress.stage_start, checkpoint.epochs_done
    last = first + stage.epochs
    model.fit(
        training,
        shuffle=False,  # Keras would draw the order from Python's global random state, which no resume knows
        validation_data=validation,
        initial_epoch=done,
        epochs=last,
        verbose=0,
        callbacks=[
            # Keras calls a PyDataset's own on_epoch_end more often than there are epochs: tell it each one.
            keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: training.start_epoch(epoch)),
            *schedule_callbacks(settings.schedule, stage.learning_rate, first, stage.epochs, len(training)),
            *companions,
            ProgressLines(f"{model.name}, stage {number + 1} of {len(settings.stages)}", done, last),
            keras.callbacks.TensorBoard(folder / "tensorboard", write_graph=False),
            checkpoint,
            HistoryFile(folder / "history.csv", checkpoint),
        ],
    )


def _adam(learning_rate: float) -> keras.optimizers.Optimizer:
    """Adam, its loss scaled where numbers are float16. Fixed names: a checkpoint's variables go by them."""
    adam = keras.optimizers.Adam(learning_rate, name="adam")
    if keras.mixed_precision.dtype_policy().name != "mixed_float16":
        return adam
    return keras.optimizers.LossScaleOptimizer(adam, name="loss_scale")


def _companions(settings: FitSettings) -> list[keras.callbacks.Callback]:
    companions: list[keras.callbacks.Callback] = []
    if settings.plateau_patience:
        plateau = keras.callbacks.ReduceLROnPlateau
        companions.append(plateau(settings.monitor, factor=0.1, patience=settings.plateau_patience))
    if settings.early_stopping_patience:
        stopping = keras.callbacks.EarlyStopping
        companions.append(stopping(settings.monitor, patience=settings.early_stopping_patience))
    return companions


class HistoryFile(keras.callbacks.Callback):
    """Rewrites history.csv from the checkpoint after each epoch, so that both always tell the same."""

    def __init__(self, path: Path, checkpoint: Checkpoint) -> None:
        super().__init__()
        self.path, self.checkpoint = path, checkpoint

    def on_epoch_end(self, epoch: int, logs=None) -> None:
        """Write the epochs so far."""
        with written_aside(self.path) as partial:
            pd.DataFrame(self.checkpoint.progress.history).to_csv(partial, index=False)
