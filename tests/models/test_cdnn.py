"""System I's network: the layers of its author's CDNN, skips by summation, any channels."""

import collections

import keras
import numpy as np
import pytest
from keras import layers
from network_graph import sources

from livseg_lib.models import build_model


@pytest.fixture(scope="module")
def papers() -> keras.Model:
    """The default sizes, with the seven channels of the skin lesions."""
    return build_model("cdnn", (64, 96, 7), 1)


def test_it_has_29_layers_and_most_of_the_authors_5_million_parameters(papers):
    skips_and_norms = (layers.Add, layers.BatchNormalization, layers.Activation)
    counted = [layer for layer in papers.layers if not isinstance(layer, skips_and_norms)]
    kinds = collections.Counter(type(layer).__name__ for layer in counted)
    assert len(counted) == 29
    assert kinds["Conv2D"] == 9 + 1 and kinds["Conv2DTranspose"] == 8 and kinds["Dropout"] == 2
    assert papers.get_layer("decoder0_dropout").rate == 0.5
    assert round(papers.count_params() / 1e6, 1) == 4.7


def test_widths_go_down_to_512_and_up_again_as_published(papers):
    down = [layer.filters for layer in papers.layers if isinstance(layer, layers.Conv2D)]
    up = [layer.filters for layer in papers.layers if isinstance(layer, layers.Conv2DTranspose)]
    assert down == [16, 32, 64, 64, 128, 128, 256, 256, 512, 1]
    assert up == [256, 256, 128, 128, 64, 64, 32, 16]


def test_deconvolutions_keep_the_size_and_upsampling_changes_it(papers):
    for layer in papers.layers:
        if isinstance(layer, layers.Conv2DTranspose):
            assert layer.strides == (1, 1) and layer.input.shape[1:3] == layer.output.shape[1:3]
    ups = [layer for layer in papers.layers if isinstance(layer, layers.UpSampling2D)]
    assert [layer.output.shape[1] for layer in ups] == [8, 16, 32, 64]


def test_skips_are_added_and_nothing_is_joined(papers):
    sums = [layer for layer in papers.layers if isinstance(layer, layers.Add)]
    levels = [[f"encoder{level}_2_relu", f"decoder{level}_up"] for level in (3, 2, 1, 0)]
    assert [sources(layer) for layer in sums] == levels
    assert not [layer for layer in papers.layers if isinstance(layer, layers.Concatenate)]


def test_folded_pictures_have_no_place_with_weights_of_its_own():
    keras.utils.set_random_seed(3)
    network = build_model("cdnn", (64, 64, 1), 1, filters=4, levels=2, patch=2)
    answer = network.predict_on_batch(np.full((1, 64, 64, 1), 0.7, np.float32))[0, 24:40, 24:40]
    np.testing.assert_allclose(answer, np.broadcast_to(answer[0, 0], answer.shape), rtol=1e-4)


def test_the_liver_mask_can_be_one_of_the_channels():
    network = build_model("cdnn", (32, 32, 4), 1, filters=4, levels=3, dropout=0.0)
    pictures = np.random.default_rng(0).random((2, 32, 32, 4), np.float32)
    pictures[1, ..., :3] = pictures[0, ..., :3]
    first, second = network.predict_on_batch(pictures)
    assert np.abs(first - second).max() > 1e-6
