"""Outlines of the best, the median and the worst test patient of a system, and a cascade's steps on one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import pandas as pd
from matplotlib.figure import Figure

from livseg_lib.datasets.case import Case
from livseg_lib.inference import ScoredSystem
from livseg_lib.inference.cascade import Cascade, stages
from livseg_lib.paths import RunFolders
from livseg_lib.preprocessing import Recipe
from livseg_lib.preprocessing.prepare import channel_windows
from livseg_lib.preprocessing.windows import apply_window
from livseg_lib.reporting import best_median_worst, patient_slice, pick_best_median_worst, save_figure
from livseg_lib.reporting.studies.stages import cascade_stages


def best_median_worst_patients(
    system: ScoredSystem, patients: pd.DataFrame, cases: Iterable[Case], folders: RunFolders, recipe: Recipe
) -> Iterator[Figure]:
    """A saved figure a structure, from the rows of patients.csv that have the structure at all.

    `recipe` says in which window scans are shown. Each figure shows the slice with most of the structure;
    truth solid, prediction dashed. A structure that no test patient has gives none.
    """
    by_id = {case.case_id: case for case in cases}
    scores = patients[(patients.system == system.system) & ~patients.is_empty]
    for structure in system.structures:
        dice = scores[scores.structure == structure].set_index("case").dice
        if dice.empty:
            continue
        masks = folders.predictions(system.system)
        figure = best_median_worst(
            [
                patient_slice(rank, by_id[case], structure, dice[case], masks, recipe)
                for rank, case in pick_best_median_worst(dice).items()
            ]
        )
        caption = f"{system.system}, {structure}: best, median and worst test patient by Dice."
        save_figure(figure, folders.figures, f"best_median_worst_{system.system}_{structure}", caption)
        yield figure


def stages_of_patient(cascade: Cascade, case: Case, folders: RunFolders, recipe: Recipe) -> Figure:
    """A saved figure of what each step has found, on the slice with most tumour, or else most liver."""
    volume = case.read_volume()
    reference = case.read_labels(volume)
    shown = reference == reference.max()
    index = int(shown.sum(axis=(1, 2)).argmax())
    found = {step.name: labels[index].copy() for step, labels in stages(volume, cascade.steps)}
    grey = apply_window(volume.voxels[index], channel_windows(volume.voxels, recipe)[0])
    figure = cascade_stages(grey, reference[index], found)
    caption = f"{cascade.system}: what each step has found in {case.case_id}, slice {index}."
    save_figure(figure, folders.figures, f"cascade_stages_{cascade.system}", caption)
    return figure
