"""Maps of networks that are right by construction, against what must be seen."""

import math

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers
from thin_networks import thin

from livseg_lib.errors import InputError
from livseg_lib.inference.explain import (
    count_layers,
    encoder_maps,
    find_map,
    layer_maps,
    logits,
    occlusion_drops,
    over_models,
    over_variants,
    patch_boxes,
    pixels_of,
    randomize_from_output,
    seg_grad_cam,
)
from livseg_lib.inference.variants import predict_augmented
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


@pytest.fixture(scope="module", params=MODELS)
def network(request) -> keras.Model:
    keras.utils.set_random_seed(0)
    return thin(request.param)


def test_the_bottleneck_of_every_network_is_its_deepest_widest_map(network, request):
    name = request.node.callspec.params["network"]
    levels = encoder_maps(network)
    assert levels[-1].name == BOTTLENECKS[name]
    sizes = [math.prod(level.grid) for level in levels]
    assert sizes == sorted(sizes, reverse=True) and len(set(sizes)) == len(sizes) > 1
    assert find_map(network, None) == levels[-1]
    assert not {each.name for each in layer_maps(network)} & {"image", "probabilities"}


def test_maps_come_in_the_order_of_the_graph_and_can_be_asked_for_by_name():
    network = thin("unet")
    names = [each.name for each in layer_maps(network)]
    assert names[0] == "fold" and names.index("encoder0_relu") < names.index("decoder0_join")
    assert find_map(network, "decoder0_join").grid == (32, 32)  # no level on the way down, as wide as it is
    assert [each.name for each in encoder_maps(network)] == [f"encoder{level}_relu" for level in range(3)]
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
    with pytest.raises(InputError, match="no map in space"):
        encoder_maps(keras.Model(image, layers.Conv2D(1, 1)(image)))


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
    network = linear_network(activation)
    for expected, is_signed in ((np.maximum(signed, 0), False), (signed, True)):
        found = seg_grad_cam(network, images, region, signed=is_signed)
        largest = np.abs(expected).max(axis=(1, 2), keepdims=True)
        np.testing.assert_allclose(found, expected / largest, atol=1e-4)
    against = seg_grad_cam(linear_network(activation, (-1.0, -2.0)), images, region)
    assert not against.any()  # nothing speaks for it
    region[0] = False
    found = seg_grad_cam(network, images, region)
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


def test_every_network_has_maps_at_each_level_that_hang_on_its_weights(network):
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


def same_as_picture(shape: tuple[int, ...]) -> keras.Model:
    """Each pixel of the answer is that of the picture's first channel."""
    image = keras.Input(shape)
    kind = {3: layers.Conv2D, 4: layers.Conv3D}[len(shape)]
    network = keras.Model(image, kind(1, 1, use_bias=False)(image))
    first = np.zeros((shape[-1], 1), np.float32)
    first[0] = 1
    network.set_weights([first.reshape((1,) * (len(shape) - 1) + first.shape)])
    return network


def test_a_network_that_looks_at_one_pixel_loses_all_there_and_nothing_elsewhere():
    picture = np.full((6, 8, 2), 255, np.uint8)
    region = np.zeros((6, 8), bool)
    region[2, 5] = True
    drops = occlusion_drops(same_as_picture((6, 8, 2)), picture, region, (1, 1), (1, 1), fill=np.zeros(2))
    np.testing.assert_allclose(drops, region.astype(np.float32), atol=1e-6)
    assert (picture == 255).all()
    even = occlusion_drops(same_as_picture((6, 8, 2)), picture, region, (2, 2), (2, 2))
    assert not even.any()  # the mean of the picture covers an even one without loss
    dark, patch = np.zeros((4, 4, 1), np.uint8), (4, 4)
    network, everywhere = same_as_picture(dark.shape), np.ones((4, 4), bool)
    shown = occlusion_drops(network, dark, everywhere, patch, patch, fill=np.full(1, 50.6))
    np.testing.assert_allclose(shown, -0.2, atol=1e-6)  # of 51 greys: below zero, as it speaks against
    block, region = np.full((3, 4, 4, 1), 255, np.uint8), np.zeros((3, 4, 4), bool)
    region[1, 2, 2] = True
    patch = (1, 2, 2)
    drops = occlusion_drops(same_as_picture(block.shape), block, region, patch, patch, fill=np.zeros(1))
    assert drops[1, 2:, 2:].min() == 1 and drops.sum() == 4


