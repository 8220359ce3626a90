"""Which candidates stay: a threshold chosen on validation patients, the mask without the rest (system H)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from livseg_lib.errors import InputError

LEAST_RECALL = 0.95


class ForestThreshold(NamedTuple):
    """A threshold and what it did to the candidates it was chosen on. A recall without true ones is NaN."""

    threshold: float
    """Candidates of at least this probability stay; 0 keeps all."""
    recall: float
    """Share of the true candidates that stay."""
    true_candidates: int
    false_before: int
    false_after: int
    """False alarms among all candidates, and among those that stay."""
    note: str
    """Why no choice was possible; empty where there was one."""


def choose_forest_threshold(
    probability: np.ndarray, is_tumor: np.ndarray, least_recall: float = LEAST_RECALL
) -> ForestThreshold:
    """The threshold with fewest false alarms that keeps at least `least_recall` of the true candidates.

    `probability` float (n,) and `is_tumor` bool (n,) of validation candidates; 0 < `least_recall` <= 1. Of
    the thresholds that do the same, the one midway to the next lower candidate. Without candidates, or
    without true ones, nothing can be chosen: threshold 0, which keeps all, and a note that says so.
    """
    truth = np.asarray(is_tumor, bool)
    if not 0 < least_recall <= 1:
        raise InputError("least_recall", f"is {least_recall}.", "Give a share above 0, at most 1.")
    true_count, false_count = int(truth.sum()), int((~truth).sum())
    if not true_count:
        what = f"no true tumour among {false_count} candidates" if false_count else "no candidate"
        note = f"There was {what} to choose a threshold on, so every candidate stays."
        return ForestThreshold(0.0, np.nan, 0, false_count, false_count, note)
    ranked = np.sort(probability[truth])[::-1]
    needed = int(np.ceil(least_recall * true_count - 1e-9))
    lowest_kept = float(ranked[needed - 1])
    lower = probability[probability < lowest_kept]
    threshold = (lowest_kept + float(lower.max())) / 2 if lower.size else 0.0
    stays = probability >= threshold
    note = "" if false_count else "No candidate was a false alarm, so that there was nothing to filter."
    recall = float(stays[truth].mean())
    return ForestThreshold(threshold, recall, true_count, false_count, int(stays[~truth].sum()), note)


def filter_candidates(ids: np.ndarray, probability: np.ndarray, threshold: float) -> np.ndarray:
    """Boolean mask (D, H, W) of the candidates of at least `threshold`.

    `ids` (D, H, W) holds 1..n and 0 outside, `probability` (n,) one value for each. Raises InputError where
    there are more ids than probabilities.
    """
    if ids.max(initial=0) > len(probability):
        problem = f"has candidates up to {ids.max()}, but there are {len(probability)} probabilities."
        raise InputError("ids", problem, "Predict on the table that came with these ids.")
    return np.concatenate([[False], np.asarray(probability) >= threshold])[ids]
