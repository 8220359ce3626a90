"""What the steps of a cascade do: networks, finishing, and what tells tumours from false alarms.

Each is a `cascade.Part`: (volume of the region, labels so far) -> labels from now on. `structures` are those
it finds by itself, `parameters` the numbers that were learnt.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from livseg_lib.inference.cascade import with_tumors
from livseg_lib.inference.volume import predict_volume
from livseg_lib.labels import structure_mask
from livseg_lib.postprocessing.active_contour import refine_outlines
from livseg_lib.postprocessing.candidate_filter import filter_candidates
from livseg_lib.postprocessing.candidates import candidate_features
from livseg_lib.postprocessing.finishing import FINISHES
from livseg_lib.postprocessing.forest import Forest
from livseg_lib.training.model_folder import TrainedModel
from livseg_lib.volumes import Volume


@dataclass(frozen=True)
class NetworkPart:
    """A segmentation network: one that knows livers replaces what was found before, one that knows
    tumours alone adds them to the liver, inside it."""

    trained: TrainedModel

    @property
    def structures(self) -> tuple[str, ...]:
        """What it finds."""
        return self.trained.structures

    @property
    def parameters(self) -> int:
        """Numbers in its weights."""
        return self.trained.parameters

    def __call__(self, volume: Volume, labels: np.ndarray) -> np.ndarray:
        """See `cascade.Part`."""
        liver = structure_mask(labels, "liver")
        found = predict_volume(self.trained, volume, liver=liver)
        if "liver" in self.trained.structures:
            return found
        return with_tumors(liver, structure_mask(found, "tumor"))


@dataclass(frozen=True)
class FinishPart:
    """One of the finishing functions, by name."""

    name: str
    structures: tuple[str, ...] = ()
    parameters: int = 0

    def __call__(self, volume: Volume, labels: np.ndarray) -> np.ndarray:
        """See `cascade.Part`."""
        return FINISHES[self.name](labels, volume.spacing_mm)


@dataclass(frozen=True)
class ForestPart:
    """Drops the tumour candidates that a random forest takes for false alarms (system H)."""

    forest: Forest
    threshold: float
    structures: tuple[str, ...] = ()

    @property
    def parameters(self) -> int:
        """Thresholds in its trees."""
        return int((self.forest.left != np.arange(len(self.forest.left))).sum())

    def __call__(self, volume: Volume, labels: np.ndarray) -> np.ndarray:
        """See `cascade.Part`."""
        liver, tumor = (structure_mask(labels, structure) for structure in ("liver", "tumor"))
        features, ids = candidate_features(tumor, liver, volume.voxels, volume.spacing_mm)
        return with_tumors(liver, filter_candidates(ids, self.forest.predict(features), self.threshold))


@dataclass(frozen=True)
class ContourPart:
    """Draws the outlines of tumours to the edges in the image (system J)."""

    reach_mm: float
    structures: tuple[str, ...] = ()
    parameters: int = 0

    def __call__(self, volume: Volume, labels: np.ndarray) -> np.ndarray:
        """See `cascade.Part`."""
        liver, tumor = (structure_mask(labels, structure) for structure in ("liver", "tumor"))
        return with_tumors(
            liver, refine_outlines(tumor, liver, volume.voxels, volume.spacing_mm, self.reach_mm)
        )
