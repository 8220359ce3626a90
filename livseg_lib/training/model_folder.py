"""A trained model is a folder: weights.safetensors, and a model.json that says how to use them.

Loading rebuilds the network from our own catalogue and fills it with bare arrays: nothing in the
folder is ever unpickled or executed.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path

import keras

from livseg_lib.atomic import written_aside
from livseg_lib.errors import InputError
from livseg_lib.labels import TARGETS
from livseg_lib.models import build_model
from livseg_lib.preprocessing.recipe import Recipe
from livseg_lib.training.weights_file import assign_arrays, load_arrays, save_variables

FORMAT = 1
WARNING = "Research only. Not for clinical use."


@dataclass(frozen=True)
class TrainedModel:
    """A network together with all that prediction needs to know."""

    system: str
    """Its name in tables, such as "unet"."""
    architecture: str
    """Its name in the catalogue `livseg_lib.models.MODELS`."""
    options: dict
    """Keyword options of `build_model`."""
    network: keras.Model
    recipe: Recipe
    """How volumes become its pictures."""
    target: str
    """"liver", "tumor" or "both"."""
    thresholds: dict[str, float]
    """Probability from which a pixel counts, a structure."""
    training: dict = field(default_factory=dict)
    """What it was trained on and how long: data set, patients, seconds, epochs."""

    @property
    def structures(self) -> tuple[str, ...]:
        """The channels of its output, in order."""
        return TARGETS[self.target]


def save_model(trained: TrainedModel, folder: Path) -> Path:
    """Write the folder; model.json comes last, so that a folder with one is whole."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = folder / "weights.safetensors"
    save_variables(weights, trained.network.weights, {"architecture": trained.architecture})
    description = {
        "format": FORMAT,
        "warning": WARNING,
        "system": trained.system,
        "architecture": trained.architecture,
        "options": trained.options,
        "input_shape": list(trained.network.input_shape[1:]),
        "target": trained.target,
        "labels": {"0": "background", "1": "liver", "2": "tumor"},
        "thresholds": trained.thresholds,
        "recipe": trained.recipe.to_dict(),
        "parameters": trained.network.count_params(),
        "weights_sha256": _sha256(weights),
        "training": trained.training,
    }
    with written_aside(folder / "model.json") as partial:
        partial.write_text(json.dumps(description, indent=2) + "\n")
    return folder


def load_model(folder: Path) -> TrainedModel:
    """Rebuild the network that `save_model` wrote. Raises InputError where the folder is not whole."""
    try:
        description = json.loads((folder / "model.json").read_text())
        weights = folder / "weights.safetensors"
        if _sha256(weights) != description["weights_sha256"]:
            raise InputError(weights, "is not the file that model.json describes.", "Copy both anew.")
        options = {name: tuple(v) if isinstance(v, list) else v for name, v in description["options"].items()}
        target, shape = description["target"], description["input_shape"]
        network = build_model(description["architecture"], shape, len(TARGETS[target]), **options)
        recipe = Recipe.from_dict(description["recipe"])
        kept = {name: description[name] for name in ("system", "architecture", "thresholds", "training")}
    except (OSError, KeyError, TypeError, json.JSONDecodeError) as error:
        problem = f"is not a livseg model ({type(error).__name__}: {error})."
        raise InputError(folder, problem, "Name a folder with model.json and weights.safetensors.") from error
    assign_arrays(network.weights, load_arrays(weights)[0], weights)
    return TrainedModel(network=network, options=options, recipe=recipe, target=target, **kept)


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
