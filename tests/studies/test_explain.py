"""Networks asked on scans made by hand, their maps checked, their doubts tried as warnings."""

from dataclasses import replace
from functools import partial

import keras
import numpy as np
import pandas as pd
import pytest
from keras import layers
from solids import labelled
from stored_cases import store_case

from livseg_lib.datasets.case import Case
from livseg_lib.evaluation.statistics import summarize
from livseg_lib.inference.cascade import save_cascade
from livseg_lib.inference.explain import encoder_maps
from livseg_lib.inference.export import add_graph
from livseg_lib.models import build_model
from livseg_lib.preprocessing.recipe import NetworkInput, Recipe
from livseg_lib.runs import RunFolders
from livseg_lib.studies import explain
from livseg_lib.systems import StepPlan
from livseg_lib.training.model_folder import TrainedModel, save_model
from livseg_lib.volumes import Volume, keep_prediction

SHAPE, SPACING_MM = (4, 32, 32), (5.0, 2.0, 2.0)
RECIPE = Recipe(windows=("stored",), size=32)
OPTIONS = {"filters": 2, "levels": 2}


def labels(column: int | None) -> np.ndarray:
    """A liver, and in its second slice a tumour from `column` on."""
    tumors = [] if column is None else [np.s_[1, 12:18, column : column + 6]]
    return labelled(SHAPE, *tumors, liver=np.s_[:3, 4:28, 4:28])


TRUTHS = {"volume-1": labels(8), "volume-2": labels(18), "volume-3": labels(None)}


def read_volume(truth: np.ndarray) -> Volume:
    return Volume(np.where(truth == 2, 250, 60 * truth).astype(np.int16), SPACING_MM)


CASES = [Case(n, n[-1], (), partial(read_volume, t), lambda _, t=t: t) for n, t in TRUTHS.items()]


def bright_network() -> explain.ExplainedNetwork:
    """Liver and tumour by brightness: its only map is the picture."""
    image = keras.Input((32, 32, 1))
    x = layers.Conv2D(2, 1, name="copy", bias_initializer="zeros")(image)
    answer = layers.Conv2D(2, 1, activation="sigmoid", name="answer")(x)
    network = keras.Model(image, answer)
    network.get_layer("copy").set_weights([np.ones((1, 1, 1, 2), np.float32), np.zeros(2, np.float32)])
    kernel = np.full((1, 1, 2, 2), 10, np.float32)
    network.get_layer("answer").set_weights([kernel, np.array([-2, -12], np.float32)])
    thresholds = {"liver": 0.5, "tumor": 0.5}
    trained = TrainedModel("bright", "unet", {}, network, RECIPE, "both", thresholds)
    return explain.ExplainedNetwork(trained, "bright")


@pytest.fixture
def folders(folders) -> RunFolders:
    for case in CASES:
        keep_prediction(TRUTHS[case.case_id], case.read_volume(), folders.predictions("bright"), case.case_id)
    return folders


def test_each_patient_with_the_structure_gives_a_picture_and_its_own_outline(folders):
    [asked] = explain.gather_pictures([bright_network()], CASES, "tumor", folders)
    assert not asked.unseen
    for found, name in zip(asked.slices, ("volume-1", "volume-2"), strict=True):
        np.testing.assert_array_equal(found.truth, TRUTHS[name][1] == 2)
        np.testing.assert_array_equal(found.region, found.truth)


def test_a_map_that_is_the_picture_beats_its_rivals_and_random_weights_change_it(folders):
    [asked] = explain.gather_pictures([bright_network()], CASES, "tumor", folders)
    sanity, pointing = explain.check_network(asked, 2, seed=3)
    assert sanity.randomized_layers.tolist() == [0, 1, 2] and (sanity.layers == 2).all()
    assert sanity.rank_correlation[0] == 1 and sanity.similarity[0] == 1
    assert (sanity.n_pictures == 2).all()
    table = pointing.set_index("kind")
    assert table.pointing_hit["as trained"] == 1
    bright, rest = 36 * 250, (24 * 24 - 36) * 60
    assert table.energy_share["as trained"] == pytest.approx(bright / (bright + rest), rel=1e-3)
    assert table.energy_share["the same everywhere"] == pytest.approx(36 / 32**2)
    assert table.energy_share["as trained"] > table.energy_share.drop("as trained").max()


