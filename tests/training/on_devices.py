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

import resumable_run
from on_backend import end, filled
from resumable_run import RandomBatches, small_network

from livseg_lib.models import keras
from livseg_lib.training.devices import training_devices
from livseg_lib.training.fit import FitSettings, Stage, StepSchedule, dice_metrics, fit

SETTINGS = FitSettings((Stage(2, 1e-2, frozen=("first",)), Stage(3, 1e-2)), schedule="cosine")
"""20 steps."""


def train(folder: Path, ends_at: tuple[int, int] | None = None, minutes: float | None = None) -> np.ndarray:
    """What the network says of some pictures after its training."""
    keras.utils.set_random_seed(7)
    network = filled(small_network(dropout=0.1 if backend_name() == "jax" else 0.0))
    settings, metrics = replace(SETTINGS, minutes=minutes), lambda: dice_metrics(("liver",))
    fit(network, RandomBatches(kill_at=ends_at), RandomBatches(4, 3, 1), metrics, settings, folder)
    return network.predict_on_batch(RandomBatches(2)[0][0])


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
    several, resumable_run.end = training_devices().count > 1, end
    if several:
        with suppress(Exception):  # TensorFlow makes its own of ours
            train(Path(sys.argv[1]), ends_at=(3, 0))
    answer = train(Path(sys.argv[1]))
    print("answer", np.round(answer.mean(), 4))
    if several:
        train(Path(sys.argv[1]) / "timed", minutes=1e-4)  # of which an epoch takes more
    if several and backend_name() == "tensorflow":
        print("finite", np.isfinite(overflow()).all())
