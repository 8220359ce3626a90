"""One training on several devices, each of which learns from its share of every batch.

`LIVSEG_DEVICES` says on how many. Losses and normalization are those of the whole batch, as on one device; a
batch must divide. Validation, whose last batch may have any size, is computed whole by each. TensorFlow knows
the GPUs of a host, JAX those of several processes and hosts, too. On JAX dropout drops what it does on one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from functools import cache
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from livseg_lib.backend import backend_name, devices_wanted
from livseg_lib.errors import InputError
from livseg_lib.files import locked
from livseg_lib.models import keras
from livseg_lib.provenance import digest

BATCHES_AHEAD = 4
"""Made while a network learns from the one before them."""


class Devices:
    """Those of one training, by their names. Of a single one, everything stays as it is."""

    whole = False
    """While each device is to compute whole batches: in validation."""

    def __init__(self, names: list[str]) -> None:
        self.count, self.number, self.processes = len(names), 0, 1
        self.is_mirrored = self.count > 1 and backend_name() == "tensorflow"
        self.parts = self.count if self.is_mirrored else 1  # of a batch for `train_on_batch`
        self.loss_scale = _LossScale if self.is_mirrored else keras.optimizers.LossScaleOptimizer
        self.scope = nullcontext
        """In which a network is copied, compiled and trained."""
        if self.is_mirrored:
            self.scope = import_module("tensorflow").distribute.MirroredStrategy(names).scope
        elif self.count > 1:
            library, self.scope = import_module("jax"), _Layout(self, names).scope
            self.number, self.processes = library.process_index(), library.process_count()
            self.parts = self.processes

    def copy(self, model: keras.Model) -> keras.Model:
        """`model` as each device holds it; the weights are those of the first process."""
        if self.count == 1:
            return model

        def layer_of_copy(layer):
            config = layer.get_config()
            if isinstance(layer, keras.layers.BatchNormalization):
                config["synchronized"] = self.is_mirrored
            return type(layer).from_config(config)

        copied = keras.models.clone_model(model, clone_function=layer_of_copy)
        values = self.agreed([np.array(variable) for variable in model.variables])
        for variable, value in zip(copied.variables, values, strict=True):
            variable.assign(value)
        return copied

    def loss(self, loss):
        """`loss` of the whole batch, where each device is asked for its share of it."""
        if not self.is_mirrored:
            return loss

        def part_of_loss(truth, maps):
            replica = import_module("tensorflow").distribute.get_replica_context()
            if replica is not None and not self.whole:
                truth, maps = replica.all_gather(truth, axis=0), replica.all_gather(maps, axis=0)
            return loss(truth, maps) / self.count  # Keras leaves a loss that is one number as it is

        part_of_loss.__name__ = loss.__name__
        return part_of_loss

    def training(self, batches):
        """What Keras fits, of a PyDataset. Raises InputError where its batches do not divide."""
        for size in (len(batches[number][0]) for number in (0, len(batches) - 1) if self.count > 1):
            if size % self.count:
                problem = f"has {size} pictures, which {self.count} devices cannot share evenly."
                raise InputError("a batch", problem, f"Choose a batch size that {self.count} divides.")
        return _Changed(batches, self.share) if self.processes > 1 else self._streamed(batches)

    def validation(self, batches):
        """The same to validate by, or None. TensorFlow cuts it: an empty share would be computed wrongly."""
        if batches is None:
            return None
        repeat = lambda batch: [np.concatenate([array] * self.count) for array in batch]  # noqa: E731
        return _Changed(batches, repeat) if self.is_mirrored else self._streamed(batches)

    def _streamed(self, batches: keras.utils.PyDataset):
        """`batches` as Keras makes them for TensorFlow, but without an autotuner, which, ended with an epoch,
        may sleep on for seconds (TensorFlow 2.21)."""
        if self.count > 1 or backend_name() != "tensorflow":
            return batches
        library, order = import_module("tensorflow"), lambda: map(batches.__getitem__, range(len(batches)))
        signature = [library.TensorSpec((None, *array.shape[1:]), array.dtype) for array in batches[0]]
        stream = library.data.Dataset.from_generator(order, output_signature=tuple(signature))
        options = library.data.Options()
        options.autotune.enabled = False
        stream = stream.apply(library.data.experimental.assert_cardinality(len(batches)))
        return stream.prefetch(BATCHES_AHEAD).with_options(options)

    def share(self, batch: tuple) -> tuple:
        """Of a batch of arrays what `train_on_batch` takes in this process, for a step on all of it."""
        rows = len(batch[0]) // self.parts
        return tuple(array[self.number * rows :][:rows] for array in batch)

    def agreed(self, arrays):
        """`arrays`, nested, as the first process has them."""
        if self.processes == 1:
            return arrays
        return import_module("jax.experimental.multihost_utils").broadcast_one_to_all(arrays)

    @contextmanager
    def place(self, folder: Path, made_by: dict, files: tuple[str, ...]) -> Iterator[Path]:
        """A folder for this training alone: `folder`, or for processes after the first a passing one.

        Its `files` are the first one's. Raises InputError where processes differ in `made_by`.
        """
        with ExitStack() as stack:
            folder = Path(stack.enter_context(TemporaryDirectory())) if self.number else folder
            folder.mkdir(parents=True, exist_ok=True)
            stack.enter_context(locked(folder / "training"))  # the second at once finds what the first did
            if self.processes > 1:
                self._begin_alike([folder / name for name in files], made_by)
            yield folder

    def _begin_alike(self, files: list[Path], made_by: dict) -> None:
        several = import_module("jax.experimental.multihost_utils")
        digests = several.process_allgather(np.frombuffer(digest(made_by).encode(), np.uint8))
        if (digests != digests[0]).any():
            remedy = "Give each the same code, libraries, settings and pictures."
            raise InputError("the processes", "do not make the same training.", remedy)
        for path in files:
            content = np.frombuffer(path.read_bytes() if path.exists() else b"", np.uint8)
            size = int(self.agreed(np.array(len(content))))
            content = np.asarray(self.agreed(np.resize(content, size)))
            if self.number and size:
                path.write_bytes(content.tobytes())


class _LossScale(keras.optimizers.LossScaleOptimizer):
    """Leaves out a step that overflows on any device of TensorFlow: Keras' own asks the first alone."""

    def apply(self, grads, trainable_variables=None):
        library = import_module("tensorflow")
        replica = library.distribute.get_replica_context()
        finite = replica.all_reduce("SUM", library.cast(self.check_finite(grads), "float32"))
        factor = library.where(finite < replica.num_replicas_in_sync, np.nan, 1.0)
        super().apply([each * library.cast(factor, each.dtype) for each in grads], trainable_variables)


