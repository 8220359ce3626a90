"""How much of a score is the split: the same slices scored under several protocols, patient by patient.

Overlap scores (Dice, IoU, precision, recall) are those of slices that show the structure; presence
accuracy, pixel accuracy and loss those of every slice that a protocol tests on. All are averaged over a
patient's slices first, as slices of one patient are no independent witnesses.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd

from livseg_lib.evaluation.slices import PRESENCE_THRESHOLD, score_slices
from livseg_lib.evaluation.statistics import compare, summarize

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


def _of_patients(scores: pd.DataFrame) -> pd.DataFrame:
    """protocol, patient, metric, value: `patient_table` of each protocol, a row a metric."""
    tables = {name: patient_table(part) for name, part in scores.groupby("protocol", sort=False)}
    tables = {
        name: table.reset_index().melt("patient", list(METRICS), "metric") for name, table in tables.items()
    }
    return pd.concat(tables, names=["protocol"]).reset_index("protocol")


def protocol_values(scores: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """A row a protocol and metric, of `scores` with `protocol`: the mean over patients with its 95 %
    bootstrap interval, and `over_slices`, the mean over slices as studies publish it.

    `n_undefined` slices of those that show the structure have no such score (precision where nothing was
    predicted).
    """
    table = summarize(_of_patients(scores), ["protocol", "metric"], "value", seed=seed)
    rows = []
    for protocol, metric in zip(table.protocol, table.metric, strict=True):
        taken = scores[scores.protocol == protocol]
        taken = taken[taken.present_reference] if metric in OVERLAPS else taken
        values = taken.get(metric, pd.Series(0.0, taken.index))
        over_slices = values.mean() if metric in taken else np.nan
        rows.append((over_slices, values.notna().sum(), values.isna().sum()))
    names = ["over_slices", "n_slices", "n_undefined"]
    table = table.drop(columns="n_undefined").join(pd.DataFrame(rows, columns=names))
    table = table.rename(columns=_ENDS)
    return table[["protocol", "metric", "value", "low", "high", names[0], "n_patients", *names[1:]]]


def inflation_table(
    scores: pd.DataFrame, questions: Mapping[str, tuple[str, str]], seed: int = 0
) -> pd.DataFrame:
    """A row a question and metric: first protocol minus second, paired by patient.

    `questions` maps words to (first, second). Columns: question, metric, first, second, difference, low,
    high (95 % bootstrap interval over patients; points, i.e. hundredths, but for the loss), unit, n_patients,
    n_undefined (patients without a score in either), p and p_holm (sign flips, Holm's correction over
    the questions asked of one metric; see `compare`).
    """
    pairs = list(questions.values())
    table = compare(_of_patients(scores), pairs, "value", by=["metric"], between="protocol", seed=seed)
    table = table.assign(question=list(questions) * len(METRICS))
    table["unit"] = np.where(table.metric == "loss", "loss", "points")
    ends = {"difference": "difference", "difference_low": "low", "difference_high": "high"}
    for name, end in ends.items():
        table[end] = table[name] * np.where(table.metric == "loss", 1.0, POINTS)
    order = table.question.map(list(questions).index).sort_values(kind="stable").index
    return table.loc[order, list(_COLUMNS)].reset_index(drop=True)


_COLUMNS = ("question", "metric", "first", "second", "difference", "low", "high", "unit", "n_patients")
_COLUMNS += ("n_undefined", "p", "p_holm")

DISTANCES = (1, 2, 3, 5, 10, 20)
"""Where the groups of `by_distance` begin, in slices."""


def by_distance(scores: pd.DataFrame, pairs: Iterable[tuple[str, str]], seed: int = 0) -> pd.DataFrame:
    """Mean Dice by how far a slice is from the nearest one of its patient that was trained on.

    `pairs` are (by slice, by patient) protocols; `distance` (slices) is that under the first, and the
    second is read on the same slices. A row a pair, group and protocol: pair (the first), protocol,
    from_slices, to_slices (inclusive; NaN: no end), value, low, high (over patients), n_slices, n_patients.
    """
    tables, last = [], dict(zip(DISTANCES, (*np.subtract(DISTANCES[1:], 1), np.nan), strict=True))
    for pair in pairs:
        sides = [scores[scores.protocol == name].set_index(["patient", "case", "slice"]) for name in pair]
        both = pd.DataFrame({number: side.dice for number, side in enumerate(sides)})
        distance = sides[0].distance.dropna()
        starts = np.array(DISTANCES)[np.digitize(distance, DISTANCES) - 1]
        both["from_slices"] = pd.Series(starts, distance.index)
        rows = both.dropna().reset_index().melt(["patient", "from_slices"], [0, 1], "protocol")
        rows["protocol"] = rows.protocol.map(dict(enumerate(pair)))
        rows = rows.astype({"from_slices": int}).sort_values("from_slices", kind="stable")
        groups = ["from_slices", "protocol"]
        table = summarize(rows, groups, "value", seed=seed).rename(columns=_ENDS)
        sizes = rows.groupby(groups, sort=False).size().rename("n_slices").reset_index()
        tables.append(table.merge(sizes).assign(pair=pair[0], to_slices=table.from_slices.map(last)))
    columns = ["pair", "protocol", "from_slices", "to_slices", "value", "low", "high", "n_slices"]
    return pd.concat(tables, ignore_index=True)[[*columns, "n_patients"]]


_ENDS = {"value_low": "low", "value_high": "high"}
