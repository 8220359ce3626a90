"""A slice sorter comes back from its folder as it went in; other folders are refused."""

from __future__ import annotations

import json

import keras
import numpy as np
import pytest

from livseg_lib.errors import InputError
from livseg_lib.models.classifiers import build_classifier
from livseg_lib.preprocessing.recipe import Recipe
from livseg_lib.sampling.batches import REGIONS
from livseg_lib.training.model_folder import TrainedSorter, load_model, load_sorter, save_model

OPTIONS = {"filters": 2, "levels": 2}


def trained_sorter(network: keras.Model | None = None) -> TrainedSorter:
    network = network or build_classifier("slice_sorter", (128, 128, 3), len(REGIONS), **OPTIONS)
    training = {"n_train_patients": 3, "seconds": 1.5}
    return TrainedSorter(
        "slice_sorter", "slice_sorter", OPTIONS, network, Recipe(), REGIONS, gate=0.02, training=training
    )


def test_saved_and_loaded_give_equal_outputs(tmp_path):
    before = trained_sorter()
    after = load_sorter(save_model(before, tmp_path))
    picture = np.random.default_rng(0).random((2, 128, 128, 3), np.float32)
    np.testing.assert_array_equal(
        before.network.predict_on_batch(picture), after.network.predict_on_batch(picture)
    )
    for name in ("system", "architecture", "options", "recipe", "regions", "gate", "training"):
        assert getattr(after, name) == getattr(before, name)


def test_changed_weights_and_other_models_are_refused(tmp_path):
    folder = save_model(trained_sorter(), tmp_path)
    with pytest.raises(InputError, match=r"is not a livseg model .*target"):
        load_model(folder)
    description = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps({**description, "architecture": "os.system"}))
    with pytest.raises(InputError, match="not in the catalogue"):
        load_sorter(folder)
    without = {key: value for key, value in description.items() if key != "regions"}
    (folder / "model.json").write_text(json.dumps(without))
    with pytest.raises(InputError, match=r"not a livseg slice sorter .*regions"):
        load_sorter(folder)
    (folder / "model.json").write_text(json.dumps(description))
    weights = bytearray((folder / "weights.safetensors").read_bytes())
    weights[-1] ^= 1
    (folder / "weights.safetensors").write_bytes(weights)
    with pytest.raises(InputError, match=r"not the file that model.json describes"):
        load_sorter(folder)
    with pytest.raises(InputError, match="not a livseg slice sorter"):
        load_sorter(tmp_path / "nothing")
