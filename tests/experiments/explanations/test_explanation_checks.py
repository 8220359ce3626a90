"""The checks of explanations on scans made by hand, and which networks and slices are asked about."""

from __future__ import annotations

from functools import partial

import keras
import numpy as np
import pandas as pd
import pytest
from keras import layers

from livseg_lib.datasets.case import Case
from livseg_lib.inference.cascade import save_cascade
from livseg_lib.models import build_model
from livseg_lib.preprocessing.recipe import Recipe
from livseg_lib.runs import RunFolders
from livseg_lib.studies import explain
from livseg_lib.studies.explain import (
    ExplainedNetwork,
    choose_slices,
    explain_levels,
    explain_slice,
    find_networks,
    occlude_slice,
    read_slice,
)
from livseg_lib.systems import StepPlan
from livseg_lib.training.model_folder import TrainedModel, save_model
from livseg_lib.volumes import Volume, keep_prediction

SHAPE, SPACING_MM = (4, 32, 32), (5.0, 2.0, 2.0)
RECIPE = Recipe(windows=("stored",), size=32)
OPTIONS = {"filters": 2, "levels": 2}


def labels(column: int | None) -> np.ndarray:
    """A liver, and in its second slice a tumour from `column` on."""
    found = np.zeros(SHAPE, np.uint8)
    found[:3, 4:28, 4:28] = 1
    if column is not None:
        found[1, 12:18, column : column + 6] = 2
    return found


TRUTHS = {"volume-1": labels(8), "volume-2": labels(18), "volume-3": labels(None)}


def read_volume(truth: np.ndarray) -> Volume:
    return Volume(np.where(truth == 2, 250, 60 * truth).astype(np.int16), SPACING_MM)


CASES = [Case(n, n[-1], (), partial(read_volume, t), lambda _, t=t: t) for n, t in TRUTHS.items()]


def bright_network() -> ExplainedNetwork:
    """Liver and tumour by brightness: its only map is the picture."""
    image = keras.Input((32, 32, 1))
    x = layers.Conv2D(2, 1, name="copy", bias_initializer="zeros")(image)
    answer = layers.Conv2D(2, 1, activation="sigmoid", name="answer")(x)
    network = keras.Model(image, answer)
    network.get_layer("copy").set_weights([np.ones((1, 1, 1, 2), np.float32), np.zeros(2, np.float32)])
    kernel = np.full((1, 1, 2, 2), 10, np.float32)
    network.get_layer("answer").set_weights([kernel, np.array([-2, -12], np.float32)])
    thresholds = {"liver": 0.5, "tumor": 0.5}
    return ExplainedNetwork(TrainedModel("bright", "unet", {}, network, RECIPE, "both", thresholds), "bright")


@pytest.fixture
def folders(tmp_path) -> RunFolders:
    folders = RunFolders(tmp_path, "run")
    for case in CASES:
        keep_prediction(TRUTHS[case.case_id], case.read_volume(), folders.predictions("bright"), case.case_id)
    return folders


def test_each_patient_with_the_structure_gives_a_picture_and_its_own_outline(folders):
    [asked] = explain.gather_pictures([bright_network()], CASES, "tumor", folders)
    assert asked.patients == ["1", "2"] and not asked.unseen and asked.channel == 1
    for truth, region, name in zip(asked.truths, asked.regions, ("volume-1", "volume-2"), strict=True):
        np.testing.assert_array_equal(truth, TRUTHS[name][1] == 2)
        np.testing.assert_array_equal(region, truth)


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
    network = ExplainedNetwork(bright_network().trained, "bright", "box", 0.0)
    blind = np.zeros(SHAPE, np.uint8)
    keep_prediction(blind, CASES[0].read_volume(), folders.predictions("bright"), "volume-1")
    [asked] = explain.gather_pictures([network], CASES, "tumor", folders)
    assert asked.unseen == ["1"] and asked.patients == ["2"]
    assert asked.views[0].region.start == (0, 4, 4)


def scores() -> pd.DataFrame:
    rows = [("volume-1", 0.9, False), ("volume-2", 0.4, False), ("volume-3", 0.0, True)]
    table = pd.DataFrame(rows, columns=["case", "dice", "is_empty"])
    return table.assign(system="bright", structure="tumor")


def test_best_worst_and_a_false_alarm_are_chosen(folders):
    chosen = choose_slices("bright", "tumor", scores(), CASES, folders)
    assert [(each.rank, each.case.case_id, each.index) for each in chosen] == [
        ("best", "volume-1", 1),
        ("worst", "volume-2", 1),
    ]
    alarm = TRUTHS["volume-3"].copy()
    alarm[2, 6:9, 6:9] = 2
    keep_prediction(alarm, CASES[2].read_volume(), folders.predictions("bright"), "volume-3")
    last = choose_slices("bright", "tumor", scores(), CASES, folders)[-1]
    assert (last.rank, last.case.case_id, last.index, last.dice) == ("false alarm", "volume-3", 2, 0.0)
    assert len(choose_slices("bright", "tumor", scores().iloc[:1], CASES[:1], folders)) == 1


def test_a_slice_is_explained_at_the_scans_size(folders):
    network = bright_network()
    shown = choose_slices("bright", "tumor", scores(), CASES, folders)[0]
    asked = read_slice(shown, "tumor", RECIPE, folders)
    [tile] = explain_slice([network], asked)
    np.testing.assert_array_equal(tile.prediction, TRUTHS["volume-1"][1])
    assert tile.name == "bright" and tile.heat.shape == (32, 32)
    assert tile.heat[tile.prediction == 2].min() == 1 and tile.heat[tile.prediction < 2].max() < 0.5
    assert list(explain_levels(network, asked)) == ["copy (32 x 32)"]
    prediction, drops = occlude_slice(network, asked, 12.0, 12.0, 1, 1)
    np.testing.assert_array_equal(prediction, asked.reference)
    # Patches of 6 x 6 pixels from the corner: four columns of the tumour lie in one, two in the next.
    np.testing.assert_allclose(drops[12:18, 6:18].mean(axis=0), [2 / 3] * 6 + [1 / 3] * 6, rtol=1e-2)
    assert np.abs(drops[:12]).max() < 1e-6


def test_networks_are_found_alone_and_in_cascades(tmp_path):
    folders = RunFolders(tmp_path, "run")
    for name, target in (("coarse", "liver"), ("unet", "both"), ("fine", "tumor")):
        network = build_model("unet", (32, 32, 1), 2 if target == "both" else 1, **OPTIONS)
        structures = {"both": ("liver", "tumor")}.get(target, (target,))
        thresholds = dict.fromkeys(structures, 0.5)
        save_model(
            TrainedModel(name, "unet", OPTIONS, network, RECIPE, target, thresholds), folders.model(name)
        )
    plans = (
        StepPlan("coarse liver", "network", "coarse"),
        StepPlan("largest", "finish", "keep_largest_liver"),
        StepPlan("tumours", "network", "fine", "box", 10.0),
    )
    sources = {"coarse": folders.model("coarse"), "fine": folders.model("fine")}
    for name in ("cascade", "another"):
        save_cascade(folders.model(name), name, plans, sources, {})
    found = find_networks(folders, ["cascade", "another", "coarse", "unet"], "tumor")
    assert [(each.name, each.system, each.region, each.margin_mm) for each in found] == [
        ("unet", "unet", "scan", 0.0),
        ("fine", "cascade", "box", 10.0),
    ]
    livers = find_networks(folders, ["cascade", "coarse", "unet"], "liver")
    assert [each.name for each in livers] == ["coarse", "unet"]
