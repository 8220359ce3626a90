"""Seg-Grad-CAM against maps known by hand, and on every network of the catalogue."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers
from thin_networks import thin

from livseg_lib.errors import InputError
from livseg_lib.inference.explain import encoder_maps, logits, randomize_from_output, seg_grad_cam
from livseg_lib.models import MODELS


def linear_network(activation: str | None, weights: tuple[float, float] = (2.0, -1.0)) -> keras.Model:
    """Two features, the channels of the picture; the answer is their weighted sum."""
    image = keras.Input((4, 6, 2))
    x = layers.Conv2D(2, 1, use_bias=False, name="features")(image)
    answer = layers.Conv2D(1, 1, use_bias=False, activation=activation, name="answer")(x)
    network = keras.Model(image, answer)
    network.get_layer("features").set_weights([np.eye(2, dtype=np.float32)[np.newaxis, np.newaxis]])
    network.get_layer("answer").set_weights([np.reshape(np.float32(weights), (1, 1, 2, 1))])
    return network


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(0).random((2, 4, 6, 2), np.float32)


@pytest.mark.parametrize("activation", [None, "sigmoid"])
def test_map_of_a_linear_network_is_the_weighted_sum_of_its_features(images, activation):
    """The gradient of n pixels' logits is the weight at each of them, n / 24 of it on average."""
    region = np.zeros((2, 4, 6), bool)
    region[:, 1, 2:5] = True
    signed = images @ np.float32([2, -1])
    speaks = np.maximum(signed, 0)
    found = seg_grad_cam(linear_network(activation), images, region)
    np.testing.assert_allclose(found, speaks / speaks.max(axis=(1, 2), keepdims=True), atol=1e-4)
    found = seg_grad_cam(linear_network(activation), images, region, signed=True)
    largest = np.abs(signed).max(axis=(1, 2), keepdims=True)
    np.testing.assert_allclose(found, signed / largest, atol=1e-4)


def test_what_speaks_against_alone_leaves_an_empty_map(images):
    network = linear_network("sigmoid", (-1.0, -2.0))
    assert not seg_grad_cam(network, images, np.ones((2, 4, 6), bool)).any()
    assert seg_grad_cam(network, images, np.ones((2, 4, 6), bool), signed=True).min() == -1


def test_nothing_asked_about_leaves_an_empty_map(images):
    region = np.zeros((2, 4, 6), bool)
    region[1] = True
    found = seg_grad_cam(linear_network(None), images, region)
    assert not found[0].any() and found[1].max() == 1


def test_a_small_map_is_enlarged_by_areas():
    """A feature of 2 x 2 pixels fills them evenly in the middle, and blends into its neighbour."""
    image = keras.Input((4, 4, 1))
    x = layers.AveragePooling2D(2, name="half")(image)
    network = keras.Model(image, layers.Conv2DTranspose(1, 2, strides=2, kernel_initializer="ones")(x))
    picture = np.zeros((1, 4, 4, 1), np.float32)
    picture[0, :, 2:] = 1
    found = seg_grad_cam(network, picture, np.ones((1, 4, 4), bool))
    np.testing.assert_allclose(found[0], [[0, 0.25, 0.75, 1]] * 4, atol=1e-5)


def test_the_logits_of_a_mean_of_heads_are_those_of_the_mean():
    image = keras.Input((2, 2, 1))
    heads = [layers.Conv2D(1, 1, activation="sigmoid", name=f"head{n}")(image) for n in (1, 2)]
    network = keras.Model(image, layers.Average(name="probabilities")(heads))
    answer = network(np.ones((1, 2, 2, 1), np.float32))
    probability = np.asarray(answer, float)
    np.testing.assert_allclose(logits(network, answer), np.log(probability / (1 - probability)), rtol=1e-4)


def test_a_region_of_another_size_is_refused(images):
    with pytest.raises(InputError, match=r"region.*shape"):
        seg_grad_cam(linear_network(None), images, np.ones((2, 4, 4), bool))


@pytest.mark.parametrize("name", MODELS)
def test_every_network_has_maps_at_each_level_that_hang_on_its_weights(name):
    keras.utils.set_random_seed(0)
    network = thin(name)
    images = np.random.default_rng(0).random((1, *network.input_shape[1:]), np.float32)
    region = np.zeros(images.shape[:-1], bool)
    region[..., 20:44, 20:44] = True
    for level in encoder_maps(network)[::2]:
        found = seg_grad_cam(network, images, region, channel=1, layer=level.name)
        assert found.shape == region.shape and found.dtype == np.float32
        assert np.isfinite(found).all() and found.min() >= 0
        assert found.max() in (0, 1)
    *_, random = randomize_from_output(network, seed=1)
    signed = [seg_grad_cam(each, images, region, 1, signed=True) for each in (network, random.network)]
    assert all(np.abs(each).max() == 1 for each in signed)
    assert np.abs(signed[0] - signed[1]).max() > 0.1
