"""The worst patients of a system as strips of slices."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import pandas as pd
from matplotlib.figure import Figure

from livseg_lib.datasets.case import Case
from livseg_lib.models import MODELS
from livseg_lib.paths import RunFolders
from livseg_lib.predictions import load_prediction
from livseg_lib.preprocessing import Recipe
from livseg_lib.preprocessing.prepare import channel_windows
from livseg_lib.preprocessing.windows import apply_window
from livseg_lib.reporting import save_figure
from livseg_lib.reporting.studies.error_strips import StripSlice, choose_slices, error_strip
from livseg_lib.reporting.style import structure_name


def systems_to_show(patients: pd.DataFrame, structure: str, systems: Sequence[str]) -> list[str]:
    """Of `systems` that with the best mean Dice of a patient, and the best single network; one if the same.

    `patients` as patients.csv. Chosen by the test patients themselves: to look at, not to compare.
    """
    rows = patients[(patients.structure == structure) & patients.system.isin(systems)]
    means = rows.groupby(["system", "patient"]).dice.mean().groupby("system").mean()
    means = means.sort_values(ascending=False)
    networks = [name for name in means.index if name in MODELS]
    return list(dict.fromkeys([*means.index[:1], *networks[:1]]))


def worst_cases(patients: pd.DataFrame, system: str, structure: str, count: int) -> pd.Series:
    """Case -> Dice: the lowest `count` of a system among cases that have the structure, worst first.

    Then the case without it where most of it is invented, if any is. `patients` as patients.csv.
    """
    rows = patients[(patients.system == system) & (patients.structure == structure)]
    rows = rows.assign(case=rows.case.astype(str)).set_index("case")
    without = rows.is_empty.astype(bool)
    invented = rows[without & (rows.precision == 0)].sort_values("prediction_ml", ascending=False).head(1)
    worst = rows[~without].dice.sort_values(kind="stable").head(count)
    return pd.concat([worst, invented.dice])


def worst_patients(
    system: str,
    structure: str,
    dice: pd.Series,
    cases: Iterable[Case],
    folders: RunFolders,
    recipe: Recipe,
    slices: int = 6,
) -> Iterator[Figure]:
    """A saved figure for each case of `dice` (`worst_cases`), with at most that many slices."""
    by_id = {case.case_id: case for case in cases}
    for rank, (case_id, score) in enumerate(dice.items(), start=1):
        strip = _read_strip(by_id[case_id], system, structure, folders, recipe, slices)
        title = f"{system}, {case_id}: {structure_name(structure)} Dice {score:.2f}"
        figure = error_strip(strip, structure, title)
        caption = f"{title}, among the worst of the test patients; slices from feet to head."
        save_figure(figure, folders.figures, f"errors_worst_{system}_{rank}", caption)
        yield figure


def _read_strip(
    case: Case, system: str, structure: str, folders: RunFolders, recipe: Recipe, count: int
) -> list[StripSlice]:
    volume = case.read_volume()
    reference = case.read_labels(volume)
    prediction = load_prediction(volume, folders.predictions(system), case.case_id)
    window = channel_windows(volume.voxels, recipe)[0]
    return [
        StripSlice(k, apply_window(volume.voxels[k], window), reference[k].copy(), prediction[k].copy())
        for k in choose_slices(reference, prediction, structure, count)
    ]
