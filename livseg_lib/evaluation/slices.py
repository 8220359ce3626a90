"""Scores slice by slice (systems B, C, D), of who names slices (F), and what a split by slice makes of them.

2D means flatter: read them beside the patients' 3D. Undefined (0/0) is NaN: the Dice of two empty slices, the
precision of a class that was never named. Where the same slices are scored under several protocols, overlap
scores are those of slices that show the structure, all others those of every slice that a protocol tests on;
all are averaged over a patient's slices first, as slices of one patient are no independent witnesses.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd

from livseg_lib.errors import InputError
from livseg_lib.evaluation import masks
from livseg_lib.evaluation.masks import require_same_shape
from livseg_lib.evaluation.probabilities import is_predicted
from livseg_lib.evaluation.statistics import compare, summarize

SLICE_SCORES = {
    "dice": masks.dice,
    "iou": masks.jaccard,
    "pixel_accuracy": masks.pixel_accuracy,
    "precision": masks.precision,
    "recall": masks.recall,
}
PRESENCE_THRESHOLD = 0.30  # system C's


def score_slices(probability_planes: np.ndarray, reference: np.ndarray, threshold: float) -> pd.DataFrame:
    """One row a slice: dice, iou, pixel_accuracy, precision, recall, n_reference, n_predicted (pixels),
    present_reference, present_predicted.

    `probability_planes` (N, h, w), uint8 levels (level / 255) or floats 0 to 1; `reference` bool (N, h, w).
    Predicted is probability >= `threshold`; present is any pixel >= PRESENCE_THRESHOLD. Undefined (0/0,
    such as the Dice of two empty slices) is NaN. Raises InputError where the arrays do not match.
    """
    require_same_shape(probability_planes, reference)
    counts = masks.overlap_counts(is_predicted(probability_planes, threshold), reference, axis=(1, 2))
    rows = {name: score(counts) for name, score in SLICE_SCORES.items()}
    rows |= {"n_reference": counts.reference, "n_predicted": counts.prediction}
    rows["present_reference"] = counts.reference > 0
    rows["present_predicted"] = is_predicted(probability_planes, PRESENCE_THRESHOLD).any(axis=(1, 2))
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


MACRO = "macro mean"  # name of the row that averages over classes, each counting alike


def confusion_matrix(truth: Sequence[str], predicted: Sequence[str], classes: Sequence[str]) -> pd.DataFrame:
    """Counts (K, K): row what it is, column what it was called, both in the order of `classes`.

    Raises InputError where lengths differ or a name is not one of `classes`.
    """
    truth, predicted = np.asarray(truth, dtype=str), np.asarray(predicted, dtype=str)
    if truth.shape != predicted.shape:
        problem = f"are {predicted.size} names for {truth.size} truths."
        raise InputError("predicted", problem, "Give one each.")
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

    Scores are those of system F (Kaur et al. 2021), each class against all others together. The macro mean
    is over the classes whose score is defined; `n_undefined` counts the undefined scores of a row, or of all.
    """
    counts = confusion.to_numpy()
    hit, named, present = np.diag(counts), counts.sum(axis=0), counts.sum(axis=1)
    against = masks.OverlapCounts(hit, named - hit, present - hit, counts.sum() - named - present + hit)
    scores = {"precision": masks.precision, "recall": masks.recall, "specificity": masks.specificity}
    scores["f1"] = masks.dice  # the same quotient by another name
    rows = pd.DataFrame({name: np.atleast_1d(score(against)) for name, score in scores.items()})
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
    return float(found[max(math.ceil(recall * len(found) - 1e-9), 1) - 1])


OVERLAPS = ("dice", "iou", "precision", "recall")
SLICE_METRICS = ("dice", "iou", "presence_accuracy", "loss", "pixel_accuracy", "precision", "recall")
"""Those of systems C (dice, iou, presence_accuracy, loss) and D (all but dice and presence_accuracy)."""
METRICS = (*SLICE_METRICS, "pooled_dice")
"""`pooled_dice` is that of all pixels of a patient's slices together: close to a volume's Dice."""


def score_held_out(planes: np.ndarray, reference: np.ndarray, threshold: float = 0.5) -> pd.DataFrame:
    """One row a slice: `SLICE_METRICS`, n_reference, n_predicted (pixels) and present_reference.

    `planes` uint8 levels (N, h, w), `reference` bool (N, h, w). Presence counts from system C's 0.30 on.
    Overlap scores are NaN on slices that do not show the structure.
    """
    rows = score_slices(planes, reference, threshold)
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
    means = scores.groupby("patient", observed=True)[list(SLICE_METRICS)].mean()
    pixels = scores["n_reference"] + scores["n_predicted"]
    # A slice's Dice times its pixels is twice its overlap; without the structure there is no overlap.
    sums = pd.DataFrame({"overlap": (scores["dice"] * pixels).fillna(0.0), "pixels": pixels})
    sums = sums.assign(reference=scores["n_reference"]).groupby(scores["patient"], observed=True).sum()
    return means.assign(pooled_dice=(sums["overlap"] / sums["pixels"]).where(sums["reference"] > 0))


