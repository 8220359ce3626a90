"""The inputs of a comparison are those that the network is shown in use."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from livseg_lib.errors import InputError
from livseg_lib.inference.export import sample_inputs
from livseg_lib.models import build_model
from livseg_lib.preprocessing.recipe import NetworkInput, Recipe, prepare_slices
from livseg_lib.training.model_folder import TrainedModel
from livseg_lib.volumes import Volume

RECIPE = Recipe(windows=("liver", "bone"), size=32)


def scan(depth: int) -> Volume:
    hu = np.random.default_rng(depth).integers(-100, 200, (depth, 40, 36)).astype(np.int16)
    return Volume(hu, (4.0, 1.0, 1.0))


def trained(shape: tuple[int, ...], inputs: NetworkInput, name: str = "unet") -> TrainedModel:
    options = (
        {"filters": 2, "levels": 2} if name == "unet" else {"filters": 2, "levels": 2, "patch": (1, 2, 2)}
    )
    network = build_model(name, shape, 1, **options)
    return TrainedModel("x", name, options, network, RECIPE, "liver", {"liver": 0.5}, inputs=inputs)


def test_few_slices_are_all_there_as_the_recipe_makes_them():
    volume = scan(5)
    inputs = sample_inputs(trained((32, 32, 2), NetworkInput()), volume)
    np.testing.assert_allclose(inputs * 255, np.stack(list(prepare_slices(volume, RECIPE))), atol=1e-4)


def test_many_slices_are_thinned_from_the_first_to_the_last():
    volume = scan(21)
    inputs = sample_inputs(trained((32, 32, 2), NetworkInput()), volume, most=3)
    np.testing.assert_allclose(
        inputs * 255, np.stack(list(prepare_slices(volume, RECIPE)))[[0, 10, 20]], atol=1e-4
    )


def test_neighbours_and_a_liver_stand_beside_the_slice():
    inputs = sample_inputs(trained((32, 32, 7), NetworkInput(neighbours=1, sees_liver=True)), scan(9))
    assert inputs.shape == (9, 32, 32, 7)
    shown = inputs[..., -1].max(axis=(1, 2))
    assert shown.tolist() == [0, 0, 0, 1, 1, 1, 0, 0, 0]


@pytest.mark.parametrize("depth", [3, 8, 20])
def test_blocks_are_as_deep_as_the_network(depth):
    inputs = sample_inputs(trained((8, 32, 32, 2), NetworkInput(), "unet3d"), scan(depth), most=16)
    assert inputs.shape == (min(2, -(-depth // 8)), 8, 32, 32, 2)


def test_a_scan_that_shows_a_classifier_nothing_is_refused():
    from livseg_lib.models.classifiers import build_classifier
    from livseg_lib.postprocessing.superpixels import CandidateRecipe, PatchRecipe
    from livseg_lib.training.model_folder import TrainedClassifier

    network = build_classifier("fractal3d", (8, 16, 16, 4), 2, filters=2, columns=2, stages=2)
    patch = PatchRecipe(voxels=(8, 16, 16))
    model = TrainedClassifier("x", "fractal3d", {}, network, CandidateRecipe(), patch, 0.5)
    even = Volume(np.zeros((9, 40, 36), np.int16), (4.0, 1.0, 1.0))
    with pytest.raises(InputError, match="shows this network nothing"):
        sample_inputs(model, even)
    slope = np.broadcast_to(np.arange(36, dtype=np.int16) * 10, (30, 40, 36))
    found = sample_inputs(model, Volume(np.ascontiguousarray(slope), (4.0, 1.0, 1.0)))
    assert 0 < len(found) <= 16 and found.shape[1:] == (8, 16, 16, 4)
    keras.backend.clear_session()
