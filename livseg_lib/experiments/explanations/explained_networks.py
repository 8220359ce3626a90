"""The networks of a run that outline a structure, alone or in a cascade, and slices to ask them about."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from livseg_lib.datasets.case import Case
from livseg_lib.inference.cascade import Cascade
from livseg_lib.inference.explain.slice_view import SliceView, view_slice
from livseg_lib.inference.parts import NetworkPart
from livseg_lib.inference.systems import System, load_system
from livseg_lib.labels import structure_mask
from livseg_lib.models import MODELS
from livseg_lib.paths import RunFolders
from livseg_lib.predictions import load_prediction
from livseg_lib.preprocessing.region import REGIONS
from livseg_lib.training.model_folder import TrainedModel
from livseg_lib.volumes import Volume


@dataclass(frozen=True)
class ExplainedNetwork:
    """A network, and where the system that it belongs to lets it look."""

    trained: TrainedModel
    system: str
    """Whose predictions say where the liver is."""
    region: str = "scan"
    """One of `preprocessing.region.REGIONS`."""
    margin_mm: float = 0.0

    @property
    def name(self) -> str:
        """Of the network in tables."""
        return self.trained.system

    def view(self, volume: Volume, index: int, labels: np.ndarray) -> SliceView | None:
        """Slice `index` as the network sees it, with `labels` 0/1/2 (D, H, W) as its system gave them.

        The region is drawn around the liver of these finished labels, which may differ by some voxels from
        that of the step before the network. None where it holds no such slice: the network never sees it.
        """
        liver = structure_mask(labels, "liver")
        region = REGIONS[self.region](liver, volume.spacing_mm, self.margin_mm)
        if region is None or not region.start[0] <= index < region.stop[0]:
            return None
        return view_slice(self.trained, volume, index, region, liver)


@dataclass(frozen=True)
class ShownSlice:
    """A slice to be explained."""

    rank: str
    """Why it was chosen, such as "best"."""
    case: Case
    index: int
    """From the feet."""
    dice: float
    """Of the whole patient, by the system that chose the slice."""


def find_networks(folders: RunFolders, systems: Sequence[str], structure: str) -> list[ExplainedNetwork]:
    """The networks of `systems` that outline `structure`, in the order of the catalogue, cascades' last.

    Of a cascade the last one that does; a network that serves several cascades comes once.
    """
    found: dict[str, ExplainedNetwork] = {}
    for name in systems:
        for network in _networks_of(load_system(folders.model(name)), name, structure):
            found.setdefault(network.name, network)
    order = list(MODELS)
    return sorted(found.values(), key=lambda n: (n.region != "scan", order.index(n.trained.architecture)))


def _networks_of(system: System, name: str, structure: str) -> Iterator[ExplainedNetwork]:
    if isinstance(system, Cascade):
        steps = [step for step in system.steps if isinstance(step.part, NetworkPart)]
        for step in [step for step in steps if structure in step.part.structures][-1:]:
            yield ExplainedNetwork(step.part.trained, name, step.region, step.margin_mm)
    elif structure in system.structures:
        yield ExplainedNetwork(system, name)


def choose_slices(
    system: str, structure: str, patients: pd.DataFrame, cases: Sequence[Case], folders: RunFolders
) -> list[ShownSlice]:
    """The best and the worst patient's slice with most of `structure`, and the largest false alarm.

    `patients` are the rows of patients.csv. A false alarm is a slice of which `system` outlines something
    although it shows none; slices that do not exist are left out.
    """
    scores = patients[(patients.system == system) & (patients.structure == structure)]
    dice = scores.set_index(scores.case.astype(str)).dice
    ranked = dice[~scores.is_empty.to_numpy(bool)].dropna().sort_values(kind="stable").index
    by_id, shown = {case.case_id: case for case in cases}, []
    for rank, case_id in {"worst": ranked[:1], "best": ranked[1:][-1:]}.items():
        for case in map(by_id.get, case_id):
            shown.insert(0, ShownSlice(rank, case, fullest_slice(case, structure), dice[case.case_id]))
    return shown + _false_alarm(system, structure, dice, cases, folders)


def fullest_slice(case: Case, structure: str) -> int | None:
    """The slice with most of `structure` in the truth; None where there is none."""
    areas = structure_mask(case.read_labels(case.read_volume()), structure).sum(axis=(1, 2))
    return int(areas.argmax()) if areas.any() else None


def _false_alarm(
    system: str, structure: str, dice: pd.Series, cases: Sequence[Case], folders: RunFolders
) -> list[ShownSlice]:
    largest, shown = 0, []
    for case in cases:
        volume = case.read_volume()
        labels = load_prediction(volume, folders.predictions(system), case.case_id)
        truth = structure_mask(case.read_labels(volume), structure).any(axis=(1, 2))
        areas = np.where(truth, 0, structure_mask(labels, structure).sum(axis=(1, 2)))
        if areas.max() > largest:
            largest = areas.max()
            shown = [ShownSlice("false alarm", case, int(areas.argmax()), dice.get(case.case_id, np.nan))]
    return shown
