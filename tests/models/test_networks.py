"""Every network of the catalogue: shapes, names, gradients, capacity to learn, model folders, refusals."""

import re
from collections.abc import Iterator

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from thin_networks import options_of, shape_for, thin

from livseg_lib.errors import InputError
from livseg_lib.models import MODELS, build_model
from livseg_lib.preprocessing.recipe import Recipe
from livseg_lib.systems import BLOCKS, SYSTEMS
from livseg_lib.training.model_folder import TrainedModel, load_model, save_model


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).random(shape, np.float32)


def all_layers(network: keras.Model) -> Iterator[layers.Layer]:
    for layer in network.layers:
        yield layer
        if isinstance(layer, keras.Model):
            yield from all_layers(layer)


@pytest.mark.parametrize("name", MODELS)
def test_untrained_maps_are_small_probabilities_and_gradients_reach_every_named_layer(name):
    """Sigmoid, not softmax: a pixel may be liver and tumour at once, and neither is likely at first.

    Keras' own names count on over a session: weights could not be found again by them.
    """
    keras.utils.set_random_seed(0)
    shape, network = shape_for(name, 64, 96, 5), thin(name, 64, 96, 5, 3)
    with tf.GradientTape() as tape:
        maps = network(noise(2, *shape), training=True)
        loss = tf.reduce_mean(tf.square(maps - 1.0))
    assert maps.shape == (2, *shape[:-1], 3) and maps.dtype == np.float32
    assert maps.numpy().min() >= 0 and maps.numpy().max() <= 1 and 0 < maps.numpy().mean() < 0.3
    gradients = tape.gradient(loss, network.trainable_variables)
    for variable, gradient in zip(network.trainable_variables, gradients, strict=True):
        assert gradient is not None, variable.path
        assert "kernel" not in variable.path or np.abs(gradient).max() > 0, variable.path
    for layer in all_layers(network):
        automatic = keras.src.utils.naming.to_snake_case(type(layer).__name__)
        assert not re.fullmatch(rf"{automatic}(_\d+)?", layer.name), layer.name


