"""How much of a score is the split: the same slices scored under several protocols, patient by patient.

Overlap scores (Dice, IoU, precision, recall) are those of slices that show the structure; presence
accuracy, pixel accuracy and loss those of every slice that a protocol tests on. All are averaged over a
patient's slices first, as slices of one patient are no independent witnesses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from livseg_lib.evaluation.slices import PRESENCE_THRESHOLD, score_slices
from livseg_lib.evaluation.statistics import bootstrap_interval, compare_pairs

OVERLAPS = ("dice", "iou", "precision", "recall")
SLICE_METRICS = ("dice", "iou", "presence_accuracy", "loss", "pixel_accuracy", "precision", "recall")
"""Those of systems C (the first three, and the loss) and D (the last five but Dice)."""
METRICS = (*SLICE_METRICS, "pooled_dice")
"""`pooled_dice` is that of all pixels of a patient's slices together: close to a volume's Dice."""

POINTS = 100.0
"""A score of 0 to 1 has a hundred points; a loss stays as it is."""


def score_held_out(planes: np.ndarray, reference: np.ndarray, threshold: float = 0.5) -> pd.DataFrame:
    """One row a slice: `SLICE_METRICS`, n_reference, n_predicted (pixels) and present_reference.

    `planes` uint8 levels (N, h, w), `reference` bool (N, h, w). Presence counts from system C's 0.30 on.
    Overlap scores are NaN on slices that do not show the structure.
    """
    rows = score_slices(planes, reference, threshold, PRESENCE_THRESHOLD)
    rows[list(OVERLAPS)] = rows[list(OVERLAPS)].where(rows["present_reference"])
    rows["presence_accuracy"] = (rows["present_reference"] == rows["present_predicted"]).astype(float)
    rows["loss"] = [bce_dice_loss(*pair) for pair in zip(planes, reference, strict=True)]
    return rows[[*SLICE_METRICS, "n_reference", "n_predicted", "present_reference"]]


def bce_dice_loss(levels: np.ndarray, reference: np.ndarray) -> float:
    """1 - Dice + binary cross-entropy of one slice, smoothing 1 (system C's loss, its batch being one slice).

    From uint8 levels: a probability is known to half a level, so no pixel costs more than log 510.
    """
    probability = levels / 255.0
    certain = np.clip(probability, 0.5 / 255.0, 1.0 - 0.5 / 255.0)
    entropy = -np.log(np.where(reference, certain, 1.0 - certain)).mean()
    dice = (2.0 * probability[reference].sum() + 1.0) / (probability.sum() + reference.sum() + 1.0)
    return float(1.0 - dice + entropy)


def patient_table(scores: pd.DataFrame) -> pd.DataFrame:
    """Mean of every metric over a patient's slices, where it is defined; a row a patient (the index)."""
    means = scores.groupby("patient")[list(SLICE_METRICS)].mean()
    pixels = scores["n_reference"] + scores["n_predicted"]
    # A slice's Dice times its pixels is twice its overlap; without the structure there is no overlap.
    sums = pd.DataFrame({"overlap": (scores["dice"] * pixels).fillna(0.0), "pixels": pixels})
    sums = sums.assign(reference=scores["n_reference"]).groupby(scores["patient"]).sum()
    return means.assign(pooled_dice=(sums["overlap"] / sums["pixels"]).where(sums["reference"] > 0))


def protocol_values(scores: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """A row a protocol and metric, of `scores` with `protocol`: the mean over patients with its 95 %
    bootstrap interval, and `over_slices`, the mean over slices as studies publish it.

    `n_undefined` slices of those that show the structure have no such score (precision where nothing was
    predicted).
    """
    rows = []
    for protocol, of_protocol in scores.groupby("protocol", sort=False):
        patients = patient_table(of_protocol)
        for metric in METRICS:
            values = patients[metric].dropna()
            low, high = bootstrap_interval(values, seed=seed)
            rows.append(
                {"protocol": protocol, "metric": metric, "value": values.mean(), "low": low, "high": high}
                | {"over_slices": _over_slices(of_protocol, metric), "n_patients": len(values)}
                | _counts(of_protocol, metric)
            )
    return pd.DataFrame(rows)


def _over_slices(scores: pd.DataFrame, metric: str) -> float:
    return float(scores[metric].mean()) if metric in scores else np.nan


def _counts(scores: pd.DataFrame, metric: str) -> dict[str, int]:
    taken = scores[scores["present_reference"]] if metric in OVERLAPS else scores
    undefined = int(taken[metric].isna().sum()) if metric in taken else 0
    return {"n_slices": len(taken) - undefined, "n_undefined": undefined}


def inflation_table(
    scores: pd.DataFrame, questions: Mapping[str, tuple[str, str]], seed: int = 0
) -> pd.DataFrame:
    """A row a question and metric: first protocol minus second, paired by patient.

    `questions` maps words to (first, second). Columns: question, metric, first, second, difference, low,
    high (95 % bootstrap interval over patients; points, i.e. hundredths, but for the loss), unit, n_patients,
    n_undefined (patients without a score in either), p and p_holm (sign flips, Holm's correction over
    the questions asked of one metric; see `paired`).
    """
    tables = {protocol: patient_table(part) for protocol, part in scores.groupby("protocol", sort=False)}
    parts = [_differences(tables, questions, metric, seed) for metric in METRICS]
    table = pd.concat(parts, ignore_index=True)
    order = {question: place for place, question in enumerate(questions)}
    return table.sort_values(
        "question", key=lambda column: column.map(order), kind="stable", ignore_index=True
    )


def _differences(
    tables: Mapping[str, pd.DataFrame], questions: Mapping[str, tuple[str, str]], metric: str, seed: int
) -> pd.DataFrame:
    wide = pd.DataFrame({protocol: table[metric] for protocol, table in tables.items()})
    found = compare_pairs(wide, list(questions.values()), seed=seed)
    scale, unit = (1.0, "loss") if metric == "loss" else (POINTS, "points")
    differences = {
        name: found[column] * scale
        for name, column in zip(("difference", "low", "high"), _DIFFERENCE_COLUMNS, strict=True)
    }
    kept = found[["first", "second", "n_patients", "n_undefined", "p", "p_holm"]]
    return kept.assign(question=list(questions), metric=metric, unit=unit, **differences)[list(COLUMNS)]


_DIFFERENCE_COLUMNS = ("difference", "difference_low", "difference_high")
COLUMNS = ("question", "metric", "first", "second", "difference", "low", "high", "unit", "n_patients")
COLUMNS += ("n_undefined", "p", "p_holm")

DISTANCES = (1, 2, 3, 5, 10, 20)
"""Where the groups of `by_distance` begin, in slices."""


def by_distance(scores: pd.DataFrame, pairs: Sequence[tuple[str, str]], seed: int = 0) -> pd.DataFrame:
    """Mean Dice by how far a slice is from the nearest one of its patient that was trained on.

    `pairs` are (by slice, by patient) protocols; `distance` (slices) is that under the first, and the
    second is read on the same slices. A row a pair, group and protocol: deals_first (whether it is the
    first), from_slices, to_slices (inclusive; NaN: no end), value, low, high (over patients), n_slices,
    n_patients.
    """
    keys, rows = ["patient", "case", "slice"], []
    for first, second in pairs:
        sides = [scores[scores["protocol"] == name].set_index(keys) for name in (first, second)]
        both = pd.DataFrame({"first": sides[0]["dice"], "second": sides[1]["dice"]})
        both["group"] = sides[0]["distance"].dropna().map(lambda slices: np.digitize(slices, DISTANCES))
        for group, part in both.dropna().astype({"group": int}).groupby("group"):
            ends = {"from_slices": DISTANCES[group - 1], "to_slices": _last_of(group)}
            for name, column in ((first, "first"), (second, "second")):
                values = part.groupby("patient")[column].mean()
                low, high = bootstrap_interval(values, seed=seed)
                rows.append(
                    {"pair": first, "protocol": name, **ends, "value": values.mean(), "low": low}
                    | {"high": high, "n_slices": len(part), "n_patients": len(values)}
                )
    return pd.DataFrame(rows)


def _last_of(group: int) -> float:
    return DISTANCES[group] - 1 if group < len(DISTANCES) else np.nan
