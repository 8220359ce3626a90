"""FROC: how many tumours are found at which price in false positives a patient, over all thresholds.

Candidates are the face-connected pieces of what reaches a low probability (the static candidates of Bosma et
al. 2023, arXiv:2112.05151), each as sure as its mean probability. Theirs are as sure as the highest: networks
trained with Dice losses reach that in true and false tumours alike. A candidate finds a tumour where their
IoU exceeds 0.1, one candidate a tumour and one tumour a candidate, so that the IoU of all pairs is highest;
others that exceed it too are neither right nor wrong; all that remain are false positives. These are the
rules of the PI-CAI challenge (doi:10.1016/S1470-2045(24)00220-1). Without an overlap one blob over the whole
liver would find every tumour.

One number sums the curve up: the mean recall at 1/8, 1/4, 1/2, 1, 2, 4 and 8 false positives a patient, as in
the LUNA16 challenge (arXiv:1612.08012). Recall at a rate is what a threshold really reaches at that rate or
below; LUNA16 draws straight lines between thresholds instead. Patients without tumours bring false positives
and nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.sparse import block_array, csr_array
from scipy.sparse.csgraph import connected_components

from livseg_lib.errors import InputError
from livseg_lib.evaluation.lesions import lesion_overlap, pairwise_iou
from livseg_lib.evaluation.probabilities import LEVELS, is_predicted, quantize
from livseg_lib.evaluation.statistics import bootstrap_interval

LOWEST_PROBABILITY = 0.1
MIN_OVERLAP = 0.1
FALSE_POSITIVE_RATES = (1 / 8, 1 / 4, 1 / 2, 1, 2, 4, 8)


@dataclass(frozen=True)
class TumorCandidates:
    """What a network proposed to one patient; probabilities as uint8 levels, level / 255."""

    found: np.ndarray  # (n_found,) how sure the candidate is of each tumour that was found
    false_positives: np.ndarray  # (n_false_positives,)
    n_tumors: int  # true tumours, found or not

    def __add__(self, other: TumorCandidates) -> TumorCandidates:
        """Those of two scans of one patient."""
        return TumorCandidates(
            np.append(self.found, other.found),
            np.append(self.false_positives, other.false_positives),
            self.n_tumors + other.n_tumors,
        )


class FrocCurve(NamedTuple):
    """One point a level, from the strictest threshold to the loosest; float64 (257,)."""

    false_positives: np.ndarray  # a patient
    recall: np.ndarray  # share of all tumours, NaN where there are none


def find_tumor_candidates(probabilities: np.ndarray, tumors: np.ndarray) -> TumorCandidates:
    """Candidates of a map, uint8 levels or floats 0 to 1 (D, H, W), against true tumours, bool (D, H, W).

    A boolean mask is a map of certainties.
    """
    levels = probabilities * np.uint8(255) if probabilities.dtype == bool else quantize(probabilities)
    overlap = lesion_overlap(is_predicted(levels, LOWEST_PROBABILITY), tumors)
    ids, voxels = overlap.prediction_components, overlap.prediction_voxels
    sums = np.bincount(ids.ravel(), levels.ravel(), minlength=len(voxels))
    sure = np.rint(sums[1:] / voxels[1:]).astype(np.uint8)
    enough = pairwise_iou(overlap)
    enough.data[enough.data <= MIN_OVERLAP] = 0.0
    enough.eliminate_zeros()
    return TumorCandidates(sure[_matched(enough)], sure[np.diff(enough.indptr) == 0], overlap.n_reference)


def _matched(worth: csr_array) -> list[int]:
    """Rows, ascending, of the pairs of rows and columns that are worth most all in all, each in one at most.

    Rows and columns that belong together are paired by themselves: all at once would take the square of
    thousands of specks in memory, and its third power in time.
    """
    edges = worth.tocoo()
    together = connected_components(block_array([[None, worth], [worth.T, None]]), directed=False)[1]
    order = np.argsort(together[edges.row], kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(together[edges.row][order])) + 1)
    matched = []
    for group in groups:
        rows, row = np.unique(edges.row[group], return_inverse=True)
        columns, column = np.unique(edges.col[group], return_inverse=True)
        gain = np.zeros((len(rows), len(columns)))
        gain[row, column] = edges.data[group]
        chosen = linear_sum_assignment(gain, maximize=True)
        matched += rows[chosen[0][gain[chosen] > 0]].tolist()
    return sorted(matched)


def froc_curve(patients: Sequence[TumorCandidates]) -> FrocCurve:
    """The curve of all patients together. Raises InputError without a patient."""
    return FrocCurve(*_curve(_tables(patients), axis=0))


def recall_at(
    patients: Sequence[TumorCandidates], rates: Sequence[float] = FALSE_POSITIVE_RATES
) -> np.ndarray:
    """Highest recall at no more than each of `rates` false positives a patient, float64 (len(rates),)."""
    return _recall_at(_tables(patients), 0, rates)


def recall_with_interval(
    patients: Sequence[TumorCandidates], rates: Sequence[float] = FALSE_POSITIVE_RATES, seed: int = 0
) -> tuple[float, float, float]:
    """Mean of `recall_at` over `rates`, 0 to 1, and its 95 % bootstrap interval over patients."""

    def mean_recall(tables: np.ndarray, axis: int) -> np.ndarray:
        return _recall_at(tables, axis, rates).mean(axis=-1)

    tables = _tables(patients)
    return float(mean_recall(tables, axis=0)), *bootstrap_interval(tables, mean_recall, seed=seed)


def _tables(patients: Sequence[TumorCandidates]) -> np.ndarray:
    """float64 (n, 3, 257): a patient's found tumours and false positives from each level on (256, which none
    reaches, first), and all true tumours."""
    if not patients:
        raise InputError("patients", "are none, so that there is no FROC curve.", "Give at least one.")
    tables = np.zeros((len(patients), 3, LEVELS + 1))
    for table, patient in zip(tables, patients, strict=True):
        for row, levels in zip(table, (patient.found, patient.false_positives), strict=False):
            row[1:] = np.cumsum(np.bincount(levels, minlength=LEVELS)[::-1])
        table[2] = patient.n_tumors
    return tables


def _curve(tables: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """False positives a patient, and recall: (..., 257) each, of the patients along `axis`."""
    found, false_positives, tumors = np.moveaxis(tables.sum(axis=axis), -2, 0)
    with np.errstate(invalid="ignore"):
        return false_positives / tables.shape[axis], found / tumors


def _recall_at(tables: np.ndarray, axis: int, rates: Sequence[float]) -> np.ndarray:
    """(..., len(rates)). Recall never falls from strict to loose, so the loosest that is allowed is best."""
    false_positives, recall = _curve(tables, axis)
    allowed = [(false_positives <= rate).sum(axis=-1, keepdims=True) - 1 for rate in rates]
    return np.concatenate([np.take_along_axis(recall, last, axis=-1) for last in allowed], axis=-1)