def test_a_slice_that_a_system_never_shows_is_listed(folders):
    network = explain.ExplainedNetwork(bright_network().trained, "bright", "box", 0.0)
    blind = np.zeros(SHAPE, np.uint8)
    keep_prediction(blind, CASES[0].read_volume(), folders.predictions("bright"), "volume-1")
    [asked] = explain.gather_pictures([network], CASES, "tumor", folders)
    assert asked.unseen == ["1"] and len(asked.slices) == 1
    assert [side.start for side in asked.slices[0].view.region] == [0, 4, 4]
    beside = blind.copy()
    beside[1, 4:8, 4:8] = 1  # a liver without the tumour
    keep_prediction(beside, CASES[1].read_volume(), folders.predictions("bright"), "volume-2")
    assert explain.gather_pictures([network], CASES, "tumor", folders)[0].unseen == ["1", "2"]


def scores() -> pd.DataFrame:
    rows = [("volume-1", 0.9, False), ("volume-2", 0.4, False), ("volume-3", 0.0, True)]
    table = pd.DataFrame(rows, columns=["case", "dice", "is_empty"])
    return table.assign(system="bright", structure="tumor")


def test_best_worst_and_a_false_alarm_are_chosen(folders):
    chosen = explain.choose_slices("bright", "tumor", scores(), CASES, folders, RECIPE)
    best, worst = ((each.rank, each.case.case_id, each.index) for each in chosen)
    assert (best, worst) == (("best", "volume-1", 1), ("worst", "volume-2", 1))
    alarm = TRUTHS["volume-3"].copy()
    alarm[2, 6:9, 6:9] = 2
    keep_prediction(alarm, CASES[2].read_volume(), folders.predictions("bright"), "volume-3")
    last = explain.choose_slices("bright", "tumor", scores(), CASES, folders, RECIPE)[-1]
    assert (last.rank, last.case.case_id, last.index, last.dice) == ("false alarm", "volume-3", 2, 0.0)
    assert len(explain.choose_slices("bright", "tumor", scores().iloc[:1], CASES[:1], folders, RECIPE)) == 1
    assert explain.choose_slices("bright", "tumor", scores().iloc[:0], [], folders, RECIPE) == []


def test_a_slice_is_explained_at_the_scans_size(folders):
    network = bright_network()
    shown = explain.choose_slices("bright", "tumor", scores(), CASES, folders, RECIPE)[0]
    np.testing.assert_array_equal(shown.grey, np.array([0, 60, 250])[TRUTHS["volume-1"][1]])
    said = explain.ask_slice(network, shown, "tumor", folders)
    heat = said.heat()
    np.testing.assert_array_equal(said.labels, shown.truth)
    assert heat.shape == (32, 32)
    assert heat[said.labels == 2].min() == 1 and heat[said.labels < 2].max() < 0.5
    [level] = encoder_maps(network.trained.network)
    np.testing.assert_array_equal(said.heat(level.name), heat)
    drops = said.occlusion(shown.truth, (12.0, 12.0), (1, 1))
    # Patches of 6 x 6 pixels from the corner: four columns of the tumour lie in one, two in the next.
    np.testing.assert_allclose(drops[12:18, 6:18].mean(axis=0), [2 / 3] * 6 + [1 / 3] * 6, rtol=1e-2)
    assert np.abs(drops[:12]).max() < 1e-6


def test_the_true_pixels_are_asked_about_where_a_network_outlines_nothing(folders):
    network = bright_network()
    blind = replace(network, trained=replace(network.trained, thresholds={"liver": 0.5, "tumor": 1.1}))
    shown = explain.choose_slices("bright", "tumor", scores(), CASES, folders, RECIPE)[0]
    said = explain.ask_slice(blind, shown, "tumor", folders)
    assert not (said.labels == 2).any()
    np.testing.assert_array_equal(said.region, shown.truth == 2)
    [asked] = explain.gather_pictures([blind], CASES[:1], "tumor", folders)
    np.testing.assert_array_equal(asked.slices[0].region, shown.truth == 2)


