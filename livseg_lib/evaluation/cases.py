"""All scores of a case, and of many cases, in the terms of the LiTS benchmark (system K).

Keys of the mapping that `score_case` returns, with `liver_` (label >= 1) and `tumor_` (label 2) before the
first two groups:

| key | meaning |
| --- | --- |
| dice, jaccard, voe, rvd | overlap of the whole structure; `rvd` is signed |
| assd, rmsd, msd, hd95 | distances in mm; of tumours the mean over the `n_tumors_scored` detected ones |
| surface_dice | share of the whole structure's surface within a tolerance in mm |
| intersection_voxels, prediction_voxels, reference_voxels | what a data set's global Dice is summed from |
| n_tumors_reference, n_tumors_prediction, n_tumors_scored | face-connected objects; pairs with IoU > 0.5 |
| true_positives, false_positives, false_negatives, precision, recall | detection at IoU > 0.5 |
| the same names with _greater_zero | detection at IoU > 0 |
| lesion_dice | mean Dice of single tumours, 0 for each that is missed or surplus |
| panoptic_quality, segmentation_quality, recognition_quality | of `n_tumors_matched` pairs, one to one |
| tumor_burden_reference, tumor_burden_prediction, tumor_burden_error | tumour share of the liver, and R - P |

Empty structures: both tumours empty is a Dice of 1, one empty 0. A prediction without any voxel of label 1
has no liver (system K): its liver counts as empty with Dice 0, its tumour burden is undefined. Whatever
divides by nothing, or measures to a surface that is not there, is NaN: every distance with an empty mask on
either side, and of tumours where none is detected; `rvd` without a reference; surface Dice, lesion Dice
and panoptic quality where both sides are empty (one empty side is a plain 0); segmentation quality where
no pair matches. Only detection precision and recall are 0 where nothing is predicted or there is nothing
to find, as LiTS defines them.

HD95, surface Dice, lesion Dice and panoptic quality are no part of the benchmark: mode "lits_asis" leaves
them as they are, but for the tumours' HD95, which is of those that the shipped scorer takes for detected.

No mean over cases stands alone: `summarize_cases` says of how many cases each is, in how many the reference
is empty, and how many were missed altogether.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from livseg_lib.errors import InputError
from livseg_lib.evaluation import masks
from livseg_lib.evaluation.lesions import (
    Detection,
    LesionOverlap,
    LesionPair,
    count_detections,
    detected_pairs,
    lesion_dice,
    panoptic_quality,
    pool_panoptic,
    tumor_overlap,
)
from livseg_lib.labels import MOSTLY_TUMOR, structure_mask


@dataclass(frozen=True, eq=False)
class Comparison:
    """What a score is asked about: a structure of a case, or one detected tumour, predicted and true."""

    structure: str  # "liver" or "tumor"
    prediction: np.ndarray  # bool (D, H, W), cropped to what is there
    reference: np.ndarray
    spacing_mm: Sequence[float]  # (D, H, W); NaN where it is unknown
    tolerance_mm: float = masks.SURFACE_TOLERANCE_MM  # of the surface Dice

    @cached_property
    def counts(self) -> masks.OverlapCounts:
        return masks.overlap_counts(self.prediction, self.reference)

    @cached_property
    def distances(self) -> masks.SurfaceDistances:
        return masks.surface_distances(self.prediction, self.reference, self.spacing_mm)

    @property
    def dice(self) -> float:
        """With the benchmark's word on two empty masks."""
        return masks.defined_dice(self.counts, self.structure)

    @property
    def jaccard(self) -> float:
        return self.dice / (2 - self.dice)


@dataclass(frozen=True)
class Score:
    """A score of a structure: how it is measured, and what it is called."""

    measure: Callable[[Comparison], float]  # NaN where it is undefined
    title: str = ""  # in the table that `livseg evaluate` prints; without a title it is left out there
    column: str = ""  # in patients.csv, where its name is no good for that
    of_each_tumor: bool = False  # of tumours the mean over the detected ones, not that of all together


