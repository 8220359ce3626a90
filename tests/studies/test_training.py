"""Whole trainings in one call: what they see, what they leave behind, and that they can be repeated."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from stored_cases import PLAN, store_case

from livseg_lib.errors import InputError
from livseg_lib.inference.sorting import sort_stored
from livseg_lib.preprocessing.recipe import Recipe
from livseg_lib.studies import training as module
from livseg_lib.training.fit import Stage

RECIPE = Recipe(windows=("liver",), size=32)


@pytest.fixture
def extracted(tmp_path):
    """Six patients of six 32-pixel slices, two of them with a bright liver and a dark tumour in it."""
    generator, tables = np.random.default_rng(0), []
    masks = np.zeros((6, 32, 32), np.uint8)
    masks[2:4, 8:24, 8:24], masks[3, 12:18, 12:18] = 1, 2
    for patient, split in enumerate(["train"] * 3 + ["validation"] * 2 + ["test"]):
        images = generator.integers(0, 60, (6, 32, 32)) + np.array([0, 150, 80])[masks]
        who = {"patient": str(patient), "split": split}
        tables.append(store_case(tmp_path, f"volume-{patient}", masks, images, RECIPE, **who))
    return tmp_path, pd.concat(tables, ignore_index=True)


def test_a_system_is_trained_without_a_look_at_test_patients_and_tells_what_it_cost(extracted, tmp_path):
    folder, slices = extracted
    for name in ("images.npy", "masks.npy"):
        (folder / "volume-5" / name).unlink()
    trained, history = module.train_system(PLAN, slices, folder, tmp_path / "training", "run")
    facts = trained.training
    assert len(history) == 2
    assert (facts["n_train_patients"], facts["n_slices"], facts["slices_seen"]) == (3, 6, 16)
    assert facts["seconds"] > 0 and facts["peak_memory_mb"] > 0
    assert set(trained.thresholds) == {"liver", "tumor"} and trained.recipe == RECIPE


def test_systems_of_a_run_see_the_same_slices_and_start_alike_whatever_came_before(extracted, tmp_path):
    folder, slices = extracted
    other = replace(PLAN, system="other", architecture="attention_unet")
    train = slices[slices.split == "train"]
    pd.testing.assert_frame_equal(PLAN.choose(train), other.choose(train))
    first, _ = module.train_network(PLAN, train, None, folder, tmp_path / "a")
    module.train_network(replace(PLAN, system="third"), train, None, folder, tmp_path / "b")
    second, _ = module.train_network(PLAN, train, None, folder, tmp_path / "c")
    for one, two in zip(first.get_weights(), second.get_weights(), strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-6)


def test_a_target_that_is_never_shown_is_refused(extracted, tmp_path):
    folder, slices = extracted
    healthy = slices.assign(tumor_pixels=0)
    with pytest.raises(InputError, match="tumor"):
        module.train_network(PLAN, healthy, None, folder, tmp_path / "training")


def test_a_sorter_learns_the_regions_of_slices_and_tells_what_it_cost(extracted, tmp_path):
    folder, slices = extracted
    slices = slices.assign(region=np.where(slices["class"] > 0, "liver", "below_liver"))
    slices = slices[slices.split != "test"]
    plan = module.SorterPlan((Stage(1, 0.003),), {"filters": 2, "pixels": 16}, 4, 8, "none", seed=7)
    sorter, history = module.train_sorter(plan, slices, folder, tmp_path / "training", "run")
    assert sorter.regions == ("below_liver", "liver") and sorter.recipe == RECIPE and sorter.gate == 0
    assert (sorter.training["n_train_patients"], sorter.training["n_slices"]) == (3, 18)
    assert len(history) == 1 and "val_accuracy" in history
    found = sort_stored(sorter.network, slices, folder)
    assert found.shape == (30, 2) and found.sum(axis=1) == pytest.approx(1)


FACTS = {"n_train_patients": 18, "n_slices": 404, "slices_seen": 4800, "batch_size": 8, "loss": "bce_dice"}


def models(tmp_path, **systems: dict):
    """A model folder a system, its training facts changed as given (None leaves one out)."""
    for name, changes in systems.items():
        training = {key: value for key, value in (FACTS | changes).items() if value is not None}
        model = {"system": name, "architecture": "unet", "parameters": 7, "target": "both"}
        model |= {"recipe": {"size": 128}, "training": training}
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.json").write_text(json.dumps(model))
    return [tmp_path / name for name in systems]


ODD = {"slices_seen": 1440, "loss": "mse"}
DEPARTURES = [
    ({"a": {"seconds": 10.0}, "b": {"seconds": 900.0}}, ["", ""]),
    ({"odd": ODD, "a": {}, "b": {}}, ["slices_seen 1440, not 4800; loss mse, not bce_dice", "", ""]),
    ({"a": {}, "old": {"slices_seen": None}}, ["", "slices_seen unknown"]),
    ({"a": {"batch_size": None}, "b": {"batch_size": None}}, ["", ""]),  # marks nobody
]


@pytest.mark.parametrize(("systems", "remarks"), DEPARTURES)
def test_who_had_other_conditions_is_told_which(tmp_path, systems, remarks):
    facts = module.training_facts_table(models(tmp_path, **systems))
    assert list(facts)[3:] == [*module.BUDGET, *module.COST] and set(facts.parameters) == {7}
    assert module.budget_remarks(facts).tolist() == remarks


def test_a_folder_without_a_model_is_refused(tmp_path):
    (tmp_path / "half").mkdir()
    with pytest.raises(InputError, match="does not describe a model"):
        module.training_facts_table([tmp_path / "half"])
    assert module.training_facts_table([]).empty
