"""The ResNet-50 encoder against Keras' own, its dilation, its width, and its ImageNet weights."""

import keras
import numpy as np
import pytest
from keras import layers

from livseg_lib.models import blocks
from livseg_lib.models.blocks import load_imagenet_weights, resnet50_encoder
from livseg_lib.models.resnet50_unet import resnet50_unet

SIDE = 64
STRIDES_AND_CHANNELS = [(2, 64), (4, 256), (8, 512), (16, 1024), (32, 2048)]
SKIPS = ["conv1_relu", "conv2_block3_out", "conv3_block4_out", "conv4_block6_out", "conv5_block3_out"]


@pytest.fixture(scope="module")
def reference() -> keras.Model:
    """Keras' ResNet-50 with random weights, its normalizations moved away from doing nothing."""
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    network = keras.applications.ResNet50(include_top=False, weights=None, input_shape=(SIDE, SIDE, 3))
    for layer in network.layers:
        if isinstance(layer, layers.BatchNormalization):
            n = layer.gamma.shape[0]
            gamma, variance = rng.uniform(0.5, 1.0, n), rng.uniform(0.5, 2.0, n)
            layer.set_weights([gamma, rng.normal(0, 0.1, n), rng.normal(0, 0.1, n), variance])
    return network


@pytest.fixture(scope="module")
def pictures() -> np.ndarray:
    return np.random.default_rng(1).random((2, SIDE, SIDE, 3), np.float32)


@pytest.fixture(scope="module")
def plain(reference) -> keras.Model:
    return filled(resnet50_encoder((SIDE, SIDE, 3)), reference)


def filled(encoder: keras.Model, reference: keras.Model) -> keras.Model:
    for layer in reference.layers:
        if layer.weights:
            encoder.get_layer(layer.name).set_weights(layer.get_weights())
    return encoder


def computed(network: keras.Model, pictures: np.ndarray) -> list[np.ndarray]:
    return [np.asarray(level) for level in network(pictures, training=False)]


def weight_paths(model: keras.Model) -> list[str]:
    return sorted(f"{layer.name}/{w.name}" for layer in model.layers for w in layer.weights)


def test_it_computes_what_keras_resnet50_computes_at_every_level(reference, plain, pictures):
    levels = keras.Model(reference.input, [reference.get_layer(name).output for name in SKIPS])
    expected = computed(levels, pictures * 255 - blocks.IMAGENET_MEAN_LEVEL)
    found = computed(plain, pictures)
    assert [a.shape for a in found] == [(2, SIDE // s, SIDE // s, c) for s, c in STRIDES_AND_CHANNELS]
    for a, b in zip(found, expected, strict=True):
        assert b.std() > 0.1
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4 * np.abs(b).max())


def test_it_has_the_weights_of_keras_resnet50_and_no_others(reference, plain):
    assert weight_paths(plain) == weight_paths(reference)
    assert plain.count_params() == reference.count_params()
    norms = [layer for layer in plain.layers if isinstance(layer, layers.BatchNormalization)]
    assert len(norms) == 53 and {norm.momentum for norm in norms} == {blocks.NORM_MOMENTUM}


@pytest.mark.parametrize("output_stride, strides", [(16, [2, 4, 8, 16, 16]), (8, [2, 4, 8, 8, 8])])
def test_dilation_fills_in_between_what_the_strided_network_computes(
    output_stride, strides, reference, plain, pictures
):
    dilated = filled(resnet50_encoder((SIDE, SIDE, 3), output_stride=output_stride), reference)
    assert [SIDE // output.shape[1] for output in dilated.outputs] == strides
    deepest, expected = computed(dilated, pictures)[-1], computed(plain, pictures)[-1]
    step = 32 // output_stride
    np.testing.assert_allclose(deepest[:, ::step, ::step], expected, 1e-3, 1e-4 * expected.max())
    assert not np.allclose(deepest[:, 1::step, 1::step], expected, rtol=0.1)


def test_width_multiplies_every_number_of_filters(plain):
    quarter = resnet50_encoder((32, 32, 3), width=0.25)
    whole = [layer for layer in plain.layers if isinstance(layer, layers.Conv2D)]
    assert len(whole) == 53
    for layer in whole:
        assert quarter.get_layer(layer.name).filters == layer.filters // 4


@pytest.fixture
def imagenet(reference, monkeypatch) -> keras.Model:
    """The reference stands in for the download."""
    monkeypatch.setattr(keras.applications, "ResNet50", lambda **_: reference)
    return reference


def small_unet(channels: int, **options) -> keras.Model:
    return resnet50_unet((32, 32, channels), 1, decoder_filters=(8, 4, 4, 4, 4), **options)


@pytest.mark.parametrize("channels", [1, 4])
def test_imagenet_weights_fit_other_numbers_of_channels(channels, imagenet):
    network = small_unet(channels)
    assert load_imagenet_weights(network) == ""
    encoder = network.get_layer("encoder")
    kernel, adapted = (model.get_layer("conv1_conv").get_weights()[0] for model in (imagenet, encoder))
    grey = np.random.default_rng(3).random((7, 7, 1, 1))  # the same in every channel: the same response
    expected, found = (kernel * grey).sum((0, 1, 2)), (adapted * grey).sum((0, 1, 2))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
    for name in ("conv1_bn", "conv5_block3_3_conv"):
        for a, b in zip(encoder.get_layer(name).weights, imagenet.get_layer(name).weights, strict=True):
            np.testing.assert_array_equal(a, b)


def test_imagenet_weights_do_not_fit_a_narrower_encoder_and_it_says_so(imagenet):
    network = small_unet(3, encoder_width=0.25)
    before = network.get_weights()
    reason = load_imagenet_weights(network)
    assert "width 1" in reason and "0.25" in reason and "random" in reason
    assert all((a == b).all() for a, b in zip(before, network.get_weights(), strict=True))


def test_without_a_network_the_encoder_says_that_it_starts_random(monkeypatch):
    def offline(**_):
        raise OSError("no route to host")

    network = small_unet(3)
    monkeypatch.setattr(keras.applications, "ResNet50", offline)
    assert "random" in load_imagenet_weights(network)


def test_the_encoder_can_be_frozen_as_one():
    network = small_unet(1, encoder_width=0.1)
    before = len(network.trainable_variables)
    network.get_layer("encoder").trainable = False
    assert 0 < len(network.trainable_variables) < before - 100
