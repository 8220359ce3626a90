"""From a network to labels on the scan's own grid, and to scores."""

from __future__ import annotations

from functools import partial

import keras
import numpy as np
import pandas as pd
import pytest
from keras import layers

from livseg_lib.datasets.case import Case
from livseg_lib.inference.evaluate import evaluate_labels, evaluate_system, lits_rows, systems_rows
from livseg_lib.inference.predict import choose_thresholds, labels_from_planes, predict_planes, predict_volume
from livseg_lib.preprocessing.extraction import extract_dataset
from livseg_lib.preprocessing.recipe import Recipe
from livseg_lib.tables import SYSTEMS_COLUMNS
from livseg_lib.training.model_folder import TrainedModel
from livseg_lib.volumes import Volume, load_prediction

RECIPE = Recipe(windows=("stored",), size=128)
LIVER_GREY, TUMOR_GREY = 120, 220


def seer(bias: float = 0.0) -> keras.Model:
    """A network that is right by construction: bright is liver, brighter is tumour."""
    picture = keras.Input((128, 128, 1))
    steep = layers.Conv2D(2, 1, activation="sigmoid", name="probabilities")
    network = keras.Model(picture, steep(picture))
    kernel = np.full((1, 1, 1, 2), 100.0, np.float32)
    levels = np.array([LIVER_GREY / 2, (LIVER_GREY + TUMOR_GREY) / 2]) / 255
    steep.set_weights([kernel, (-100 * levels + bias).astype(np.float32)])
    return network


def scan(seed: int, with_tumor: bool = True) -> tuple[Volume, np.ndarray]:
    """A stack of five 128 x 128 pictures: a block of liver, a tumour in it."""
    top = 20 + 5 * seed
    labels = np.zeros((5, 128, 128), np.uint8)
    labels[1:4, top : top + 50, 30:90] = 1
    if with_tumor:
        labels[2:4, top + 10 : top + 25, 40:60] = 2
    grey = np.array([0, LIVER_GREY, TUMOR_GREY], np.int16)[labels]
    return Volume(grey, (3.0, 0.8, 0.8)), labels


def read_scan(seed: int, with_tumor: bool) -> Volume:
    return scan(seed, with_tumor)[0]


def read_truth(seed: int, with_tumor: bool, volume: Volume) -> np.ndarray:
    return scan(seed, with_tumor)[1]


def cases(*with_tumor: bool) -> list[Case]:
    return [
        Case(f"case-{n}", f"p{n}", (), partial(read_scan, n, has), partial(read_truth, n, has))
        for n, has in enumerate(with_tumor)
    ]


def trained(network: keras.Model | None = None) -> TrainedModel:
    thresholds = {"liver": 0.5, "tumor": 0.5}
    training = {"n_train_patients": 7, "seconds": 12.0}
    return TrainedModel("unet", "unet", {}, network or seer(), RECIPE, "both", thresholds, training)


@pytest.mark.parametrize("count", [0, 1, 16, 17])
def test_planes_do_not_depend_on_how_pictures_fall_into_batches(count):
    pictures = np.random.default_rng(count).integers(0, 256, (count, 128, 128, 1), np.uint8)
    network = seer()
    planes = predict_planes(network, iter(pictures))
    assert planes.shape == (count, 128, 128, 2) and planes.dtype == np.uint8
    if count:
        alone = np.asarray(network.predict_on_batch(pictures[-1:] / np.float32(255)))[0]
        np.testing.assert_array_equal(planes[-1], np.rint(alone * 255).astype(np.uint8))


def test_a_network_that_is_right_gives_the_truth_back():
    volume, truth = scan(1)
    np.testing.assert_array_equal(predict_volume(trained(), volume), truth)


def test_a_tumour_is_written_over_the_liver_and_thresholds_count():
    volume, _ = scan(0)
    planes = np.zeros((5, 128, 128, 2), np.uint8)
    planes[2, :64, :, 0], planes[2, :32, :, 1] = 255, 128  # probability 0.502
    labels = labels_from_planes(planes, volume, RECIPE, {"liver": 0.5, "tumor": 0.5})
    assert (labels[2, 10] == 2).all() and (labels[2, 50] == 1).all() and not labels[2, 80].any()
    assert not (labels_from_planes(planes, volume, RECIPE, {"liver": 0.5, "tumor": 0.6}) == 2).any()


def test_a_tumour_outside_the_liver_does_not_count():
    volume, _ = scan(0)
    planes = np.zeros((5, 128, 128, 2), np.uint8)
    planes[2, :64, :, 0], planes[2, 40:90, :, 1] = 255, 255
    labels = labels_from_planes(planes, volume, RECIPE, {"liver": 0.5, "tumor": 0.5})
    assert (labels[2, 50] == 2).all() and not labels[2, 80].any()
    alone = labels_from_planes(planes[..., 1:], volume, RECIPE, {"tumor": 0.5})
    assert (alone[2, 80] == 2).all()


