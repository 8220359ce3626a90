"""A trained slice sorter, saved as a folder and loaded again."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import keras

from livseg_lib.descriptions import list_of, one_of, record, require_equal
from livseg_lib.models.classifiers import build_classifier
from livseg_lib.preprocessing.recipe import Recipe
from livseg_lib.sampling.slice_regions import REGIONS
from livseg_lib.training.network_folder import (
    COMMON,
    RECIPE,
    SHARE,
    TrainedNetwork,
    read_network,
    write_network,
)

SCHEMA = record(
    {
        "regions": {**list_of(one_of(REGIONS), 1, len(REGIONS)), "uniqueItems": True},
        "gate": SHARE,
        "recipe": RECIPE,
    }
)


@dataclass(frozen=True)
class TrainedSorter(TrainedNetwork):
    """A network that names slices, with all that its use needs to know."""

    recipe: Recipe
    """How volumes become its pictures."""
    regions: tuple[str, ...]
    """Its outputs in order, names of `livseg_lib.sampling.slice_regions.REGIONS`."""
    gate: float
    """Probability of liver from which a slice is worth segmenting, chosen on validation patients."""
    training: dict = field(default_factory=dict)
    """What it was trained on and how long: data set, patients, seconds, epochs."""


def save_sorter(trained: TrainedSorter, folder: Path) -> Path:
    """Write the folder (see `network_folder`)."""
    own = {
        "regions": list(trained.regions),
        "gate": trained.gate,
        "recipe": trained.recipe.to_dict(),
    }
    return write_network(folder, trained, own)


def load_sorter(folder: Path) -> TrainedSorter:
    """Rebuild the sorter that `save_sorter` wrote. Raises InputError where the folder is not whole."""
    trained = read_network(folder, SCHEMA, _build, _describe, "a livseg slice sorter")
    shape = (trained.recipe.size, trained.recipe.size, len(trained.recipe.windows))
    require_equal(tuple(trained.network.input_shape[1:]), shape, "pictures of", folder)
    require_equal(trained.network.output_shape[-1], len(trained.regions), "regions:", folder)
    return trained


def _build(description: dict) -> keras.Model:
    shape, regions = description["input_shape"], description["regions"]
    return build_classifier(description["architecture"], shape, len(regions), **description["options"])


def _describe(description: dict, network: keras.Model) -> TrainedSorter:
    kept = (*COMMON, "gate")
    return TrainedSorter(
        network=network,
        recipe=Recipe.from_dict(description["recipe"]),
        regions=tuple(description["regions"]),
        **{name: description[name] for name in kept},
    )
