"""Tables of a study of losses: tumours missed and invented, with intervals over patients.

Whatever is resampled or paired is a patient, never a tumour: tumours of one patient look alike.
"""

from __future__ import annotations

import pandas as pd

from livseg_lib.evaluation.errors.lesion_contrast import CONTRAST_CLASSES
from livseg_lib.evaluation.statistics.bootstrap import bootstrap_interval, share_with_interval
from livseg_lib.evaluation.statistics.paired import compare_pairs, patient_scores
from livseg_lib.experiments.errors.class_imbalance import LossStudy

MEASURES = ("low_contrast_missed", "false_alarms", "bright_false_alarms", "dice")
"""A number a patient each: missed low-contrast tumours (of patients who have any), predicted tumours that
touch no true one, those of them that are bright textures, and Dice of all tumours."""

NAMES = {
    "false_alarms": "false_alarms_per_patient",
    "bright_false_alarms": "bright_false_alarms_per_patient",
    "dice": "dice_per_case",
}
"""What the means over patients are called in tables."""


def summarize_losses(study: LossStudy, seed: int) -> pd.DataFrame:
    """A row a loss: counts, and three scores each with its 95 % bootstrap interval over patients.

    Columns: loss, n_patients, n_tumors, n_without_contrast (no liver around them), n_low_contrast,
    n_low_contrast_missed, false_negative_rate (missed share of those), false_alarms_per_patient,
    bright_false_alarms_per_patient, dice_per_case; the intervals end in _low and _high.
    """
    rows = []
    for loss, lesions in study.lesions.groupby("loss", sort=False):
        patients = study.patients[study.patients.loss == loss].groupby("patient")
        patients = patients.agg({"false_alarms": "sum", "bright_false_alarms": "sum", "dice": "mean"})
        low = lesions[lesions.contrast == "low"]
        row = {
            "loss": loss,
            "n_patients": len(patients),
            "n_tumors": len(lesions),
            "n_without_contrast": int(lesions.contrast_hu.isna().sum()),
            "n_low_contrast": len(low),
            "n_low_contrast_missed": int((~low.hit).sum()),
            **_with_interval("false_negative_rate", *share_with_interval(~low.hit, low.patient, seed)),
        }
        for values, name in NAMES.items():
            mean = float(patients[values].mean())
            row |= _with_interval(name, mean, bootstrap_interval(patients[values], seed=seed))
        rows.append(row)
    return pd.DataFrame(rows)


def recall_by_contrast(study: LossStudy, seed: int) -> pd.DataFrame:
    """A row a loss and contrast class: loss, contrast, n_tumors, n_hit, recall, recall_low, recall_high."""
    rows = []
    for loss, lesions in study.lesions.groupby("loss", sort=False):
        for contrast in CONTRAST_CLASSES:
            group = lesions[lesions.contrast == contrast]
            row = {"loss": loss, "contrast": contrast, "n_tumors": len(group), "n_hit": int(group.hit.sum())}
            rows.append(row | _with_interval("recall", *share_with_interval(group.hit, group.patient, seed)))
    return pd.DataFrame(rows)


def operating_curve(study: LossStudy, contrast: str = "low") -> pd.DataFrame:
    """loss, threshold, recall (of the tumours of that contrast), false_alarms (a patient), a row each."""
    lesions = study.lesions[study.lesions.contrast == contrast]
    keys, n_patients = ["loss", "threshold"], study.patients.patient.nunique()
    false_alarms = study.patients.groupby(keys, sort=False).false_alarms.sum() / n_patients
    recall = lesions.groupby(keys, sort=False).hit.mean()
    return pd.DataFrame({"recall": recall, "false_alarms": false_alarms}).reset_index()


def differences_from(baseline: str, study: LossStudy, seed: int) -> pd.DataFrame:
    """`compare_pairs` of each other loss against `baseline`, once a measure of MEASURES (column `measure`).

    p values are corrected for the number of losses, not for that of measures: the first is the question,
    the others say what it cost.
    """
    low = study.lesions[study.lesions.contrast == "low"]
    missed = (~low.hit).groupby([low.loss, low.patient]).sum().rename("low_contrast_missed").reset_index()
    tables = []
    for measure in MEASURES:
        rows = missed if measure in missed else study.patients
        scores = patient_scores(rows.rename(columns={"loss": "system"}), measure)
        pairs = [(loss, baseline) for loss in study.patients.loss.unique() if loss != baseline]
        tables.append(compare_pairs(scores, pairs, seed=seed).assign(measure=measure))
    return pd.concat(tables, ignore_index=True)


def _with_interval(name: str, value: float, interval: tuple[float, float]) -> dict[str, float]:
    return {name: value, f"{name}_low": interval[0], f"{name}_high": interval[1]}