SCORES = {
    "dice": Score(lambda pair: pair.dice),
    "jaccard": Score(lambda pair: pair.jaccard, column="iou"),
    "voe": Score(lambda pair: 1 - pair.jaccard, "VOE"),
    "rvd": Score(lambda pair: masks.rvd(pair.counts), "RVD"),
    "assd": Score(lambda pair: masks.assd(pair.distances), "ASSD (mm)", "assd_mm", True),
    "rmsd": Score(lambda pair: masks.rmsd(pair.distances), "RMSD (mm)", "rmsd_mm", True),
    "msd": Score(lambda pair: masks.msd(pair.distances), "MSD, Hausdorff (mm)", "msd_mm", True),
    "hd95": Score(lambda pair: masks.hd95(pair.distances), "HD95 (mm)", "hd95_mm", True),
    "surface_dice": Score(lambda pair: masks.surface_dice(pair.distances, pair.tolerance_mm), "surface Dice"),
}
"""Every score of liver and tumour, by its name. One more entry, and it stands in scores.json, in what
`livseg evaluate` prints, in patients.csv and lits_scores.csv, and `livseg compare` knows it."""

SURFACE_SCORES = ("assd", "rmsd", "msd")  # the benchmark's own, overlap and distance
AS_SHIPPED_INFINITY = 9001.0  # what the shipped scorer writes for infinity
AS_SHIPPED_DEFAULTS = dict.fromkeys(("rvd", *SURFACE_SCORES), AS_SHIPPED_INFINITY)
AS_SHIPPED_DEFAULTS |= {"dice": 0.0, "jaccard": 0.0, "voe": 1.0}
"""Its scores of an organ that was missed."""


def score_case(
    prediction: np.ndarray,
    reference: np.ndarray,
    spacing_mm: Sequence[float],
    mode: str = "intended",
    tolerance_mm: float = masks.SURFACE_TOLERANCE_MM,
) -> dict[str, float]:
    """Score two integer label volumes (D, H, W) of one shape; the keys are explained above.

    `spacing_mm` (D, H, W) is the reference's; where it is NaN the distances are NaN. Mode "lits_asis"
    repeats the arithmetic of the shipped scorer: its detection, and its defaults for a missed liver.
    `tolerance_mm` is that of the surface Dice. Raises InputError for what cannot be scored, and other modes.
    """
    masks.require_label_volumes(prediction, reference)
    box = masks.foreground_box(prediction, reference)
    prediction, reference = prediction[box], reference[box]
    livers = masks.predicted_mask(prediction, "liver"), structure_mask(reference, "liver")
    liver = _scores(Comparison("liver", *livers, spacing_mm, tolerance_mm), SCORES)
    if mode == "lits_asis" and liver["prediction_voxels"] == 0:
        liver |= AS_SHIPPED_DEFAULTS
    lesions = tumor_overlap(prediction, reference)
    tumors = lesions.prediction_components > 0, lesions.reference_components > 0
    together = [name for name in SCORES if not SCORES[name].of_each_tumor]
    tumor = _scores(Comparison("tumor", *tumors, spacing_mm, tolerance_mm), together)
    detected = detected_pairs(lesions, mode=mode)[0]
    tumor |= _means_over_detected(lesions, detected, spacing_mm, tolerance_mm)
    scores = {f"liver_{key}": value for key, value in liver.items()}
    scores |= {f"tumor_{key}": value for key, value in tumor.items()}
    scores |= {"n_tumors_reference": lesions.n_reference, "n_tumors_prediction": lesions.n_prediction}
    scores["n_tumors_scored"] = len(detected)
    for threshold, suffix in ((0.5, ""), (0.0, "_greater_zero")):
        found = count_detections(lesions, threshold, mode)
        scores |= {name + suffix: value for name, value in (found._asdict() | detection_rates(found)).items()}
    scores |= {"lesion_dice": lesion_dice(lesions)} | panoptic_quality(lesions)._asdict()
    return scores | _tumor_burden(scores, mode)


