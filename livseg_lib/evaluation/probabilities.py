"""What probabilities are worth: thresholds, the ROC curve, presence, calibration.

They are kept as uint8 levels, level / 255 being the probability. How often each level occurs in and outside
the reference is enough for the ROC curve and for the counts at any threshold, however many slices are added.
A pixel is predicted where its probability >= the threshold; thresholds are chosen on validation patients.

Presence, one answer a picture (system A): it shows the structure where at least `smallest_area` of it reaches
the probability `threshold`; that is, where its `smallest_area`-th largest probability does.

Calibration: of the pixels given 0.8, eight in ten should be in the structure. The expected calibration error
(Guo et al. 2017, arXiv:1706.04599) is the mean distance between what was said and what was true, over
equal-width bins of probability, weighed by their pixels. Networks trained with Dice losses tend to be too
sure of themselves (Mehrtash et al. 2020, arXiv:1911.13273). Over whole pictures nearly any network looks well
calibrated, as most pixels are plain background: `calibration_region` says where to ask.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from livseg_lib.errors import InputError
from livseg_lib.evaluation import masks
from livseg_lib.evaluation.masks import OverlapCounts, dice, foreground_box, require_same_shape
from livseg_lib.evaluation.statistics import bootstrap_interval, mean_with_interval
from livseg_lib.labels import structure_mask

LEVELS = 256


def quantize(probabilities: np.ndarray) -> np.ndarray:
    """The nearest uint8 level of each probability; uint8 levels pass as they are.

    Raises InputError for floats that are no probabilities.
    """
    if probabilities.dtype == np.uint8:
        return probabilities
    if probabilities.size and not (probabilities.min() >= 0 and probabilities.max() <= 1):  # NaN fails too
        problem = "are not all between 0 and 1."
        raise InputError("probabilities", problem, "Apply the sigmoid or softmax first.")
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
    """Least probability of a pixel that counts as predicted; the first is infinite (nothing does)."""


class ProbabilityHistogram:
    """Pixels by probability level, in and outside the reference; add slices as they come."""

    def __init__(self) -> None:
        self.foreground, self.background = np.zeros((2, LEVELS), np.int64)

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
        inside, outside = self._at_or_above(self.foreground), self._at_or_above(self.background)
        found, surplus = inside[levels], outside[levels]
        return OverlapCounts(found, surplus, inside[0] - found, outside[0] - surplus)

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


THRESHOLD_GRID = tuple(round(0.05 * step, 2) for step in range(2, 19))  # 0.10 to 0.90 in steps of 0.05


def dice_by_threshold(histogram: ProbabilityHistogram, grid: Sequence[float] = THRESHOLD_GRID) -> np.ndarray:
    """Dice of one patient at each threshold, float64 (len(grid),).

    A patient with nothing to find has Dice 1 where nothing is predicted, else 0 (system K).
    """
    return np.nan_to_num(dice(histogram.counts_at(np.asarray(grid))), nan=1.0)


def choose_threshold(
    histograms: Sequence[ProbabilityHistogram], grid: Sequence[float] = THRESHOLD_GRID
) -> float:
    """The threshold of `grid` with the best mean Dice over patients, one histogram each.

    Among equals the one nearest 0.5. Raises InputError without a patient.
    """
    if not histograms:
        raise InputError("histograms", "holds no validation patient.", "Give at least one.")
    means = np.mean([dice_by_threshold(histogram, grid) for histogram in histograms], axis=0)
    best = np.asarray(grid)[means >= means.max() - 1e-12]
    return float(best[np.abs(best - 0.5).argmin()])


PRESENCE_THRESHOLDS = tuple(round(0.02 * step, 2) for step in range(1, 50))
"""0.02 to 0.98: squared error leaves probabilities of rare structures low."""


@dataclass(frozen=True)
class PresenceRule:
    """From when on a picture counts as showing the structure."""

    threshold: float  # probability that a pixel has to reach
    smallest_area: int  # pixels that have to


def presence_levels(planes: np.ndarray, areas: Sequence[int]) -> np.ndarray:
    """For each picture and area n (pixels) its n-th largest probability, uint8 (N, len(areas)).

    `planes`: uint8 levels (N, h, w), probability times 255. Level 0 for areas larger than the picture.
    """
    levels = np.zeros((len(planes), len(areas)), np.uint8)
    for row, plane in zip(levels, planes, strict=True):
        at_or_above = np.cumsum(np.bincount(plane.ravel(), minlength=LEVELS)[::-1])[::-1]
        row[:] = [np.flatnonzero(at_or_above >= area)[-1] if area <= plane.size else 0 for area in areas]
    return levels


def choose_presence_rule(levels: np.ndarray, truth: np.ndarray, areas: Sequence[int]) -> PresenceRule:
    """The rule with the best balanced accuracy on validation pictures; never call it with test pictures.

    `levels` (N, len(areas)) as of `presence_levels`, `truth` bool (N,). Plain accuracy would be highest
    for a rule that never finds anything, where most pictures show nothing. Among equals the threshold
    nearest 0.5, then the smaller area. Raises InputError unless pictures of both kinds are there.
    """
    if truth.all() or not truth.any():
        problem = "are all alike: with or without, but not both."
        raise InputError("validation pictures", problem, "Add patients, or validate on all slices.")
    found = {
        PresenceRule(threshold, area): balanced_accuracy(is_predicted(levels[:, index], threshold), truth)
        for index, area in enumerate(areas)
        for threshold in PRESENCE_THRESHOLDS
    }
    best = [rule for rule, score in found.items() if score >= max(found.values()) - 1e-12]
    return min(best, key=lambda rule: (abs(rule.threshold - 0.5), rule.smallest_area))


def balanced_accuracy(predicted: np.ndarray, truth: np.ndarray) -> float:
    """Mean of sensitivity and specificity of answers bool (N,); NaN unless both kinds occur."""
    counts = masks.overlap_counts(predicted, truth)
    return float((masks.recall(counts) + masks.specificity(counts)) / 2)


def presence_scores(predicted: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Scores of answers bool (N,): the counts `n_pictures, true_positives, false_positives,
    false_negatives, true_negatives`, `accuracy, sensitivity, specificity, precision, balanced_accuracy`,
    and `majority_share`, the accuracy of always giving the commoner answer. Undefined (0/0) is NaN.
    """
    counts = masks.overlap_counts(predicted, truth)
    share = float(truth.mean()) if truth.size else np.nan
    return {
        "n_pictures": truth.size,
        **{name: int(count) for name, count in counts._asdict().items()},
        "accuracy": float(masks.pixel_accuracy(counts)),
        "sensitivity": float(masks.recall(counts)),
        "specificity": float(masks.specificity(counts)),
        "precision": float(masks.precision(counts)),
        "balanced_accuracy": balanced_accuracy(predicted, truth),
        "majority_share": max(share, 1 - share),
    }


