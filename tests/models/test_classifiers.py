from __future__ import annotations

import keras
import numpy as np
import pytest

from livseg_lib.errors import InputError
from livseg_lib.models.classifiers import CLASSIFIERS, build_classifier
from livseg_lib.training.checkpoint import assign_arrays, load_arrays, save_variables
from livseg_lib.training.losses import CLASS_LOSSES, LOSSES, get_loss

SMALL = {
    "slice_sorter": {"filters": 4, "levels": 2, "pixels": 16, "dropout": 0.0},
    "fractal3d": {"filters": 2, "columns": 2, "stages": 3},
}

PICTURES = [(128, 128, 3), (150, 97, 1), (256, 256, 5), (20, 20, 2)]
PATCHES = [(16, 32, 32, 2), (4, 8, 12, 1), (20, 4, 16, 3)]


def test_every_classifier_has_a_small_version_here():
    assert set(SMALL) == set(CLASSIFIERS)


@pytest.mark.parametrize(
    "name, shape",
    [*(("slice_sorter", shape) for shape in PICTURES), *(("fractal3d", shape) for shape in PATCHES)],
)
def test_any_input_becomes_probabilities_of_classes(name, shape):
    network = build_classifier(name, shape, 4, **SMALL[name])
    pictures = np.random.default_rng(0).random((2, *shape), np.float32)
    answer = np.asarray(network.predict_on_batch(pictures))
    assert answer.shape == (2, 4) and answer.dtype == np.float32
    np.testing.assert_allclose(answer.sum(axis=1), 1, rtol=1e-5)
    assert not [layer.name for layer in network.layers if layer.name.startswith("conv")]  # all are named


@pytest.mark.parametrize("name, shape", [("slice_sorter", PICTURES[3]), ("fractal3d", PATCHES[1])])
def test_saved_and_loaded_weights_give_equal_answers(name, shape, tmp_path):
    first, second = (build_classifier(name, shape, 3, **SMALL[name]) for _ in range(2))
    save_variables(tmp_path / "weights.safetensors", first.weights, {})
    assign_arrays(second.weights, load_arrays(tmp_path / "weights.safetensors")[0], tmp_path)
    inputs = np.random.default_rng(0).random((2, *shape), np.float32)
    np.testing.assert_array_equal(first.predict_on_batch(inputs), second.predict_on_batch(inputs))


def test_pictures_and_patches_are_not_mixed_up():
    with pytest.raises(InputError, match="takes pictures"):
        build_classifier("slice_sorter", PATCHES[0], 2)
    with pytest.raises(InputError, match="takes blocks of slices"):
        build_classifier("fractal3d", PICTURES[0], 2)


def test_the_sorter_shrinks_pictures_first():
    counts = {build_classifier("slice_sorter", (side, side, 3), 4).count_params() for side in (64, 128, 512)}
    assert len(counts) == 1
    for side in (128, 256, 512):
        network = build_classifier("slice_sorter", (side, side, 3), 4, pixels=64)
        assert network.get_layer("shrink").output.shape[1:3] == (64, 64)


def test_one_batch_can_be_learnt_and_every_layer_learns():
    keras.utils.set_random_seed(0)
    network = build_classifier("slice_sorter", (16, 16, 1), 3, **SMALL["slice_sorter"])
    truth = np.eye(3, dtype=np.float32)[[0, 1, 2, 0, 1, 2]]
    pictures = np.zeros((6, 16, 16, 1), np.float32)
    for number, (row, picture) in enumerate(zip(truth, pictures, strict=True)):
        picture[2 + number : 12, 2 : 5 + 4 * int(row.argmax())] = 1
    before = [np.array(weight) for weight in network.trainable_weights]
    network.compile(keras.optimizers.Adam(0.02), get_loss("cross_entropy"))
    losses = [float(network.train_on_batch(pictures, truth)) for _ in range(40)]
    assert losses[-1] < 0.1 < losses[0]
    moved = [np.abs(np.array(w) - b).max() for w, b in zip(network.trainable_weights, before, strict=True)]
    assert min(moved) > 0


def test_cross_entropy_by_hand_and_as_keras_has_it():
    truth = np.array([[0, 1, 0], [1, 0, 0]], np.float32)
    probability = np.array([[0.2, 0.5, 0.3], [0.25, 0.5, 0.25]], np.float32)
    found = float(get_loss("cross_entropy")(truth, probability))
    assert found == pytest.approx((np.log(2) + np.log(4)) / 2, rel=1e-5)
    assert found == pytest.approx(float(keras.losses.CategoricalCrossentropy()(truth, probability)), rel=1e-5)
    certain = np.array([[1, 0, 0]], np.float16)
    assert np.isfinite(float(get_loss("cross_entropy")(np.array([[0, 1, 0]]), certain)))
    assert not set(CLASS_LOSSES) & set(LOSSES)


def test_unknown_names_and_options_are_refused():
    with pytest.raises(InputError, match="Choose one of slice_sorter"):
        build_classifier("oracle", (64, 64, 3), 2)
    with pytest.raises(InputError, match="cannot be built with"):
        build_classifier("slice_sorter", (64, 64, 3), 2, colour=1)
