"""Scores of a data set from the scores of its cases, as the LiTS benchmark sums them up (system K).

No mean stands alone: each comes with how many cases there were, in how many the reference is empty, how
many were missed altogether (something to find, nothing predicted) and over how many it is defined.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd

from livseg_lib.errors import InputError
from livseg_lib.evaluation.case_scores import (
    AS_SHIPPED_INFINITY,
    DISTANCE_SCORES,
    SURFACE_SCORES,
    detection_rates,
)
from livseg_lib.evaluation.detection import Detection
from livseg_lib.evaluation.lesion_scores import pool_panoptic

ONE_A_CASE = ("jaccard", "voe", "rvd", "surface_dice")


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
    cases = pd.DataFrame(case_scores)
    if cases.empty:
        raise InputError("case_scores", "holds no case.", "Score at least one patient.")
    tumor = _structure_summary(cases, "tumor", surfaces=cases["n_tumors_scored"])
    if mode == "lits_asis" and not cases["n_tumors_scored"].any():
        tumor |= dict.fromkeys(SURFACE_SCORES, AS_SHIPPED_INFINITY)
    return {
        "mode": mode,
        "n_cases": len(cases),
        "liver": _structure_summary(cases, "liver", surfaces=pd.Series(1, cases.index)),
        "tumor": tumor,
        "detection": _pooled_detection(cases),
        "lesions": _lesion_summary(cases),
        "tumor_burden": _burden_errors(cases, mode),
    }


def _structure_summary(cases: pd.DataFrame, structure: str, surfaces: pd.Series) -> dict:
    """Global Dice, the means over cases, and what stands beside them.

    `surfaces`: of how many objects each case's surface scores are the mean, so that the mean over cases
    weighs every object alike.
    """
    columns = cases.filter(regex=f"^{structure}_").rename(columns=lambda c: c.removeprefix(f"{structure}_"))
    predicted, present = columns["prediction_voxels"], columns["reference_voxels"]
    voxels = (predicted + present).sum()
    one_a_case = pd.Series(1, cases.index)
    means = {"dice_per_case": _weighted_mean(columns["dice"], one_a_case)}
    means |= {name: _weighted_mean(columns[name], one_a_case) for name in ONE_A_CASE}
    means |= {name: _weighted_mean(columns[name], surfaces) for name in DISTANCE_SCORES}
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


def _pooled_detection(cases: pd.DataFrame) -> dict:
    """Counts of all cases added up, then precision and recall of the sums."""
    pooled = {}
    for suffix in ("", "_greater_zero"):
        found = Detection(*(int(cases[name + suffix].sum()) for name in Detection._fields))
        pooled |= {name + suffix: value for name, value in (found._asdict() | detection_rates(found)).items()}
    return pooled


def _lesion_summary(cases: pd.DataFrame) -> dict:
    """Lesion Dice a case, and panoptic quality of all cases as if they were one."""
    matched = cases["n_tumors_matched"]
    iou_sum = (cases["segmentation_quality"] * matched).sum()  # of a case without a match: NaN, left out
    counts = (int(cases[f"n_tumors_{side}"].sum()) for side in ("prediction", "reference"))
    pooled = pool_panoptic(int(matched.sum()), iou_sum, *counts)
    return {
        "lesion_dice": float(cases["lesion_dice"].mean()),
        "n_defined_lesion_dice": int(cases["lesion_dice"].notna().sum()),
        "n_tumors_matched": pooled.matched,
        "panoptic_quality": pooled.quality,
        "segmentation_quality": pooled.segmentation,
        "recognition_quality": pooled.recognition,
    }


def _burden_errors(cases: pd.DataFrame, mode: str) -> dict:
    """Root mean square and greatest error of the tumour burden; the shipped maximum is a signed one."""
    errors = cases["tumor_burden_error"].dropna()
    greatest = errors.max() if mode == "lits_asis" else errors.abs().max()
    return {
        "rmse": float(np.sqrt((errors**2).mean())),
        "max_error": float(greatest),
        "n_defined": len(errors),
    }
