"""A trained network is a folder: weights.safetensors, and a model.json that says how to use them.

Loading rebuilds the network from our own catalogues and fills it with bare arrays: nothing in the
folder is ever unpickled or executed. An exported folder (`inference.export`) holds network.onnx in the place
of the weights.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import keras

from livseg_lib.atomic import written_aside
from livseg_lib.checksums import file_checksum
from livseg_lib.descriptions import (
    NAME,
    SHA256,
    as_tuples,
    between,
    inside,
    list_of,
    of_type,
    one_of,
    read_description,
    record,
    require,
    require_equal,
)
from livseg_lib.errors import InputError
from livseg_lib.preprocessing.recipe import EQUALIZATIONS, NOISE_FILTERS
from livseg_lib.training.onnx_network import FILE, read_onnx_network
from livseg_lib.training.weights_file import assign_arrays, load_arrays, require_arrays, save_variables

FORMAT = 3
"""Raise it whenever the same weights would answer otherwise: 2 unfolds without a ReLU, 3 holds windows by
their bounds."""

WARNING = "Research only. Not for clinical use."
ONNX_SHA256 = "onnx_sha256"
"""Key of model.json in exported folders."""

OPTION = {
    "anyOf": [
        of_type("boolean"),
        of_type("string", maxLength=40),
        between(0, 4096),
        list_of(between(0, 4096), 1, 16),
    ]
}
DEEP = between(1, 10, "integer")
SCHEMA = {
    "system": NAME,
    "architecture": NAME,
    "options": of_type(
        "object",
        additionalProperties=OPTION,
        properties={"levels": DEEP, "stages": DEEP, "columns": DEEP},  # work that doubles with each
        maxProperties=32,
    ),
    "training": record({}, {"run": of_type("string"), "n_train_patients": between(0, 1e9)}),
    "input_shape": list_of(between(1, 1024, "integer"), 3, 4),
    "parameters": between(0, 1e12, "integer"),
    "weights_sha256": SHA256,
}
"""What every model.json says. Absurd sizes are refused before anything is built of them."""

MM = between(0.01, 1000.0)
RECIPE = record(
    {"windows": list_of({}, 1, 16), "size": between(32, 512, "integer")},
    {
        "noise_filter": one_of(NOISE_FILTERS),
        "equalization": one_of(EQUALIZATIONS),
        "voxel_size_mm": {"anyOf": [of_type("null"), list_of(MM, 3, 3)]},
    },
)
SHARE = between(0.0, 1.0)
"""Schemata that several kinds of model have in common."""
REMEDY = "Name a folder with model.json and weights.safetensors."


@dataclass(frozen=True)
class TrainedNetwork:
    """What every kind of trained network has; each kind adds what its use needs to know, and `training`."""

    system: str
    """Its name in tables, such as "unet"."""
    architecture: str
    """Its name in a catalogue: `livseg_lib.models.MODELS`, or `models.classifiers.CLASSIFIERS`."""
    options: dict
    """Keyword options with which the catalogue builds it."""
    network: keras.Model

    @property
    def parameters(self) -> int:
        """Numbers in its weights."""
        return self.network.count_params()


Trained = TypeVar("Trained", bound=TrainedNetwork)
COMMON = ("system", "architecture", "options", "training")
"""What `TrainedNetwork` and model.json call alike."""


def write_network(folder: Path, trained: Trained, own: dict) -> Path:
    """Write the folder; model.json comes last, so that a folder with one is whole.

    `own` is what this kind of network adds to the description, JSON-ready.
    """
    folder.mkdir(parents=True, exist_ok=True)
    weights = folder / "weights.safetensors"
    save_variables(weights, trained.network.weights, {"architecture": trained.architecture})
    everything = {
        "format": FORMAT,
        "warning": WARNING,
        **{name: getattr(trained, name) for name in COMMON},
        **own,
        "input_shape": list(trained.network.input_shape[1:]),
        "parameters": trained.parameters,
        "weights_sha256": file_checksum(weights),
    }
    with written_aside(folder / "model.json") as partial:
        partial.write_text(json.dumps(everything, indent=2) + "\n")
    return folder


def read_network(
    folder: Path,
    schema: Mapping,
    build: Callable[[dict], keras.Model],
    describe: Callable[[dict, keras.Model], Trained],
    kind: str,
) -> Trained:
    """What `describe` makes of the folder's description and its network.

    The network is what `build` makes of the description, filled with the folder's weights, or an
    `OnnxNetwork` where the folder was exported. Options come as tuples where they were saved as such.
    Raises InputError, naming the `kind` of model, where the folder is not whole, where the description does
    not follow `schema` and that of every network, and where it is not that of the weights.
    """
    description = read_description(folder / "model.json", kind, REMEDY)
    if (found := description.get("format")) != FORMAT:
        problem = f"was trained by another version of livseg (format {found!r}, not {FORMAT})."
        raise InputError(folder, problem, "Train it anew, or use the version that trained it.")
    of_all = record(SCHEMA, {ONNX_SHA256: SHA256})
    require(description, {"allOf": [of_all, schema]}, folder, kind, REMEDY)
    description["options"] = as_tuples(description["options"])
    network = _network(folder, description, build)
    require_equal(list(network.input_shape[1:]), description["input_shape"], "inputs of", folder)
    require_equal(network.count_params(), description["parameters"], "the number of weights is", folder)
    try:
        return describe(description, network)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(folder, f"is not {kind} ({type(error).__name__}: {error}).", REMEDY) from error


def _network(folder: Path, description: dict, build: Callable[[dict], keras.Model]) -> keras.Model:
    if ONNX_SHA256 in description:
        return read_onnx_network(inside(folder, FILE), description[ONNX_SHA256], description["parameters"])
    weights = inside(folder, "weights.safetensors")
    if not weights.is_file() or file_checksum(weights) != description["weights_sha256"]:
        raise InputError(weights, "is not the file that model.json describes.", "Copy both anew.")
    arrays = load_arrays(weights)[0]
    with _no_memory():
        require_arrays(_built(build, description, folder).weights, arrays, weights)
    network = build(description)
    assign_arrays(network.weights, arrays, weights)
    return network


def _no_memory():
    """In this context a network is a sketch: options that ask for 100 GB take none."""
    import tensorflow as tf

    return tf.Graph().as_default()


def _built(build: Callable[[dict], keras.Model], description: dict, folder: Path) -> keras.Model:
    try:
        return build(description)
    except InputError:
        raise
    except Exception as error:  # Keras raises what it likes where sizes do not fit
        what = f"{description['architecture']} with {description['options']}"
        problem = f"describes a network that cannot be built ({what}: {str(error)[:200]})."
        raise InputError(folder, problem, "Copy the folder anew, as it was saved.") from error