BINS = 15  # as Guo et al. have it
PROBABILITY = np.arange(LEVELS) / (LEVELS - 1)


class ReliabilityCurve(NamedTuple):
    """One element a bin of probability, equally wide, (i / bins, (i + 1) / bins]; 0 lies in the first."""

    probability: np.ndarray  # mean of what was said; NaN where no pixel is; float64 (bins,)
    frequency: np.ndarray  # share of the pixels that are in the structure; NaN where no pixel is
    pixels: np.ndarray  # int64


def calibration_region(labels: np.ndarray, structure: str) -> np.ndarray:
    """Where calibration is asked about, bool like the true labels 0/1/2 (D, h, w); empty without a liver.

    For tumours the liver: only there does a tumour's probability matter. For the liver the box around it,
    in each direction of the picture widened by a tenth of its side.
    """
    liver = structure_mask(labels, "liver")
    if structure == "tumor":
        return liver
    slices, *sides = foreground_box(liver)
    region = np.zeros(labels.shape, bool)
    if liver.any():
        margins = (round(0.1 * size) for size in labels.shape[1:])
        box = (slice(max(0, s.start - m), s.stop + m) for s, m in zip(sides, margins, strict=True))
        region[(slices, *box)] = True
    return region


def reliability_curve(histogram: ProbabilityHistogram, bins: int = BINS) -> ReliabilityCurve:
    """What was said against what was true, by bins of equal width."""
    pixels, predicted, true = np.moveaxis(_binned(histogram, bins), -1, 0)
    with np.errstate(invalid="ignore"):
        return ReliabilityCurve(predicted / pixels, true / pixels, pixels.astype(np.int64))


