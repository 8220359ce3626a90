"""Scores a slice, as systems B, C and D report them. 2D means flatter: read them beside the patients' 3D."""

from __future__ import annotations

import numpy as np
import pandas as pd

from livseg_lib.evaluation import overlap
from livseg_lib.evaluation.arrays import require_same_shape
from livseg_lib.evaluation.probabilities.probability_histogram import is_predicted

SLICE_SCORES = {
    "dice": overlap.dice,
    "iou": overlap.jaccard,
    "pixel_accuracy": overlap.pixel_accuracy,
    "precision": overlap.precision,
    "recall": overlap.recall,
}
PRESENCE_THRESHOLD = 0.30
"""System C's."""


def score_slices(
    probability_planes: np.ndarray,
    reference: np.ndarray,
    threshold: float,
    presence_threshold: float = PRESENCE_THRESHOLD,
) -> pd.DataFrame:
    """One row a slice: dice, iou, pixel_accuracy, precision, recall, n_reference, n_predicted (pixels),
    present_reference, present_predicted.

    `probability_planes` (N, h, w), uint8 levels (level / 255) or floats 0 to 1; `reference` bool (N, h, w).
    Predicted is probability >= `threshold`; present is any pixel >= `presence_threshold`. Undefined (0/0,
    such as the Dice of two empty slices) is NaN. Raises InputError where the arrays do not match.
    """
    require_same_shape(probability_planes, reference)
    counts = overlap.overlap_counts(is_predicted(probability_planes, threshold), reference, axis=(1, 2))
    rows = {name: score(counts) for name, score in SLICE_SCORES.items()}
    rows |= {"n_reference": counts.reference, "n_predicted": counts.prediction}
    rows["present_reference"] = counts.reference > 0
    rows["present_predicted"] = is_predicted(probability_planes, presence_threshold).any(axis=(1, 2))
    return pd.DataFrame(rows)


def summarize_slices(rows: pd.DataFrame) -> dict[str, float]:
    """Mean of every score over the slices where it is defined, `n_undefined_<score>` beside it; n_slices,
    n_slices_present, and `presence_accuracy`: the share of slices in which prediction and truth agree on
    whether there is anything at all (system C; NaN without a slice).
    """
    summary: dict[str, float] = {
        "n_slices": len(rows),
        "n_slices_present": int(rows["present_reference"].sum()),
        "presence_accuracy": float((rows["present_reference"] == rows["present_predicted"]).mean()),
    }
    for name in SLICE_SCORES:
        summary[name] = float(rows[name].mean())
        summary[f"n_undefined_{name}"] = int(rows[name].isna().sum())
    return summary
