"""A model folder gives back the same network, and refuses what is not one."""

from __future__ import annotations

import json

import numpy as np
import pytest

from livseg_lib.errors import InputError
from livseg_lib.models import build_model
from livseg_lib.preprocessing.recipe import Recipe, picture_code, prepare_slices
from livseg_lib.preprocessing.windows import WINDOWS, Window
from livseg_lib.training.model_folder import TrainedModel, load_model, save_model
from livseg_lib.volumes import Volume

OPTIONS = {"unet": {"filters": 4, "levels": 3}, "resnet50_unet": {"decoder_filters": (8, 8, 8, 4, 4)}}


def trained(name: str) -> TrainedModel:
    network = build_model(name, (128, 128, 3), 2, **OPTIONS[name])
    thresholds = {"liver": 0.5, "tumor": 0.3}
    return TrainedModel(name, name, OPTIONS[name], network, Recipe(), "both", thresholds, {"seconds": 1.0})


@pytest.mark.parametrize("name", OPTIONS)
def test_saved_and_loaded_give_equal_outputs(name, tmp_path):
    before = trained(name)
    after = load_model(save_model(before, tmp_path / name))
    picture = np.random.default_rng(0).random((1, 128, 128, 3), np.float32)
    np.testing.assert_array_equal(
        before.network.predict_on_batch(picture), after.network.predict_on_batch(picture)
    )
    assert (after.recipe, after.target, after.thresholds) == (before.recipe, before.target, before.thresholds)
    assert after.structures == ("liver", "tumor")


def test_changed_weights_are_refused(tmp_path):
    folder = save_model(trained("unet"), tmp_path)
    weights = bytearray((folder / "weights.safetensors").read_bytes())
    weights[-1] ^= 1
    (folder / "weights.safetensors").write_bytes(weights)
    with pytest.raises(InputError, match="weights"):
        load_model(folder)


def test_a_folder_without_a_model_and_a_foreign_architecture_are_refused(tmp_path):
    with pytest.raises(InputError, match="not a livseg model"):
        load_model(tmp_path)
    folder = save_model(trained("unet"), tmp_path)
    description = json.loads((folder / "model.json").read_text())
    description["architecture"] = "os.system"
    (folder / "model.json").write_text(json.dumps(description))
    with pytest.raises(InputError, match="catalogue"):
        load_model(folder)


def test_the_description_warns_and_names_what_it_expects(tmp_path):
    description = json.loads((save_model(trained("unet"), tmp_path) / "model.json").read_text())
    assert "Not for clinical use" in description["warning"]
    assert description["input_shape"] == [128, 128, 3]
    windows = [["liver", -50, 200], ["liver_narrow", 0, 150], ["liver_wide", -200, 250]]
    assert description["recipe"]["windows"] == windows
    assert len(description["weights_sha256"]) == 64
    assert description["training"]["picture_code"] == picture_code()


def test_a_model_keeps_its_own_window_when_the_table_changes(tmp_path, monkeypatch):
    folder = save_model(trained("unet"), tmp_path)
    volume = Volume(np.full((1, 140, 140), 75, np.int16), (1.0, 1.0, 1.0), native=None)
    monkeypatch.setitem(WINDOWS, "liver", Window.between(0, 100))
    own, of_today = load_model(folder).recipe, Recipe()
    assert (
        np.stack(list(prepare_slices(volume, own)))[0, 64, 64, 0] == 128
    )  # 75 HU is the middle of -50 to 200
    assert np.stack(list(prepare_slices(volume, of_today)))[0, 64, 64, 0] == 191


def test_a_model_whose_weights_mean_something_else_today_is_refused(tmp_path):
    folder = save_model(trained("unet"), tmp_path)
    description = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps(description | {"format": 1}))
    with pytest.raises(InputError, match="another version of livseg"):
        load_model(folder)
