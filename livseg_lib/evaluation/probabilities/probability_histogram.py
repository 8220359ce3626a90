"""Everything that thresholding can make of a network's output, in 512 numbers.

Probabilities are kept as uint8 levels, level / 255 being the probability. How often each level occurs in
and outside the reference is enough for the ROC curve and for the counts at any threshold, so memory stays
the same however many slices are added.

One rule holds in the whole library: a pixel is predicted where its probability >= the threshold.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from livseg_lib.errors import InputError
from livseg_lib.evaluation.arrays import require_same_shape
from livseg_lib.evaluation.overlap import OverlapCounts

LEVELS = 256


def quantize(probabilities: np.ndarray) -> np.ndarray:
    """The nearest uint8 level of each probability; uint8 levels pass as they are.

    Raises InputError for floats that are no probabilities.
    """
    if probabilities.dtype == np.uint8:
        return probabilities
    if probabilities.size and not (probabilities.min() >= 0 and probabilities.max() <= 1):  # NaN fails too
        raise InputError(
            "probabilities", "are not all between 0 and 1.", "Apply the sigmoid or softmax first."
        )
    return np.rint(probabilities * 255.0).astype(np.uint8)


def level_of(threshold: float) -> int:
    """The lowest level that reaches `threshold`, 0 to 256: level / 255 >= threshold."""
    return math.ceil(threshold * 255)


def is_predicted(probabilities: np.ndarray, threshold: float) -> np.ndarray:
    """Boolean mask of probability >= threshold, for uint8 levels or floats 0 to 1."""
    return probabilities >= (level_of(threshold) if probabilities.dtype == np.uint8 else threshold)


class RocCurve(NamedTuple):
    """One point a level, from the strictest threshold to the loosest; float64 (257,)."""

    false_positive_rate: np.ndarray
    true_positive_rate: np.ndarray
    thresholds: np.ndarray
    """Probability from which on a pixel counts as predicted; the first is infinite (nothing does)."""


class ProbabilityHistogram:
    """Pixels by probability level, in and outside the reference; add slices as they come."""

    def __init__(self) -> None:
        self.foreground = np.zeros(LEVELS, np.int64)
        self.background = np.zeros(LEVELS, np.int64)

    def add(self, probabilities: np.ndarray, reference: np.ndarray) -> None:
        """Count uint8 levels or floats 0 to 1, any shape, against a boolean mask of the same shape."""
        require_same_shape(probabilities, reference)
        planes = zip(np.atleast_2d(quantize(probabilities)), np.atleast_2d(reference), strict=True)
        for levels, mask in planes:  # bincount widens its input eightfold: a plane at a time
            inside = np.bincount(levels[mask], minlength=LEVELS)
            self.foreground += inside
            self.background += np.bincount(levels.ravel(), minlength=LEVELS) - inside

    def __add__(self, other: ProbabilityHistogram) -> ProbabilityHistogram:
        """The histogram of both together, as of several patients."""
        total = ProbabilityHistogram()
        total.foreground = self.foreground + other.foreground
        total.background = self.background + other.background
        return total

    def counts_at(self, thresholds: np.ndarray) -> OverlapCounts:
        """True and false positives and negatives, int64 (n,), at probability thresholds (n,)."""
        levels = [level_of(threshold) for threshold in np.asarray(thresholds, float)]
        true_positives = self._at_or_above(self.foreground)[levels]
        false_positives = self._at_or_above(self.background)[levels]
        return OverlapCounts(
            true_positives,
            false_positives,
            self.foreground.sum() - true_positives,
            self.background.sum() - false_positives,
        )

    @staticmethod
    def _at_or_above(pixels: np.ndarray) -> np.ndarray:
        """Pixels at each level or higher, (257,): the last is the level that nothing reaches."""
        return np.append(np.cumsum(pixels[::-1])[::-1], 0)

    def curve(self) -> RocCurve:
        """The ROC curve; a rate is NaN where there is no pixel of its kind."""
        with np.errstate(invalid="ignore"):
            false_positive_rate = self._at_or_above(self.background)[::-1] / self.background.sum()
            true_positive_rate = self._at_or_above(self.foreground)[::-1] / self.foreground.sum()
        thresholds = np.append(np.inf, np.arange(LEVELS)[::-1] / 255)
        return RocCurve(false_positive_rate, true_positive_rate, thresholds)

    def auc(self) -> float:
        """Area under the ROC curve, exact for the levels; NaN unless both kinds of pixel occur."""
        curve = self.curve()
        return float(np.trapezoid(curve.true_positive_rate, curve.false_positive_rate))
