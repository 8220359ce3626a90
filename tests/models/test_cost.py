"""Operations counted by hand, and times on a clock of the test's own."""

import math
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from keras import layers

from livseg_lib.errors import InputError
from livseg_lib.models import cost
from livseg_lib.models.blocks import resnet50_encoder
from livseg_lib.models.cost import cost_table, gflops_an_input, milliseconds_an_input
from livseg_lib.models.unet import unet

PLAIN = {"padding": "same", "use_bias": False}
PICTURE, BLOCK = (16, 12, 3), (4, 16, 12, 3)


@pytest.mark.parametrize(
    ("layer", "weights", "shape"),
    [
        (layers.Conv2D(8, 3, **PLAIN), 3 * 3 * 3 * 8, PICTURE),
        (layers.Conv2D(8, 3, strides=2, **PLAIN), 3 * 3 * 3 * 8 / 4, PICTURE),  # a quarter of the places
        (layers.Conv2D(8, 3, padding="same"), 3 * 3 * 3 * 8 + 8 / 2, PICTURE),  # a bias is only added
        (layers.Conv2D(8, 3, dilation_rate=18, **PLAIN), 3 * 3 * 3 * 8, PICTURE),
        (keras.Sequential([layers.Conv2D(8, 3, dilation_rate=2, **PLAIN)]), 3 * 3 * 3 * 8, PICTURE),
        (layers.Conv2DTranspose(8, 2, strides=2, **PLAIN), 2 * 2 * 3 * 8, PICTURE),
        (layers.Conv3D(8, 3, **PLAIN), 3 * 3 * 3 * 3 * 8, BLOCK),
        (layers.Conv3DTranspose(8, 2, strides=2, **PLAIN), 2 * 2 * 2 * 3 * 8, BLOCK),
        (keras.Sequential([layers.Conv3DTranspose(8, 2, strides=2, **PLAIN)]), 2 * 2 * 2 * 3 * 8, BLOCK),
    ],
)
def test_a_convolution_has_two_operations_a_kernel_weight_and_place(layer, weights, shape):
    network = keras.Sequential([keras.Input(shape), layer])
    assert round(gflops_an_input(network) * 1e9) == 2 * weights * math.prod(shape[:-1])


def test_attention_counts_its_matrix_product():
    rows, channels = keras.Input((10, 4)), 4
    product = keras.Model(rows, layers.Dot((2, 2))([rows, rows]))
    assert gflops_an_input(product) * 1e9 == 2 * 10 * 10 * channels


def test_resnet_50_has_its_published_count():
    """3.8 thousand million multiply-adds at 224 x 224 (He et al. 2015, arXiv:1512.03385, table 1)."""
    assert gflops_an_input(resnet50_encoder((224, 224, 3))) / 2 == pytest.approx(3.8, rel=0.03)


def test_counting_leaves_the_network_as_it_is():
    network = unet((32, 32, 1), 1, filters=4, levels=2)
    before = network.get_weights()
    assert gflops_an_input(network) > 0
    assert all((a == b).all() for a, b in zip(before, network.get_weights(), strict=True))


def test_the_time_is_the_median_without_the_batches_that_compile(monkeypatch):
    ends = np.cumsum([90, 50, 5, 1, 3, 2, 4])  # seconds; the first two batches compile
    clock = iter(np.repeat(np.concatenate([[0], ends]), 2)[1:-1])
    monkeypatch.setattr(cost, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    assert milliseconds_an_input(unet((16, 16, 1), 1, filters=2, levels=2), 2) == 3000 / 2


def test_the_table_has_a_row_a_network_at_the_options_and_sizes_asked_for(monkeypatch):
    monkeypatch.setattr(cost, "MODELS", ("unet", "unet++", "unet3d"))
    small = {"filters": 4, "levels": 2}
    options = {"unet": small, "unet++": {**small, "levels": 3}, "unet3d": small}
    table = cost_table((32, 32, 3), (8, 16, 16, 3), 2, options)
    assert list(table.columns) == ["network", "input", "parameters", "gflops", "milliseconds_an_input"]
    assert list(table["network"]) == ["unet", "unet++", "unet3d"]
    assert list(table["input"]) == ["32 x 32 x 3", "32 x 32 x 3", "8 x 16 x 16 x 3"]
    assert table["parameters"][0] == unet((32, 32, 3), 2, **small).count_params()
    assert (table.drop(columns=["network", "input"]) > 0).all(axis=None)
    with pytest.raises(InputError, match="divisible"):
        cost_table((33, 32, 3), (8, 16, 16, 3), 2, {"unet": small})