def test_a_right_network_scores_one_and_keeps_its_masks(tmp_path):
    patients = cases(True, True, False)
    extract_dataset(patients, RECIPE, tmp_path / "slices", workers=1)
    found = evaluate_system(trained(), patients, tmp_path / "slices", tmp_path / "predictions")
    rows = pd.DataFrame(found.patients)
    assert (rows.dice == 1).all()  # the tumour-free patient too: nothing there, nothing found
    assert rows.set_index(["case", "structure"]).loc[("case-2", "tumor"), "is_empty"]
    voxel_ml = 3.0 * 0.8 * 0.8 / 1000
    assert rows.reference_ml[0] == pytest.approx(3 * 50 * 60 * voxel_ml)
    volume, truth = scan(0)
    np.testing.assert_array_equal(load_prediction(volume, tmp_path / "predictions", "case-0"), truth)

    table = pd.DataFrame(systems_rows(trained(), found, seed=0))
    assert set(table) <= set(SYSTEMS_COLUMNS)
    assert list(table.target) == ["liver", "tumor"]
    assert (table.dice_per_case == 1).all() and (table.dice_global == 1).all()
    assert (table.roc_auc > 0.999).all() and (table.presence_accuracy == 1).all()
    assert table.n_test_patients.tolist() == [3, 3]
    assert table.published_value.tolist()[1] == 0.85  # system C, tumours
    assert np.isnan(table.published_value.tolist()[0])  # nobody published its liver


def test_labels_without_probabilities_score_as_the_network_that_gave_them(tmp_path):
    patients, system = cases(True, False), trained()
    extract_dataset(patients, RECIPE, tmp_path / "slices", workers=1)
    network = evaluate_system(system, patients, tmp_path / "slices", tmp_path / "network")
    labels = evaluate_labels(
        system, lambda case, volume: predict_volume(system, volume), patients, tmp_path / "labels"
    )
    without_seconds = [
        pd.DataFrame(each.patients).drop(columns="predict_seconds") for each in (labels, network)
    ]
    pd.testing.assert_frame_equal(*without_seconds)
    pd.testing.assert_frame_equal(pd.concat(labels.slices), pd.concat(network.slices))
    volume, truth = scan(0)
    np.testing.assert_array_equal(load_prediction(volume, tmp_path / "labels", "case-0"), truth)
    rows = [pd.DataFrame(systems_rows(system, found, seed=0)) for found in (labels, network)]
    assert rows[0].roc_auc.isna().all() and rows[1].roc_auc.notna().all()
    pd.testing.assert_frame_equal(*(each.drop(columns="roc_auc") for each in rows))
    assert lits_rows(system, labels)[1]["tumor_burden_rmse"] == 0


def test_a_network_of_other_pictures_than_those_extracted_is_shown_its_own(tmp_path):
    patients = cases(True, False)
    extract_dataset(patients, RECIPE, tmp_path / "its", workers=1)
    extract_dataset(patients, Recipe(windows=((-100, 200), "lung"), size=64), tmp_path / "others", workers=1)
    its, others = (
        evaluate_system(trained(), patients, tmp_path / f, tmp_path / f"of {f}") for f in ("its", "others")
    )
    pd.testing.assert_frame_equal(pd.concat(its.slices), pd.concat(others.slices))
    assert pd.DataFrame(others.patients).dice.tolist() == pd.DataFrame(its.patients).dice.tolist()
    assert all(its.histograms[name].auc() == others.histograms[name].auc() for name in its.histograms)


def test_a_blind_network_is_counted_as_having_missed_everybody(tmp_path):
    patients = cases(True, False)
    extract_dataset(patients, RECIPE, tmp_path / "slices", workers=1)
    found = evaluate_system(trained(seer(bias=-200)), patients, tmp_path / "slices", tmp_path / "p")
    summary = {row["structure"]: row for row in lits_rows(trained(), found)}
    assert summary["liver"]["dice_per_case"] == 0 and summary["liver"]["n_missed"] == 2
    assert summary["tumor"]["dice_per_case"] == 0.5  # one missed, one rightly empty
    assert (summary["tumor"]["n_missed"], summary["tumor"]["n_empty_reference"]) == (1, 1)
    assert pd.DataFrame(found.patients).is_missed.sum() == 3


def test_the_threshold_is_the_one_that_suits_the_validation_patients(tmp_path):
    patients = cases(True, True)
    extract_dataset(patients, RECIPE, tmp_path, workers=1)
    shy = seer(bias=-20.0)  # a tumour has the probability 0.40, all else is near 0 or 1
    thresholds = choose_thresholds(shy, ("liver", "tumor"), ["case-0", "case-1"], tmp_path)
    assert thresholds["liver"] == 0.5 and 0.1 <= thresholds["tumor"] <= 0.4
    volume, truth = scan(0)
    planes = predict_planes(shy, list(np.load(tmp_path / "case-0" / "images.npy")))
    labels = labels_from_planes(planes, volume, RECIPE, thresholds)
    np.testing.assert_array_equal(labels, truth)