def doubts(case_scores: Iterable[Mapping]) -> list[str]:
    """A sentence on each side whose labels are unlikely in most of the mappings of `score_case`, or hold no
    tumour where the others do."""
    scores = pd.DataFrame(case_scores)
    burden = scores.filter(regex="^tumor_burden_(reference|prediction)$").median()
    said = [f"In most cases of the {name[13:]} {MOSTLY_TUMOR}" for name in burden[burden > 0.5].index]
    tumors = scores.filter(regex="^tumor_(reference|prediction)_voxels$").sum(min_count=1)
    lacking = tumors.index[(tumors == 0) & tumors.any()]
    return said + [f"No {name[6:-7]} holds a tumour (2): were they looked for there?" for name in lacking]


def keys_of(structure: str, scores: Iterable[str]) -> list[str]:
    """Keys of `score_case` that mean nothing where `structure` was not looked for; the burden needs both."""
    own = ("liver_", "tumor_burden")
    return [key for key in scores if (key.startswith(own) if structure == "liver" else key[:6] != "liver_")]


def _scores(pair: Comparison, names: Iterable[str]) -> dict[str, float]:
    """Those of SCORES, and the sizes, in the order in which files of scores have always had them."""
    found = {name: float(SCORES[name].measure(pair)) for name in names}
    sizes = {
        "intersection_voxels": int(pair.counts.true_positives),
        "prediction_voxels": int(pair.counts.prediction),
        "reference_voxels": int(pair.counts.reference),
    }
    either = found | sizes
    return {name: either[name] for name in ("dice", "jaccard", "voe", "rvd", *sizes, *found)}


def _means_over_detected(
    lesions: LesionOverlap, detected: Iterable[LesionPair], spacing_mm: Sequence[float], tolerance_mm: float
) -> dict[str, float]:
    """Means over the detected tumours of a case, of the scores that are taken so; NaN where there is none."""
    scores = {name: score for name, score in SCORES.items() if score.of_each_tumor}
    known: dict[tuple, list[float]] = {}  # specks look alike by the thousand: each kind is measured once
    rows = []
    for pair in detected:
        prediction, reference = lesions.masks(pair)
        content = prediction.shape, prediction.tobytes(), reference.tobytes()
        if content not in known:
            tumor = Comparison("tumor", prediction, reference, spacing_mm, tolerance_mm)
            known[content] = [score.measure(tumor) for score in scores.values()]
        rows.append(known[content])
    means = np.mean(rows, axis=0).tolist() if rows else [np.nan] * len(scores)
    return dict(zip(scores, means, strict=True))


def detection_rates(found: Detection) -> dict[str, float]:
    """Precision and recall of counted objects; 0 where nothing is predicted or there is nothing to find."""
    predicted = found.true_positives + found.false_positives
    present = found.true_positives + found.false_negatives
    return {
        "precision": found.true_positives / predicted if predicted else 0.0,
        "recall": found.true_positives / present if present else 0.0,
    }


def _tumor_burden(scores: dict, mode: str) -> dict:
    """Tumour share of the liver, 0 to 1, on both sides; NaN without liver (as shipped: 9001 if predicted)."""
    reference, prediction = (
        scores[f"tumor_{side}_voxels"] / (scores[f"liver_{side}_voxels"] or np.nan)
        for side in ("reference", "prediction")
    )
    if mode == "lits_asis" and np.isnan(prediction):
        prediction = AS_SHIPPED_INFINITY
    burden = {"reference": reference, "prediction": prediction, "error": reference - prediction}
    return {f"tumor_burden_{name}": value for name, value in burden.items()}


