"""The one place that knows with what Keras computes: TensorFlow, JAX or PyTorch, by `KERAS_BACKEND`.

Everything else is written in Keras and `keras.ops`, and so is the same on all three. What only TensorFlow can
do asks for it here (`require_tensorflow`); docs/install.md has the list.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import TypeVar

from livseg_lib.errors import InputError
from livseg_lib.processes import silent_stderr

BACKENDS = ("tensorflow", "jax", "torch")  # as Keras calls them, which is also how their packages are called
Made = TypeVar("Made")

# Set before TensorFlow is imported: by itself it takes oneDNN's kernels only on processors with VNNI. Others,
# of which Colab and Kaggle have many, gain as much (`make bench ONLY=training`).
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")


def backend_name() -> str:
    """Of `BACKENDS` the one that Keras computes with, or would: it need not have been imported."""
    return os.environ.get("KERAS_BACKEND", "tensorflow")


def import_backend() -> None:
    """Call before `import keras`: settles the backend, and keeps TensorFlow from chattering.

    TensorFlow's C++ side prints pages about processors and missing GPUs to file descriptor 2, before any
    logging setting takes hold: it is imported, and looks for GPUs, with that thrown away. Its warning about
    retracing takes several networks that are asked in turn for one that is compiled again and again. Python
    errors still show. Raises InputError for a backend that there is not, or that is not installed.
    """
    keras = sys.modules.get("keras")  # imported before us, it has gone by its own file of settings
    name = os.environ.setdefault("KERAS_BACKEND", keras.config.backend() if keras else "tensorflow")
    if name not in BACKENDS:
        raise InputError("KERAS_BACKEND", f"is {name!r}.", f"Choose one of {', '.join(BACKENDS)}.")
    if name not in sys.modules and find_spec(name) is None:
        raise InputError("KERAS_BACKEND", f"is {name}, which is not installed.", f"Run: pip install {name}")
    if together := [each for each in os.environ if each.startswith("KERAS_DISTRIBUTION_")]:
        if name != "jax":
            raise InputError(together[0], "is for JAX alone.", "Set KERAS_BACKEND=jax.")
        import_module("keras").distribution.initialize()  # waits for the other processes
        os.environ["LIVSEG_DEVICES"] = "all"
        for each in together:  # not for processes that this one starts
            del os.environ[each]
    if name != "tensorflow" or name in sys.modules:
        return
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    with silent_stderr():
        import_module(name).config.list_logical_devices()
    logging.getLogger(name).setLevel(logging.ERROR)


def require_tensorflow(what: str) -> None:
    """Raise InputError, saying how to get it, where `what` is asked of another backend."""
    if backend_name() != "tensorflow":
        remedy = "Set KERAS_BACKEND=tensorflow for it: a model folder is the same on every backend."
        raise InputError(what, f"needs TensorFlow, and Keras computes with {backend_name()}.", remedy)


def devices_wanted() -> int:
    """How many devices a training is shared by: 1, or as `LIVSEG_DEVICES` says; 0 is all. All those of
    several processes. Raises InputError for what is neither "all" nor a number from 1 up."""
    text = os.environ.get("LIVSEG_DEVICES", "1")
    if text != "all" and not (text.isdecimal() and int(text)):
        raise InputError("LIVSEG_DEVICES", f"is {text!r}.", "Write 1, 2, ... or all.")
    return 0 if text == "all" else int(text)


def gpus() -> list[str]:
    """Names of the GPUs that the backend sees; none as long as it has not been imported."""
    name = backend_name()
    library = sys.modules.get(name)
    if library is None:
        return []
    if name == "jax":
        return [device.device_kind for device in library.devices() if device.platform == "gpu"]
    if name == "torch":
        return [library.cuda.get_device_name(number) for number in range(library.cuda.device_count())]
    details = library.config.experimental.get_device_details
    return [details(gpu).get("device_name", "") for gpu in library.config.list_physical_devices("GPU")]


def seed_dropout(seed: int) -> None:
    """Where dropout goes on from in PyTorch, which draws from a state of its own, not from Keras' seeds."""
    if backend_name() == "torch":
        import_module("torch").manual_seed(seed)


def gradient(function: Callable, at) -> tuple:
    """(gradient, more) of `function`, which makes of a tensor such as `at` a scalar and `more` tensors."""
    library = import_module(backend_name())
    if backend_name() == "jax":
        return library.grad(function, has_aux=True)(at)
    if backend_name() == "torch":
        at = at.detach().requires_grad_(True)
        scalar, more = function(at)
        return library.autograd.grad(scalar, at)[0], more
    with library.GradientTape() as tape:
        tape.watch(at)
        scalar, more = function(at)
    return tape.gradient(scalar, at), more


def sketch(make: Callable[[], Made]) -> Made:
    """The network that `make` builds, without memory for its weights: they have a shape and no numbers."""
    library = import_module(backend_name())
    if backend_name() == "torch":
        with import_module("keras").device("meta"):
            return make()
    if backend_name() == "tensorflow":
        with library.Graph().as_default():
            return make()
    made: list[Made] = []
    library.eval_shape(lambda: made.append(make()))
    return made[0]
