"""What systems scored, put into the tables and pictures of a report beside what stands there already."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd
from matplotlib.figure import Figure

from livseg_lib.datasets.case import Case
from livseg_lib.evaluation.lesions import summarize_sizes
from livseg_lib.evaluation.slices import summarize_slices
from livseg_lib.inference.evaluate import Evaluation, ScoredSystem, lits_rows, systems_rows
from livseg_lib.preprocessing.recipe import Recipe
from livseg_lib.reporting.pictures import best_median_worst
from livseg_lib.runs import NotebookRun, RunFolders, derived_seed
from livseg_lib.tables import read_table, replace_systems, update_systems_table


def record_evaluations(
    found: Iterable[tuple[ScoredSystem, Evaluation]], folders: RunFolders, seed: int
) -> pd.DataFrame:
    """Bring the tables of scores up to date: patients.csv, slices.csv, slices_summary.csv, lits_scores.csv,
    lesions.csv, lesions_by_size.csv and systems.csv.

    Rows of the given systems are replaced, those of all others stay. Returns systems.csv.
    """
    found, tables = list(found), folders.tables
    bootstrap_seed = derived_seed(seed, "bootstrap")
    patients = pd.DataFrame([row for _, evaluation in found for row in evaluation.patients])
    replace_systems(tables / "patients.csv", patients)
    slices = pd.concat([part for _, evaluation in found for part in evaluation.slices], ignore_index=True)
    replace_systems(tables / "slices.csv", slices.round(4))  # the largest table of a report
    means = [
        {"system": system, "structure": structure, **summarize_slices(group)}
        for (system, structure), group in slices.groupby(["system", "structure"], sort=False)
    ]
    replace_systems(tables / "slices_summary.csv", pd.DataFrame(means))
    lits = [row for system, evaluation in found for row in lits_rows(system, evaluation)]
    replace_systems(tables / "lits_scores.csv", pd.DataFrame(lits))
    of_tumors = {e.system: pd.concat(e.lesions, ignore_index=True) for _, e in found if e.lesions}
    if of_tumors:  # systems that outline livers alone have no rows
        lesions = pd.concat(of_tumors.values(), ignore_index=True)
        replace_systems(tables / "lesions.csv", lesions, of_tumors)
        sizes = {name: summarize_sizes(rows, seed=bootstrap_seed) for name, rows in of_tumors.items()}
        by_size = pd.concat(sizes, names=["system", None]).reset_index(level="system")
        replace_systems(tables / "lesions_by_size.csv", by_size)
    rows = [row for system, evaluation in found for row in systems_rows(system, evaluation, bootstrap_seed)]
    return update_systems_table(tables / "systems.csv", rows)


def best_median_worst_patients(
    system: ScoredSystem, cases: Iterable[Case], run: NotebookRun, recipe: Recipe
) -> list[Figure]:
    """Outlines of a system's best, median and worst test patient by Dice, a figure a structure.

    Each shows the slice with most of the structure, in the window of `recipe`; truth solid, prediction
    dashed. Patients without the structure are left out; where none has it, there is no figure.
    """
    by_id, masks = {case.case_id: case for case in cases}, run.folders.predictions(system.system)
    scores = read_table(run.folders.tables / "patients.csv").astype({"case": str})
    scores = scores[(scores.system == system.system) & ~scores.is_empty]
    figures = []
    for structure in system.structures:
        dice = scores[scores.structure == structure].set_index("case").dice
        if dice.empty:
            continue
        figure = best_median_worst(dice, structure, by_id, masks, recipe)
        caption = f"{system.system}, {structure}: best, median and worst test patient by Dice."
        name = f"best_median_worst_{system.system}_{structure}"
        figures.append(run.figure(name, figure, caption))
    return figures