class _Layout(keras.distribution.DataParallel):
    def __init__(self, devices: Devices, names: list[str]) -> None:
        super().__init__(devices=names, auto_shard_dataset=False)
        self.devices = devices

    def get_data_layout(self, data_shape):
        if self.devices.whole:
            return keras.distribution.TensorLayout([None] * len(data_shape), self.device_mesh)
        return super().get_data_layout(data_shape)


class _Changed(keras.utils.PyDataset):
    def __init__(self, batches, change) -> None:
        super().__init__()
        self.batches, self.change = batches, change

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, number: int):
        return self.change(self.batches[number])


@cache  # what lies between devices is made once
def devices_of(wanted: int) -> Devices:
    """So many, or all (0). Raises InputError where there are fewer, and with PyTorch."""
    if wanted == 1:
        return Devices(["the one that Keras takes"])
    if backend_name() not in ("tensorflow", "jax"):
        raise InputError("LIVSEG_DEVICES", "needs TensorFlow or JAX.", "Set KERAS_BACKEND to one of them.")
    names = keras.distribution.list_devices()
    if wanted > len(names):
        raise InputError("LIVSEG_DEVICES", f"is {wanted}; there are {len(names)}.", "Write fewer, or all.")
    return Devices(names[: wanted or None])


def training_devices() -> Devices:
    """Those that `LIVSEG_DEVICES` asks for."""
    return devices_of(devices_wanted())
