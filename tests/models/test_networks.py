"""Every network of the catalogue: shapes, gradients, capacity to learn, refusals."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from livseg_lib.errors import InputError
from livseg_lib.models import MODELS, build_model
from livseg_lib.models.encoders import RESNET50_SKIPS, load_imagenet_weights

SMALL = {
    "unet": {"filters": 4, "levels": 3, "patch": 2},
    "resnet50_unet": {"decoder_filters": (16, 8, 8, 8, 4)},
}


def test_every_network_has_a_small_version_here():
    assert set(SMALL) == set(MODELS)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("channels, classes", [(1, 1), (3, 2), (5, 3)])
def test_maps_have_the_pictures_size_and_are_probabilities(name, channels, classes):
    network = build_model(name, (64, 96, channels), classes, **SMALL[name])
    maps = network.predict_on_batch(np.random.default_rng(0).random((2, 64, 96, channels), np.float32))
    assert maps.shape == (2, 64, 96, classes)
    assert maps.dtype == np.float32
    assert maps.min() >= 0 and maps.max() <= 1


@pytest.mark.parametrize("name", MODELS)
def test_gradients_reach_every_trainable_weight(name):
    network = build_model(name, (64, 64, 3), 1, **SMALL[name])
    pictures = np.random.default_rng(1).random((2, 64, 64, 3), np.float32)
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(tf.square(network(pictures, training=True) - 1.0))
    gradients = tape.gradient(loss, network.trainable_variables)
    unreached = [v.path for v, g in zip(network.trainable_variables, gradients, strict=True) if g is None]
    assert not unreached


def test_a_unet_overfits_one_batch():
    keras.utils.set_random_seed(0)
    network = build_model("unet", (32, 32, 1), 1, filters=8, levels=2)
    pictures = np.random.default_rng(2).random((2, 32, 32, 1), np.float32)
    truth = (pictures > 0.7).astype(np.float32)
    network.compile(keras.optimizers.Adam(1e-2), "binary_crossentropy")
    losses = [float(network.train_on_batch(pictures, truth)) for _ in range(60)]
    assert losses[-1] < 0.2 * losses[0]


@pytest.mark.parametrize("name, stride", [("unet", 8), ("resnet50_unet", 32)])
def test_sizes_that_cannot_be_halved_are_refused(name, stride):
    with pytest.raises(InputError, match=f"divisible by {stride}"):
        build_model(name, (stride * 4 + 1, stride * 4, 3), 1, **SMALL[name])


def test_unknown_names_and_options_are_refused():
    with pytest.raises(InputError, match="unet"):
        build_model("vnet", (64, 64, 1), 1)
    with pytest.raises(InputError, match="colour"):
        build_model("unet", (64, 64, 1), 1, colour="red")


def test_system_c_has_its_31_million_parameters_and_its_layers():
    network = build_model("unet", (256, 256, 3), 1)
    convolutions = [layer for layer in network.layers if isinstance(layer, layers.Conv2D)]
    assert round(network.count_params() / 1e6) == 31
    assert [layer.filters for layer in convolutions[:10:2]] == [64, 128, 256, 512, 1024]
    assert sum(isinstance(layer, layers.Conv2DTranspose) for layer in network.layers) == 4
    assert sum(isinstance(layer, layers.BatchNormalization) for layer in network.layers) == 9


def test_l2_is_put_on_every_convolution_of_the_blocks():
    network = build_model("unet", (32, 32, 1), 1, filters=4, levels=2, l2=1e-4)
    assert len(network.losses) == 6  # three blocks of two
    assert not build_model("unet", (32, 32, 1), 1, filters=4, levels=2).losses


def test_folding_pixels_quarters_the_work_of_the_first_level():
    full = build_model("unet", (64, 64, 1), 1, filters=8, levels=3)
    folded = build_model("unet", (64, 64, 1), 1, filters=8, levels=3, patch=2)
    assert full.get_layer("encoder0_conv1").output.shape[1:3] == (64, 64)
    assert folded.get_layer("encoder0_conv1").output.shape[1:3] == (32, 32)


def test_the_resnet_encoder_can_be_frozen_as_one():
    network = build_model("resnet50_unet", (64, 64, 3), 1, **SMALL["resnet50_unet"])
    encoder = network.get_layer("encoder")
    assert [int(64 / output.shape[1]) for output in encoder.outputs] == [2, 4, 8, 16, 32]
    assert len(encoder.outputs) == len(RESNET50_SKIPS)
    before = len(network.trainable_variables)
    encoder.trainable = False
    assert 0 < len(network.trainable_variables) < before - 100


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_imagenet_weights_fit_any_number_of_channels(channels, monkeypatch):
    source = keras.applications.ResNet50(include_top=False, weights=None, input_shape=(32, 32, 3))
    network = build_model("resnet50_unet", (32, 32, channels), 1, **SMALL["resnet50_unet"])
    monkeypatch.setattr(keras.applications, "ResNet50", lambda **_: source)
    assert load_imagenet_weights(network) == ""
    kernel = source.get_layer("conv1_conv").get_weights()[0]
    adapted = network.get_layer("encoder").get_layer("conv1_conv").get_weights()[0]
    grey = np.random.default_rng(3).random((7, 7, 1, 1))  # the same in every channel: the same response
    np.testing.assert_allclose((adapted * grey).sum((0, 1, 2)), (kernel * grey).sum((0, 1, 2)), rtol=1e-4)
    last = "conv5_block3_3_conv"
    np.testing.assert_array_equal(
        network.get_layer("encoder").get_layer(last).get_weights()[0], source.get_layer(last).get_weights()[0]
    )


def test_without_a_network_the_encoder_says_that_it_starts_random(monkeypatch):
    network = build_model("resnet50_unet", (32, 32, 3), 1, **SMALL["resnet50_unet"])

    def offline(**_):
        raise OSError("no route to host")

    monkeypatch.setattr(keras.applications, "ResNet50", offline)
    assert "random" in load_imagenet_weights(network)
