"""UNet++: its nested nodes, what each of them joins, and its heads."""

import keras
import numpy as np
import pytest
from network_graph import sources

from livseg_lib.models import build_model

SHAPE = (32, 32, 2)


def small(levels: int = 4, **options) -> keras.Model:
    return build_model("unet++", SHAPE, 2, filters=4, levels=levels, **options)


def picture() -> np.ndarray:
    return np.random.default_rng(0).random((2, *SHAPE), np.float32)


def heads_of(network: keras.Model) -> list[str]:
    return [layer.name for layer in network.layers if layer.name.removeprefix("head").isdigit()]


def node_name(level: int, step: int) -> str:
    return f"node{level}_{step}" if step else f"encoder{level}"


def test_the_default_is_the_papers_network_of_9_million_parameters():
    network = build_model("unet++", (64, 64, 1), 1, deep_supervision=False)
    assert round(network.count_params() / 1e6, 2) == 9.05  # published 9.04, without batch normalization
    filters = [network.get_layer(f"encoder{level}_conv2").filters for level in range(5)]
    assert filters == [32, 64, 128, 256, 512]


def test_each_node_joins_all_before_it_in_its_row_and_the_upsampled_one_below():
    network = small()
    for level in range(3):
        for step in range(1, 4 - level):
            name = node_name(level, step)
            row = [f"{node_name(level, before)}_relu" for before in range(step)]
            assert sources(network.get_layer(f"{name}_join")) == [*row, f"{name}_up"]
            assert sources(network.get_layer(f"{name}_up")) == [f"{node_name(level + 1, step - 1)}_relu"]
            node = network.get_layer(f"{name}_relu").output
            assert node.shape[1:] == (32 / 2**level, 32 / 2**level, 4 * 2**level)


@pytest.mark.parametrize("levels, patch", [(3, 1), (4, 2)])
def test_the_output_is_the_mean_of_a_head_for_each_depth(levels, patch):
    network = small(levels, patch=patch)
    names = heads_of(network)
    assert names == [f"head{number}" for number in range(1, levels)]
    twin = keras.Model(network.inputs, [network.get_layer(name).output for name in names])
    heads = [np.asarray(maps) for maps in twin.predict_on_batch(picture())]
    assert all(maps.shape == (2, 32, 32, 2) and maps.dtype == np.float32 for maps in heads)
    assert all(maps.min() >= 0 and maps.max() <= 1 for maps in heads)
    np.testing.assert_allclose(network.predict_on_batch(picture()), np.mean(heads, axis=0), atol=1e-6)


def test_a_head_sees_only_its_own_depth():
    """Head 1 is a U-Net of two levels: what lies deeper does not reach it (the papers prune there)."""
    network = small(3)
    heads = keras.Model(network.inputs, [network.get_layer(f"head{number}").output for number in (1, 2)])
    before = heads.predict_on_batch(picture())
    kernel, bias = network.get_layer("encoder2_conv1").get_weights()
    network.get_layer("encoder2_conv1").set_weights([kernel + 1, bias])
    after = heads.predict_on_batch(picture())
    np.testing.assert_array_equal(before[0], after[0])
    assert np.abs(before[1] - after[1]).max() > 1e-6


def test_without_deep_supervision_the_last_node_alone_gives_the_maps():
    network = small(3, deep_supervision=False)
    assert not heads_of(network)
    assert network.output._keras_history.operation.input._keras_history.operation.name == "node0_2_relu"
