"""Scores that follow from four counts. Undefined (0/0) is NaN: what an empty mask means is the caller's.

Every score takes the counts of one pair of masks, or arrays of counts (one element a slice or patient),
and returns float64 of the same shape. Formulas: Bilic et al. 2022, "The Liver Tumor Segmentation
Benchmark" (system K).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from livseg_lib.evaluation.arrays import require_masks


class OverlapCounts(NamedTuple):
    """Voxels (or pixels) by agreement; integers or integer arrays."""

    true_positives: int | np.ndarray
    false_positives: int | np.ndarray
    false_negatives: int | np.ndarray
    true_negatives: int | np.ndarray

    @property
    def prediction(self) -> int | np.ndarray:
        """Size of the predicted mask."""
        return self.true_positives + self.false_positives

    @property
    def reference(self) -> int | np.ndarray:
        """Size of the reference mask."""
        return self.true_positives + self.false_negatives


def overlap_counts(
    prediction: np.ndarray, reference: np.ndarray, axis: tuple[int, ...] | None = None
) -> OverlapCounts:
    """Count two boolean arrays of one shape against each other, over all axes or over those in `axis`.

    Raises InputError where the shapes differ or an array is not boolean.
    """
    require_masks(prediction, reference)
    both = np.count_nonzero(prediction & reference, axis=axis)
    predicted = np.count_nonzero(prediction, axis=axis)
    present = np.count_nonzero(reference, axis=axis)
    total = prediction.size // max(np.size(both), 1)
    return OverlapCounts(both, predicted - both, present - both, total - predicted - present + both)


def _ratio(numerator, denominator) -> np.ndarray:
    """Elementwise quotient in float64; NaN wherever the denominator is 0."""
    numerator, denominator = np.asarray(numerator, float), np.asarray(denominator, float)
    undefined = np.full(np.broadcast_shapes(numerator.shape, denominator.shape), np.nan)
    return np.divide(numerator, denominator, out=undefined, where=denominator != 0)[()]


def dice(counts: OverlapCounts):
    """2 |P and R| / (|P| + |R|), 0 to 1; NaN where both are empty."""
    return _ratio(2 * counts.true_positives, counts.prediction + counts.reference)


def jaccard(counts: OverlapCounts):
    """|P and R| / |P or R| (IoU), 0 to 1; NaN where both are empty."""
    return _ratio(counts.true_positives, counts.prediction + counts.false_negatives)


def voe(counts: OverlapCounts):
    """Volumetric overlap error 1 - Jaccard, 0 to 1; NaN where both are empty."""
    return 1 - jaccard(counts)


def rvd(counts: OverlapCounts):
    """Relative volume difference (|P| - |R|) / |R|, signed, from -1; NaN where the reference is empty."""
    return _ratio(counts.prediction - counts.reference, counts.reference)


def precision(counts: OverlapCounts):
    """Share of the predicted voxels that are right, 0 to 1; NaN where nothing is predicted."""
    return _ratio(counts.true_positives, counts.prediction)


def recall(counts: OverlapCounts):
    """Share of the reference that is found, 0 to 1; NaN where the reference is empty."""
    return _ratio(counts.true_positives, counts.reference)


def specificity(counts: OverlapCounts):
    """Share of what is not in the reference that is not predicted either, 0 to 1; NaN where it fills all."""
    return _ratio(counts.true_negatives, counts.true_negatives + counts.false_positives)


def pixel_accuracy(counts: OverlapCounts):
    """Share of all voxels, background too, on which both agree, 0 to 1 (system D)."""
    return _ratio(counts.true_positives + counts.true_negatives, sum(counts))
