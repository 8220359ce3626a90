"""What a clinic would read off the predictions, patient by patient.

What is known of patients before any system has seen them: the groups that scores are told apart by.

What a clinic asks for, of every patient, by the truth and by systems: their predictions come from disk.

A phantom patient seen twice, with growth planted in between: what a system tells of it and the truth.

What the page of a test patient shows: the scan, the truth, and what every system predicted.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from tqdm import tqdm

from livseg_lib.datasets.case import Case
from livseg_lib.datasets.phantom import Lesion, make_phantom_follow_up, painted_lesions, phantom_numbers
from livseg_lib.evaluation.follow_up import FollowUp, TimePoint, compare_scans
from livseg_lib.evaluation.lesions import SIZE_CLASSES, size_class
from livseg_lib.evaluation.statistics import bands
from livseg_lib.inference.systems import load_system, outline
from livseg_lib.labels import STRUCTURES, structure_mask
from livseg_lib.postprocessing.measures import TUMOR_COLUMNS, measure_liver, measure_tumors
from livseg_lib.preprocessing.recipe import Recipe, channel_windows
from livseg_lib.preprocessing.windows import apply_window, as_hu
from livseg_lib.reporting.patient_page import PatientView
from livseg_lib.reporting.studies.follow_up import TwoScans
from livseg_lib.runs import RunFolders
from livseg_lib.volumes import Volume, load_prediction

SPACING_EDGES_MM = (2.5,)
"""Thin slices against those that are thicker than most tumours' outlines are known."""
LIVER_EDGES_ML = (1500.0,)
"""About the mean of adults."""
BRIGHTNESS_EDGES_HU = (75.0,)
"""A liver without contrast medium has 50 to 65 HU, in the portal venous phase it has over 100."""

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
    set has. The first case of a patient stands for him, but for the largest tumour.
    """
    one_each = cases.assign(patient=cases.patient.astype(str)).drop_duplicates("patient").set_index("case")
    facts = {
        "brightness": bands(brightness.reindex(one_each.index), BRIGHTNESS_EDGES_HU, "HU"),
        "slice_spacing": bands(one_each.spacing_mm.map(_slice_spacing), SPACING_EDGES_MM, "mm"),
        "liver_volume": bands(one_each.liver_ml, LIVER_EDGES_ML, "ml"),
    }
    if phantom is not None:
        facts |= (
            phantom.set_index("case").reindex(one_each.index)[["site", "phase"]].astype("category").items()
        )
    table = pd.DataFrame(facts).set_index(one_each.patient)
    if lesions is not None:
        table["largest_tumor"] = _largest_tumor(cases, lesions).reindex(table.index)
    known = [name for name in FACTORS if name in table and table[name].notna().any()]
    return table[known]


def liver_brightness(cases: Iterable[Case]) -> pd.Series:
    """Median HU of each true liver without its tumours, by case; NaN for pictures, whose greys are no HU."""
    return pd.Series({case.case_id: _median_hu(case) for case in cases}, dtype=float)


def _median_hu(case: Case) -> float:
    volume = case.read_volume()
    labels = case.read_labels(volume)
    liver = volume.voxels[structure_mask(labels, "liver") & ~structure_mask(labels, "tumor")]
    return float(np.median(liver)) if liver.size and volume.native is not None else np.nan


def _slice_spacing(text: str) -> float:
    """The first of three numbers in brackets, as cases.csv has them."""
    return float(ast.literal_eval(text.replace("nan", "None"))[0] or np.nan)


def _largest_tumor(cases: pd.DataFrame, lesions: pd.DataFrame) -> pd.Series:
    """The size class of a patient's largest true tumour, NO_TUMOR of none, NaN where sizes are unknown."""
    n_tumors = cases.n_tumors.groupby(cases.patient.astype(str)).sum(min_count=1)
    reference = lesions[lesions.kind == "reference"]
    longest_mm = reference.groupby(reference.patient.astype(str)).longest_diameter_mm.max()
    classes = longest_mm.map(size_class, na_action="ignore").reindex(n_tumors.index)
    return classes.where(n_tumors != 0, NO_TUMOR).astype(pd.CategoricalDtype([NO_TUMOR, *SIZE_CLASSES]))


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


Labels = tuple[np.ndarray, np.ndarray]
"""0/1/2, uint8 (D, H, W), of the earlier and of the later scan."""

NEW_CONTRAST_HU = -40.0


def plan_growth(lesions: pd.DataFrame, factors: Sequence[float]) -> dict[int, float]:
    """Factors on the diameters of a patient's tumours, from the largest on: lesion number -> factor.

    `lesions` as `painted_lesions` gives them; tumours beyond the factors stay as they are.
    """
    tumors = lesions[lesions.kind == "tumor"].sort_values("diameter_mm", ascending=False)
    return {int(number): float(factor) for number, factor in zip(tumors.lesion, factors, strict=False)}


class TwoVisits(NamedTuple):
    """Two scans of a phantom patient with their truth: labels 0/1/2, uint8 (D, H, W)."""

    case_id: str
    volumes: tuple[Volume, Volume]
    truth: tuple[np.ndarray, np.ndarray]


