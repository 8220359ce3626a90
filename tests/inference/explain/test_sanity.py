"""Cascading randomization: the order, what it leaves alone, and that a seed decides all."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers
from thin_networks import thin

from livseg_lib.inference.explain import count_layers, randomize_from_output
from livseg_lib.models import MODELS


def weights_of(network: keras.Model) -> dict[str, list[np.ndarray]]:
    found = {}
    for layer in network.layers:
        found |= weights_of(layer) if isinstance(layer, keras.Model) else {layer.name: layer.get_weights()}
    return {name: weights for name, weights in found.items() if weights}


def as_if_trained(network: keras.Model) -> keras.Model:
    network.set_weights([weight + 0.5 for weight in network.get_weights()])
    return network


def same(first: list[np.ndarray], second: list[np.ndarray]) -> bool:
    return all(np.array_equal(*pair) for pair in zip(first, second, strict=True))


def with_a_network_within() -> keras.Model:
    inner_image = keras.Input((4, 4, 2), name="inner_image")
    x = layers.Conv2D(2, 1, name="inner_1")(inner_image)
    encoder = keras.Model(inner_image, [x, layers.Conv2D(2, 1, name="inner_2")(x)], name="encoder")
    image = keras.Input((4, 4, 2), name="image")
    joined = layers.Concatenate(name="join")(encoder(layers.Conv2D(2, 1, name="first")(image)))
    return keras.Model(image, layers.Conv2D(1, 1, name="last")(joined))


EXPECTED = {
    "unet": (20, ["probabilities", "unfold"], ["encoder0_conv1", "fold"]),
    "a network within": (4, ["last", "inner_2"], ["inner_1", "first"]),
}


@pytest.mark.parametrize("name", EXPECTED)
def test_layers_become_random_one_by_one_from_the_output_and_the_network_keeps_its_own(name):
    network = as_if_trained(thin(name) if name in MODELS else with_a_network_within())
    before = weights_of(network)
    changed: list[str] = []
    for step in randomize_from_output(network, seed=0):
        now = weights_of(step.network)
        different = {each for each in before if not same(before[each], now[each])}
        changed += [step.layer] if step.layer else []
        assert different == set(changed) and len(changed) == step.count
    count, first, last = EXPECTED[name]
    assert count == step.count == count_layers(network)
    assert changed[:2] == first and changed[-2:] == last
    assert all(same(before[each], weights_of(network)[each]) for each in before)


def test_random_weights_are_those_of_a_fresh_network_and_of_the_seed():
    network = as_if_trained(thin("unet"))
    copies = []
    for seed in (1, 1, 2):
        *_, last = randomize_from_output(network, seed)
        copies.append(weights_of(last.network))
    assert all(same(copies[0][each], copies[1][each]) for each in copies[0])
    assert not same(copies[0]["encoder0_conv1"], copies[2]["encoder0_conv1"])
    gamma, beta, mean, variance = copies[0]["encoder0_norm"]
    assert (gamma == 1).all() and not beta.any() and not mean.any() and (variance == 1).all()
    kernel, bias = copies[0]["encoder2_conv2"]
    assert not bias.any() and kernel.std() == pytest.approx(np.sqrt(2 / (9 * 16)), rel=0.1)


def test_a_network_without_weights_stays_as_it_is():
    image = keras.Input((4, 4, 1))
    [only] = randomize_from_output(keras.Model(image, layers.ReLU()(image)), seed=0)
    assert (only.count, only.layer) == (0, "")
