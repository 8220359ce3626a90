"""The chosen finishes on the test patients: what they change, and how they become part of a cascade.

Labels come from disk, no network is asked again, unless an earlier run of the study has finished them
already: then they are predicted anew, so that the study always starts from what the cascade found itself.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd

from livseg_lib.datasets.case import Case
from livseg_lib.evaluation.statistics.paired import compare_pairs, patient_scores
from livseg_lib.experiments.cascade_parts.cascades import cascade_row
from livseg_lib.experiments.records import record_evaluations
from livseg_lib.inference import Evaluation, ScoredSystem, evaluate_labels
from livseg_lib.inference.cascade import Cascade
from livseg_lib.inference.cascade_finishes import chosen_finishes, load_unfinished, set_finishes
from livseg_lib.inference.cascade_folder import load_cascade
from livseg_lib.paths import RunFolders
from livseg_lib.postprocessing.finishing import finish_labels
from livseg_lib.predictions import load_prediction
from livseg_lib.reporting import read_table, replace_systems
from livseg_lib.volumes import Volume

EFFECT_COLUMNS = (
    "system",
    "structure",
    "finishes",
    "n_patients",
    "dice_before",
    "dice_after",
    "difference",
    "difference_low",
    "difference_high",
    "p",
)


@dataclass(frozen=True)
class FinishStored:
    """Stands in for a system that predicts: stored labels, finished; for `evaluate_labels`."""

    predictions: Path
    finishes: Sequence[str]
    seconds: dict[str, float] = field(default_factory=dict)
    """What finishing took, a case; reading left out."""

    def __call__(self, case: Case, volume: Volume) -> np.ndarray:
        """Labels 0/1/2, uint8 (D, H, W), on the grid of `volume`."""
        labels = load_prediction(volume, self.predictions, case.case_id)
        began = time.perf_counter()
        finished = finish_labels(labels, volume.spacing_mm, self.finishes)
        self.seconds[case.case_id] = time.perf_counter() - began
        return finished


def unfinished_cascade(name: str, folders: RunFolders, cases: Sequence[Case], seed: int) -> Cascade:
    """The run's cascade with its own steps; model folder, predictions and tables are those of these steps.

    Where an earlier run has finished it, the test patients `cases` are predicted and scored again.
    """
    folder = folders.model(name)
    cascade = load_unfinished(folder)
    if chosen_finishes(folder):
        _record(
            cascade,
            evaluate_labels(cascade, cascade.predict, cases, folders.predictions(name)),
            folders,
            seed,
        )
        set_finishes(folder, ())  # last: until then all of this is done again
    return cascade


def try_finishes(
    system: ScoredSystem, finishes: Sequence[str], cases: Sequence[Case], folders: RunFolders
) -> Evaluation:
    """Scores of the stored labels of `system`, finished; nothing is kept."""
    finish = FinishStored(folders.predictions(system.system), finishes)
    with TemporaryDirectory() as scratch:
        return evaluate_labels(system, finish, cases, Path(scratch))


def adopt_finishes(
    cascade: Cascade, finishes: Sequence[str], cases: Sequence[Case], folders: RunFolders, seed: int
) -> Evaluation:
    """`finishes` become the last steps of the run's unfinished `cascade`: model.json, predictions, tables.

    `predict_seconds` is what the prediction took before and the finishing now.
    """
    name = cascade.system
    before = prediction_seconds(stored_scores(name, folders))
    set_finishes(folders.model(name), finishes)  # first: `unfinished_cascade` mends what follows, if killed
    finish = FinishStored(folders.predictions(name), finishes)
    evaluation = evaluate_labels(cascade, finish, cases, folders.predictions(name))
    set_seconds(evaluation, {case: before.get(case, np.nan) + took for case, took in finish.seconds.items()})
    _record(load_cascade(folders.model(name)), evaluation, folders, seed)
    return evaluation


def compare_finished(
    before: pd.DataFrame, after: Evaluation, finishes: Sequence[str], seed: int
) -> pd.DataFrame:
    """A row a structure (EFFECT_COLUMNS): Dice of the test patients before and after, paired.

    `before` are the system's rows of patients.csv. The difference is after - before, its interval a 95 %
    bootstrap over patients, p that of the two-sided `sign_flip_test`, not corrected: `holm`
    does it, once all systems are compared.
    """
    rows = []
    for structure, scores in pd.DataFrame(after.patients).groupby("structure", sort=False):
        earlier = before[before.structure == structure].assign(system="before")
        both = pd.concat([earlier, scores.assign(system="after")])
        table = patient_scores(both.assign(patient=both.patient.astype(str)))
        [found] = compare_pairs(table, [("after", "before")], seed=seed).to_dict("records")
        whose = {"system": after.system, "structure": structure, "finishes": ", ".join(finishes)}
        rows.append(found | whose | {f"dice_{side}": table[side].mean() for side in table})
    return pd.DataFrame(rows, columns=list(EFFECT_COLUMNS))


def stored_scores(system: str, folders: RunFolders) -> pd.DataFrame:
    """The rows of `system` in patients.csv."""
    table = read_table(folders.tables / "patients.csv")
    return table[table.system == system]


def prediction_seconds(scores: pd.DataFrame) -> pd.Series:
    """Seconds a case of one system's rows of patients.csv; NaN where an earlier version kept none."""
    seconds = scores.reindex(columns=["case", "predict_seconds"]).groupby("case").predict_seconds.first()
    return seconds.rename(index=str)


def set_seconds(evaluation: Evaluation, seconds: Mapping[str, float]) -> None:
    """Put what each case took into the rows of `evaluation`: its labels were read from disk."""
    for row in evaluation.patients:
        row["predict_seconds"] = seconds[row["case"]]


def _record(cascade: Cascade, evaluation: Evaluation, folders: RunFolders, seed: int) -> None:
    record_evaluations([(cascade, evaluation)], folders, seed)
    row = pd.DataFrame([cascade_row(cascade, evaluation)])
    replace_systems(folders.tables / "cascades.csv", row)
