"""Which layers are explained: found from the graph of any network, not from a table of names."""

from __future__ import annotations

import math

import keras
import pytest
from keras import layers
from network_graph import sources
from thin_networks import thin

from livseg_lib.errors import InputError
from livseg_lib.inference.explain import encoder_maps, find_map, layer_maps
from livseg_lib.models import MODELS

BOTTLENECKS = {
    "unet": "encoder2_relu",
    "resnet50_unet": "encoder/conv5_block3_out",
    "unet++": "encoder2_relu",
    "manet": "decoder1_deep_relu",
    "deeplabv3+": "encoder/conv5_block3_out",
    "attention_unet": "encoder2_relu",
    "residual_unet": "encoder2_out",
    "cdnn": "deepest_1_relu",
    "unet3d": "encoder2_2_relu",
}


@pytest.mark.parametrize("name", MODELS)
def test_the_bottleneck_of_every_network_is_its_deepest_widest_map(name):
    network = thin(name)
    levels = encoder_maps(network)
    assert levels[-1].name == BOTTLENECKS[name]
    sizes = [math.prod(level.grid) for level in levels]
    assert sizes == sorted(sizes, reverse=True) and len(set(sizes)) == len(sizes) > 1
    assert find_map(network, None) == levels[-1]


@pytest.mark.parametrize("name", MODELS)
def test_levels_lie_on_the_way_down_and_none_is_the_picture_or_the_answer(name):
    network = thin(name)
    bottleneck = BOTTLENECKS[name].split("/")[0]

    def ancestors(layer: str) -> set[str]:
        if isinstance(network.get_layer(layer), (layers.InputLayer, keras.Model)):
            return {layer}
        return {layer}.union(*(ancestors(each) for each in sources(network.get_layer(layer))))

    assert {level.name.split("/")[0] for level in encoder_maps(network)} <= ancestors(bottleneck)
    names = {each.name for each in layer_maps(network)}
    assert not names & {"image", "probabilities"}


def test_maps_come_in_the_order_of_the_graph_and_can_be_asked_for_by_name():
    network = thin("unet")
    names = [each.name for each in layer_maps(network)]
    assert names[0] == "fold" and names.index("encoder0_relu") < names.index("decoder0_join")
    assert find_map(network, "decoder0_join").grid == (32, 32)
    with pytest.raises(InputError, match=r"no map called nonsense.*fold"):
        find_map(network, "nonsense")


def test_maps_of_a_single_position_are_no_bottleneck():
    image = keras.Input((8, 8, 1))
    x = layers.Conv2D(2, 2, strides=2, name="half")(image)
    mean = layers.GlobalAveragePooling2D(keepdims=True, name="mean")(x)
    x = layers.Multiply(name="weighted")([x, mean])
    network = keras.Model(image, layers.Conv2DTranspose(1, 2, strides=2, name="answer")(x))
    assert [each.name for each in layer_maps(network)] == ["half", "mean", "weighted"]
    assert [each.name for each in encoder_maps(network)] == ["weighted"]


def test_a_network_without_maps_is_refused():
    image = keras.Input((8, 8, 1))
    with pytest.raises(InputError, match="no map in space"):
        encoder_maps(keras.Model(image, layers.Conv2D(1, 1)(image)))