def bright_squares(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Noisy pictures (4, 32, 32, 3), and the masks of two structures, one within the other.

    For networks of volumes each picture is a block of equal slices.
    """
    truth = np.zeros((4, 32, 32, 2), np.float32)
    for number in range(4):
        top = 4 * number
        truth[number, top : top + 16, 8:24, 0] = 1
        truth[number, top + 4 : top + 12, 12:20, 1] = 1
    pictures = 0.3 * noise(4, 32, 32, 3) + 0.3 * truth.sum(axis=-1, keepdims=True)
    if SYSTEMS[name].kind != BLOCKS:
        return pictures, truth
    return np.stack([pictures] * 4, axis=1), np.stack([truth] * 4, axis=1)


@pytest.mark.parametrize(
    "name", [name if name == "unet" else pytest.param(name, marks=pytest.mark.slow) for name in MODELS]
)
def test_one_batch_can_be_overfitted(name):
    """TensorFlow takes long to build the training graphs of most."""
    keras.utils.set_random_seed(0)
    more = {"filters": 8} if "filters" in SYSTEMS[name].small and name != "deeplabv3+" else {}
    network = thin(name, 32, 32, **more)
    network.compile(keras.optimizers.Adam(2e-2), "binary_crossentropy")
    pictures, truth = bright_squares(name)
    losses = [float(network.train_on_batch(pictures, truth)) for _ in range(60)]
    assert losses[-1] < 0.2 * losses[0]


@pytest.mark.parametrize("name", MODELS)
def test_saved_and_loaded_it_gives_equal_outputs(name, tmp_path):
    keras.utils.set_random_seed(0)  # some other first weights would drive the maps to exactly 0 or 1
    network, random = thin(name, 32, 32), np.random.default_rng(1)
    for weight in network.weights:  # as if trained: moving averages too
        factors = random.uniform(0.5, 1.5, weight.shape)
        weight.assign(weight * factors + 0.01 * factors)
    recipe, thresholds = Recipe(size=32), {"liver": 0.5, "tumor": 0.5}
    trained = TrainedModel(name, name, options_of(name), network, recipe, "both", thresholds)
    loaded = load_model(save_model(trained, tmp_path)).network
    pictures, _ = bright_squares(name)
    maps = loaded(pictures, training=False).numpy()
    np.testing.assert_array_equal(maps, network(pictures, training=False).numpy())
    assert 1e-4 < maps.mean() < 1 - 1e-4


@pytest.fixture
def compute_dtype(name: str) -> Iterator[str]:
    """Half precision; on CPUs TensorFlow has no 3D pooling in float16, and the other half has to do."""
    before = keras.config.dtype_policy()
    chosen = "bfloat16" if SYSTEMS[name].kind == BLOCKS else "float16"
    keras.config.set_dtype_policy(f"mixed_{chosen}")
    yield chosen
    keras.config.set_dtype_policy(before)


@pytest.mark.parametrize("name", MODELS)
def test_mixed_precision_computes_in_16_bits_and_answers_in_float32(name, compute_dtype):
    network = thin(name, 32, 32)
    kinds = (layers.Conv2D, layers.Conv3D)
    convolutions = [layer for layer in all_layers(network) if isinstance(layer, kinds)]
    assert {layer.variable_dtype for layer in convolutions} == {"float32"}
    assert sum(layer.compute_dtype == compute_dtype for layer in convolutions) > 0.7 * len(convolutions)
    maps = network(noise(1, *network.input_shape[1:]), training=False).numpy()
    assert maps.dtype == np.float32 and np.isfinite(maps).all()


@pytest.mark.parametrize("name", MODELS)
def test_sizes_that_cannot_be_halved_are_refused_and_it_says_which_can(name):
    with pytest.raises(InputError, match=r"1 x 1 x 3.*divisible by") as refusal:
        thin(name, 1, 1)
    height, width = (int(n) for n in re.findall(r"(?:height|width) divisible by (\d+)", str(refusal.value)))
    assert thin(name, height, width).output_shape == (None, *shape_for(name, height, width, 2))
    for extent in ((height + height // 2, width), (height, width + 1), (height, width + width // 2)):
        with pytest.raises(InputError, match=f"{extent[0]} x {extent[1]} x 3"):
            thin(name, *extent)


@pytest.mark.parametrize("name", MODELS)
def test_pictures_and_blocks_of_slices_are_not_mixed_up(name):
    of_blocks = SYSTEMS[name].kind == BLOCKS
    with pytest.raises(InputError, match=f"takes {'blocks' if of_blocks else 'pictures'}"):
        build_model(name, (64, 64, 3) if of_blocks else (64, 64, 64, 3), 1)


def test_system_c_has_its_31_million_parameters_and_its_layers():
    network = build_model("unet", (256, 256, 3), 1)
    convolutions = [layer for layer in network.layers if isinstance(layer, layers.Conv2D)]
    assert round(network.count_params() / 1e6) == 31
    assert [layer.filters for layer in convolutions[:10:2]] == [64, 128, 256, 512, 1024]
    assert sum(isinstance(layer, layers.Conv2DTranspose) for layer in network.layers) == 4
    assert sum(isinstance(layer, layers.BatchNormalization) for layer in network.layers) == 9


@pytest.mark.parametrize(
    "name, levels, penalties",
    [
        ("unet", 2, 3 * 2),  # three blocks of two convolutions
        ("attention_unet", 3, 5 * 2),
        ("unet++", 3, 6 * 2),  # six nodes
        ("manet", 2, 2 * 4 + 4 + 4),  # residual blocks, position attention, fusion
        ("residual_unet", 2, 3 * 4),
        ("cdnn", 3, 5 + 4),  # on the way down and up
        ("unet3d", 3, 5 * 2),
    ],
)
def test_l2_is_put_on_every_convolution_of_the_blocks(name, levels, penalties):
    shape, options = shape_for(name, 16, 16, 1), {"filters": 4, "levels": levels}
    assert len(build_model(name, shape, 1, **options, l2=1e-4).losses) == penalties
    assert not build_model(name, shape, 1, **options).losses


@pytest.mark.parametrize(
    "name, options, said",
    [
        ("vnet", {}, "Choose one of unet"),
        ("unet", {"colour": "red"}, "colour"),
        ("deeplabv3+", {"output_stride": 4}, "output stride 4.*8, 16, 32"),
        ("unet++", {"levels": 1}, "2 levels"),  # nothing to nest
        ("cdnn", {"levels": 1}, "2 levels"),  # nothing to skip
        ("attention_unet", {"levels": 2}, "3 levels"),  # no gate
    ],
)
def test_what_cannot_be_built_is_refused(name, options, said):
    with pytest.raises(InputError, match=said):
        build_model(name, (64, 64, 1), 1, **options)


@pytest.mark.parametrize("name", MODELS)
def test_every_network_has_a_laptop_size_of_a_million_parameters(name):
    shape = (64, 128, 128, 3)[SYSTEMS[name].kind != BLOCKS :]
    assert 0.4e6 < build_model(name, shape, 2, **SYSTEMS[name].small).count_params() < 3e6
