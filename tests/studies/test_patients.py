"""Facts of patients, measures by truth and systems, and a phantom patient seen twice."""

import json

import numpy as np
import pandas as pd
import pytest
from solids import labelled

from livseg_lib.datasets.case import Case
from livseg_lib.datasets.catalogue import find_cases
from livseg_lib.datasets.phantom.writing import write_phantom
from livseg_lib.evaluation.follow_up import FollowUp, TimePoint, compare_scans
from livseg_lib.nifti import NativeGrid
from livseg_lib.runs import RunFolders
from livseg_lib.studies import patients as module
from livseg_lib.volumes import Volume, keep_prediction

SHAPE, SPACING = (6, 20, 24), (2.0, 1.0, 1.0)


def truth(tumor_length: int) -> np.ndarray:
    return labelled(SHAPE, np.s_[2, 8, 5 : 5 + tumor_length], liver=np.s_[1:5, 3:17, 3:21])


def case(number: int, tumor_length: int) -> Case:
    volume = Volume(np.full(SHAPE, 60, np.int16), SPACING)
    return Case(f"volume[a]-{number}", str(number), (), lambda: volume, lambda _: truth(tumor_length))


def predict(folders: RunFolders, system: str, number: int, labels: np.ndarray) -> None:
    volume = Volume(np.zeros(SHAPE, np.int16), SPACING)
    keep_prediction(labels, volume, folders.predictions(system), f"volume[a]-{number}")


def test_rows_of_truth_and_of_systems_where_they_predicted(folders):
    predict(folders, "net", 2, truth(4))
    cases = [case(1, 0), case(2, 8)]
    tumors, patients = module.measure_cases(cases, folders, {"net": ("liver", "tumor")})
    assert list(patients) == list(module.PATIENT_COLUMNS)
    assert patients.outlined_by.tolist() == ["truth", "truth", "net"]
    assert patients.patient.tolist() == list("122")
    np.testing.assert_allclose(patients.longest_diameter_mm, [np.nan, 7.5, 3.5])
    np.testing.assert_allclose(patients.has_tumor, [0, 1, 1])
    assert list(tumors.outlined_by) == ["truth", "net"] and list(tumors.case) == ["volume[a]-2"] * 2
    assert list(tumors)[:3] == ["outlined_by", "patient", "case"]
    assert tumors.volume_ml.tolist() == [0.016, 0.008]


def test_what_a_system_does_not_outline_is_undefined_not_zero(folders):
    livers, only_tumors = np.minimum(truth(8), 1), np.where(truth(8) == 2, 2, 0).astype(np.uint8)
    predict(folders, "livers", 1, livers)
    predict(folders, "tumors", 1, only_tumors)
    systems = {"livers": ("liver",), "tumors": ("tumor",)}
    tumors, patients = module.measure_cases([case(1, 8)], folders, systems)
    by = patients.set_index("outlined_by")
    assert by.liver_ml["livers"] == by.liver_ml["truth"] and np.isnan(by.liver_ml["tumors"])
    assert by[["tumor_ml", "n_tumors", "tumor_burden", "has_tumor"]].loc["livers"].isna().all()
    assert by.tumor_ml["tumors"] == by.tumor_ml["truth"] and np.isnan(by.tumor_burden["tumors"])
    row = tumors.set_index("outlined_by").loc["tumors"]
    assert np.isnan(row.distance_to_border_mm) and row.longest_diameter_mm == 7.5
    assert "livers" not in set(tumors.outlined_by)


def test_systems_with_predictions_are_ranked_by_tumour_dice_then_by_liver_dice(folders):
    rows = [("liver_only", "liver", 0.99), ("vote", "tumor", 0.6), ("unet", "liver", 0.95)]
    rows += [("unet", "tumor", 0.7), ("lost", "tumor", 0.9), ("by_slice", "tumor", 0.99)]
    rows += [("sorter", "slices", np.nan), ("unscored", "tumor", np.nan)]
    scores = pd.DataFrame(rows, columns=["system", "target", "dice_per_case"])
    scores["split_by"] = np.where(scores.system == "by_slice", "slice", "patient")
    for name in set(scores.system) - {"lost"}:
        folders.predictions(name).mkdir(parents=True)
    ranked = module.ranked_systems(scores, folders)
    assert list(ranked) == ["unet", "vote", "liver_only"]
    assert ranked["unet"] == ("liver", "tumor") and ranked["liver_only"] == ("liver",)
    assert module.ranked_systems(scores.head(0), folders) == {}


