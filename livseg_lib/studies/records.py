"""What systems scored, put into the tables of a report beside what stands there already."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd

from livseg_lib.evaluation.lesions import summarize_sizes
from livseg_lib.evaluation.slices import summarize_slices
from livseg_lib.inference.evaluate import Evaluation, ScoredSystem, lits_rows, systems_rows
from livseg_lib.runs import RunFolders, derived_seed
from livseg_lib.tables import replace_systems, update_systems_table


def record_evaluations(
    found: Iterable[tuple[ScoredSystem, Evaluation]], folders: RunFolders, seed: int
) -> pd.DataFrame:
    """Bring the tables of scores up to date: patients.csv, slices.csv, slices_summary.csv, lits_scores.csv,
    lesions.csv, lesions_by_size.csv and systems.csv.

    Rows of the given systems are replaced, those of all others stay. Returns systems.csv.
    """
    found, tables = list(found), folders.tables
    evaluations = [evaluation for _, evaluation in found]
    patients = pd.DataFrame([row for evaluation in evaluations for row in evaluation.patients])
    replace_systems(tables / "patients.csv", patients)
    slices = pd.concat([part for evaluation in evaluations for part in evaluation.slices], ignore_index=True)
    replace_systems(tables / "slices.csv", slices.round(4))  # the largest table of a report
    replace_systems(tables / "slices_summary.csv", summarize_systems(slices))
    lits = [row for system, evaluation in found for row in lits_rows(system, evaluation)]
    replace_systems(tables / "lits_scores.csv", pd.DataFrame(lits))
    bootstrap_seed = derived_seed(seed, "bootstrap")
    _record_lesions(evaluations, tables, bootstrap_seed)
    rows = [row for system, evaluation in found for row in systems_rows(system, evaluation, bootstrap_seed)]
    return update_systems_table(tables / "systems.csv", rows)


def _record_lesions(evaluations: Sequence[Evaluation], tables: Path, seed: int) -> None:
    """Every tumour, and what was found of each size; systems that outline no tumours have no rows."""
    of_tumors = [each for each in evaluations if each.lesions]
    lesions = {each.system: pd.concat(each.lesions, ignore_index=True) for each in of_tumors}
    if not lesions:
        return
    replace_systems(tables / "lesions.csv", pd.concat(lesions.values(), ignore_index=True), lesions)
    sizes = {system: summarize_sizes(rows, seed=seed) for system, rows in lesions.items()}
    by_size = pd.concat(sizes, names=["system", None]).reset_index(level="system")
    replace_systems(tables / "lesions_by_size.csv", by_size)


def summarize_systems(slices: pd.DataFrame) -> pd.DataFrame:
    """A row a system and structure: means over its slices, with counts (systems B, C, D)."""
    groups = slices.groupby(["system", "structure"], sort=False)
    return pd.DataFrame(
        [
            {"system": system, "structure": structure, **summarize_slices(group)}
            for (system, structure), group in groups
        ]
    )
