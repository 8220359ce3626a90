"""What a clinic would read off the predictions, patient by patient, and what is known of patients before."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from tqdm import tqdm

from livseg_lib.datasets.case import Case, read_each
from livseg_lib.datasets.phantom.patient import Lesion, make_phantom_follow_up
from livseg_lib.datasets.phantom.writing import painted_lesions, phantom_numbers
from livseg_lib.evaluation.follow_up import FollowUp
from livseg_lib.evaluation.lesions import SIZE_CLASSES, size_class
from livseg_lib.evaluation.statistics import bands
from livseg_lib.labels import LIVER, STRUCTURES
from livseg_lib.postprocessing.measures import TUMOR_COLUMNS, measure_liver, measure_tumors
from livseg_lib.reporting.screen import TRUTH
from livseg_lib.runs import RunFolders
from livseg_lib.volumes import Volume, load_prediction

NO_TUMOR = "no tumour"

FACTORS = {
    "site": "Site",
    "phase": "Contrast phase",
    "brightness": "Median HU of the liver",
    "slice_spacing": "Distance of slices",
    "liver_volume": "Liver volume",
    "largest_tumor": "Longest diameter of the largest tumour",
}
"""Columns that `patient_facts` may give, and what they are called."""


def patient_facts(
    cases: pd.DataFrame, brightness: pd.Series, lesions: pd.DataFrame | None, phantom: pd.DataFrame | None
) -> pd.DataFrame:
    """A row a patient (the index, text), a categorical column for each of FACTORS that is known of any.

    `cases`: cases.csv (case, patient, spacing_mm, liver_ml, n_tumors); `brightness`: `liver_brightness`;
    `lesions`: lesions.csv; `phantom`: the phantom's own patients.csv (case, site, phase), which no real data
    set has. The first case of a patient is the one that counts, except for the largest tumour.
    """
    one_each = cases.assign(patient=cases.patient.astype(str)).drop_duplicates("patient").set_index("case")
    thickness_mm = one_each.spacing_mm.str.extract(r"\(([^,]+),", expand=False).astype(float)
    facts = {  # a liver without contrast medium has 50 to 65 HU, in the portal venous phase over 100
        "brightness": bands(brightness.reindex(one_each.index), (75.0,), "HU"),
        "slice_spacing": bands(thickness_mm, (2.5,), "mm"),  # of thin slices, and of thick ones
        "liver_volume": bands(one_each.liver_ml, (1500.0,), "ml"),  # about the mean of adults
    }
    if phantom is not None:
        site_and_phase = phantom.set_index("case").reindex(one_each.index)
        facts |= site_and_phase[["site", "phase"]].astype("category").items()
    table = pd.DataFrame(facts).set_index(one_each.patient)
    if lesions is not None:
        table["largest_tumor"] = _largest_tumor(cases, lesions).reindex(table.index)
    return table[[name for name in FACTORS if name in table and table[name].notna().any()]]


def liver_brightness(cases: Iterable[Case]) -> pd.Series:
    """Median HU of each true liver without its tumours, by case; NaN for pictures, whose greys are no HU."""
    medians = {}
    for case, volume, labels in read_each(cases, "brightness"):
        liver = volume.voxels[labels == LIVER]
        is_known = liver.size and volume.native is not None
        medians[case.case_id] = np.median(liver) if is_known else np.nan
    return pd.Series(medians, dtype=float)


def _largest_tumor(cases: pd.DataFrame, lesions: pd.DataFrame) -> pd.Series:
    """The size class of a patient's largest true tumour, NO_TUMOR of none, NaN where sizes are unknown."""
    n_tumors = cases.n_tumors.groupby(cases.patient.astype(str)).sum(min_count=1)
    reference = lesions[lesions.kind == "reference"]
    longest_mm = reference.groupby(reference.patient.astype(str)).longest_diameter_mm.max()
    classes = longest_mm.map(size_class, na_action="ignore").reindex(n_tumors.index)
    return classes.where(n_tumors != 0, NO_TUMOR).astype(pd.CategoricalDtype([NO_TUMOR, *SIZE_CLASSES]))


UNKNOWN_WITHOUT = {
    "liver": ("liver_ml", "liver_hu", "tumor_burden"),
    "tumor": ("tumor_ml", "tumor_burden", "n_tumors", "has_tumor", "largest_tumor_ml", "longest_diameter_mm"),
}
"""Sums of a patient that are unknown where a system does not outline the structure."""

WHOSE = ("outlined_by", "patient", "case")
PATIENT_COLUMNS = (*WHOSE, "liver_ml", "liver_hu", *UNKNOWN_WITHOUT["tumor"])
Systems = Mapping[str, tuple[str, ...]]  # name -> the structures that it outlines


def ranked_systems(scores: pd.DataFrame, folders: RunFolders) -> dict[str, tuple[str, ...]]:
    """Systems of systems.csv (`scores`) with predictions -> what they outline, the best tumour Dice first,
    then those with liver Dice alone: ranked by the test patients, to be looked at."""
    rows = scores[(scores.split_by == "patient") & scores.target.isin(STRUCTURES)]
    rows = rows[rows.system.map(lambda name: folders.predictions(name).is_dir()).astype(bool)]
    ranked = rows.dropna(subset="dice_per_case").sort_values(["target", "dice_per_case"], ascending=False)
    targets = rows.groupby("system").target
    return {name: tuple(targets.get_group(name).sort_values()) for name in ranked.system.unique()}