@pytest.fixture(scope="module")
def phantom(tmp_path_factory):
    return write_phantom(tmp_path_factory.mktemp("phantom"), 1, workers=1, site="tiny")


def compare(visits: module.TwoVisits, labels) -> FollowUp:
    points = map(TimePoint, labels, [volume.spacing_mm for volume in visits.volumes])
    return compare_scans(*points, days=30)


def test_planted_growth_is_told_by_the_truth(phantom):
    visits = module.scan_twice(phantom, find_cases(phantom, "lits").cases[0], [1.5], [20.0])
    blind = [np.minimum(each, 1) for each in visits.truth]
    found = {"truth": compare(visits, visits.truth), "blind": compare(visits, blind)}
    changes = found["truth"].changes
    assert "new" in set(changes.kind) and changes.growth_ml.max() > 0
    assert changes.loc[changes.volume_before_ml.idxmax(), "diameter_change_percent"] > 20
    responses = module.response_rows(found).set_index("outlined_by")
    assert list(responses.category) == ["progressive disease", "no tumour"]
    assert (responses.n_tumors_after > 0).tolist() == [True, False]
    json.dumps(responses.to_dict("records"))


CASES = [("a", 0, "(5.0, 0.7, 0.7)", 1400.0, 0), ("b", 1, "(2.5, 0.7, 0.7)", 1600.0, 2)]
CASES += [("b2", 1, "(1.0, 0.7, 0.7)", 1500.0, 1), ("c", 2, "(nan, nan, nan)", np.nan, 1)]
CASES = pd.DataFrame(CASES, columns=["case", "patient", "spacing_mm", "liver_ml", "n_tumors"])
LESIONS = [("unet", 1, "reference", 8.0), ("unet", 1, "reference", 30.0), ("unet", 1, "prediction", 90.0)]
LESIONS += [("manet", 1, "reference", 30.0), ("manet", 2, "reference", np.nan)]
LESIONS = pd.DataFrame(LESIONS, columns=["system", "patient", "kind", "longest_diameter_mm"])


def test_every_fact_by_hand():
    phantom = pd.DataFrame({"case": ["b", "a", "c"], "site": list("BAC"), "phase": ["native"] * 3})
    brightness = pd.Series({"a": 55.0, "b": 110.0})
    facts = module.patient_facts(CASES, brightness, LESIONS, phantom)
    assert list(facts) == list(module.FACTORS) and facts.index.tolist() == ["0", "1", "2"]
    assert facts.site.tolist() == ["A", "B", "C"]
    assert facts.loc["0", ["brightness", "slice_spacing"]].tolist() == ["up to 75 HU", "over 2.5 mm"]
    assert facts.loc["1", ["brightness", "slice_spacing"]].tolist() == ["over 75 HU", "up to 2.5 mm"]
    assert facts.loc["2", ["brightness", "slice_spacing", "liver_volume"]].isna().all()
    assert facts.largest_tumor.tolist()[:2] == [module.NO_TUMOR, "20 to 50 mm"]
    assert pd.isna(facts.largest_tumor["2"])


def test_what_is_known_of_nobody_is_no_column():
    pictures = CASES.assign(spacing_mm="(nan, nan, nan)", liver_ml=np.nan, n_tumors=np.nan)
    facts = module.patient_facts(pictures, pd.Series(dtype=float), LESIONS.iloc[:0], None)
    assert facts.columns.empty and len(facts) == 3
    known = list(module.patient_facts(CASES, pd.Series(dtype=float), None, None))
    assert known == ["slice_spacing", "liver_volume"]


def test_brightness_is_that_of_the_liver_without_its_tumours():
    labels = np.zeros((2, 4, 4), np.uint8)
    labels[0, :2], labels[1, 0] = 1, 2
    hu = np.where(labels == 1, 104, np.where(labels == 2, 20, -50)).astype(np.int16)

    def scan(name: str, native, labels=labels) -> Case:
        return Case(name, name, (), lambda: Volume(hu, (5.0, 1.0, 1.0), native), lambda _: labels)

    grid = NativeGrid.__new__(NativeGrid)  # any: only that there is one
    scans = scan("scan", grid), scan("picture", None), scan("none", grid, labels * 0)
    found = module.liver_brightness(list(scans))
    assert found["scan"] == 104 and found[["picture", "none"]].isna().all()
