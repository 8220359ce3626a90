"""What systems scored, put into the tables of a report beside what stands there already."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

from livseg_lib.evaluation import summarize_slices
from livseg_lib.inference import Evaluation, ScoredSystem, lits_rows, systems_rows
from livseg_lib.paths import RunFolders
from livseg_lib.reporting import replace_systems, update_systems_table
from livseg_lib.runs import derived_seed


def record_evaluations(
    found: Iterable[tuple[ScoredSystem, Evaluation]], folders: RunFolders, seed: int
) -> pd.DataFrame:
    """Bring patients.csv, slices.csv, slices_summary.csv, lits_scores.csv and systems.csv up to date.

    Rows of the given systems are replaced, those of all others stay. Returns systems.csv.
    """
    found, tables = list(found), folders.tables
    evaluations = [evaluation for _, evaluation in found]
    patients = pd.DataFrame([row for evaluation in evaluations for row in evaluation.patients])
    replace_systems(tables / "patients.csv", patients)
    slices = pd.concat([part for evaluation in evaluations for part in evaluation.slices], ignore_index=True)
    replace_systems(tables / "slices.csv", slices)
    replace_systems(tables / "slices_summary.csv", summarize_systems(slices))
    lits = [row for system, evaluation in found for row in lits_rows(system, evaluation)]
    replace_systems(tables / "lits_scores.csv", pd.DataFrame(lits))
    bootstrap_seed = derived_seed(seed, "bootstrap")
    rows = [row for system, evaluation in found for row in systems_rows(system, evaluation, bootstrap_seed)]
    return update_systems_table(tables / "systems.csv", rows)


def summarize_systems(slices: pd.DataFrame) -> pd.DataFrame:
    """A row a system and structure: means over its slices, with counts (systems B, C, D)."""
    groups = slices.groupby(["system", "structure"], sort=False)
    return pd.DataFrame(
        [
            {"system": system, "structure": structure, **summarize_slices(group)}
            for (system, structure), group in groups
        ]
    )
