"""Measures of patients by truth and systems, and a phantom patient seen twice."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from livseg_lib.datasets.case import Case
from livseg_lib.datasets.catalogue import find_cases
from livseg_lib.datasets.phantom import write_phantom
from livseg_lib.preprocessing.recipe import Recipe
from livseg_lib.runs import RunFolders
from livseg_lib.studies.patients import (
    PATIENT_COLUMNS,
    best_systems,
    change_rows,
    cohort_groups,
    compare_all,
    measure_cases,
    most_tumors,
    outline_twice,
    plan_growth,
    response_rows,
    scan_twice,
    slices_of_changes,
)
from livseg_lib.volumes import Volume, keep_prediction

SHAPE, SPACING = (6, 20, 24), (2.0, 1.0, 1.0)


def truth(tumor_length: int) -> np.ndarray:
    labels = np.zeros(SHAPE, np.uint8)
    labels[1:5, 3:17, 3:21] = 1
    labels[2, 8, 5 : 5 + tumor_length] = 2
    return labels


def case(number: int, tumor_length: int) -> Case:
    volume = Volume(np.full(SHAPE, 60, np.int16), SPACING)
    return Case(f"volume-{number}", str(number), (), lambda: volume, lambda _: truth(tumor_length))


@pytest.fixture
def folders(tmp_path) -> RunFolders:
    return RunFolders(tmp_path, "run")


def predict(folders: RunFolders, system: str, number: int, labels: np.ndarray) -> None:
    volume = Volume(np.zeros(SHAPE, np.int16), SPACING)
    keep_prediction(labels, volume, folders.predictions(system), f"volume-{number}")


def test_rows_of_truth_and_of_systems_where_they_predicted(folders):
    predict(folders, "net", 2, truth(4))
    cases = [case(1, 0), case(2, 8)]
    tumors, patients = measure_cases(cases, folders, {"net": ("liver", "tumor")})
    assert list(patients) == list(PATIENT_COLUMNS)
    assert list(zip(patients.outlined_by, patients.patient, strict=True)) == [
        ("truth", "1"),
        ("truth", "2"),
        ("net", "2"),
    ]
    np.testing.assert_allclose(patients.longest_diameter_mm, [np.nan, 7.5, 3.5])
    np.testing.assert_allclose(patients.has_tumor, [0, 1, 1])
    assert list(tumors.outlined_by) == ["truth", "net"] and list(tumors.case) == ["volume-2"] * 2
    groups = cohort_groups(patients, ["volume-2"])
    assert {name: len(rows) for name, rows in groups.items()} == {"truth, all": 2, "truth, test": 1, "net": 1}


def test_what_a_system_does_not_outline_is_undefined_not_zero(folders):
    livers, only_tumors = np.minimum(truth(8), 1), np.where(truth(8) == 2, 2, 0).astype(np.uint8)
    predict(folders, "livers", 1, livers)
    predict(folders, "tumors", 1, only_tumors)
    systems = {"livers": ("liver",), "tumors": ("tumor",)}
    tumors, patients = measure_cases([case(1, 8)], folders, systems)
    by = patients.set_index("outlined_by")
    assert by.liver_ml["livers"] == by.liver_ml["truth"] and np.isnan(by.liver_ml["tumors"])
    assert by[["tumor_ml", "n_tumors", "tumor_burden", "has_tumor"]].loc["livers"].isna().all()
    assert by.tumor_ml["tumors"] == by.tumor_ml["truth"] and np.isnan(by.tumor_burden["tumors"])
    row = tumors.set_index("outlined_by").loc["tumors"]
    assert np.isnan(row.distance_to_border_mm) and row.longest_diameter_mm == 7.5
    assert "livers" not in set(tumors.outlined_by)


def test_the_best_systems_are_those_with_predictions(folders):
    scores = pd.DataFrame(
        [
            ("vote", "tumor", "patient", 0.6),
            ("unet", "liver", "patient", 0.95),
            ("unet", "tumor", "patient", 0.5),
            ("lost", "tumor", "patient", 0.9),
            ("by_slice", "tumor", "slice", 0.99),
            ("sorter", "slices", "patient", np.nan),
        ],
        columns=["system", "target", "split_by", "dice_per_case"],
    )
    for name in ("vote", "unet", "by_slice", "sorter"):
        folders.predictions(name).mkdir(parents=True)
    assert best_systems(scores, folders, 3) == {"vote": ("tumor",), "unet": ("liver", "tumor")}
    assert list(best_systems(scores, folders, 1)) == ["vote"]
    assert best_systems(scores[scores.target == "liver"], folders, 3) == {"unet": ("liver",)}
    assert best_systems(scores.head(0), folders, 3) == {}


def test_growth_is_planned_from_the_largest_tumour_on():
    lesions = pd.DataFrame(
        {"lesion": [1, 2, 3], "kind": ["cyst", "tumor", "tumor"], "diameter_mm": [50.0, 10.0, 20.0]}
    )
    assert plan_growth(lesions, [1.5, 0, 2.0]) == {3: 1.5, 2: 0.0}
    assert plan_growth(lesions.head(1), [1.5]) == {}


@pytest.fixture(scope="module")
def visits(tmp_path_factory):
    folder = write_phantom(tmp_path_factory.mktemp("phantom"), 1, workers=1, site="tiny")
    return scan_twice(folder, find_cases(folder, "lits").cases[0], [1.5], [20.0])


def test_planted_growth_is_told_by_the_truth_and_by_a_system(visits):
    half = tuple(np.where(each == 2, 1, each).astype(np.uint8) for each in visits.truth)
    nothing = tuple(np.zeros_like(each) for each in visits.truth)
    found = compare_all(visits, {"blind": half, "nothing": nothing}, days=30)
    assert list(found) == ["truth", "blind"]
    changes, responses = change_rows(found), response_rows(found)
    assert set(changes.outlined_by) == {"truth"} and "new" in set(changes.kind)
    assert changes.growth_ml.max() > 0
    assert list(responses.category) == ["progressive disease", "no tumour"]
    json.dumps(responses.to_dict("records"))


def test_slices_show_the_largest_changes(visits):
    found = compare_all(visits, {}, days=30)
    rows = slices_of_changes(visits, {}, found, Recipe(windows=("liver",)), count=2)
    assert 1 <= len(rows) <= 2
    largest = found["truth"].changes.growth_ml.abs().max()
    assert f"{largest:.1f} ml" in rows[0].title
    grey, labels, other = rows[0].after
    assert grey.dtype == np.uint8 and grey.shape == labels.shape and other is None and (labels == 2).any()


def test_only_systems_that_outline_both_and_have_a_model_are_asked(visits, folders):
    assert outline_twice(visits, folders, {"livers": ("liver",), "vote": ("liver", "tumor")}) == {}


def test_the_patient_with_most_tumours_is_chosen():
    patients = pd.DataFrame({"case": ["a", "b", "c"], "n_tumors": [1, 3, 3], "tumor_ml": [90.0, 5.0, 7.0]})
    assert most_tumors(patients) == "c"