def labels_by(name: str, case: Case, volume: Volume, folders: RunFolders) -> np.ndarray | None:
    """Labels 0/1/2, uint8 (D, H, W), by TRUTH or a system; None where it has none of the case."""
    if name == TRUTH:
        return case.read_labels(volume) if case.read_labels else None
    folder, names = folders.predictions(name), (f"{case.case_id}{end}" for end in (".nii.gz", ".npy"))
    is_there = any((folder / name).exists() for name in names)
    return load_prediction(volume, folder, case.case_id) if is_there else None


def outlined_tumors(volume: Volume, labels: np.ndarray, structures: Iterable[str]) -> pd.DataFrame:
    """`measure_tumors` of what outlines `structures` alone: no tumours, or none held against a liver."""
    table = measure_tumors(volume.voxels, labels, volume.spacing_mm)
    if "liver" not in structures:
        table = table.assign(distance_to_border_mm=np.nan, contrast_hu=np.nan, position=None)
    return table if "tumor" in structures else table.head(0)


def without_unknown(sums: Mapping[str, float], structures: Iterable[str]) -> dict[str, float]:
    """A patient's sums as known from `structures` alone: NaN instead of the liver's volume 0, for example."""
    unknown = {name for each in set(STRUCTURES) - set(structures) for name in UNKNOWN_WITHOUT[each]}
    return {name: np.nan if name in unknown else value for name, value in sums.items()}


def measure_cases(
    cases: Sequence[Case], folders: RunFolders, systems: Systems
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The truth of every case measured, and what each system predicted of it: tumours, patients.

    A row a tumour: WHOSE, TUMOR_COLUMNS; a row a case: PATIENT_COLUMNS, diameter and volume of the largest
    NaN without a tumour. Cases without a prediction, which are not test patients, have the truth alone.
    """
    tumors, patients = [], []
    for case in tqdm(list(cases), "measures", unit="patient"):
        volume = case.read_volume()
        for name, structures in {TRUTH: STRUCTURES, **systems}.items():
            labels = labels_by(name, case, volume, folders)
            if labels is None:
                continue
            identity = dict(zip(WHOSE, (name, case.patient, case.case_id), strict=True))
            table = outlined_tumors(volume, labels, structures)
            sums = measure_liver(volume.voxels, labels, volume.spacing_mm)
            sums |= {"has_tumor": float(len(table) > 0), "largest_tumor_ml": table.volume_ml.max()}
            sums["longest_diameter_mm"] = table.longest_diameter_mm.max()
            tumors.append(table.assign(**identity))
            patients.append(identity | without_unknown(sums, structures))
    table = pd.concat(tumors, ignore_index=True)[[*WHOSE, *TUMOR_COLUMNS]]
    return table, pd.DataFrame(patients, columns=list(PATIENT_COLUMNS))


class TwoVisits(NamedTuple):
    """Two scans of a phantom patient with their truth: labels 0/1/2, uint8 (D, H, W)."""

    case_id: str
    volumes: tuple[Volume, Volume]
    truth: tuple[np.ndarray, np.ndarray]


def scan_twice(folder: Path, case: Case, factors: Sequence[float], new_mm: Sequence[float]) -> TwoVisits:
    """A case of a phantom folder, and its second scan: `factors` on the diameters of its tumours, from the
    largest on (others stay), and new tumours with the diameters `new_mm`."""
    lesions = painted_lesions(folder, case.case_id)
    tumors = lesions[lesions.kind == "tumor"].sort_values("diameter_mm", ascending=False).lesion
    growth = {int(number): float(factor) for number, factor in zip(tumors, factors, strict=False)}
    new = [Lesion("tumor", float(diameter), contrast_hu=-40.0, diffuse=False) for diameter in new_mm]
    seed, index, site = phantom_numbers(folder, case.case_id)
    second = make_phantom_follow_up(seed, index, growth, new, site)
    first = case.read_volume()
    volumes = first, Volume(second.voxels, second.spacing_mm)
    return TwoVisits(case.case_id, volumes, (case.read_labels(first), second.labels))


def response_rows(found: Mapping[str, FollowUp]) -> pd.DataFrame:
    """A row for whoever outlined the tumours: category, sums, livers, alignment."""
    rows = []
    for name, each in found.items():
        response = each.response._asdict() | {"targets": len(each.response.targets)}
        row = {"outlined_by": name, **response, "liver_dice": each.matching.liver_dice}
        for sums in each.livers.itertuples():
            row |= {f"liver_{sums.scan}_ml": sums.liver_ml, f"tumor_{sums.scan}_ml": sums.tumor_ml}
            row[f"n_tumors_{sums.scan}"] = int(sums.n_tumors)
        shift = zip("dhw", np.round(each.matching.shift_mm, 3).tolist(), strict=True)
        rows.append(row | {f"shift_{axis}_mm": mm for axis, mm in shift})
    return pd.DataFrame(rows).rename(columns={"targets": "n_targets"})
