"""System J's classifier on validation patients: its threshold, its ceiling, and what the contour adds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from livseg_lib.datasets.case import Case
from livseg_lib.evaluation.overlap import dice, overlap_counts
from livseg_lib.evaluation.probabilities.probability_histogram import ProbabilityHistogram, is_predicted
from livseg_lib.evaluation.probabilities.thresholds import choose_threshold
from livseg_lib.experiments.cascade_parts.cascades import CASCADES
from livseg_lib.experiments.cascade_parts.superpixel_training import region_cases
from livseg_lib.inference.cascade import with_tumors
from livseg_lib.inference.parts import ContourPart
from livseg_lib.inference.superpixel_part import paint_levels, tumor_probabilities
from livseg_lib.labels import structure_mask
from livseg_lib.postprocessing.superpixel_candidates import find_candidates, tumor_shares
from livseg_lib.postprocessing.superpixel_extraction import TUMOR_SHARE
from livseg_lib.training.classifier_folder import TrainedClassifier
from livseg_lib.volumes import Volume


@dataclass(frozen=True, eq=False)
class PaintedCase:
    """One case around its true liver, with what the classifier says of it."""

    case: Case
    volume: Volume
    truth: np.ndarray
    """Labels 0/1/2, uint8 (D, H, W)."""
    levels: np.ndarray
    """Probability of tumour times 255, uint8 (D, H, W)."""
    faultless: np.ndarray
    """The same, were the classifier always right: what superpixels can tell at best."""

    def labels_at(self, threshold: float) -> np.ndarray:
        """Labels 0/1/2 of what it finds from this probability on."""
        return with_tumors(structure_mask(self.truth, "liver"), is_predicted(self.levels, threshold))


def paint_cases(trained: TrainedClassifier, cases: Sequence[Case]) -> Iterator[PaintedCase]:
    """Each case in its turn, so that one is in memory. Raises InputError for one without liver."""
    for case in region_cases(cases):
        volume = case.read_volume()
        truth = case.read_labels(volume)
        liver, tumor = (structure_mask(truth, structure) for structure in ("liver", "tumor"))
        candidates = find_candidates(volume, liver, trained.candidates)
        found = tumor_probabilities(trained, volume, liver, candidates)
        is_tumor = (tumor_shares(candidates, tumor) >= TUMOR_SHARE).astype(np.float32)
        levels, faultless = (paint_levels(candidates, values, liver.shape) for values in (found, is_tumor))
        yield PaintedCase(case, volume, truth, levels, faultless)


def choose_superpixel_threshold(trained: TrainedClassifier, cases: Sequence[Case]) -> float:
    """The threshold with the best mean Dice over validation cases, inside their true livers."""
    histograms = []
    for painted in paint_cases(trained, cases):
        histogram = ProbabilityHistogram()
        histogram.add(painted.levels, structure_mask(painted.truth, "tumor"))
        histograms.append(histogram)
    return choose_threshold(histograms)


def contour_of_system() -> ContourPart:
    """The active contour as system J uses it."""
    [plan] = [plan for plan in CASCADES["cascade_superpixels"] if plan.part == "contour"]
    return ContourPart(float(plan.using))


def contour_effect(trained: TrainedClassifier, cases: Sequence[Case]) -> pd.DataFrame:
    """A row a case: patient, case, tumor_ml, and the tumours' Dice inside the true liver: `faultless_dice`
    (a classifier that is always right, from 0.5 on), `dice_before` and `dice_after` the contour.

    NaN where there is no tumour and none is found.
    """
    contour, rows = contour_of_system(), []
    for painted in paint_cases(trained, cases):
        tumor, before = structure_mask(painted.truth, "tumor"), painted.labels_at(trained.threshold)
        masks = {
            "faultless_dice": is_predicted(painted.faultless, 0.5),
            "dice_before": structure_mask(before, "tumor"),
            "dice_after": structure_mask(contour(painted.volume, before), "tumor"),
        }
        row = {"patient": painted.case.patient, "case": painted.case.case_id}
        row["tumor_ml"] = tumor.sum() * painted.volume.voxel_volume_ml
        rows.append(row | {name: float(dice(overlap_counts(mask, tumor))) for name, mask in masks.items()})
    return pd.DataFrame(rows)
