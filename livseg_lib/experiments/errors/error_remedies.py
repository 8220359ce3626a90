"""What class weights, the focal loss and the candidate filter change in system B's two classes of errors."""

from __future__ import annotations

import pandas as pd

from livseg_lib.evaluation.errors.error_causes import BRIGHT_TEXTURE, LOW_CONTRAST
from livseg_lib.evaluation.statistics.paired import compare_pairs, patient_scores
from livseg_lib.experiments.cascade_parts.candidate_training import SYSTEM as FILTERED
from livseg_lib.experiments.cascade_parts.candidate_training import UNFILTERED

REMEDY_COLUMNS = (
    "remedy",
    "compared_with",
    "patients",
    "error_class",
    "n_before",
    "n_after",
    "n_patients",
    "difference",
    "difference_low",
    "difference_high",
    "p",
)
"""`difference` is the mean of after - before a patient, with its 95 % interval over patients; `p` is that of
the two-sided `sign_flip_test`, which `holm` corrects once all remedies stand together."""

MEASURES = {"low_contrast_missed": LOW_CONTRAST, "bright_false_alarms": BRIGHT_TEXTURE}
"""Of `missed_tumors`, the study of losses, and the class that each counts."""


def loss_remedies(summary: pd.DataFrame, differences: pd.DataFrame) -> pd.DataFrame:
    """Rows of REMEDY_COLUMNS from tables class_imbalance.csv and imbalance_differences.csv of notebook 23.

    Those are of other patients (development, cross-validated) and of a smaller network. Tables of an earlier
    version count no bright textures and give no row of them.
    """
    rows = []
    for row in differences[differences.measure.isin(MEASURES)].itertuples():
        at = summary[summary.threshold.astype(str) == str(row.threshold)].set_index("loss")
        before, after = (_count(at.loc[loss], row.measure) for loss in (row.second, row.first))
        rows.append(
            {
                "remedy": row.first,
                "compared_with": row.second,
                "patients": f"development, threshold {row.threshold}",
                "error_class": MEASURES[row.measure],
                "n_before": before,
                "n_after": after,
                **{name: getattr(row, name) for name in REMEDY_COLUMNS[6:]},
            }
        )
    return pd.DataFrame(rows, columns=list(REMEDY_COLUMNS))


def _count(row: pd.Series, measure: str) -> int:
    if measure == "low_contrast_missed":
        return int(row.n_low_contrast_missed)
    return round(row.bright_false_alarms_per_patient * row.n_patients)


def filter_remedy(objects: pd.DataFrame, patients: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Rows of REMEDY_COLUMNS from `ErrorStudy`: the cascade without its candidate filter, and with it.

    Patients without such errors count as 0. No rows where one of the two was not studied.
    """
    before, after = UNFILTERED, FILTERED
    if not {before, after} <= set(patients.system):
        return pd.DataFrame(columns=list(REMEDY_COLUMNS))
    everyone = patients[patients.system.isin([before, after])][["system", "patient"]].drop_duplicates()
    rows = []
    for error_class in (LOW_CONTRAST, BRIGHT_TEXTURE):
        of_class = objects[objects.error_class == error_class].groupby(["system", "patient"]).size()
        counts = everyone.merge(of_class.rename("n").reset_index(), "left").fillna({"n": 0})
        scores = patient_scores(counts, "n")
        [found] = compare_pairs(scores, [(after, before)], seed=seed).to_dict("records")
        row = {"remedy": "candidate filter", "compared_with": before, "patients": "test"}
        row |= {"error_class": error_class, "n_before": int(scores[before].sum())}
        rows.append(row | {"n_after": int(scores[after].sum())} | {n: found[n] for n in REMEDY_COLUMNS[6:]})
    return pd.DataFrame(rows, columns=list(REMEDY_COLUMNS))
