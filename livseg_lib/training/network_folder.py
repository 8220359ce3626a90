"""A trained network is a folder: weights.safetensors, and a model.json that says how to use them.

Loading rebuilds the network from our own catalogues and fills it with bare arrays: nothing in the
folder is ever unpickled or executed. An exported folder (`inference.export`) holds network.onnx in the place
of the weights.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import keras

from livseg_lib.atomic import written_aside
from livseg_lib.checksums import file_checksum
from livseg_lib.errors import InputError
from livseg_lib.training.onnx_network import FILE, read_onnx_network
from livseg_lib.training.weights_file import assign_arrays, load_arrays, save_variables

FORMAT = 3
"""Raise it whenever the same weights would answer otherwise: 2 unfolds without a ReLU, 3 holds windows by
their bounds."""

WARNING = "Research only. Not for clinical use."
ONNX_SHA256 = "onnx_sha256"
"""Key of model.json in exported folders."""


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
    build: Callable[[dict], keras.Model],
    describe: Callable[[dict, keras.Model], Trained],
    kind: str,
) -> Trained:
    """What `describe` makes of the folder's description and its network.

    The network is what `build` makes of the description, filled with the folder's weights, or an
    `OnnxNetwork` where the folder was exported. Options come as tuples where they were saved as such.
    Raises InputError, naming the `kind` of model, where the folder is not whole or something is missing in
    the description.
    """
    try:
        description = json.loads((folder / "model.json").read_text())
        if (found := description["format"]) != FORMAT:
            problem = f"was trained by another version of livseg (format {found}, not {FORMAT})."
            raise InputError(folder, problem, "Train it anew, or use the version that trained it.")
        options = description["options"].items()
        description["options"] = {name: tuple(v) if isinstance(v, list) else v for name, v in options}
        return describe(description, _network(folder, description, build))
    except (OSError, KeyError, TypeError, json.JSONDecodeError) as error:
        problem = f"is not {kind} ({type(error).__name__}: {error})."
        raise InputError(folder, problem, "Name a folder with model.json and weights.safetensors.") from error


def _network(folder: Path, description: dict, build: Callable[[dict], keras.Model]) -> keras.Model:
    if ONNX_SHA256 in description:
        return read_onnx_network(folder / FILE, description[ONNX_SHA256], description["parameters"])
    weights = folder / "weights.safetensors"
    if file_checksum(weights) != description["weights_sha256"]:
        raise InputError(weights, "is not the file that model.json describes.", "Copy both anew.")
    network = build(description)
    assign_arrays(network.weights, load_arrays(weights)[0], weights)
    return network
