"""A network with heads is trained on each of them, and used by their mean."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

from livseg_lib.training.fit import ClassAccuracy, dice_metrics, mean_of_heads, on_every_head, training_twin
from livseg_lib.training.losses import get_loss


def network_with_heads(count: int) -> keras.Model:
    inputs = keras.Input((4, 4, 1))
    heads = [
        layers.Conv2D(2, 1, activation="sigmoid", name=f"head{number + 1}")(inputs) for number in range(count)
    ]
    return keras.Model(inputs, layers.Average(name="mean")(heads) if count > 1 else heads[0], name="two")


def test_the_twin_gives_every_head_and_shares_the_weights():
    keras.utils.set_random_seed(1)
    network = network_with_heads(3)
    twin = training_twin(network)
    pictures = np.random.default_rng(0).random((2, 4, 4, 1), np.float32)
    maps = twin.predict_on_batch(pictures)
    assert maps.shape == (2, 4, 4, 2, 3)
    np.testing.assert_allclose(maps.mean(-1), network.predict_on_batch(pictures), rtol=1e-6)
    assert {id(weight) for weight in twin.weights} == {id(weight) for weight in network.weights}
    assert [weight.path for weight in twin.weights] == [weight.path for weight in network.weights]


def test_a_network_without_heads_is_its_own_twin():
    inputs = keras.Input((4, 4, 1))
    plain = keras.Model(inputs, layers.Conv2D(1, 1, name="map")(inputs))
    assert training_twin(plain) is plain


def test_the_loss_of_several_heads_is_the_mean_of_theirs():
    generator = np.random.default_rng(2)
    truth = (generator.random((2, 4, 4, 1)) > 0.5).astype(np.float32)
    maps = generator.random((2, 4, 4, 1, 3), np.float32)
    dice = get_loss("dice")
    expected = np.mean([float(dice(truth, maps[..., head])) for head in range(3)])
    assert float(on_every_head(dice)(truth, maps)) == pytest.approx(expected)
    assert float(on_every_head(dice)(truth, maps[..., 0])) == pytest.approx(float(dice(truth, maps[..., 0])))
    assert on_every_head(dice).__name__ == "dice"
    np.testing.assert_allclose(mean_of_heads(truth, maps), maps.mean(-1), rtol=1e-6)


def test_training_moves_all_heads_and_counts_dice_of_their_mean():
    network = network_with_heads(2)
    twin = training_twin(network)
    twin.compile(
        keras.optimizers.Adam(0.1), on_every_head(get_loss("bce")), metrics=dice_metrics(("liver", "tumor"))
    )
    pictures = np.random.default_rng(3).random((8, 4, 4, 1), np.float32)
    truth = np.repeat(pictures > 0.5, 2, axis=-1).astype(np.float32)
    before = [weight.numpy().copy() for weight in network.weights]
    results = [twin.train_on_batch(pictures, truth, return_dict=True) for _ in range(60)]
    assert all(
        np.abs(weight.numpy() - old).max() > 0 for weight, old in zip(network.weights, before, strict=True)
    )
    assert results[-1]["loss"] < results[0]["loss"] and results[-1]["liver_dice"] > 0.5


def test_heads_and_dice_of_blocks_are_counted_as_those_of_pictures():
    generator = np.random.default_rng(4)
    truth = (generator.random((2, 3, 4, 4, 2)) > 0.5).astype(np.float32)
    heads = generator.random((2, 3, 4, 4, 2, 3), np.float32)
    metrics = [dice_metrics(("liver", "tumor"))[1] for _ in range(2)]
    metrics[0].update_state(truth, heads)
    metrics[1].update_state(truth.reshape(2, 12, 4, 2), heads.reshape(2, 12, 4, 2, 3))
    assert float(metrics[0].result()) == pytest.approx(float(metrics[1].result()))
    dice = on_every_head(get_loss("dice"))
    pictures = dice(truth.reshape(2, 12, 4, 2), heads.reshape(2, 12, 4, 2, 3))
    assert float(dice(truth, heads)) == pytest.approx(float(pictures), rel=1e-5)


def test_heads_of_classifiers_are_stacked_and_averaged_as_those_of_maps():
    keras.utils.set_random_seed(2)
    inputs = keras.Input((5,))
    heads = [layers.Dense(3, activation="softmax", name=f"head{number}")(inputs) for number in (1, 2)]
    network = keras.Model(inputs, layers.Average(name="mean")(heads))
    answers = training_twin(network).predict_on_batch(np.eye(5, dtype=np.float32))
    assert answers.shape == (5, 3, 2)
    truth = np.eye(3, dtype=np.float32)[[0, 1, 2, 0, 1]]
    cross_entropy = get_loss("cross_entropy")
    expected = np.mean([float(cross_entropy(truth, answers[..., head])) for head in range(2)])
    assert float(on_every_head(cross_entropy)(truth, answers)) == pytest.approx(expected)
    np.testing.assert_allclose(mean_of_heads(truth, answers), answers.mean(-1), rtol=1e-6)


def test_the_class_of_several_heads_is_that_of_their_mean():
    truth = np.array([[1, 0], [1, 0], [0, 1]], np.float32)
    heads = np.array([[[0.9, 0.4], [0.1, 0.6]], [[0.6, 0.1], [0.4, 0.9]], [[0.0, 0.6], [1.0, 0.4]]])
    accuracy = ClassAccuracy(name="accuracy")
    accuracy.update_state(truth, heads)  # means of the right class: 0.65, 0.35, 0.7
    assert float(accuracy.result()) == pytest.approx(2 / 3)
    accuracy.reset_state()
    accuracy.update_state(truth, heads[..., 1])
    assert float(accuracy.result()) == pytest.approx(0)