def scan_twice(folder: Path, case: Case, factors: Sequence[float], new_mm: Sequence[float]) -> TwoVisits:
    """A case of a phantom folder, and its second scan: tumours grown by `plan_growth` and new ones."""
    growth = plan_growth(painted_lesions(folder, case.case_id), factors)
    new = [Lesion("tumor", float(diameter), NEW_CONTRAST_HU, diffuse=False) for diameter in new_mm]
    seed, index, site = phantom_numbers(folder, case.case_id)
    second = make_phantom_follow_up(seed, index, growth, new, site)
    first = case.read_volume()
    volumes = first, Volume(second.voxels, second.spacing_mm)
    return TwoVisits(case.case_id, volumes, (case.read_labels(first), second.labels))


def outline_twice(
    visits: TwoVisits, folders: RunFolders, systems: Mapping[str, Sequence[str]]
) -> dict[str, Labels]:
    """What each system outlines in both scans, those of `systems` (name -> structures) that can be asked.

    They have a model and outline liver and tumours. The first scan's labels are those on disk.
    """
    outlined = {}
    for name, structures in systems.items():
        if set(structures) == set(STRUCTURES) and (folders.model(name) / "model.json").exists():
            stored = load_prediction(visits.volumes[0], folders.predictions(name), visits.case_id)
            outlined[name] = stored, outline(load_system(folders.model(name)), visits.volumes[1])
    return outlined


def compare_all(visits: TwoVisits, outlined: Mapping[str, Labels], days: float) -> dict[str, FollowUp]:
    """The follow-up by the truth and by each system; those that find no liver in a scan are not in it."""
    found = {}
    for name, labels in {TRUTH: visits.truth, **outlined}.items():
        if all(each.any() for each in labels):
            points = (
                TimePoint(each, volume.spacing_mm)
                for each, volume in zip(labels, visits.volumes, strict=True)
            )
            found[name] = compare_scans(*points, days=days)
    return found


def slices_of_changes(
    visits: TwoVisits,
    outlined: Mapping[str, Labels],
    found: Mapping[str, FollowUp],
    recipe: Recipe,
    count: int = 3,
) -> list[TwoScans]:
    """The tumours whose volume changed most by the truth, with the first system's outlines beside it."""
    others = next(iter(outlined.values()), (None, None))
    changes = found[TRUTH].changes
    largest = changes.reindex(changes.growth_ml.abs().sort_values(ascending=False).index).head(count)
    rows = []
    for row in largest.itertuples():
        places = _slices_of(row, found[TRUTH], visits)
        pictures = []
        for index, volume, truth, other in zip(places, visits.volumes, visits.truth, others, strict=True):
            grey = apply_window(volume.voxels[index], channel_windows(volume.voxels, recipe)[0])
            pictures.append((grey, truth[index], None if other is None else other[index]))
        rows.append(TwoScans(f"{row.kind}, {row.growth_ml:+.1f} ml".replace("-", "−"), *pictures))
    return rows


def _slices_of(row, found: FollowUp, visits: TwoVisits) -> tuple[int, int]:
    """Index of the slice to show at each time; where a tumour is not there, that of the same place."""
    spacings = [volume.spacing_mm[0] for volume in visits.volumes]
    ids = [
        [int(number) for number in text.split(" + ") if number]
        for text in (row.tumors_before, row.tumors_after)
    ]
    tables = [table[table.tumor.isin(each)] for table, each in zip(found.tumors, ids, strict=True)]
    indices = [None if t.empty else int(t.sort_values("volume_ml").slice.iloc[-1]) for t in tables]
    shift = found.matching.shift_mm[0]
    if indices[0] is None:
        indices[0] = round((indices[1] * spacings[1] - shift) / spacings[0])
    if indices[1] is None:
        indices[1] = round((indices[0] * spacings[0] + shift) / spacings[1])
    sizes = [len(volume.voxels) for volume in visits.volumes]
    return tuple(min(max(index, 0), size - 1) for index, size in zip(indices, sizes, strict=True))


def most_tumors(patients: pd.DataFrame) -> str:
    """The case with most tumours, of equals that with most ml, in the truth's rows of `PATIENT_COLUMNS`."""
    return patients.sort_values(["n_tumors", "tumor_ml"], ascending=False).case.iloc[0]


def change_rows(found: Mapping[str, FollowUp]) -> pd.DataFrame:
    """follow_up.csv: a row a group of tumours and whoever outlined them, `outlined_by` and CHANGE_COLUMNS."""
    tables = [each.changes.assign(outlined_by=name) for name, each in found.items()]
    table = pd.concat(tables, ignore_index=True)
    return table[["outlined_by", *tables[0].drop(columns="outlined_by")]]


def response_rows(found: Mapping[str, FollowUp]) -> pd.DataFrame:
    """follow_up_response.csv: a row for whoever outlined the tumours: category, sums, livers, alignment."""
    rows = []
    for name, each in found.items():
        livers = each.livers.set_index("scan")
        response = each.response._asdict() | {"targets": len(each.response.targets)}
        row = {"outlined_by": name, **response, "liver_dice": each.matching.liver_dice}
        for scan, sums in livers.iterrows():
            row |= {f"liver_{scan}_ml": sums.liver_ml, f"tumor_{scan}_ml": sums.tumor_ml}
            row |= {f"n_tumors_{scan}": int(sums.n_tumors)}
        shift = dict(zip(("d", "h", "w"), each.matching.shift_mm, strict=True))
        rows.append(row | {f"shift_{axis}_mm": float(np.round(mm, 3)) for axis, mm in shift.items()})
    return pd.DataFrame(rows).rename(columns={"targets": "n_targets"})


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
