"""DeepLabV3+: what makes it that network, and that it learns."""

import keras
import numpy as np
import pytest
from keras import layers
from network_graph import sources

from livseg_lib.errors import InputError
from livseg_lib.models.deeplabv3plus import deeplabv3plus, pyramid_pooling

SMALL = {"encoder_width": 0.1, "filters": 8, "low_level_filters": 4, "atrous_rates": (1, 2, 3)}


@pytest.fixture(scope="module")
def small() -> keras.Model:
    keras.utils.set_random_seed(0)
    return deeplabv3plus((32, 48, 4), 3, **SMALL)


@pytest.fixture(scope="module")
def narrow() -> keras.Model:
    """The paper's head on a narrow encoder."""
    return deeplabv3plus((64, 64, 3), 2, encoder_width=0.05)


def test_the_pyramid_has_the_papers_five_branches(narrow):
    branches = narrow.get_layer("aspp_join").input
    assert [tuple(branch.shape[1:]) for branch in branches] == [(4, 4, 256)] * 5
    point, *atrous = (narrow.get_layer(f"aspp_{n}_conv") for n in ("point", "rate6", "rate12", "rate18"))
    assert point.kernel_size == (1, 1)
    assert [layer.dilation_rate for layer in atrous] == [(6, 6), (12, 12), (18, 18)]
    assert all(layer.kernel_size == (3, 3) for layer in atrous)
    assert isinstance(narrow.get_layer("aspp_image_pool"), layers.GlobalAveragePooling2D)
    assert narrow.get_layer("aspp_project_conv").kernel.shape == (1, 1, 5 * 256, 256)


def test_the_decoder_joins_48_low_level_channels_at_stride_4(narrow):
    low_level, deep = narrow.get_layer("decoder_join").input
    assert tuple(low_level.shape[1:]) == (16, 16, 48)
    assert tuple(deep.shape[1:]) == (16, 16, 256)
    assert narrow.get_layer("low_level_conv").kernel_size == (1, 1)
    assert narrow.get_layer("encoder").outputs[-1].shape[1] == 4  # stride 16
    assert sources(narrow.get_layer("decoder_up")) == ["logits"]
    assert sources(narrow.get_layer("probabilities")) == ["decoder_up"]
    assert narrow.get_layer("logits").activation is keras.activations.linear
    for layer in (narrow.get_layer("aspp_up"), narrow.get_layer("decoder_up")):
        assert layer.interpolation == "bilinear" and layer.size == (4, 4)


@pytest.mark.parametrize("rate", [2, 5])
def test_an_atrous_branch_looks_exactly_its_rate_away(rate):
    inputs = keras.Input((13, 13, 1))
    model = keras.Model(inputs, pyramid_pooling(inputs, 4, (rate,)))
    branch = keras.Model(inputs, model.get_layer(f"aspp_rate{rate}_conv").output)
    point = np.zeros((1, 13, 13, 1), np.float32)
    point[0, 6, 6] = 1
    rows, columns = np.nonzero(np.abs(np.asarray(branch(point))[0]).sum(-1))
    assert sorted(set(rows)) == sorted(set(columns)) == [6 - rate, 6, 6 + rate]


def test_the_image_branch_tells_every_position_the_same(small):
    branch = keras.Model(small.input, small.get_layer("aspp_image_spread").output)
    spread = np.asarray(branch(np.random.default_rng(0).random((1, 32, 48, 4), np.float32)))
    assert spread.shape == (1, 2, 3, 8)
    np.testing.assert_array_equal(spread, np.broadcast_to(spread[:, :1, :1], spread.shape))


def test_output_stride_8_keeps_the_deepest_map_twice_as_large():
    network = deeplabv3plus((32, 32, 1), 1, output_stride=8, **SMALL)
    assert network.get_layer("encoder").outputs[-1].shape[1:3] == (4, 4)
    assert network.output_shape == (None, 32, 32, 1)
    with pytest.raises(InputError, match="divisible by 8"):
        deeplabv3plus((64, 68, 1), 1, output_stride=8)


def test_l2_is_put_on_every_convolution_of_the_head():
    assert len(deeplabv3plus((32, 32, 1), 1, l2=1e-4, **SMALL).losses) == 9