def test_larger_patches_spread_it_over_all_that_cover_the_pixel_and_of_nothing_it_is_undefined():
    picture = np.full((6, 6, 1), 255, np.uint8)
    region = np.zeros((6, 6), bool)
    region[0, 0] = True
    drops = occlusion_drops(same_as_picture((6, 6, 1)), picture, region, (2, 2), (1, 1), fill=np.zeros(1))
    np.testing.assert_allclose(drops[:2, :2], [[1, 0.5], [0.5, 0.25]], atol=1e-6)
    assert not drops[2:].any() and not drops[:, 2:].any()
    nothing = occlusion_drops(same_as_picture((6, 6, 1)), picture, region & ~region, (2, 2), (2, 2))
    assert np.isnan(nothing).all()


@given(
    shape=st.tuples(st.integers(1, 20), st.integers(1, 20)),
    patch=st.integers(1, 25),
    stride=st.integers(1, 25),
)
@settings(max_examples=60, deadline=None)
def test_patches_cover_everything_without_one_too_many(shape, patch, stride):
    stride = min(stride, patch)
    count = np.zeros(shape, int)
    for box in patch_boxes(shape, (patch, patch), (stride, stride)):
        assert count[box].size
        count[box] += 1
    assert count.min() >= 1
    assert count[-1, -1] <= max(1, -(-patch // stride)) ** 2


def test_millimetres_become_pixels_and_unknown_ones_are_refused():
    assert pixels_of(20, (2.5, 4.0)) == (8, 5)
    assert pixels_of(0.1, (2.5, 4.0)) == (1, 1)
    with pytest.raises(InputError, match="no known size"):
        pixels_of(20, (np.nan, np.nan))


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


@pytest.fixture
def asked() -> np.ndarray:
    smooth = np.linspace(0, 1, 24, dtype=np.float32)
    return np.stack([np.add.outer(smooth, smooth)] * 2)[..., np.newaxis] / 2


def test_a_network_that_knows_places_is_not(asked):
    place = np.broadcast_to(np.linspace(0, 1, 24, dtype=np.float32)[:, np.newaxis], (24, 24))[..., np.newaxis]
    found = over_variants(lambda x: np.broadcast_to(place, x.shape), asked, ("shift",))
    moving = over_variants(lambda x: x, asked, ("shift",))
    np.testing.assert_allclose(moving.deviation[:, 4:-4, 4:-4], 0, atol=1e-6)
    expected = np.std([0, -3 / 23, -3 / 23, 3 / 23, 3 / 23])
    np.testing.assert_allclose(found.deviation[:, 5:-5, 5:-5], expected, atol=1e-5)


def test_the_mean_is_that_of_test_time_augmentation(asked):
    def network(x):
        return x**2

    names = ("rotate", "zoom", "grey")
    found = over_variants(network, asked, names).mean
    np.testing.assert_allclose(found, predict_augmented(network, asked, names), atol=1e-5)
    with pytest.raises(InputError, match="nonsense"):
        over_variants(network, asked, ("nonsense",))


def test_over_models_is_mean_and_standard_deviation():
    answers = np.random.default_rng(0).random((4, 3, 4, 2), np.float32)
    found = over_models(iter(answers))
    np.testing.assert_allclose(found.mean, answers.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(found.deviation, answers.std(axis=0), atol=1e-5)
    assert found.mean.dtype == found.deviation.dtype == found.entropy.dtype == np.float32
    answer = np.full((4, 4, 1), 0.25, np.float32)
    certain = over_models([answer] * 7)
    assert not certain.deviation.any()
    np.testing.assert_allclose(certain.entropy, 0.8113, atol=1e-4)  # in bits: of 1 to 3
    assert over_models([answer - 1, answer + 1]).mean.max() == 0.5  # clipped
