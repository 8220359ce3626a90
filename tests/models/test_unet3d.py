"""3D U-Net: the paper's layers and parameters, flat levels, and folding before the first level."""

import keras
import numpy as np
import pytest
from keras import layers
from network_graph import sources

from livseg_lib.errors import InputError
from livseg_lib.models import build_model


def small(shape=(8, 16, 16, 1), classes=1, **options) -> keras.Model:
    return build_model("unet3d", shape, classes, **{"filters": 2, "levels": 3, **options})


def test_the_default_is_the_papers_network_to_the_last_parameter():
    """19 069 955 (section 2), which leaves out normalization and the biases of the up-convolutions."""
    network = build_model("unet3d", (16, 16, 16, 3), 3)
    convolutions = [layer for layer in network.layers if isinstance(layer, layers.Conv3D)]
    ups = [layer for layer in network.layers if isinstance(layer, layers.Conv3DTranspose)]
    in_ups = sum(int(np.prod(layer.kernel.shape)) for layer in ups)
    assert sum(layer.count_params() for layer in convolutions) + in_ups == 19_069_955
    assert len([layer for layer in network.layers if isinstance(layer, layers.MaxPooling3D)]) == 3
    filters = [network.get_layer(f"encoder{level}_{n}_conv").filters for level in range(4) for n in (1, 2)]
    assert filters == [32, 64, 64, 128, 128, 256, 256, 512]
    assert [layer.filters for layer in ups] == [512, 256, 128]


def test_the_decoder_joins_the_maps_of_its_own_size():
    network = small()
    for level in range(2):
        join = network.get_layer(f"decoder{level}_join")
        assert sources(join) == [f"encoder{level}_2_relu", f"decoder{level}_up"]


@pytest.mark.parametrize("flat_levels, depths", [(0, (8, 4, 2)), (1, (8, 8, 4)), (2, (8, 8, 8))])
def test_flat_levels_look_and_pool_in_plane_only(flat_levels, depths):
    network = small(flat_levels=flat_levels)
    for level, depth in enumerate(depths):
        side = 16 >> level
        assert network.get_layer(f"encoder{level}_2_relu").output.shape[1:4] == (depth, side, side)
        kernel = (1, 3, 3) if level < flat_levels else (3, 3, 3)
        paths = ("encoder", "decoder") if level < 2 else ("encoder",)
        for layer in [network.get_layer(f"{path}{level}_{n}_conv") for path in paths for n in (1, 2)]:
            assert layer.kernel_size == kernel
    assert network.output_shape == (None, 8, 16, 16, 1)


def reach(network: keras.Model) -> set[int]:
    """Slices whose maps change with slice 4."""
    block = np.random.default_rng(0).random((1, *network.input_shape[1:]), np.float32)
    changed = block.copy()
    changed[0, 4] = 1 - changed[0, 4]
    difference = np.abs(np.asarray(network(block)) - np.asarray(network(changed)))[0]
    return set(np.flatnonzero(difference.max(axis=(1, 2, 3)) > 0))


def test_slices_are_seen_together_unless_all_levels_are_flat():
    keras.utils.set_random_seed(0)
    assert reach(small(flat_levels=3)) == {4}
    assert {3, 4, 5} < reach(small(flat_levels=2))


def test_a_patch_is_folded_before_the_first_level_and_unfolded_after_the_last():
    network = small((8, 32, 32, 2), 2, patch=(1, 2, 4))
    assert network.get_layer("encoder0_1_relu").output.shape[1:4] == (8, 16, 8)
    assert network.get_layer("unfold").output.shape[1:4] == (8, 32, 32)
    assert network.output_shape == (None, 8, 32, 32, 2)


def test_what_an_axis_must_be_divisible_by_follows_from_patch_and_pooling():
    options = {"patch": (2, 4, 1), "flat_levels": 1}  # strides: 2 * 2, 4 * 4, 1 * 4
    assert small((4, 16, 4, 1), **options).output_shape == (None, 4, 16, 4, 1)
    for shape, axis in [((6, 16, 4, 1), "depth divisible by 4"), ((4, 8, 4, 1), "height divisible by 16")]:
        with pytest.raises(InputError, match=axis):
            small(shape, **options)
