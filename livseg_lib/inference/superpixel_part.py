"""The step of a cascade that classifies superpixels: liver in, tumours out (system J)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from livseg_lib.evaluation.probabilities.probability_histogram import is_predicted, quantize
from livseg_lib.inference.cascade import with_tumors
from livseg_lib.inference.planes import predict_batches
from livseg_lib.labels import structure_mask
from livseg_lib.postprocessing.superpixel_candidates import Candidates, candidate_patches, find_candidates
from livseg_lib.postprocessing.superpixels import paint
from livseg_lib.preprocessing.patches import with_masks
from livseg_lib.sampling.patch_batches import KINDS
from livseg_lib.training.classifier_folder import TrainedClassifier
from livseg_lib.volumes import Volume


@dataclass(frozen=True)
class SuperpixelPart:
    """Tumours are where superpixels of the liver look like them; those found before are forgotten."""

    trained: TrainedClassifier
    structures: tuple[str, ...] = ("tumor",)

    @property
    def parameters(self) -> int:
        """Numbers in its weights."""
        return self.trained.parameters

    def __call__(self, volume: Volume, labels: np.ndarray) -> np.ndarray:
        """See `cascade.Part`."""
        liver = structure_mask(labels, "liver")
        levels = tumor_levels(self.trained, volume, liver)
        return with_tumors(liver, is_predicted(levels, self.trained.threshold))


def tumor_levels(trained: TrainedClassifier, volume: Volume, liver: np.ndarray) -> np.ndarray:
    """Probability of tumour times 255, uint8 (D, H, W); `liver` is bool on the grid of `volume`.

    Patches stream through the network: memory holds superpixels and a batch. Raises InputError for an
    unknown spacing.
    """
    candidates = find_candidates(volume, liver, trained.candidates)
    return paint_levels(candidates, tumor_probabilities(trained, volume, liver, candidates), liver.shape)


def tumor_probabilities(
    trained: TrainedClassifier, volume: Volume, liver: np.ndarray, candidates: Candidates
) -> np.ndarray:
    """Probability that each of the candidates is a tumour, float32 (n,)."""
    rows = range(len(candidates.table))
    patches = candidate_patches(volume, liver, candidates, rows, trained.patch)
    pictures = (with_masks(greys, labels) for greys, labels in patches)
    answers = [found[:, KINDS.index("tumor")] for found in predict_batches(trained.network, pictures)]
    return np.concatenate(answers).clip(0.0, 1.0) if answers else np.zeros(0, np.float32)


def paint_levels(candidates: Candidates, probabilities: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Probabilities (n,) of candidates times 255, uint8 of `shape`: the mean over a voxel's superpixels.

    It has one of each scale; those that are no candidates count 0, as all outside the liver does.
    """
    levels = np.zeros(shape, np.uint8)
    if candidates.superpixels:
        table = candidates.table.assign(probability=probabilities)
        painted = paint(candidates.superpixels, table, "probability")
        levels[candidates.superpixels[0].box] = quantize(painted)
    return levels
