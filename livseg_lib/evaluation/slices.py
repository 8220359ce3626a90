"""Scores slice by slice, as systems B, C and D report them, and of who names slices (system F).

2D means flatter: read them beside the patients' 3D. Undefined (0/0) is NaN: the Dice of two empty slices, the
precision of a class that was never named, the recall of one that never occurs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

from livseg_lib.errors import InputError
from livseg_lib.evaluation import masks
from livseg_lib.evaluation.masks import require_same_shape
from livseg_lib.evaluation.probabilities import is_predicted

SLICE_SCORES = {
    "dice": masks.dice,
    "iou": masks.jaccard,
    "pixel_accuracy": masks.pixel_accuracy,
    "precision": masks.precision,
    "recall": masks.recall,
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
    counts = masks.overlap_counts(is_predicted(probability_planes, threshold), reference, axis=(1, 2))
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


MACRO = "macro mean"
"""Name of the row that averages over classes, each counting alike."""

CLASS_SCORES = {
    "precision": masks.precision,
    "recall": masks.recall,
    "specificity": masks.specificity,
    "f1": masks.dice,  # the same quotient by another name
}
"""Those that system F (Kaur et al. 2021) reports, beside the accuracy."""


def confusion_matrix(truth: Sequence[str], predicted: Sequence[str], classes: Sequence[str]) -> pd.DataFrame:
    """Counts (K, K): row what it is, column what it was called, both in the order of `classes`.

    Raises InputError where lengths differ or a name is not one of `classes`.
    """
    truth, predicted = np.asarray(truth, dtype=str), np.asarray(predicted, dtype=str)
    if truth.shape != predicted.shape:
        raise InputError(
            "predicted", f"are {predicted.size} names for {truth.size} truths.", "Give one each."
        )
    strangers = sorted(({*truth.tolist()} | {*predicted.tolist()}) - set(classes))
    if strangers:
        raise InputError("classes", f"lack {', '.join(map(repr, strangers))}.", "Name every class.")
    counts = pd.crosstab(truth, predicted).reindex(index=list(classes), columns=list(classes), fill_value=0)
    return counts.astype(int).rename_axis(index=None, columns=None)


def accuracy(confusion: pd.DataFrame) -> float:
    """Share of all pictures that were called what they are, 0 to 1; NaN without a picture."""
    counts = confusion.to_numpy()
    return float(np.trace(counts) / counts.sum()) if counts.sum() else math.nan


def class_scores(confusion: pd.DataFrame) -> pd.DataFrame:
    """A row a class, and MACRO: `class, n_slices, precision, recall, specificity, f1`, 0 to 1 or NaN.

    Each class stands against all others together. The macro mean is over the classes whose score is
    defined; `n_undefined` counts the undefined scores of a row, or of all classes.
    """
    counts = confusion.to_numpy()
    hit, named, present = np.diag(counts), counts.sum(axis=0), counts.sum(axis=1)
    against = masks.OverlapCounts(hit, named - hit, present - hit, counts.sum() - named - present + hit)
    rows = pd.DataFrame({name: np.atleast_1d(score(against)) for name, score in CLASS_SCORES.items()})
    undefined = rows.isna().sum(axis=1)
    rows.loc[len(rows)] = rows.mean()
    rows.insert(0, "class", [*confusion.index, MACRO])
    rows.insert(1, "n_slices", [*present, counts.sum()])
    return rows.assign(n_undefined=[*undefined, undefined.sum()])


def threshold_for_recall(scores: np.ndarray, truth: np.ndarray, recall: float) -> float:
    """The highest threshold at which `scores` (N,) >= it find at least `recall` of `truth` (N,) bool.

    Choose it on validation patients, never on test patients. Raises InputError unless 0 < recall <= 1, or
    where there is nothing to find.
    """
    if not 0 < recall <= 1:
        raise InputError("recall", f"is {recall}.", "Give more than 0, and 1 at most.")
    found = np.sort(np.asarray(scores)[np.asarray(truth, dtype=bool)])[::-1]
    if not len(found):
        raise InputError("truth", "has nothing to find.", "Choose other patients.")
    return float(found[math.ceil(recall * len(found) - 1e-9) - 1])
