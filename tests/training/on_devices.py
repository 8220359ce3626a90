"""A training on the devices of this process, and of others, as the environment says: `on_devices.py FOLDER`.

On several it is ended in its middle, and resumed. TensorFlow has two processors in place of GPUs.
"""

import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np

from livseg_lib.backend import backend_name

if __name__ == "__main__" and backend_name() == "tensorflow":  # a test imports this, too
    import tensorflow

    two = [tensorflow.config.LogicalDeviceConfiguration()] * 2
    tensorflow.config.set_logical_device_configuration(tensorflow.config.list_physical_devices("CPU")[0], two)

from on_backend import filled

from livseg_lib.models import keras
from livseg_lib.training.devices import training_devices
from livseg_lib.training.fit import FitSettings, Stage, StepSchedule, dice_metrics, fit

SETTINGS = FitSettings((Stage(2, 1e-2, frozen=("first",)), Stage(3, 1e-2)), schedule="cosine")
"""20 steps."""


def small_network() -> keras.Model:
    """Without biases that normalization takes back: Adam makes much of a gradient that is nearly zero."""
    layers, on_jax = keras.layers, backend_name() == "jax"
    inputs = keras.Input((16, 16, 1))
    x = layers.Conv2D(4, 3, padding="same", use_bias=False, name="first")(inputs)
    x = layers.Activation("relu", name="bend")(layers.BatchNormalization(name="norm")(x))
    x = layers.Dropout(0.1 if on_jax else 0.0, name="dropout")(x)
    return keras.Model(inputs, layers.Conv2D(1, 1, activation="sigmoid", name="maps")(x), name="small")


class Batches(keras.utils.PyDataset):
    """Of so many pictures, which depend on the epoch and its number."""

    def __init__(self, *sizes: int, ends_in: int | None = None) -> None:
        super().__init__()
        self.sizes, self.ends_in, self.epoch = sizes, ends_in, 0

    def start_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.sizes)

    def __getitem__(self, number: int):
        if self.epoch == self.ends_in:
            raise RuntimeError("as planned")
        shape = (self.sizes[number], 16, 16, 1)
        pictures = np.random.default_rng([self.epoch, number]).random(shape, np.float32)
        return pictures, (pictures > 0.6).astype(np.float32)


def train(folder: Path, ends_in: int | None = None, minutes: float | None = None) -> np.ndarray:
    """What the network says of some pictures after its training."""
    keras.utils.set_random_seed(7)
    network, metrics = filled(small_network()), lambda: dice_metrics(("liver",))
    settings = replace(SETTINGS, minutes=minutes)
    fit(network, Batches(4, 4, 4, 4, ends_in=ends_in), Batches(4, 3, 1), metrics, settings, folder)
    return network.predict_on_batch(Batches(2)[0][0])


def overflow() -> np.ndarray:
    """Weights after a step in float16 of which the gradient overflows on the last device alone."""
    keras.mixed_precision.set_global_policy("mixed_float16")
    with training_devices().scope():
        network = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8), keras.layers.Dense(1)])
        network.compile(training_devices().loss_scale(keras.optimizers.Adam()), "mse")
    pictures = np.full((4, 4), 0.1, np.float32)
    pictures[-1] = 6e4
    network.fit(pictures, pictures[:, :1], batch_size=4, verbose=0, callbacks=[StepSchedule(-30)])
    return np.concatenate([each.ravel() for each in network.get_weights()])


if __name__ == "__main__":
    several = training_devices().count > 1
    if several:
        with suppress(Exception):  # TensorFlow makes its own of ours
            train(Path(sys.argv[1]), ends_in=3)
    answer = train(Path(sys.argv[1]))
    print("answer", np.round(answer.mean(), 4))
    if several:
        train(Path(sys.argv[1]) / "timed", minutes=1e-4)  # of which an epoch takes more
    if several and backend_name() == "tensorflow":
        print("finite", np.isfinite(overflow()).all())
