"""What a filter of candidates does to test patients: false alarms, tumours found, Dice, before and after."""

from __future__ import annotations

import numpy as np
import pandas as pd

from livseg_lib.evaluation.statistics.paired import compare_pairs, holm, patient_scores
from livseg_lib.inference import Evaluation

MEASURES = ("false_alarms", "found", "false_positives", "detected", "dice")
"""A number a patient each. False alarms touch no true tumour, and a tumour is found where a candidate
touches it; it is detected at an IoU > 0.5 with a candidate, and other candidates are false positives
(`detect_lesions` at overlap 0 and 0.5). `found` and `detected` are shares of the patient's tumours."""


def filter_scores(evaluation: Evaluation) -> pd.DataFrame:
    """A row a case: system, patient, case, n_tumors and MEASURES; shares of no tumour are NaN."""
    scores = pd.DataFrame(evaluation.case_scores)
    tumors = scores.n_tumors_reference.replace(0, np.nan)
    return scores[["system", "patient", "case"]].assign(
        n_tumors=scores.n_tumors_reference,
        false_alarms=scores.false_positives_greater_zero,
        found=1 - scores.false_negatives_greater_zero / tumors,
        false_positives=scores.false_positives,
        detected=1 - scores.false_negatives / tumors,
        dice=scores.tumor_dice,
    )


def compare_filter(before: Evaluation, after: Evaluation, seed: int) -> pd.DataFrame:
    """A row for each of MEASURES: measure, before, after, and the paired difference (after - before).

    Means are over patients with the score on both sides (`n_patients`; `n_undefined` are without), the
    interval (`difference_low`, `difference_high`) is a 95 % bootstrap over them, p that of the two-sided
    `sign_flip_test`, p_holm corrected for the number of measures.
    """
    scores = pd.concat([filter_scores(before), filter_scores(after)], ignore_index=True)
    rows = []
    for measure in MEASURES:
        table = patient_scores(scores, measure)
        [found] = compare_pairs(table, [(after.system, before.system)], seed=seed).to_dict("records")
        means = table.dropna().mean()
        row = {"measure": measure, "before": means[before.system], "after": means[after.system]}
        kept = ("n_patients", "n_undefined", "difference", "difference_low", "difference_high", "p")
        rows.append(row | {name: found[name] for name in kept})
    return pd.DataFrame(rows).assign(p_holm=lambda table: holm(table.p))