def summarize_cases(case_scores: pd.DataFrame | Iterable[Mapping], mode: str = "intended") -> dict:
    """Sum up the mappings of `score_case` (a row or an element each), all scored in the same `mode`.

    Returns `n_cases`, one mapping for "liver" and "tumor" (dice_per_case, dice_global, means of the other
    scores, n_cases, n_empty_reference, n_missed, and n_defined: cases, for tumour distances detected
    tumours, behind each mean), "detection" (counts, precision and recall pooled over all cases, at IoU
    > 0.5 and, with _greater_zero, > 0), "lesions" (the mean lesion_dice and over how many cases it is
    defined; n_tumors_matched and panoptic, segmentation and recognition quality of all cases pooled, as
    Kirillov et al. have it) and "tumor_burden" (rmse, max_error, n_defined). Undefined is NaN. Raises
    InputError where there is no case.
    """
    cases = pd.DataFrame(case_scores).reset_index(drop=True)  # rows may bear one name
    if cases.empty:
        raise InputError("case_scores", "holds no case.", "Score at least one patient.")
    tumor = _structure_summary(cases, "tumor", surfaces=cases["n_tumors_scored"])
    if mode == "lits_asis" and cases["n_tumors_scored"].max() == 0:  # NaN where none was looked for
        tumor |= dict.fromkeys(SURFACE_SCORES, AS_SHIPPED_INFINITY)
    detection = {}
    for suffix in ("", "_greater_zero"):
        found = Detection(*(int(cases[name + suffix].sum()) for name in Detection._fields))
        rates = detection_rates(found)
        if not tumor["n_defined"]["dice_per_case"]:  # none was looked for
            rates = dict.fromkeys(rates, np.nan)
        detection |= {name + suffix: n for name, n in (found._asdict() | rates).items()}
    errors = cases["tumor_burden_error"].dropna()
    sizes = errors if mode == "lits_asis" else errors.abs()  # the shipped scorer keeps the sign
    rmse, max_error = float(np.sqrt((errors**2).mean())), float(sizes.max())
    return {
        "mode": mode,
        "n_cases": len(cases),
        "liver": _structure_summary(cases, "liver", surfaces=pd.Series(1, cases.index)),
        "tumor": tumor,
        "detection": detection,
        "lesions": _lesion_summary(cases),
        "tumor_burden": {"rmse": rmse, "max_error": max_error, "n_defined": len(errors)},
    }


def _structure_summary(cases: pd.DataFrame, structure: str, surfaces: pd.Series) -> dict:
    """Global Dice, the means over cases, and what stands beside them.

    `surfaces`: of how many objects each case's surface scores are the mean; each object weighs alike.
    """
    columns = cases.filter(regex=f"^{structure}_").rename(columns=lambda c: c.removeprefix(f"{structure}_"))
    predicted, present = columns["prediction_voxels"], columns["reference_voxels"]
    voxels = (predicted + present).sum()
    one_a_case, means = pd.Series(1, cases.index), {}
    for name in sorted(SCORES, key=lambda name: SCORES[name].of_each_tumor):  # those of all together first
        weights = surfaces if SCORES[name].of_each_tumor else one_a_case
        means["dice_per_case" if name == "dice" else name] = _weighted_mean(columns[name], weights)
    return {
        "n_cases": len(cases),
        "n_empty_reference": int((present == 0).sum()),
        "n_missed": int(((present > 0) & (predicted == 0)).sum()),
        "dice_global": float(2 * columns["intersection_voxels"].sum() / voxels) if voxels else np.nan,
        **{name: mean for name, (mean, _) in means.items()},
        "n_defined": {name: n for name, (_, n) in means.items()},
    }


def _weighted_mean(values: pd.Series, weights: pd.Series) -> tuple[float, int]:
    """Mean of the values that are defined, and the sum of their weights; NaN where that is 0."""
    weights = weights[values.notna()]
    total = int(weights.sum())
    return (float((values * weights).sum() / total) if total else np.nan), total


def _lesion_summary(cases: pd.DataFrame) -> dict:
    """Lesion Dice a case, and panoptic quality of all cases as if they were one."""
    matched, dice = cases["n_tumors_matched"], cases["lesion_dice"]
    iou_sum = (cases["segmentation_quality"] * matched).sum()  # of a case without a match: NaN, left out
    counts = (int(cases[f"n_tumors_{side}"].sum()) for side in ("prediction", "reference"))
    pooled = pool_panoptic(int(matched.sum()), iou_sum, *counts)._asdict()
    return {"lesion_dice": float(dice.mean()), "n_defined_lesion_dice": int(dice.notna().sum()), **pooled}
