"""What the page of a test patient shows: the scan, the truth, and what every system predicted."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from livseg_lib.datasets.case import Case
from livseg_lib.experiments.patients.clinic_measures import (
    OF_LIVER,
    OF_TUMORS,
    TRUTH,
    measure_outlines,
    outlined_labels,
)
from livseg_lib.labels import STRUCTURES
from livseg_lib.paths import RunFolders
from livseg_lib.postprocessing.tumor_measures import measure_liver
from livseg_lib.preprocessing.intensities import as_hu
from livseg_lib.reporting.pages.patient_page import PatientView
from livseg_lib.volumes import Volume

PHANTOM_NOTE = "A phantom: the scan is synthetic."
PICTURES_NOTE = "Single slices without a known distance: neighbours on this page may lie far apart."

TUMOR_COLUMNS_SHOWN = (
    *("outlined_by", "tumor", "volume_ml", "longest_diameter_mm", "perpendicular_diameter_mm", "slice"),
    *("position", "distance_to_border_mm", "mean_hu", "contrast_hu"),
)

Systems = Mapping[str, tuple[str, ...]]
"""Name -> the structures that it outlines, in the order of the page."""


def systems_with_predictions(scores: pd.DataFrame, folders: RunFolders) -> dict[str, tuple[str, ...]]:
    """All folders of predictions/: first the systems of systems.csv (`scores`), the best tumour Dice first
    (liver Dice where there is none), then those without a row. The order is the same for all patients.
    """
    rows = scores[(scores["split_by"] == "patient") & scores["target"].isin(STRUCTURES)]
    ranked = rows.sort_values(["target", "dice_per_case"], ascending=False)["system"].unique()
    here = {folder.name for folder in folders.predictions("").glob("*") if folder.is_dir()}
    names = [name for name in ranked if name in here] + sorted(here - set(ranked))
    outlined = rows.groupby("system")["target"].agg(lambda targets: tuple(sorted(targets))).to_dict()
    return {name: outlined.get(name, STRUCTURES) for name in names}


def patient_view(
    case: Case,
    folders: RunFolders,
    systems: Systems,
    scores: pd.DataFrame,
    note: str,
    modality: str = "ct",
) -> PatientView:
    """The page's content for one case. Systems without a prediction of it are left out (`missing_from`).

    `scores`: patients.csv. An MR scan is shown stretched like HU. Measures in ml and mm are left out
    where the spacing is unknown.
    """
    volume = case.read_volume()
    outlines = {TRUTH: outlined_labels(TRUTH, case, volume, folders) if case.read_labels else None}
    outlines |= {name: outlined_labels(name, case, volume, folders) for name in systems}
    outlines = {name: labels for name, labels in outlines.items() if labels is not None}
    dice = _dice(scores[scores["case"] == case.case_id])
    if not np.isfinite(volume.spacing_mm).all():
        tables = [("Dice of each system.", dice.reset_index())]
        return PatientView(case.case_id, volume.voxels, volume.spacing_mm, outlines, tables, PICTURES_NOTE)
    shown = as_hu(volume, modality)
    tables = _measures(volume, outlines, systems, dice)
    return PatientView(case.case_id, shown.voxels, volume.spacing_mm, outlines, tables, note)


def missing_from(view: PatientView, systems: Systems) -> list[str]:
    """Systems that have no prediction of the patient."""
    return [name for name in systems if name not in view.outlines]


def _dice(scores: pd.DataFrame) -> pd.DataFrame:
    """A row a system, a column a structure: tumor_dice, liver_dice."""
    table = scores.pivot_table("dice", "system", "structure", dropna=False).add_suffix("_dice")
    names = [f"{each}_dice" for each in reversed(STRUCTURES) if f"{each}_dice" in table]
    return table[names].rename_axis("outlined_by").rename_axis(None, axis=1)


def _measures(
    volume: Volume, outlines: Mapping[str, np.ndarray], systems: Systems, dice: pd.DataFrame
) -> list[tuple[str, pd.DataFrame]]:
    """Every outline in one row; every tumour of the first two outlines, truth and best system, in another."""
    structures = {name: systems.get(name, STRUCTURES) for name in outlines}
    sums = {name: _sums(volume, labels, structures[name]) for name, labels in outlines.items()}
    whole = dice.reindex(list(sums)).join(pd.DataFrame(sums.values(), index=list(sums)))
    shown = list(outlines)[:2]
    tumors = pd.concat(
        measure_outlines(volume, outlines[name], structures[name])[0].assign(outlined_by=name)
        for name in shown
    )
    return [
        (
            "Every outline: Dice against the truth, and what it measures.",
            whole.rename_axis("outlined_by").reset_index(),
        ),
        (f"Every tumour of {' and '.join(shown)}.", tumors[list(TUMOR_COLUMNS_SHOWN)]),
    ]


def _sums(volume: Volume, labels: np.ndarray, structures: tuple[str, ...]) -> dict:
    """`measure_liver`; what cannot be told without an outlined liver, or tumours, is NaN."""
    unknown = {
        *(OF_LIVER if "liver" not in structures else ()),
        *(OF_TUMORS if "tumor" not in structures else ()),
    }
    found = measure_liver(volume.voxels, labels, volume.spacing_mm)
    return {name: np.nan if name in unknown else value for name, value in found.items()}
