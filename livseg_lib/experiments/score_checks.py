"""What a network's probabilities are worth: each is asked once about all validation and test patients, and
only counts are kept. Pictures and truths are those that extraction stored.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from livseg_lib.datasets.case import Case
from livseg_lib.evaluation.probabilities.calibration import calibration_region
from livseg_lib.evaluation.probabilities.froc import Candidates, find_candidates
from livseg_lib.evaluation.probabilities.probability_histogram import ProbabilityHistogram, is_predicted
from livseg_lib.inference.blocks import predict_stack
from livseg_lib.inference.stored_slices import stored_labels, stored_pictures
from livseg_lib.labels import structure_mask
from livseg_lib.paths import RunFolders
from livseg_lib.predictions import load_prediction
from livseg_lib.preprocessing import Recipe, prepare_labels
from livseg_lib.training.model_folder import TrainedModel

REGIONS = {"picture": "all pixels", "near": "tumour: inside the liver; liver: the box around it"}
"""Over which pixels calibration is asked."""

Histograms = Mapping[str, ProbabilityHistogram]
"""Patient -> all his pixels."""


def _histograms() -> dict[str, ProbabilityHistogram]:
    return defaultdict(ProbabilityHistogram)


@dataclass
class CheckedNetwork:
    """What is kept of a network's answers."""

    system: str
    thresholds: dict[str, float]
    """A structure, as validation patients chose it."""
    histograms: dict[tuple[str, str, str], Histograms] = field(
        default_factory=lambda: defaultdict(_histograms)
    )
    """(split, structure, region) -> a histogram a patient; of the validation patients only "picture"."""
    candidates: dict[str, Candidates] = field(default_factory=dict)
    """Test patient -> what its tumour map proposes, inside the liver that it finds."""
    outlined: dict[str, Candidates] = field(default_factory=dict)
    """Test patient -> the tumours that it outlines at its threshold."""

    def of_split(self, split: str, structure: str, region: str = "picture") -> list[ProbabilityHistogram]:
        """One histogram a patient."""
        return list(self.histograms[split, structure, region].values())


def extracted_for(trained: TrainedModel, folder: Path, case_id: str) -> Path | None:
    """Where pictures lie as `trained` takes them: `folder`, or the one for its size; None if in neither."""
    places = (folder, folder / f"size-{trained.recipe.size}")
    extracted = (place for place in places if (place / case_id / "case.json").exists())
    return next((place for place in extracted if Recipe.of_case(place / case_id) == trained.recipe), None)


def check_network(
    trained: TrainedModel, slices: pd.DataFrame, folder: Path, finds_lesions: bool
) -> CheckedNetwork:
    """Ask `trained` once about each validation and test case, one in memory at a time.

    `slices` are classified slices, their arrays lie in `folder`. With `finds_lesions` its tumour map is
    searched for candidates: pictures that are no volumes have no connected tumours.
    """
    checked = CheckedNetwork(trained.system, trained.thresholds)
    cases = slices.loc[slices.split.isin(["validation", "test"]), ["split", "patient", "case"]]
    for row in tqdm(list(cases.drop_duplicates().itertuples()), trained.system, unit="case"):
        labels = np.asarray(stored_labels(folder, row.case))
        pictures = trained.inputs.compose(stored_pictures(folder, row.case))
        planes = predict_stack(trained.network, pictures, len(labels), trained.inputs.block_overlap)
        maps = {name: planes[..., channel] for channel, name in enumerate(trained.structures)}
        for structure, levels in maps.items():
            _count(checked.histograms, row, structure, levels, labels)
        if row.split == "test" and finds_lesions and "tumor" in maps:
            _propose(checked, row.patient, maps, structure_mask(labels, "tumor"))
    return checked


def _count(histograms: dict, row, structure: str, levels: np.ndarray, labels: np.ndarray) -> None:
    mask = structure_mask(labels, structure)
    histograms[row.split, structure, "picture"][row.patient].add(levels, mask)
    if row.split == "test":
        near = calibration_region(labels, structure)
        histograms[row.split, structure, "near"][row.patient].add(levels[near], mask[near])


def _propose(
    checked: CheckedNetwork, patient: str, maps: Mapping[str, np.ndarray], tumors: np.ndarray
) -> None:
    """As in `labels_from_planes`, a tumour counts inside the liver that the same network finds."""
    levels = maps["tumor"]
    if "liver" in maps:
        levels = np.where(is_predicted(maps["liver"], checked.thresholds["liver"]), levels, np.uint8(0))
    _put(checked.candidates, patient, find_candidates(levels, tumors))
    outlined = is_predicted(levels, checked.thresholds["tumor"])
    _put(checked.outlined, patient, find_candidates(outlined, tumors))


def _put(found: dict[str, Candidates], patient: str, more: Candidates) -> None:
    found[patient] = found[patient] + more if patient in found else more


def outlined_tumors(
    systems: Sequence[str], cases: Iterable[Case], folders: RunFolders
) -> dict[str, dict[str, Candidates]]:
    """System -> test patient -> the tumours of its stored labels, for systems that keep no probabilities.

    Labels are brought to the pictures' grid, so that the same tumours are asked for as of the networks.
    """
    found: dict[str, dict[str, Candidates]] = {system: {} for system in systems}
    for case in tqdm(list(cases), "stored labels", unit="case"):
        recipe = Recipe.of_case(folders.slices / case.case_id)
        tumors = structure_mask(np.asarray(stored_labels(folders.slices, case.case_id)), "tumor")
        volume = case.read_volume()
        for system in systems:
            labels = load_prediction(volume, folders.predictions(system), case.case_id)
            outlined = structure_mask(prepare_labels(labels, volume.spacing_mm, recipe), "tumor")
            _put(found[system], case.patient, find_candidates(outlined, tumors))
    return found
