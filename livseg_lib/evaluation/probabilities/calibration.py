"""Are probabilities what they say? Of the pixels given 0.8, eight in ten should be in the structure.

The expected calibration error (Guo et al. 2017, arXiv:1706.04599) is the mean distance between what was said
and what was true, over equal-width bins of probability, weighed by their pixels. Here the probability is that
of the structure itself, not that of the likelier answer. Networks trained with Dice losses tend to be too
sure of themselves (Mehrtash et al. 2020, arXiv:1911.13273).

Over whole pictures nearly any network looks well calibrated: most pixels are background that nobody takes for
anything else. `calibration_region` says where the question is worth asking.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from livseg_lib.evaluation.arrays import foreground_box
from livseg_lib.evaluation.probabilities.probability_histogram import LEVELS, ProbabilityHistogram
from livseg_lib.evaluation.statistics.bootstrap import bootstrap_interval
from livseg_lib.labels import structure_mask

BINS = 15
"""As Guo et al. have it."""

MARGIN = 0.1
"""Of a picture's side: how far the box around a liver is widened."""

PROBABILITY = np.arange(LEVELS) / (LEVELS - 1)


class ReliabilityCurve(NamedTuple):
    """One element a bin of probability, equally wide, (i / bins, (i + 1) / bins]; 0 lies in the first."""

    probability: np.ndarray
    """Mean of what was said; NaN where no pixel is. float64 (bins,)."""
    frequency: np.ndarray
    """Share of the pixels that are in the structure; NaN where no pixel is."""
    pixels: np.ndarray
    """int64."""


def calibration_region(labels: np.ndarray, structure: str) -> np.ndarray:
    """Where calibration is asked about, bool like the true labels 0/1/2 (D, h, w); empty without a liver.

    For tumours the liver: only there does a tumour's probability matter. For the liver the box around it,
    in each direction of the picture widened by MARGIN of its side.
    """
    liver = structure_mask(labels, "liver")
    if structure == "tumor":
        return liver
    slices, *sides = foreground_box(liver)
    region = np.zeros(labels.shape, bool)
    if liver.any():
        margins = (round(MARGIN * size) for size in labels.shape[1:])
        box = (slice(max(0, s.start - m), s.stop + m) for s, m in zip(sides, margins, strict=True))
        region[(slices, *box)] = True
    return region


def reliability_curve(histogram: ProbabilityHistogram, bins: int = BINS) -> ReliabilityCurve:
    """What was said against what was true, by bins of equal width."""
    return _curve(_binned(histogram, bins))


def expected_calibration_error(histogram: ProbabilityHistogram, bins: int = BINS) -> float:
    """Mean |probability - frequency| over all pixels, 0 to 1; NaN without a pixel."""
    return float(_pooled_error(_binned(histogram, bins)[np.newaxis], axis=0))


def overconfidence(histogram: ProbabilityHistogram) -> float:
    """Mean probability minus the share of the structure, -1 to 1: positive where too much is promised."""
    pixels, said, true = _binned(histogram, 1)[0]
    return float((said - true) / pixels) if pixels else np.nan


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
    true, others = histogram.foreground.sum(), histogram.background.sum()
    share = true / (true + others) if true + others else np.nan
    return float(1 - brier_score(histogram) / (share * (1 - share))) if true and others else np.nan


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
    own = [expected_calibration_error(each) for each in patients]
    tables = np.array([_binned(each, BINS) for each in patients]).reshape(-1, BINS, 3)
    low, high = bootstrap_interval(tables, _pooled_error, seed=seed)
    own_low, own_high = bootstrap_interval(own, seed=seed)
    return {
        "n_patients": len(patients),
        "ece": expected_calibration_error(total),
        "ece_low": low,
        "ece_high": high,
        "ece_per_patient": float(np.mean(own)) if own else np.nan,
        "ece_per_patient_low": own_low,
        "ece_per_patient_high": own_high,
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
    places = np.maximum(-(-np.arange(LEVELS) * bins // (LEVELS - 1)) - 1, 0)
    columns = (pixels, pixels * PROBABILITY, histogram.foreground)
    return np.stack([np.bincount(places, column, minlength=bins) for column in columns], axis=-1)


def _curve(binned: np.ndarray) -> ReliabilityCurve:
    pixels, said, true = np.moveaxis(binned, -1, 0)
    with np.errstate(invalid="ignore"):
        return ReliabilityCurve(said / pixels, true / pixels, pixels.astype(np.int64))


def _pooled_error(tables: np.ndarray, axis: int) -> np.ndarray:
    """Calibration error of the patients along `axis` together; tables (..., n, bins, 3)."""
    pixels, said, true = np.moveaxis(tables.sum(axis=axis), -1, 0)
    with np.errstate(invalid="ignore"):
        return np.abs(said - true).sum(axis=-1) / pixels.sum(axis=-1)