def expected_calibration_error(histogram: ProbabilityHistogram) -> float:
    """Mean |probability - frequency| over all pixels, 0 to 1; NaN without a pixel."""
    return float(_pooled_error(_binned(histogram, BINS)[np.newaxis], axis=0))


def overconfidence(histogram: ProbabilityHistogram) -> float:
    """Mean probability minus the share of the structure, -1 to 1: positive where too much is promised."""
    pixels, predicted, true = _binned(histogram, 1)[0]
    return float((predicted - true) / pixels) if pixels else np.nan


def true_when_sure(histogram: ProbabilityHistogram) -> float:
    """Share of the structure among pixels of the highest bin, 0 to 1; NaN where there is none."""
    return float(reliability_curve(histogram).frequency[-1])


def brier_score(histogram: ProbabilityHistogram) -> float:
    """Mean squared difference of probability and truth, 0 to 1 (Brier 1950); NaN without a pixel."""
    pixels = histogram.foreground.sum() + histogram.background.sum()
    inside, outside = histogram.foreground @ (1 - PROBABILITY) ** 2, histogram.background @ PROBABILITY**2
    return float((inside + outside) / pixels) if pixels else np.nan


def brier_skill(histogram: ProbabilityHistogram) -> float:
    """What the Brier score gains on giving every pixel the true share of the structure, up to 1.

    0 is no better than that, below is worse: background flatters both alike. NaN unless both kinds occur.
    """
    foreground, background = histogram.foreground.sum(), histogram.background.sum()
    share = foreground / (foreground + background) if foreground + background else np.nan
    return float(1 - brier_score(histogram) / (share * (1 - share))) if foreground and background else np.nan


def calibration_scores(patients: Sequence[ProbabilityHistogram], seed: int = 0) -> dict[str, float]:
    """Scores of a network from one histogram a patient; those without a pixel are left out.

    n_patients; ece, with ece_low and ece_high (95 % bootstrap over patients), of all pixels together, as the
    curve shows it; ece_per_patient, the mean of the patients' own with its interval: there promising too
    much to one patient and too little to the next is no excuse. overconfidence, brier, brier_skill, roc_auc
    of all pixels together. A drawn set of patients is less even than the whole, so that the interval of `ece`
    may lie rather high.
    """
    patients = [each for each in patients if each.foreground.any() or each.background.any()]
    total = sum(patients, start=ProbabilityHistogram())
    errors = [expected_calibration_error(each) for each in patients]
    tables = np.array([_binned(each, BINS) for each in patients]).reshape(-1, BINS, 3)
    low, high = bootstrap_interval(tables, _pooled_error, seed=seed)
    return {
        "n_patients": len(patients),
        "ece": expected_calibration_error(total),
        "ece_low": low,
        "ece_high": high,
        **mean_with_interval("ece_per_patient", errors, range(len(errors)), seed=seed),
        "overconfidence": overconfidence(total),
        "true_when_sure": true_when_sure(total),
        "brier": brier_score(total),
        "brier_skill": brier_skill(total),
        "roc_auc": total.auc(),
    }


def _binned(histogram: ProbabilityHistogram, bins: int) -> np.ndarray:
    """float64 (bins, 3): pixels, the sum of what was said of them, and how many are in the structure."""
    pixels = histogram.foreground + histogram.background
    # In whole numbers: an edge such as 1/3 is level 85, which belongs to the bin below.
    indices = np.maximum(-(-np.arange(LEVELS) * bins // (LEVELS - 1)) - 1, 0)
    columns = (pixels, pixels * PROBABILITY, histogram.foreground)
    return np.stack([np.bincount(indices, column, minlength=bins) for column in columns], axis=-1)


def _pooled_error(tables: np.ndarray, axis: int) -> np.ndarray:
    """Calibration error of the patients along `axis` together; tables (..., n, bins, 3)."""
    pixels, predicted, true = np.moveaxis(tables.sum(axis=axis), -1, 0)
    with np.errstate(invalid="ignore"):
        return np.abs(predicted - true).sum(axis=-1) / pixels.sum(axis=-1)