def _of_patients(scores: pd.DataFrame) -> pd.DataFrame:
    """protocol, patient, metric, value: `patient_table` of each protocol, a row a metric."""
    tables = {
        name: patient_table(part).reset_index().melt("patient", list(METRICS), "metric")
        for name, part in scores.groupby("protocol", sort=False)
    }
    return pd.concat(tables, names=["protocol"]).reset_index("protocol")


def protocol_values(scores: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """A row a protocol and metric, of `scores` with `protocol`: the mean over patients with its 95 %
    bootstrap interval, and `over_slices`, the mean over slices as studies publish it.

    `n_undefined` slices that show the structure have no such score (no precision without a prediction).
    """
    table = summarize(_of_patients(scores), ["protocol", "metric"], "value", seed=seed)
    rows = []
    for protocol, metric in zip(table.protocol, table.metric, strict=True):
        chosen = scores[scores.protocol == protocol]
        chosen = chosen[chosen.present_reference] if metric in OVERLAPS else chosen
        values = chosen.get(metric, pd.Series(0.0, chosen.index))
        over_slices = values.mean() if metric in chosen else np.nan
        rows.append((over_slices, values.notna().sum(), values.isna().sum()))
    names = ["over_slices", "n_slices", "n_undefined"]
    table = table.drop(columns="n_undefined").join(pd.DataFrame(rows, columns=names))
    table = table.rename(columns=_ENDS)
    return table[["protocol", "metric", "value", "low", "high", names[0], "n_patients", *names[1:]]]


def inflation_table(
    scores: pd.DataFrame, questions: Mapping[str, tuple[str, str]], seed: int = 0
) -> pd.DataFrame:
    """A row a question and metric: first protocol minus second, paired by patient.

    `questions` maps words to (first, second). Columns: question, metric, first, second, difference, low, high
    (95 % bootstrap interval over patients; in hundredths, but for the loss), unit, n_patients, n_undefined
    (patients without a score in either), p and p_holm (for the questions asked of a metric; see `compare`).
    """
    pairs = list(questions.values())
    table = compare(_of_patients(scores), pairs, "value", by=["metric"], between="protocol", seed=seed)
    table = table.assign(question=list(questions) * len(METRICS))
    table["unit"] = np.where(table.metric == "loss", "loss", "points")
    factor = table.unit.map({"loss": 1.0, "points": 100.0})  # a score of 0 to 1 has a hundred points
    for name, end in (("difference", "difference"), ("difference_low", "low"), ("difference_high", "high")):
        table[end] = table[name] * factor
    order = table.question.map(list(questions).index).sort_values(kind="stable").index
    columns = ["question", "metric", "first", "second", "difference", "low", "high", "unit", "n_patients"]
    return table.loc[order, [*columns, "n_undefined", "p", "p_holm"]].reset_index(drop=True)


DISTANCES = (1, 2, 3, 5, 10, 20)  # where the groups of `by_distance` begin, in slices


def by_distance(scores: pd.DataFrame, pairs: Iterable[tuple[str, str]], seed: int = 0) -> pd.DataFrame:
    """Mean Dice by how far a slice is from the nearest one of its patient that was trained on.

    `pairs` are (by slice, by patient) protocols; `distance` (slices) is that under the first, and the
    second is read on the same slices. A row a pair, group and protocol: pair (the first), protocol,
    from_slices, to_slices (inclusive; NaN: no end), value, low, high (over patients), n_slices, n_patients.
    """
    tables, last = [], dict(zip(DISTANCES, (*np.subtract(DISTANCES[1:], 1), np.nan), strict=True))
    for pair in pairs:
        sides = [scores[scores.protocol == name].set_index(["patient", "case", "slice"]) for name in pair]
        joined = pd.DataFrame({number: side.dice for number, side in enumerate(sides)})
        distance = sides[0].distance.dropna()
        starts = np.array(DISTANCES)[np.digitize(distance, DISTANCES) - 1]
        joined["from_slices"] = pd.Series(starts, distance.index)
        rows = joined.dropna().reset_index().melt(["patient", "from_slices"], [0, 1], "protocol")
        rows["protocol"] = rows.protocol.map(dict(enumerate(pair)))
        rows = rows.astype({"from_slices": int}).sort_values("from_slices", kind="stable")
        groups = ["from_slices", "protocol"]
        table = summarize(rows, groups, "value", seed=seed).rename(columns=_ENDS)
        sizes = rows.groupby(groups, sort=False).size().rename("n_slices").reset_index()
        tables.append(table.merge(sizes).assign(pair=pair[0], to_slices=table.from_slices.map(last)))
    columns = ["pair", "protocol", "from_slices", "to_slices", "value", "low", "high", "n_slices"]
    return pd.concat(tables, ignore_index=True)[[*columns, "n_patients"]]


_ENDS = {"value_low": "low", "value_high": "high"}
