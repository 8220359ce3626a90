"""Tables of what `score_checks` has found: calibration, FROC, and where chosen thresholds land."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd

from livseg_lib.evaluation.probabilities.calibration import calibration_scores, reliability_curve
from livseg_lib.evaluation.probabilities.froc import Candidates, froc_score, recall_at, recall_with_interval
from livseg_lib.evaluation.probabilities.probability_histogram import ProbabilityHistogram
from livseg_lib.evaluation.probabilities.thresholds import THRESHOLDS, dice_by_threshold
from livseg_lib.evaluation.statistics.bootstrap import bootstrap_interval
from livseg_lib.evaluation.statistics.paired import holm, sign_flip_test
from livseg_lib.experiments.score_checks import REGIONS, CheckedNetwork
from livseg_lib.reporting.studies.calibration import Reliability


def calibration_table(networks: Iterable[CheckedNetwork], seed: int) -> pd.DataFrame:
    """A row a system, structure and region of the test patients: `calibration_scores`."""
    return pd.DataFrame(
        [
            {"system": network.system, "structure": structure, "region": region}
            | calibration_scores(network.of_split("test", structure, region), seed)
            for network in networks
            for structure in network.thresholds
            for region in REGIONS
        ]
    )


def reliabilities(
    networks: Iterable[CheckedNetwork], calibration: pd.DataFrame, structure: str
) -> dict[str, Reliability]:
    """System -> what a reliability diagram shows of it, near the structure; `calibration`: the table."""
    rows = calibration[(calibration.structure == structure) & (calibration.region == "near")]
    errors = rows.set_index("system")[["ece", "ece_low", "ece_high"]]
    found = {}
    for network in networks:
        if structure in network.thresholds:
            patients = network.of_split("test", structure, "near")
            together = reliability_curve(sum(patients, start=ProbabilityHistogram()))
            curves = [reliability_curve(each) for each in patients]
            found[network.system] = Reliability(together, curves, tuple(errors.loc[network.system]))
    return found


def froc_table(
    networks: Iterable[CheckedNetwork], others: Mapping[str, Mapping[str, Candidates]], seed: int
) -> pd.DataFrame:
    """A row a system; those of `others`, without probabilities, have no curve.

    Columns: system, n_patients, n_tumors, froc_score and recall_at_1 (at one false positive a patient) with
    their 95 % bootstrap intervals over patients, highest_recall (of all candidates), and where the system's
    own outlines lie: recall and false_positives a patient.
    """
    rows = [_froc_row(network.system, network.candidates, network.outlined, seed) for network in networks]
    rows += [_froc_row(system, None, outlined, seed) for system, outlined in others.items()]
    return pd.DataFrame([row for row in rows if row])


def _froc_row(
    system: str, candidates: Mapping[str, Candidates] | None, outlined: Mapping[str, Candidates], seed: int
) -> dict:
    """Empty where no tumour was looked for."""
    if not outlined:
        return {}
    own = list(outlined.values())
    row = {"system": system, "n_patients": len(own), "n_tumors": sum(each.n_tumors for each in own)}
    curves = {"froc_score": froc_score, "recall_at_1": lambda each, seed: recall_with_interval(each, 1, seed)}
    for name, score in curves.items():
        found = score(list(candidates.values()), seed=seed) if candidates else [np.nan] * 3
        row |= dict(zip((name, f"{name}_low", f"{name}_high"), found, strict=True))
    every = recall_at(list(candidates.values()), [np.inf])[0] if candidates else np.nan
    false_positives = sum(len(each.false_positives) for each in own) / len(own)
    return row | {
        "highest_recall": every,
        "recall": recall_at(own, [np.inf])[0],
        "false_positives": false_positives,
    }


def threshold_table(networks: Iterable[CheckedNetwork], seed: int) -> pd.DataFrame:
    """A row a system and structure: where the threshold chosen on validation patients lands on test patients.

    Mean Dice over patients, at picture size: of the validation patients, of the test patients, of these at
    0.5 and at the threshold of the grid that hindsight would have taken. gain: over 0.5, with its 95 %
    bootstrap interval over patients, its p (signs flipped) and p_holm (corrected for the number of a
    structure's systems). regret: what hindsight would have added.
    """
    rows = [
        _threshold_row(network, structure, threshold, seed)
        for network in networks
        for structure, threshold in network.thresholds.items()
    ]
    table = pd.DataFrame(rows)
    return table.assign(p_holm=table.groupby("structure").p.transform(holm)) if rows else table


def _threshold_row(network: CheckedNetwork, structure: str, threshold: float, seed: int) -> dict:
    grid = (threshold, 0.5, *THRESHOLDS)
    patients = {
        split: np.array([dice_by_threshold(each, grid) for each in network.of_split(split, structure)])
        for split in ("validation", "test")
    }
    test = patients["test"].mean(axis=0)
    best = int(test.argmax())  # of equals the first, which is the chosen one
    gains = patients["test"][:, 0] - patients["test"][:, 1]
    low, high = bootstrap_interval(gains, seed=seed)
    return {
        "system": network.system,
        "structure": structure,
        "threshold": threshold,
        "dice_validation": patients["validation"][:, 0].mean(),
        "dice_test": test[0],
        "dice_at_half": test[1],
        "gain": test[0] - test[1],
        "gain_low": low,
        "gain_high": high,
        "p": sign_flip_test(gains[~np.isnan(gains)], seed=seed),
        "hindsight_threshold": grid[best],
        "dice_hindsight": test[best],
        "regret": test[best] - test[0],
    }
