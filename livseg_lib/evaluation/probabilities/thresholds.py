"""The probability threshold of a system, chosen on validation patients and never on test patients."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from livseg_lib.errors import InputError
from livseg_lib.evaluation.overlap import dice
from livseg_lib.evaluation.probabilities.probability_histogram import ProbabilityHistogram

THRESHOLDS = tuple(round(0.05 * step, 2) for step in range(2, 19))
"""0.10 to 0.90 in steps of 0.05."""


def dice_by_threshold(histogram: ProbabilityHistogram, grid: Sequence[float] = THRESHOLDS) -> np.ndarray:
    """Dice of one patient at each threshold, float64 (len(grid),).

    A patient with nothing to find has Dice 1 where nothing is predicted, else 0 (system K).
    """
    return np.nan_to_num(dice(histogram.counts_at(np.asarray(grid))), nan=1.0)


def choose_threshold(histograms: Sequence[ProbabilityHistogram], grid: Sequence[float] = THRESHOLDS) -> float:
    """The threshold of `grid` with the best mean Dice over patients, one histogram each.

    Among equals the one nearest 0.5. Raises InputError without a patient.
    """
    if not histograms:
        raise InputError("histograms", "holds no validation patient.", "Give at least one.")
    means = np.mean([dice_by_threshold(histogram, grid) for histogram in histograms], axis=0)
    best = np.asarray(grid)[means >= means.max() - 1e-12]
    return float(best[np.abs(best - 0.5).argmin()])
