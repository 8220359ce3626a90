"""Classifiers: a slice's region (F), a patch's kind (J), the fractal's columns and heads."""

import keras
import numpy as np
import pytest
from keras import layers
from network_graph import path_lengths, sources

from livseg_lib.errors import InputError
from livseg_lib.models.classifiers import CLASSIFIERS, build_classifier, fractal_columns, fractal_residual
from livseg_lib.training.fit import ClassAccuracy, on_every_head, training_twin
from livseg_lib.training.losses import get_loss

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


@pytest.mark.parametrize(
    ("name", "shape", "options", "said"),
    [
        ("slice_sorter", PATCHES[0], {}, "takes pictures"),
        ("fractal3d", PICTURES[0], {}, "takes blocks of slices"),
        ("fractal3d", (6, 16, 16, 1), {}, "depth divisible by 4"),
        ("fractal3d", PATCHES[0], {"columns": 1}, "2 columns"),
        ("fractal3d", PATCHES[0], {"stages": 1}, "2 stages"),
        ("slice_sorter", PICTURES[0], {"colour": 1}, "cannot be built with"),
        ("oracle", PICTURES[0], {}, "Choose one of slice_sorter"),
    ],
)
def test_what_cannot_be_built_is_refused(name, shape, options, said):
    with pytest.raises(InputError, match=said):
        build_classifier(name, shape, 2, **options)


def test_the_sorter_shrinks_pictures_first():
    counts = {build_classifier("slice_sorter", (side, side, 3), 4).count_params() for side in (64, 128, 512)}
    assert len(counts) == 1
    for side in (128, 256, 512):
        network = build_classifier("slice_sorter", (side, side, 3), 4, pixels=64)
        assert network.get_layer("shrink").output.shape[1:3] == (64, 64)


@pytest.mark.parametrize("name, shape", [("slice_sorter", (16, 16, 1)), ("fractal3d", (8, 16, 16, 2))])
def test_one_batch_can_be_learnt_and_every_weight_learns(name, shape):
    keras.utils.set_random_seed(0)
    network = build_classifier(name, shape, 3, **SMALL[name])
    truth = np.eye(3, dtype=np.float32)[[0, 1, 2] * 4]
    pictures = 0.2 * np.random.default_rng(0).random((12, *shape), np.float32)
    for picture, row in zip(pictures, truth, strict=True):
        side = 2 + 5 * int(row.argmax())
        picture[..., 1 : 1 + side, 1 : 1 + side, :] += 0.8
    before = [np.array(weight) for weight in network.trainable_weights]
    twin, loss = training_twin(network), on_every_head(get_loss("cross_entropy"))
    twin.compile(keras.optimizers.Adam(0.02), loss, metrics=[ClassAccuracy(name="accuracy")])
    results = [twin.train_on_batch(pictures, truth, return_dict=True) for _ in range(40)]
    assert results[-1]["loss"] < 0.3 * results[0]["loss"] and float(results[-1]["accuracy"]) > 0.5
    moved = [np.abs(np.array(w) - b).max() for w, b in zip(network.trainable_weights, before, strict=True)]
    assert min(moved) > 0


PATCH = (8, 16, 16, 2)


def small_fractal() -> keras.Model:
    return build_classifier("fractal3d", PATCH, 3, **SMALL["fractal3d"])


def random_patches(count: int) -> np.ndarray:
    return np.random.default_rng(0).random((count, *PATCH), np.float32)


def fractal(columns: int) -> keras.Model:
    inputs = keras.Input((4, 4, 4, 1), name="input")
    return keras.Model(inputs, fractal_columns(inputs, 2, columns, "f"))


def test_columns_are_one_two_four_and_eight_convolutions_deep():
    network = fractal(4)
    ends = [tensor._keras_history.operation.name for tensor in network.outputs]
    lengths = [path_lengths(network, "input", end, layers.Conv3D) for end in ends]
    assert [max(found) for found in lengths] == [8, 7, 5, 1]  # the last of a column after 7, 6, 4, 0 others
    own = [len([la for la in network.layers if la.name.endswith(f"column{c}_conv")]) for c in (1, 2, 3, 4)]
    assert own == [8, 4, 2, 1]


def test_all_columns_that_meet_are_joined_at_once_by_their_mean():
    network = fractal(4)
    joins = [layer for layer in network.layers if isinstance(layer, layers.Average)]
    assert sorted(len(sources(join)) for join in joins) == [2, 2, 3]
    whole = keras.Model(network.inputs, [joins[0].input, joins[0].output])
    entering, joined = whole(np.random.default_rng(1).random((1, 4, 4, 4, 1), np.float32))
    np.testing.assert_allclose(joined, np.mean(entering, axis=0), rtol=1e-5, atol=1e-6)


def test_a_stage_adds_the_fractal_to_its_input():
    inputs = keras.Input((4, 4, 4, 3))
    network = keras.Model(inputs, fractal_residual(inputs, 5, 3, "s"))
    assert sources(network.get_layer("s_add")) == ["s_shortcut", "s_fractal_end"]
    assert len(sources(network.get_layer("s_fractal_end"))) == 3
    for layer in network.layers:
        if isinstance(layer, layers.BatchNormalization):  # the fractal gives nothing
            layer.set_weights([np.zeros_like(w) if i < 2 else w for i, w in enumerate(layer.get_weights())])
    x = np.random.default_rng(2).random((1, 4, 4, 4, 3), np.float32)
    np.testing.assert_allclose(network(x), np.maximum(network.get_layer("s_shortcut")(x), 0), rtol=1e-6)


def test_every_stage_has_a_head_and_the_output_is_their_mean():
    network = small_fractal()
    heads = [layer for layer in network.layers if layer.name.startswith("head")]
    assert [head.name for head in heads] == ["head1", "head2", "head3"]
    twin = training_twin(network)
    answers, output = twin.predict_on_batch(random_patches(4)), network.predict_on_batch(random_patches(4))
    assert answers.shape == (4, 3, 3) and output.shape == (4, 3) and output.dtype == np.float32
    np.testing.assert_allclose(answers.sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(output, answers.mean(axis=-1), rtol=1e-5)


def test_a_head_sees_only_its_own_stages():
    network = small_fractal()
    twin = training_twin(network)
    before = twin.predict_on_batch(random_patches(2))
    layer = network.get_layer("stage2_shortcut")
    layer.set_weights([weight + 1 for weight in layer.get_weights()])
    after = twin.predict_on_batch(random_patches(2))
    np.testing.assert_array_equal(before[..., 0], after[..., 0])
    assert np.abs(before[..., 1] - after[..., 1]).max() > 1e-4
