"""What a network costs: its weights, its arithmetic, its time."""

from __future__ import annotations

import logging
import math
import statistics
import time
from collections.abc import Callable, Mapping

import keras
import numpy as np
import pandas as pd
from tqdm import tqdm

from livseg_lib.backend import require_tensorflow
from livseg_lib.models import MODELS, build_model
from livseg_lib.systems import BLOCKS, SYSTEMS


def gflops_an_input(network: keras.Model) -> float:
    """Thousand million floating-point operations for one input; a multiply-add counts as two.

    Counted by TensorFlow's profiler over the graph of one input. It knows convolutions, matrix products,
    pooling, normalization and softmax; resizing and activations count nothing. Transposed convolutions of
    blocks, unknown to it, are counted here.
    """
    operations = _float_operations(_without_dilation(network)) + _operations_of_3d_upsampling(network)
    return operations / 1e9


def milliseconds_an_input(network: keras.Model, batch: int) -> float:
    """Median wall time of `predict_on_batch` over five random batches, divided by `batch`."""
    pictures = np.random.default_rng(0).random((batch, *network.input_shape[1:]), np.float32)
    return _median_ms(lambda: network.predict_on_batch(pictures), 5) / batch


def milliseconds_a_step() -> float:
    """Median wall time of a training step of the small U-Net on four pictures of 128 x 128 x 3: how fast this
    device learns."""
    draw = np.random.default_rng(0)
    network = build_model("unet", (128, 128, 3), 2, **SYSTEMS["unet"].small)
    network.compile("adam", "binary_crossentropy")
    pictures, truth = draw.random((4, 128, 128, 3), np.float32), draw.integers(0, 2, (4, 128, 128, 2))
    return _median_ms(lambda: network.train_on_batch(pictures, truth.astype(np.float32)), 10)


def _median_ms(step: Callable[[], object], repeats: int) -> float:
    """The first two, which compile the network, are not counted."""
    seconds = []
    for _ in range(repeats + 2):
        start = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - start)
    return 1000 * statistics.median(seconds[2:])


def cost_table(
    picture_shape: tuple[int, int, int],
    block_shape: tuple[int, int, int, int],
    num_classes: int,
    options: Mapping[str, dict] | None = None,
) -> pd.DataFrame:
    """A row a network of the catalogue: network, input, parameters, gflops, milliseconds_an_input.

    `input` is what the row's numbers hold for: a picture, "H x W x C", timed in batches of eight, or for
    networks that take them a block of slices, "D x H x W x C", timed alone. `options` holds keyword options
    of `build_model` by network; one that is not in it has its defaults. Raises InputError where a network
    cannot take inputs of that size.
    """
    rows = []
    for name in tqdm(list(MODELS), "networks", disable=None):  # None: if watched
        shape, together = (block_shape, 1) if SYSTEMS[name].kind == BLOCKS else (picture_shape, 8)
        network = build_model(name, shape, num_classes, **(options or {}).get(name, {}))
        row = (name, " x ".join(map(str, shape)), network.count_params(), gflops_an_input(network))
        rows.append((*row, milliseconds_an_input(network, together)))
    return pd.DataFrame(rows, columns=["network", "input", "parameters", "gflops", "milliseconds_an_input"])


def _without_dilation(network: keras.Model) -> keras.Model:
    """A twin whose atrous kernels are dense, which cost the same on paper.

    TensorFlow's graph pads the map for an atrous kernel to a multiple of its rate, and the profiler
    would count the padding.
    """

    def dense(layer: keras.layers.Layer) -> keras.layers.Layer:
        config = layer.get_config()
        if "dilation_rate" in config:
            config["dilation_rate"] = 1
        return type(layer).from_config(config)

    return keras.models.clone_model(network, clone_function=dense, recursive=True)


def _float_operations(network: keras.Model) -> int:
    require_tensorflow("livseg networks")
    import tensorflow as tf

    spec = tf.TensorSpec((1, *network.input_shape[1:]), tf.float32)
    graph = tf.function(lambda image: network(image, training=False)).get_concrete_function(spec).graph
    builder = tf.compat.v1.profiler.ProfileOptionBuilder
    silent = builder(builder.float_operation()).with_empty_output().build()
    logger, level = tf.get_logger(), tf.get_logger().level
    logger.setLevel(logging.ERROR)  # the profiler calls its own package's deprecated functions
    try:
        return tf.compat.v1.profiler.profile(graph, options=silent).total_float_ops
    finally:
        logger.setLevel(level)


def _operations_of_3d_upsampling(network: keras.Model) -> int:
    """Two a kernel weight and input voxel, in every Conv3DTranspose, those of networks in it included."""
    inner = [layer for layer in network.layers if isinstance(layer, keras.Model)]
    layers = [layer for layer in network.layers if isinstance(layer, keras.layers.Conv3DTranspose)]
    operations = (2 * math.prod(layer.kernel.shape) * math.prod(layer.input.shape[1:-1]) for layer in layers)
    return sum(operations) + sum(map(_operations_of_3d_upsampling, inner))
