"""MA-Net: its attention blocks by their definition, and that it learns."""

import keras
import numpy as np
from keras import layers

from livseg_lib.models import blocks
from livseg_lib.models.manet import channel_attention, fusion_attention, manet, position_attention

SMALL = {"filters": 4, "levels": 3, "attention_channels": 4, "patch": 2}


def random(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).random(shape, np.float32)


def test_position_attention_is_softmax_of_similarity_times_values():
    keras.utils.set_random_seed(1)
    inputs = keras.Input((3, 5, 6))
    model = keras.Model(inputs, position_attention(inputs, 4, "a"))
    x = random(2, 3, 5, 6)
    parts = (np.asarray(model.get_layer(f"a_{part}")(x)) for part in ("queries", "keys", "values"))
    queries, keys, values = (part.reshape(2, 15, -1) for part in parts)
    weights = np.exp(np.einsum("bic,bjc->bij", queries, keys) / 2)
    weights /= weights.sum(-1, keepdims=True)
    expected = x + np.einsum("bij,bjc->bic", weights, values).reshape(x.shape)
    found = keras.Model(inputs, model.get_layer("a_add").output)(x)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_a_residual_block_is_its_shortcut_where_its_convolutions_give_nothing():
    inputs = keras.Input((8, 8, 2))
    model = keras.Model(inputs, blocks.residual_block(inputs, 4, "r"))
    model.get_layer("r_3_norm").gamma.assign(np.zeros(4))
    x = random(1, 8, 8, 2)
    np.testing.assert_allclose(model(x), np.maximum(model.get_layer("r_shortcut")(x), 0), rtol=1e-5)
    sizes = [layer.kernel_size for layer in model.layers if isinstance(layer, layers.Conv2D)]
    assert sorted(sizes) == [(1, 1), (3, 3), (3, 3), (3, 3)]


def test_channel_attention_looks_at_means_alone():
    inputs = keras.Input((4, 4, 32))
    model = keras.Model(inputs, channel_attention(inputs, "c"))
    x = random(1, 4, 4, 32)
    weights = np.asarray(model(x))
    assert weights.shape == (1, 1, 1, 32)
    assert weights.min() > 0 and weights.max() < 1
    np.testing.assert_allclose(model(x[:, ::-1, :, :]), weights, rtol=1e-5)
    assert model.get_layer("c_squeeze").units == 2


def test_fusion_weighs_the_upsampled_channels_by_what_both_paths_hold():
    deep, skip = keras.Input((4, 4, 8)), keras.Input((8, 8, 4))
    model = keras.Model([deep, skip], fusion_attention(deep, skip, "f"))
    parts = ["f_up", "f_deep_weights_excite", "f_skip_weights_excite", "f_join"]
    inside = keras.Model(model.inputs, [model.get_layer(name).output for name in parts])
    x, beside = random(2, 4, 4, 8), random(2, 8, 8, 4)
    up, deep_weights, skip_weights, joined = (np.asarray(part) for part in inside([x, beside]))
    expected = np.concatenate([beside, up * (deep_weights + skip_weights)], axis=-1)
    np.testing.assert_allclose(joined, expected, rtol=1e-5)
    assert model.output_shape == (None, 8, 8, 4)


def test_by_default_the_attention_stays_affordable_at_512_pixels():
    network = manet((512, 512, 1), 1, filters=2)
    levels = [network.get_layer(f"encoder{level}_out").output.shape[1:] for level in range(5)]
    assert levels == [(512, 512, 2), (256, 256, 4), (128, 128, 8), (64, 64, 16), (32, 32, 32)]
    assert network.get_layer("attention_keys").filters == 64
    assert network.get_layer("attention_map").output.shape == (None, 32**2, 32**2)


def test_attention_is_float32_in_mixed_precision():
    keras.config.set_dtype_policy("mixed_float16")
    try:
        network = manet((16, 16, 1), 1, **SMALL)
    finally:
        keras.config.set_dtype_policy("float32")
    assert network.get_layer("attention_values").compute_dtype == "float16"
    for name in ("scores", "scaled", "map"):
        assert network.get_layer(f"attention_{name}").compute_dtype == "float32"