def test_networks_are_found_alone_and_in_cascades(folders):
    for name, target in (("coarse", "liver"), ("unet", "both"), ("fine", "tumor")):
        network = build_model("unet", (32, 32, 1), 2 if target == "both" else 1, **OPTIONS)
        structures = {"both": ("liver", "tumor")}.get(target, (target,))
        thresholds = dict.fromkeys(structures, 0.5)
        trained = TrainedModel(name, "unet", OPTIONS, network, RECIPE, target, thresholds)
        save_model(trained, folders.model(name))
    plans = (
        StepPlan("coarse liver", "network", "coarse"),
        StepPlan("largest", "finish", "keep_largest_liver"),
        StepPlan("tumours", "network", "fine", "box", 10.0),
    )
    sources = {"coarse": folders.model("coarse"), "fine": folders.model("fine")}
    for name in ("cascade", "another"):
        save_cascade(folders.model(name), name, plans, sources, {})
    found = explain.find_networks(folders, ["cascade", "another", "coarse", "unet"], "tumor")
    assert [(each.name, each.system, each.region, each.margin_mm) for each in found] == [
        ("unet", "unet", "scan", 0.0),
        ("fine", "cascade", "box", 10.0),
    ]
    livers = explain.find_networks(folders, ["cascade", "coarse", "unet"], "liver")
    assert [each.name for each in livers] == ["coarse", "unet"]
    add_graph(folders.model("unet"))  # used by its graph, it has no layers to look at
    assert [each.name for each in explain.find_networks(folders, ["coarse", "unet"], "liver")] == ["coarse"]


LIVER_RECIPE = Recipe(windows=("liver",), size=32)


def by_brightness(steepness: float, target: str = "liver") -> TrainedModel:
    """Liver where the picture is brighter than the middle; the surer, the steeper."""
    image = keras.Input((32, 32, 1))
    network = keras.Model(image, layers.Conv2D(1, 1, activation="sigmoid")(image))
    network.set_weights([np.full((1, 1, 1, 1), steepness), np.full(1, -steepness / 2)])
    return TrainedModel(f"toy-{steepness}", "unet", {}, network, LIVER_RECIPE, target, {target: 0.5})


@pytest.fixture
def folder(tmp_path):
    """A patient whose liver is bright, beside a band of middle grey that only seems to be, and a blank."""
    truth = np.zeros((3, 32, 32), np.uint8)
    truth[:2, 8:24, 8:20] = 1
    pictures = np.where(truth, 230, 20).astype(np.uint8)
    pictures[:2, 8:24, 20:24] = 140
    for name, images in (("volume-1", pictures), ("volume-2", np.zeros_like(pictures))):
        store_case(tmp_path, name, truth, images)
    return tmp_path


PICTURES = [Case(f"volume-{n}", str(n), (), lambda: None) for n in (1, 2)]


def test_a_network_unsure_of_its_errors_warns_of_them(folder):
    models = [by_brightness(8.0), by_brightness(16.0)]
    rows = explain.study_warnings(models, PICTURES, folder, "liver", ("grey",), 5.0, 8)
    assert len(rows) == 12
    first, second = (rows[rows.patient == patient] for patient in "12")
    auc = first.set_index(["source", "measure"]).roc_auc
    assert auc["one answer", "entropy"] == auc["variants", "deviation"] == auc["models", "deviation"] == 1
    assert 0.5 < auc["outline", "nearness"] < 1  # the band lies along the outline, on one side of it
    assert (first.n_wrong == 2 * 16 * 4).all()
    assert second.roc_auc.isna().all() and (second.n_pixels == 0).all()
    summary = summarize(rows, ["source", "measure"], "roc_auc")
    assert (summary.n_patients == 1).all() and (summary.n_undefined == 1).all()
    assert summary.roc_auc_low.isna().all()  # one patient has no interval


def test_without_others_and_variants_there_are_fewer_sources(folder):
    rows = explain.study_warnings([by_brightness(8.0)], PICTURES[:1], folder, "liver", (), 5.0, 1)
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
    networks = [explain.ExplainedNetwork(each, "x") for each in (first, *others.values())]
    networks.append(explain.ExplainedNetwork(by_brightness(4.0), "cascade", "box", 5.0))
    assert explain.who_warns(networks, LIVER_RECIPE) == [first, others["alike"]]
    assert explain.who_warns(networks[-1:], LIVER_RECIPE) == []
