"""All scores of one patient's volume, in the terms of the LiTS benchmark (system K).

Keys of the mapping that `score_case` returns, with `liver_` (label >= 1) and `tumor_` (label 2) before the
first two groups:

| key | meaning |
| --- | --- |
| dice, jaccard, voe, rvd | overlap of the whole structure; `rvd` is signed |
| assd, rmsd, msd | surface distances in mm; of tumours the mean over the `n_tumors_scored` detected ones |
| intersection_voxels, prediction_voxels, reference_voxels | what a data set's global Dice is summed from |
| n_tumors_reference, n_tumors_prediction, n_tumors_scored | face-connected objects; pairs with IoU > 0.5 |
| true_positives, false_positives, false_negatives, precision, recall | detection at IoU > 0.5 |
| the same names with _greater_zero | detection at IoU > 0 |
| tumor_burden_reference, tumor_burden_prediction, tumor_burden_error | tumour share of the liver, and R - P |

Empty structures: both tumours empty is a Dice of 1, one empty 0. A prediction without any voxel of label 1
has no liver (system K): its liver counts as empty with Dice 0, its tumour burden is undefined. Whatever
divides by nothing, or measures to a surface that is not there, is NaN. Only detection precision and
recall are 0 where nothing is predicted or there is nothing to find, as LiTS defines them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from livseg_lib.evaluation import overlap, surface
from livseg_lib.evaluation.arrays import foreground_box, require_label_volumes
from livseg_lib.evaluation.detection import (
    Detection,
    LesionOverlap,
    count_detections,
    detected_pairs,
    lesion_overlap,
)
from livseg_lib.labels import LIVER, structure_mask

SURFACE_SCORES = {"assd": surface.assd, "rmsd": surface.rmsd, "msd": surface.msd}
AS_SHIPPED_INFINITY = 9001.0
"""What the shipped scorer writes for infinity."""
AS_SHIPPED_DEFAULTS = {"dice": 0.0, "jaccard": 0.0, "voe": 1.0} | dict.fromkeys(
    ("rvd", *SURFACE_SCORES), AS_SHIPPED_INFINITY
)
"""Its scores of an organ that was missed."""


def score_case(
    prediction: np.ndarray, reference: np.ndarray, spacing_mm: Sequence[float], mode: str = "intended"
) -> dict[str, float]:
    """Score two integer label volumes (D, H, W) of one shape; the keys are explained above.

    `spacing_mm` (D, H, W) is the reference's; where it is NaN the distances are NaN. Mode "lits_asis"
    repeats the arithmetic of the shipped scorer: its detection, and its defaults for a missed liver.
    Raises InputError for arrays, spacings or modes that cannot be scored.
    """
    require_label_volumes(prediction, reference)
    box = foreground_box(prediction, reference)
    prediction, reference = prediction[box], reference[box]
    liver = _liver_scores(prediction, reference, spacing_mm)
    if mode == "lits_asis" and liver["prediction_voxels"] == 0:
        liver |= AS_SHIPPED_DEFAULTS
    masks = structure_mask(prediction, "tumor"), structure_mask(reference, "tumor")
    lesions = lesion_overlap(*masks)
    tumor = _tumor_scores(*masks) | _mean_surface_scores(lesions, spacing_mm, mode)
    scores = {f"liver_{key}": value for key, value in liver.items()}
    scores |= {f"tumor_{key}": value for key, value in tumor.items()}
    return scores | _detection_scores(lesions, mode) | _tumor_burden(scores, mode)


def _liver_scores(prediction: np.ndarray, reference: np.ndarray, spacing_mm: Sequence[float]) -> dict:
    """Overlap, surface distances and sizes of the liver."""
    predicted, present = structure_mask(prediction, "liver"), structure_mask(reference, "liver")
    if not (prediction == LIVER).any():
        predicted = np.zeros_like(predicted)
    counts = overlap.overlap_counts(predicted, present)
    distances = surface.surface_distances(predicted, present, spacing_mm)
    scores = _overlap_scores(counts, dice_of_two_empty=0.0)
    return scores | {name: score(distances) for name, score in SURFACE_SCORES.items()}


def _tumor_scores(prediction: np.ndarray, reference: np.ndarray) -> dict:
    """Overlap and sizes of all tumours together."""
    return _overlap_scores(overlap.overlap_counts(prediction, reference), dice_of_two_empty=1.0)


def _overlap_scores(counts: overlap.OverlapCounts, dice_of_two_empty: float) -> dict:
    """Dice and what follows from it, with the benchmark's word on two empty masks, and the sizes."""
    dice = overlap.dice(counts)
    dice = dice_of_two_empty if np.isnan(dice) else float(dice)
    jaccard = dice / (2 - dice)
    return {
        "dice": dice,
        "jaccard": jaccard,
        "voe": 1 - jaccard,
        "rvd": float(overlap.rvd(counts)),
        "intersection_voxels": int(counts.true_positives),
        "prediction_voxels": int(counts.prediction),
        "reference_voxels": int(counts.reference),
    }


def _mean_surface_scores(lesions: LesionOverlap, spacing_mm: Sequence[float], mode: str) -> dict:
    """Mean surface scores over the detected tumours of a case; NaN where none was detected."""
    pairs, _ = detected_pairs(lesions, mode=mode)
    distances = [surface.surface_distances(*lesions.masks(pair), spacing_mm) for pair in pairs]
    return {
        name: float(np.mean([score(d) for d in distances])) if distances else np.nan
        for name, score in SURFACE_SCORES.items()
    }


def _detection_scores(lesions: LesionOverlap, mode: str) -> dict:
    """Counted tumours, and precision and recall at both overlaps."""
    scores = {
        "n_tumors_reference": lesions.n_reference,
        "n_tumors_prediction": lesions.n_prediction,
        "n_tumors_scored": len(detected_pairs(lesions, mode=mode)[0]),
    }
    for threshold, suffix in ((0.5, ""), (0.0, "_greater_zero")):
        found = count_detections(lesions, threshold, mode)
        named = found._asdict() | detection_rates(found)
        scores |= {name + suffix: value for name, value in named.items()}
    return scores


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
    reference = _share(scores["tumor_reference_voxels"], scores["liver_reference_voxels"])
    prediction = _share(scores["tumor_prediction_voxels"], scores["liver_prediction_voxels"])
    if mode == "lits_asis" and np.isnan(prediction):
        prediction = AS_SHIPPED_INFINITY
    return {
        "tumor_burden_reference": reference,
        "tumor_burden_prediction": prediction,
        "tumor_burden_error": reference - prediction,
    }


def _share(part: int, whole: int) -> float:
    """`part` of `whole`; NaN of nothing."""
    return part / whole if whole else np.nan
