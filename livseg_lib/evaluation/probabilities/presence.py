"""Tumour or no tumour, picture by picture: one answer from the probabilities of all its pixels (system A).

A picture shows the structure where at least `smallest_area` of it reaches the probability `threshold`.
That is the same as asking whether its `smallest_area`-th largest probability reaches the threshold, so
that each area gives every picture one score, and a ROC curve over all thresholds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from livseg_lib.errors import InputError
from livseg_lib.evaluation import overlap
from livseg_lib.evaluation.arrays import require_masks
from livseg_lib.evaluation.probabilities.probability_histogram import LEVELS, is_predicted
from livseg_lib.evaluation.statistics.bootstrap import bootstrap_interval

THRESHOLDS = tuple(round(0.02 * step, 2) for step in range(1, 50))
"""0.02 to 0.98: squared error leaves probabilities of rare structures low."""

PRESENCE_SCORES = {
    "accuracy": overlap.pixel_accuracy,
    "sensitivity": overlap.recall,
    "specificity": overlap.specificity,
    "precision": overlap.precision,
}
"""The quotients of pixels and of pictures are the same."""


@dataclass(frozen=True)
class PresenceRule:
    """From when on a picture counts as showing the structure."""

    threshold: float
    """Probability that a pixel has to reach."""
    smallest_area: int
    """Pixels that have to."""


def presence_levels(planes: np.ndarray, areas: Sequence[int]) -> np.ndarray:
    """For each picture and area n (pixels) its n-th largest probability, uint8 (N, len(areas)).

    `planes`: uint8 levels (N, h, w), probability times 255. An area larger than the picture is never
    reached: level 0.
    """
    levels = np.zeros((len(planes), len(areas)), np.uint8)
    for row, plane in zip(levels, planes, strict=True):
        at_or_above = np.cumsum(np.bincount(plane.ravel(), minlength=LEVELS)[::-1])[::-1]
        row[:] = [np.flatnonzero(at_or_above >= area)[-1] if area <= plane.size else 0 for area in areas]
    return levels


def choose_presence_rule(
    levels: np.ndarray,
    truth: np.ndarray,
    areas: Sequence[int],
    thresholds: Sequence[float] = THRESHOLDS,
) -> PresenceRule:
    """The rule with the best balanced accuracy on validation pictures; never call it with test pictures.

    `levels` (N, len(areas)) as of `presence_levels`, `truth` bool (N,). Plain accuracy would be highest
    for a rule that never finds anything, where most pictures show nothing. Among equals the threshold
    nearest 0.5, then the smaller area. Raises InputError unless pictures of both kinds are there.
    """
    if truth.all() or not truth.any():
        problem = "are all alike: with or without, but not both."
        raise InputError("validation pictures", problem, "Add patients, or validate on all slices.")
    rules = [PresenceRule(threshold, area) for area in areas for threshold in thresholds]
    found = [
        balanced_accuracy(is_predicted(levels[:, place], threshold), truth)
        for place, _ in enumerate(areas)
        for threshold in thresholds
    ]
    best = [rule for rule, score in zip(rules, found, strict=True) if score >= max(found) - 1e-12]
    return min(best, key=lambda rule: (abs(rule.threshold - 0.5), rule.smallest_area))


def balanced_accuracy(predicted: np.ndarray, truth: np.ndarray) -> float:
    """Mean of sensitivity and specificity of answers bool (N,); NaN unless both kinds occur."""
    counts = overlap.overlap_counts(predicted, truth)
    return float((overlap.recall(counts) + overlap.specificity(counts)) / 2)


def presence_scores(predicted: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Scores of answers bool (N,): the counts `n_pictures, true_positives, false_positives,
    false_negatives, true_negatives`, PRESENCE_SCORES, `balanced_accuracy` and `majority_share`, the
    accuracy of always giving the commoner answer. Undefined (0/0) is NaN.
    """
    counts = overlap.overlap_counts(predicted, truth)
    share = float(truth.mean()) if truth.size else np.nan
    return {
        "n_pictures": truth.size,
        **{name: int(count) for name, count in counts._asdict().items()},
        **{name: float(score(counts)) for name, score in PRESENCE_SCORES.items()},
        "balanced_accuracy": balanced_accuracy(predicted, truth),
        "majority_share": max(share, 1 - share),
    }


def accuracy_interval(
    predicted: np.ndarray, truth: np.ndarray, patients: Sequence[str], seed: int = 0
) -> tuple[float, float]:
    """95 % bootstrap interval of the accuracy over all pictures, drawing whole patients (N names).

    Pictures of one patient are alike: drawing pictures would give an interval far too narrow.
    """
    require_masks(predicted, truth)
    right = pd.Series(predicted == truth).groupby(np.asarray(patients)).agg(["sum", "size"])
    return bootstrap_interval(right, lambda drawn, axis: _pooled(drawn.sum(axis=axis)), seed=seed)


def _pooled(right_and_all: np.ndarray) -> np.ndarray:
    return right_and_all[..., 0] / right_and_all[..., 1]
