"""A trained segmentation model, saved as a folder and loaded again."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import keras

from livseg_lib.descriptions import between, of_type, one_of, record, require_equal
from livseg_lib.labels import STRUCTURES, TARGETS
from livseg_lib.models import build_model
from livseg_lib.preprocessing.network_input import OWN_PICTURE, NetworkInput
from livseg_lib.preprocessing.prepare import picture_code
from livseg_lib.preprocessing.recipe import Recipe
from livseg_lib.training.network_folder import (
    COMMON,
    RECIPE,
    TrainedNetwork,
    read_network,
    write_network,
)

THRESHOLD = of_type("number", exclusiveMinimum=0.0, maximum=1.0)
INPUTS = {
    "neighbours": between(0, 16, "integer"),
    "sees_liver": of_type("boolean"),
    "block_overlap": {"anyOf": [of_type("null"), between(0, 512, "integer")]},
}
SCHEMA = record(
    {
        "target": one_of(list(TARGETS)),
        "thresholds": record({}, dict.fromkeys(STRUCTURES, THRESHOLD)),
        "recipe": RECIPE,
    },
    {"inputs": record({}, INPUTS)},
)


@dataclass(frozen=True)
class TrainedModel(TrainedNetwork):
    """A network together with all that prediction needs to know."""

    recipe: Recipe
    """How volumes become its pictures."""
    target: str
    """"liver", "tumor" or "both"."""
    thresholds: dict[str, float]
    """Probability from which a pixel counts, a structure."""
    training: dict = field(default_factory=dict)
    """What it was trained on and how long: data set, patients, seconds, epochs."""
    inputs: NetworkInput = OWN_PICTURE
    """What the network sees besides a slice's own picture."""

    @property
    def structures(self) -> tuple[str, ...]:
        """The channels of its output, in order."""
        return TARGETS[self.target]


def save_model(trained: TrainedModel, folder: Path) -> Path:
    """Write the folder (see `network_folder`)."""
    own = {
        "target": trained.target,
        "labels": {"0": "background", "1": "liver", "2": "tumor"},
        "thresholds": trained.thresholds,
        "recipe": trained.recipe.to_dict(),
        "training": {"picture_code": picture_code(), **trained.training},
        "inputs": trained.inputs.to_dict(),
    }
    return write_network(folder, trained, own)


def load_model(folder: Path) -> TrainedModel:
    """Rebuild the network that `save_model` wrote. Raises InputError where the folder is not whole."""
    trained = read_network(folder, SCHEMA, _build, _describe, "a livseg model")
    require_equal(sorted(trained.structures), sorted(trained.thresholds), "thresholds of", folder)
    size, channels = trained.recipe.size, trained.inputs.channels(len(trained.recipe.windows))
    *_, height, width, depth = trained.network.input_shape
    require_equal((height, width, depth), (size, size, channels), "pictures of", folder)
    require_equal(trained.network.output_shape[-1], len(trained.structures), "maps:", folder)
    return trained


def _build(description: dict) -> keras.Model:
    shape, structures = description["input_shape"], TARGETS[description["target"]]
    return build_model(description["architecture"], shape, len(structures), **description["options"])


def _describe(description: dict, network: keras.Model) -> TrainedModel:
    kept = (*COMMON, "target", "thresholds")
    return TrainedModel(
        network=network,
        recipe=Recipe.from_dict(description["recipe"]),
        inputs=NetworkInput(**description.get("inputs", {})),  # absent in folders of earlier versions
        **{name: description[name] for name in kept},
    )
