"""The error study from files on disk: boxes, systems and the phantom's knowledge come together."""

from functools import partial

import numpy as np
import pandas as pd
import pytest
from solids import labelled

from livseg_lib.datasets.case import Case
from livseg_lib.datasets.catalogue import find_cases
from livseg_lib.datasets.phantom.writing import write_phantom
from livseg_lib.evaluation.errors import TrueCase, find_errors
from livseg_lib.preprocessing.recipe import Recipe
from livseg_lib.runs import RunFolders
from livseg_lib.studies import errors
from livseg_lib.volumes import Volume, keep_prediction


def score(system: str, patient: str, dice: float, **others) -> dict:
    row = {"structure": "tumor", "system": system, "patient": patient, "case": f"volume-{patient}"}
    return row | {"dice": dice, "is_empty": False, "precision": dice, "prediction_ml": 1.0, **others}


@pytest.fixture(scope="module")
def phantom(tmp_path_factory):
    """A run on two tiny phantom patients: one system sees everything, one nothing, one invents."""
    root = tmp_path_factory.mktemp("root")
    folders = RunFolders(root, "tiny")
    write_phantom(folders.raw, 4, seed=3, workers=1, site="tiny")
    table = pd.read_csv(folders.raw / "patients.csv")
    chosen = table.case[table.n_tumors > 0][:2]
    cases = find_cases(folders.raw, "lits").only(chosen).cases
    for case in cases:
        volume = case.read_volume()
        truth = case.read_labels(volume)
        blind = np.minimum(truth, 1)
        alarm = blind.copy()
        alarm[1:3, 2:6, 2:6] = 2  # in the corner of the scan, far from any liver
        for system, labels in (("perfect", truth), ("blind", blind), ("alarmed", alarm)):
            keep_prediction(labels, volume, folders.predictions(system), case.case_id)
    dice = {"perfect": 1.0, "blind": 0.0, "alarmed": 0.0, "not_on_disk": 0.5}
    rows = [score(system, case.patient, value) for system, value in dice.items() for case in cases]
    return folders, cases, pd.DataFrame(rows)


def test_only_systems_with_all_predictions_are_looked_at(phantom):
    folders, cases, patients = phantom
    systems = errors.systems_with_predictions(patients, folders, cases, "tumor")
    assert systems[0] == "perfect" and set(systems) == {"perfect", "blind", "alarmed"}
    assert errors.systems_with_predictions(patients, folders, cases, "liver") == []


def test_the_study_counts_what_was_planted(phantom):
    folders, cases, _ = phantom
    study = errors.study_errors(["perfect", "blind", "alarmed"], cases, folders, folders.raw)
    counts = study.patients.groupby("system").sum(numeric_only=True)
    n_tumors = counts.tumors["perfect"]
    assert n_tumors > 0 and counts.missed.to_dict() == {"perfect": 0, "blind": n_tumors, "alarmed": n_tumors}
    assert counts.invented.to_dict() == {"perfect": 0, "blind": 0, "alarmed": 2}
    alarms = study.objects[study.objects.error == "false positive"]
    assert (alarms.place == "outside it").all() and (alarms.is_really == "air").all()
    assert (study.tumors.edge != "unknown").any() and (study.tumors.is_really == "tumor").all()
    hits = study.tumors.groupby("system").hit.sum().to_dict()
    assert hits == {"perfect": n_tumors, "blind": 0, "alarmed": 0}


def test_features_do_not_depend_on_the_box_that_was_cut(phantom):
    folders, cases, _ = phantom
    study = errors.study_errors(["blind"], cases[:1], folders, folders.raw)
    volume = cases[0].read_volume()
    truth = cases[0].read_labels(volume)
    whole = find_errors(np.minimum(truth, 1), TrueCase(truth, volume.spacing_mm, volume.voxels)).objects
    names = ["voxels", "mean_hu", "contrast_hu", "border_distance_mm", "outside_share", "above_liver_hu"]
    got, expected = (each[names].astype(float).reset_index(drop=True) for each in (study.objects, whole))
    pd.testing.assert_frame_equal(got, expected)


def test_scans_that_are_no_ct_have_no_brightness(phantom):
    folders, cases, _ = phantom
    study = errors.study_errors(["blind"], cases[:1], folders, folders.raw, modality="mr")
    assert study.objects.mean_hu.isna().all() and (study.objects.error_class == "undefined").all()
    assert study.objects.volume_ml.notna().all()


def test_pictures_are_studied_without_millimetres(tmp_path):
    folders = RunFolders(tmp_path, "pictures")
    truth, found = (labelled((3, 20, 20), tumor) for tumor in (np.s_[1, 4:8, 4:8], np.s_[1, 12:15, 12:15]))
    read = partial(Volume, np.zeros(truth.shape, np.int16), (np.nan,) * 3)
    case = Case("volume-1", "1", (), read, lambda _: truth)
    keep_prediction(found, read(), folders.predictions("unet"), "volume-1")
    study = errors.study_errors(["unet"], [case], folders, tmp_path)
    assert sorted(study.objects.error) == ["false negative", "false positive"]
    assert study.objects.volume_ml.isna().all() and (study.objects.error_class == "undefined").all()
    assert study.tumors.edge.isna().all() and study.objects.is_really.isna().all()


def test_the_worst_patients_are_those_with_and_the_worst_without_tumours():
    rows = [score("unet", patient, dice) for patient, dice in (("a", 0.9), ("b", 0.2), ("c", 0.5))]
    rows.append(score("vote", "a", 0.95))
    pairs = ("d", 3.0), ("e", 7.0)
    rows += [score("unet", name, 0.0, is_empty=True, prediction_ml=ml) for name, ml in pairs]
    rows.append(score("unet", "f", 1.0, is_empty=True, prediction_ml=0.0, precision=np.nan))
    found = errors.worst_cases(pd.DataFrame(rows), "unet", "tumor", 2)
    assert list(found.index) == ["volume-b", "volume-c", "volume-e"]


volume = partial(labelled, (9, 30, 30))


def test_slices_are_the_worst_of_each_stretch_from_feet_to_head():
    truth = volume(np.s_[1:7, 5:10, 5:10]) == 2
    found = volume(np.s_[1:7, 5:10, 5:10], np.s_[6, 20:25, 20:25]) == 2
    found[2] = False
    assert errors.slices_with_error(truth, found, 2) == [2, 6]
    assert errors.slices_with_error(truth, found, 99) == [1, 2, 3, 4, 5, 6]
    assert errors.slices_with_error(truth & False, truth & False, 3) == []


@pytest.mark.parametrize("structure", ["tumor", "liver"])
def test_a_strip_colours_each_kind_of_error(structure):
    truth, found = volume(np.s_[4, 5:10, 5:10]), volume(np.s_[4, 5:10, 8:14])
    if structure == "liver":
        truth, found = (labels - 1 for labels in (truth, found))
    scan = Volume(np.zeros(truth.shape, np.int16), (3.0, 1.0, 1.0))
    figure = errors.error_strip(scan, truth, found, structure, Recipe(windows=("liver",)), 6)
    assert len(figure.axes) == 3 and figure.axes[0].get_title(loc="left") == "slice 4, truth"
    painted = figure.axes[2].images[1].get_array()
    assert (painted == errors.MISSED).all(axis=-1).sum() == 5 * 3
    assert (painted == errors.INVENTED).all(axis=-1).sum() == 5 * 4
