"""System G's 2.5D residual U-Net: 32 layers, short and long connections, slices as channels."""

import keras
import numpy as np
import pytest
from keras import layers
from network_graph import path_lengths, sources

from livseg_lib.models import blocks, build_model


@pytest.fixture(scope="module")
def papers() -> keras.Model:
    """The default five levels, three structures of five slices, but narrow."""
    return build_model("residual_unet", (64, 64, 5), 3, filters=4)


def of_kind(network: keras.Model, *kinds: type) -> list[layers.Layer]:
    return [layer for layer in network.layers if isinstance(layer, kinds)]


def test_it_has_the_papers_32_layers(papers):
    weighted = of_kind(papers, layers.Conv2D, layers.Conv2DTranspose)
    projections = [layer for layer in weighted if layer.name.endswith("_shortcut")]
    assert len(weighted) - len(projections) == 32
    assert all(layer.kernel_size == (1, 1) for layer in projections)
    convolutions = [layer for layer in weighted if layer.name.endswith("_conv")]
    assert len(convolutions) == 27 and all(layer.kernel_size == (3, 3) for layer in convolutions)
    for part, levels in (("encoder", range(5)), ("decoder", range(4))):
        widths = [papers.get_layer(f"{part}{level}_out").output.shape[-1] for level in levels]
        assert widths == [4 * 2**level for level in levels]
    assert len(of_kind(papers, layers.BatchNormalization)) == len(of_kind(papers, layers.PReLU)) == 27


def test_the_longest_way_through_it_is_those_32_layers(papers):
    kinds = (layers.Conv2D, layers.Conv2DTranspose)
    lengths = path_lengths(papers, "encoder3_out", "probabilities", kinds)
    assert max(lengths) == 3 + 4 * (1 + 3) + 1  # the deepest block, four times up and a block, the maps


def test_every_block_adds_its_input_to_its_output(papers):
    additions = of_kind(papers, layers.Add)
    assert len(additions) == 5 + 4
    for addition in additions:
        block = addition.name.removesuffix("_add")
        assert sources(addition) == [f"{block}_shortcut", f"{block}_3_norm"]
        entry = sources(papers.get_layer(f"{block}_1_conv"))
        assert sources(papers.get_layer(f"{block}_shortcut")) == entry


def test_long_connections_join_the_encoder_to_the_decoder(papers):
    levels = [[f"encoder{level}_out", f"decoder{level}_up"] for level in (3, 2, 1, 0)]
    assert [sources(join) for join in of_kind(papers, layers.Concatenate)] == levels


def test_the_maps_of_one_slice_see_all_slices_of_the_stack(papers):
    stack = np.random.default_rng(0).random((1, 64, 64, 5), np.float32)
    maps = papers.predict_on_batch(stack)
    assert maps.shape == (1, 64, 64, 3)
    for number in range(5):
        changed = stack.copy()
        changed[..., number] = 1 - changed[..., number]
        assert np.abs(papers.predict_on_batch(changed) - maps).max() > 1e-6


def test_prelu_has_one_slope_a_channel_for_negative_numbers():
    inputs = keras.Input((3, 5, 2))
    model = keras.Model(inputs, blocks.activated(inputs, "prelu", "slope"))
    model.get_layer("slope").set_weights([np.array([[[0.5, 2.0]]], np.float32)])
    x = np.random.default_rng(1).standard_normal((1, 3, 5, 2)).astype(np.float32)
    np.testing.assert_allclose(model(x), np.where(x > 0, x, x * [0.5, 2.0]), rtol=1e-6)
    fresh = keras.Model(inputs, blocks.activated(inputs, "prelu", "fresh"))
    np.testing.assert_allclose(fresh(x), np.where(x > 0, x, x * 0.25), rtol=1e-6)
