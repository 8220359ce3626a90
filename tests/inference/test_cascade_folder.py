"""A cascade saved and loaded again gives the same labels; what is not whole is refused."""

from __future__ import annotations

import json

import keras
import numpy as np
import pytest

from livseg_lib.errors import InputError
from livseg_lib.inference.cascade import load_cascade, run_cascade, save_cascade
from livseg_lib.models import build_model
from livseg_lib.preprocessing.recipe import NetworkInput, Recipe
from livseg_lib.systems import StepPlan
from livseg_lib.training.model_folder import TrainedModel, save_model
from livseg_lib.volumes import Volume

OPTIONS = {"filters": 2, "levels": 2}
RECIPE = Recipe(windows=("liver",), size=32)
PLANS = (
    StepPlan("coarse liver", "network", "coarse"),
    StepPlan("largest piece", "finish", "keep_largest_liver"),
    StepPlan("tumours", "network", "fine", "box", 10.0),
    StepPlan("contour", "contour", "3", "box", 10.0),
)


def save_network(folder, target: str, inputs: NetworkInput, threshold: float) -> None:
    keras.utils.set_random_seed(3)
    network = build_model("unet", (32, 32, inputs.channels(1)), 1, **OPTIONS)
    trained = TrainedModel(
        folder.name, "unet", OPTIONS, network, RECIPE, target, {target: threshold}, inputs=inputs
    )
    save_model(trained, folder)


@pytest.fixture
def saved(tmp_path):
    sources = {name: tmp_path / "parts" / name for name in ("coarse", "fine")}
    save_network(sources["coarse"], "liver", NetworkInput(), 0.04)
    save_network(sources["fine"], "tumor", NetworkInput(neighbours=1, sees_liver=True), 0.05)
    return save_cascade(tmp_path / "cascade", "two", PLANS, sources, {"n_train_patients": 3})


def volume() -> Volume:
    hu = np.random.default_rng(0).integers(-50, 150, (4, 40, 32)).astype(np.int16)
    return Volume(hu, (5.0, 2.0, 2.0))


def test_a_cascade_stands_by_itself_and_answers_as_before(saved, tmp_path):
    before = run_cascade(volume(), load_cascade(saved).steps)
    moved = saved.rename(tmp_path / "elsewhere")
    (tmp_path / "parts").rename(tmp_path / "gone")
    cascade = load_cascade(moved)
    np.testing.assert_array_equal(run_cascade(volume(), cascade.steps), before)
    assert before.any() and cascade.system == "two" and cascade.training["n_train_patients"] == 3
    assert [step.name for step in cascade.steps] == [plan.name for plan in PLANS]


def test_parameters_are_those_of_all_networks_once(saved):
    of_parts = [
        json.loads((saved / name / "model.json").read_text())["parameters"] for name in ("coarse", "fine")
    ]
    assert load_cascade(saved).parameters == sum(of_parts)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"part": "pickle"}, "not a part of cascades"),
        ({"using": "../../coarse"}, "not the name of a folder"),
        ({"surprise": 1}, "not a livseg cascade"),
    ],
)
def test_steps_that_are_none_are_refused(saved, change, message):
    description = json.loads((saved / "model.json").read_text())
    description["steps"][0] |= change
    (saved / "model.json").write_text(json.dumps(description))
    with pytest.raises(InputError, match=message):
        load_cascade(saved)


def test_a_folder_that_is_not_whole_is_refused(saved, tmp_path):
    (saved / "fine" / "weights.safetensors").write_bytes(b"other")
    with pytest.raises(InputError, match=r"not the file that model\.json describes"):
        load_cascade(saved)
    with pytest.raises(InputError, match="not a livseg cascade"):
        load_cascade(tmp_path)
