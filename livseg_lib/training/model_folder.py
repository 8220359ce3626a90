"""A trained segmentation model, saved as a folder and loaded again."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import keras

from livseg_lib.labels import TARGETS
from livseg_lib.models import build_model
from livseg_lib.preprocessing.network_input import OWN_PICTURE, NetworkInput
from livseg_lib.preprocessing.recipe import Recipe
from livseg_lib.training.network_folder import COMMON, TrainedNetwork, read_network, write_network


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
        "inputs": trained.inputs.to_dict(),
    }
    return write_network(folder, trained, own)


def load_model(folder: Path) -> TrainedModel:
    """Rebuild the network that `save_model` wrote. Raises InputError where the folder is not whole."""
    return read_network(folder, _build, _describe, "a livseg model")


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
