"""Any trained system, a single network or a cascade, loaded from its folder and asked for labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from livseg_lib.descriptions import read_description
from livseg_lib.inference.cascade import Cascade, NetworkPart, load_cascade, run_cascade, with_tumors
from livseg_lib.inference.predict import predict_volume
from livseg_lib.inference.variants import AugmentedNetwork
from livseg_lib.labels import structure_mask
from livseg_lib.postprocessing.components import largest_component
from livseg_lib.training.model_folder import REMEDY, TrainedModel, load_model
from livseg_lib.volumes import Volume

System = TrainedModel | Cascade


def load_system(folder: Path) -> System:
    """What lies in a model folder. Raises InputError where it is not whole."""
    description = read_description(folder / "model.json", "a livseg model", REMEDY)
    return load_cascade(folder) if description.get("kind") == "cascade" else load_model(folder)


def outline(system: System, volume: Volume, liver: np.ndarray | None = None) -> np.ndarray:
    """Labels 0/1/2, uint8 (D, H, W), on the grid of `volume`.

    Where the liver is known, bool (D, H, W), it stands, and the system is asked for tumours alone.
    """
    if isinstance(system, Cascade):
        return run_cascade(volume, system.steps, liver)
    labels = predict_volume(system, volume)
    return labels if liver is None else with_tumors(liver, structure_mask(labels, "tumor"))


def find_liver(trained: TrainedModel, volume: Volume) -> np.ndarray:
    """The largest piece of what a network takes for liver, bool (D, H, W)."""
    return largest_component(structure_mask(predict_volume(trained, volume), "liver"))


def augmented(system: System, names: Sequence[str]) -> System:
    """The same system, whose networks answer with the mean over variants of a picture (`augmented.VARIANTS`).

    Raises InputError for an unknown name.
    """
    if not isinstance(system, Cascade):
        return replace(system, network=AugmentedNetwork(system.network, names))
    steps = [
        replace(step, part=NetworkPart(augmented(step.part.trained, names)))
        if isinstance(step.part, NetworkPart)
        else step
        for step in system.steps
    ]
    return replace(system, steps=tuple(steps))
