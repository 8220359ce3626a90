"""Outlines of the best, the median and the worst test patient of a system."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import pandas as pd
from matplotlib.figure import Figure

from livseg_lib.datasets.case import Case
from livseg_lib.paths import RunFolders
from livseg_lib.reporting import best_median_worst, patient_slice, pick_best_median_worst, save_figure
from livseg_lib.training.model_folder import TrainedModel


def best_median_worst_patients(
    trained: TrainedModel, patients: pd.DataFrame, cases: Iterable[Case], folders: RunFolders
) -> Iterator[Figure]:
    """A saved figure a structure, from the rows of patients.csv that have the structure at all.

    Each shows the slice with most of it; truth solid, prediction dashed. A structure that no test patient
    has gives no figure.
    """
    by_id = {case.case_id: case for case in cases}
    scores = patients[(patients.system == trained.system) & ~patients.is_empty]
    for structure in trained.structures:
        dice = scores[scores.structure == structure].set_index("case").dice
        if dice.empty:
            continue
        masks = folders.predictions(trained.system)
        figure = best_median_worst(
            [
                patient_slice(rank, by_id[case], structure, dice[case], masks, trained.recipe)
                for rank, case in pick_best_median_worst(dice).items()
            ]
        )
        caption = f"{trained.system}, {structure}: best, median and worst test patient by Dice."
        save_figure(figure, folders.figures, f"best_median_worst_{trained.system}_{structure}", caption)
        yield figure
