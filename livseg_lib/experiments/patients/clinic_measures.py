"""What a clinic asks for, of every patient, by the truth and by systems: their predictions come from disk."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from tqdm import tqdm

from livseg_lib.datasets.case import Case
from livseg_lib.labels import STRUCTURES
from livseg_lib.paths import RunFolders
from livseg_lib.postprocessing.tumor_measures import TUMOR_COLUMNS, measure_liver, measure_tumors
from livseg_lib.predictions import load_prediction
from livseg_lib.volumes import Volume

TRUTH = "truth"
OF_LIVER = ("liver_ml", "liver_hu", "tumor_burden")
OF_TUMORS = ("tumor_ml", "tumor_burden", "n_tumors", "has_tumor", "largest_tumor_ml", "longest_diameter_mm")
AGAINST_LIVER = ("distance_to_border_mm", "contrast_hu")
"""What is undefined for a system that outlines no liver, or no tumours."""

WHOSE = ("outlined_by", "patient", "case")
PATIENT_COLUMNS = (*WHOSE, "liver_ml", "liver_hu", *OF_TUMORS)


class ClinicMeasures(NamedTuple):
    """Two tables, each row by the truth ("truth") or by a system (`outlined_by`)."""

    tumors: pd.DataFrame
    """A row a tumour: outlined_by, patient, case, TUMOR_COLUMNS."""
    patients: pd.DataFrame
    """A row a case: PATIENT_COLUMNS. Diameter and volume of the largest are NaN without a tumour."""


def measure_cases(
    cases: Sequence[Case], folders: RunFolders, systems: Mapping[str, Iterable[str]]
) -> ClinicMeasures:
    """Measure the truth of every case, and what each system (name -> its structures) predicted of it.

    Cases without a prediction, which are not test patients, have a row of the truth alone.
    """
    tumors, patients = [], []
    for case in tqdm(list(cases), "measures", unit="patient"):
        volume = case.read_volume()
        for name, structures in {TRUTH: STRUCTURES, **systems}.items():
            labels = outlined_labels(name, case, volume, folders)
            if labels is not None:
                whose = {"outlined_by": name, "patient": case.patient, "case": case.case_id}
                table, sums = measure_outlines(volume, labels, structures)
                tumors.append(table.assign(**whose))
                patients.append(whose | sums)
    table = pd.concat(tumors, ignore_index=True) if tumors else pd.DataFrame()
    return ClinicMeasures(
        table.reindex(columns=[*WHOSE, *TUMOR_COLUMNS]), pd.DataFrame(patients, columns=list(PATIENT_COLUMNS))
    )


def outlined_labels(name: str, case: Case, volume: Volume, folders: RunFolders) -> np.ndarray | None:
    """Labels 0/1/2 by the truth or a system, None where a system has none of the case."""
    if name == TRUTH:
        return case.read_labels(volume)
    folder = folders.predictions(name)
    return load_prediction(volume, folder, case.case_id) if any(folder.glob(f"{case.case_id}.n*")) else None


def measure_outlines(
    volume: Volume, labels: np.ndarray, structures: Iterable[str] = STRUCTURES
) -> tuple[pd.DataFrame, dict]:
    """`measure_tumors`, and `measure_liver` with has_tumor, largest_tumor_ml and longest_diameter_mm.

    What labels of some `structures` alone cannot tell is NaN: no liver's volume where only tumours were
    outlined, and no count of tumours where only livers were.
    """
    table = measure_tumors(volume.voxels, labels, volume.spacing_mm)
    sums = measure_liver(volume.voxels, labels, volume.spacing_mm)
    sums |= {
        "has_tumor": float(len(table) > 0),
        "largest_tumor_ml": table.volume_ml.max(),
        "longest_diameter_mm": table.longest_diameter_mm.max(),
    }
    if "liver" not in structures:
        sums |= dict.fromkeys(OF_LIVER, np.nan)
        table[list(AGAINST_LIVER)] = np.nan
        table["position"] = None
    if "tumor" not in structures:
        sums |= dict.fromkeys(OF_TUMORS, np.nan)
        table = table.head(0)
    return table, sums


def cohort_groups(rows: pd.DataFrame, test_cases: Iterable[str]) -> dict[str, pd.DataFrame]:
    """Rows of either table of `ClinicMeasures` by whom they describe: all by the truth, then the test cases
    by the truth and by each system; name -> rows."""
    truth = rows.outlined_by == TRUTH
    test = rows.case.isin(set(test_cases))
    groups = {"truth, all": rows[truth], "truth, test": rows[truth & test]}
    return groups | {
        name: rows[(rows.outlined_by == name) & test] for name in rows.outlined_by[~truth].unique()
    }


def best_systems(scores: pd.DataFrame, folders: RunFolders, count: int) -> dict[str, tuple[str, ...]]:
    """The `count` systems of systems.csv with the best tumour Dice, or else liver Dice, and predictions.

    System -> the structures that it outlines. They are chosen by the test patients, to be looked at: which
    of them is best on others this does not say.
    """
    rows = scores[(scores.split_by == "patient") & scores.target.isin(STRUCTURES)]
    rows = rows[rows.system.map(lambda name: folders.predictions(name).is_dir()).astype(bool)]
    ranked = rows.sort_values(["target", "dice_per_case"], ascending=False).drop_duplicates("system")
    names = ranked.dropna(subset="dice_per_case").system.head(count)
    outlined = rows.groupby("system").target
    return {name: tuple(outlined.get_group(name).sort_values()) for name in names}
