"""A classifier of superpixels comes back from its folder as it went in; other folders are refused."""

from __future__ import annotations

import json

import numpy as np
import pytest

from livseg_lib.errors import InputError
from livseg_lib.models.classifiers import build_classifier
from livseg_lib.postprocessing.superpixels import CandidateRecipe
from livseg_lib.preprocessing.patches import PatchRecipe
from livseg_lib.training.model_folder import TrainedClassifier, load_classifier, load_sorter, save_model

OPTIONS = {"filters": 2, "columns": 2, "stages": 2}
PATCH = PatchRecipe((40.0, 48.0, 48.0), (4, 8, 8), (120.0,))


def trained_classifier() -> TrainedClassifier:
    network = build_classifier("fractal3d", (*PATCH.voxels, PATCH.channels), 2, **OPTIONS)
    what = ("superpixel_classifier", "fractal3d", OPTIONS, network, CandidateRecipe((12.0, 20.0), 8.0, 99))
    return TrainedClassifier(*what, PATCH, threshold=0.35, training={"n_train_patients": 3, "seconds": 1.5})


def test_saved_and_loaded_give_equal_outputs(tmp_path):
    before = trained_classifier()
    after = load_classifier(save_model(before, tmp_path))
    patches = np.random.default_rng(0).random((2, *PATCH.voxels, PATCH.channels), np.float32)
    np.testing.assert_array_equal(
        before.network.predict_on_batch(patches), after.network.predict_on_batch(patches)
    )
    for name in ("system", "architecture", "options", "candidates", "patch", "threshold", "training"):
        assert getattr(after, name) == getattr(before, name)
    assert after.parameters == before.network.count_params()


def test_changed_weights_and_other_models_are_refused(tmp_path):
    folder = save_model(trained_classifier(), tmp_path)
    with pytest.raises(InputError, match=r"is not a livseg slice sorter .*regions"):
        load_sorter(folder)
    description = json.loads((folder / "model.json").read_text())
    without = {key: value for key, value in description.items() if key != "patch"}
    (folder / "model.json").write_text(json.dumps(without))
    with pytest.raises(InputError, match=r"not a livseg classifier of superpixels .*patch"):
        load_classifier(folder)
    (folder / "model.json").write_text(json.dumps(description))
    (folder / "weights.safetensors").write_bytes(b"other")
    with pytest.raises(InputError, match=r"not the file that model\.json describes"):
        load_classifier(folder)
