"""Warnings of wrong pixels: a network unsure of its errors scores 1, what is not outlined is counted."""

from __future__ import annotations

from dataclasses import replace

import keras
import numpy as np
import pytest
from keras import layers

from livseg_lib.datasets.case import Case
from livseg_lib.preprocessing.recipe import NetworkInput, Recipe
from livseg_lib.studies.explain import ExplainedNetwork
from livseg_lib.studies.warnings import WARNING_COLUMNS, study_warnings, summarize_warnings, who_warns
from livseg_lib.training.model_folder import TrainedModel

RECIPE = Recipe(windows=("liver",), size=32)


def by_brightness(steepness: float, target: str = "liver") -> TrainedModel:
    """Liver where the picture is brighter than the middle; the surer, the steeper."""
    image = keras.Input((32, 32, 1))
    network = keras.Model(image, layers.Conv2D(1, 1, activation="sigmoid")(image))
    network.set_weights(
        [np.full((1, 1, 1, 1), steepness, np.float32), np.full(1, -steepness / 2, np.float32)]
    )
    return TrainedModel(f"toy-{steepness}", "unet", {}, network, RECIPE, target, {target: 0.5})


@pytest.fixture
def folder(tmp_path):
    """A patient whose liver is bright, beside a band of middle grey that only seems to be, and a blank."""
    truth = np.zeros((3, 32, 32), np.uint8)
    truth[:2, 8:24, 8:20] = 1
    pictures = np.where(truth, 230, 20).astype(np.uint8)
    pictures[:2, 8:24, 20:24] = 140
    for name, images in (("volume-1", pictures), ("volume-2", np.zeros_like(pictures))):
        (tmp_path / name).mkdir()
        np.save(tmp_path / name / "images.npy", images[..., np.newaxis])
        np.save(tmp_path / name / "masks.npy", truth)
    return tmp_path


CASES = [Case(f"volume-{n}", str(n), (), lambda: None) for n in (1, 2)]


def test_a_network_unsure_of_its_errors_warns_of_them(folder):
    models = [by_brightness(8.0), by_brightness(16.0)]
    rows, worst = study_warnings(models, CASES, folder, "liver", ("grey",), 5.0, 8)
    assert list(rows.columns) == list(WARNING_COLUMNS) and len(rows) == 12
    first, second = (rows[rows.patient == patient] for patient in "12")
    auc = first.set_index(["source", "measure"]).roc_auc
    assert auc["one answer", "entropy"] == auc["variants", "deviation"] == auc["models", "deviation"] == 1
    assert 0.5 < auc["outline", "nearness"] < 1  # the band lies along the outline, on one side of it
    assert (first.n_wrong == 2 * 16 * 4).all()
    assert second.roc_auc.isna().all() and (second.n_pixels == 0).all()
    assert worst.case == "volume-1" and worst.amount == 64
    np.testing.assert_array_equal(worst.wrong, worst.prediction.astype(bool) & (worst.reference == 0))
    summary = summarize_warnings(rows, seed=0)
    assert (summary.n_patients == 1).all() and (summary.n_undefined == 1).all()
    assert summary.roc_auc_low.isna().all()  # one patient has no interval


def test_without_others_and_variants_there_are_fewer_sources(folder):
    rows, _ = study_warnings([by_brightness(8.0)], CASES[:1], folder, "liver", (), 5.0, 1)
    assert rows.source.tolist() == ["one answer", "outline"]
    assert (rows.n_wrong == 16 * 4).all()  # one slice


def test_only_those_that_see_the_same_pictures_for_the_same_target_warn_together():
    first = by_brightness(1.0)
    others = {
        "alike": by_brightness(2.0),
        "of tumours": by_brightness(3.0, "tumor"),
        "of other pictures": replace(first, recipe=Recipe(windows=("liver",), size=64)),
        "of neighbours": replace(first, inputs=NetworkInput(neighbours=1)),
    }
    networks = [ExplainedNetwork(each, "x") for each in (first, *others.values())]
    networks.append(ExplainedNetwork(by_brightness(4.0), "cascade", "box", 5.0))
    assert who_warns(networks, RECIPE) == [first, others["alike"]]
    assert who_warns(networks[-1:], RECIPE) == []
