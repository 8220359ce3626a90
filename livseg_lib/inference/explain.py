"""Why there? Maps of what an answer depends on, how unsure it is, and whether such maps can be trusted.

- Seg-Grad-CAM (Vinogradova, Dibrov and Myers 2020, arXiv:2002.11434, after Grad-CAM, Selvaraju et al. 2017,
  arXiv:1610.02391): which places of a layer's map speak for a structure. A linear guess, not a proof.
- Occlusion (Zeiler and Fergus 2014, arXiv:1311.2901): what the answer loses when a patch is covered. It
  really changes the picture, and shows the network one that no scanner makes.
- Cascading randomization (Adebayo et al. 2018, arXiv:1810.03292): weights are made random, layer by layer
  from the output. A map that hardly changes shows the picture, not the network; one that changes has passed
  a necessary test, and need not be faithful.
- The spread over variants or networks is not the chance of an error: what all networks have learnt wrongly
  they are sure of together (Gal and Ghahramani 2016, arXiv:1506.02142; Wang et al. 2019, arXiv:1807.07356).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, product
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from livseg_lib.backend import gradient
from livseg_lib.errors import InputError
from livseg_lib.inference.predict import predict_batches
from livseg_lib.inference.variants import Predict, choose_variants, predict_variants, predictive_entropy
from livseg_lib.models import keras
from livseg_lib.runs import derived_seed
from livseg_lib.training.losses import ops


class LayerMap(NamedTuple):
    """What one layer of a network gives: a map in space, (B, H, W, C) or (B, D, H, W, C)."""

    name: str  # the layer's; "encoder/conv5_block3_out" for one output of a network within the network
    tensor: keras.KerasTensor

    @property
    def grid(self) -> tuple[int, ...]:
        """Its positions along each axis in space."""
        return tuple(self.tensor.shape[1:-1])


def layer_maps(network: keras.Model) -> list[LayerMap]:
    """Every map in space between the picture and the answer, each behind those that it is computed from. What
    a network within the network keeps to itself is not among them; its outputs are."""
    indices = {layer.name: index for index, layer in enumerate(network.layers)}
    outer, found = (keras.layers.InputLayer, keras.Model), {}
    inputs = [layer.input for layer in network.layers if not isinstance(layer, outer)]
    for tensor in keras.tree.flatten(inputs):
        source, _, output = tensor._keras_history
        is_picture = isinstance(source, keras.layers.InputLayer)
        if len(tensor.shape) == len(network.input_shape) and not is_picture:
            name = source.name
            if isinstance(source, keras.Model):
                name += f"/{source.outputs[output]._keras_history.operation.name}"
            found[indices[source.name], output] = LayerMap(name, tensor)
    return [found[key] for key in sorted(found)]


def encoder_maps(network: keras.Model) -> list[LayerMap]:
    """One map a level on the way down, finest first; the last one is the bottleneck.

    The bottleneck is the widest map, of equally wide ones the last, on the coarsest grid that still has
    several positions: maps of a single one are means over the picture. The levels before it are chosen in
    the same way, on each finer grid, from the maps that it is computed from. Raises InputError where there
    is nothing in space between the picture and the answer.
    """
    maps = [each for each in layer_maps(network) if math.prod(each.grid) > 1]
    if not maps:
        problem = "has no map in space between its picture and its answer."
        raise InputError(network.name, problem, "Choose a network that outlines.")
    coarsest = min((each.grid for each in maps), key=math.prod)
    bottleneck = _widest([each for each in maps if each.grid == coarsest])
    on_the_way = {layer.name for layer in keras.Model(network.inputs, bottleneck.tensor).layers}
    levels: dict[tuple[int, ...], list[LayerMap]] = {}
    for each in maps:
        if each.name.split("/")[0] in on_the_way:
            levels.setdefault(each.grid, []).append(each)
    return [_widest(level) for level in levels.values()]


def find_map(network: keras.Model, name: str | None) -> LayerMap:
    """The map called `name`, or the bottleneck. Raises InputError where the network has no such map."""
    if name is None:
        return encoder_maps(network)[-1]
    maps = {each.name: each for each in layer_maps(network)}
    if name not in maps:
        raise InputError(network.name, f"has no map called {name}.", f"It has {', '.join(maps)}.")
    return maps[name]


def _widest(maps: Sequence[LayerMap]) -> LayerMap:
    return max(reversed(maps), key=lambda each: each.tensor.shape[-1])


CERTAIN = 1e-7  # probabilities this near to 0 or 1 have no gradient in float32: those pixels do not count


def seg_grad_cam(
    network: keras.Model,
    images: np.ndarray,
    region: np.ndarray,
    channel: int = 0,
    layer: str | None = None,
    signed: bool = False,
) -> np.ndarray:
    """Map float32 of the pictures' size, (B, H, W) or (B, D, H, W): 0 to 1, the highest in each picture 1.

    images: float32 (B, H, W, C) in [0, 1], or blocks (B, D, H, W, C); region: bool without the channels, the
    pixels asked about; channel: the structure, in the order of the network's output; layer: one of
    `layer_maps`, None is the bottleneck; signed: keep what speaks against the structure, so that the map is
    -1 to 1, the largest size 1.

    The features of the layer are summed, each weighed by the mean gradient of the region's logits; what is
    negative is cut off. 0 everywhere where the region is empty or nothing speaks for the structure.
    Raises InputError for a layer that is not there.
    """
    tensor = find_map(network, layer).tensor
    twin = keras.Model(network.inputs, [tensor, network.outputs[0]])

    def score(added):
        with _added_to(tensor, added):
            features, answer = twin([images], training=False)
        return ops.sum(ops.cast(region, "float32") * logits(network, answer)[..., channel]), features

    slopes, features = gradient(score, ops.zeros((len(images), *tensor.shape[1:]), tensor.dtype))
    weights = ops.mean(slopes, tuple(range(1, images.ndim - 1)), keepdims=True)
    maps = ops.convert_to_numpy(ops.sum(ops.cast(weights * features, "float32"), -1))
    return np.stack([_enlarged(each if signed else np.maximum(each, 0), region.shape[1:]) for each in maps])


@contextmanager
def _added_to(tensor: keras.KerasTensor, added) -> Iterator[None]:
    """In this context the layer that makes `tensor` gives so much more: not every backend has gradients by
    what lies within a network, but each has those by what is put in."""
    layer, _, output = tensor._keras_history
    while isinstance(layer, keras.Model):  # what the network within goes on from grows as well
        layer, _, output = layer.outputs[output]._keras_history
    call = layer.call
    layer.call = lambda *inputs, **options: call(*inputs, **options) + added
    try:
        yield
    finally:
        del layer.call


def logits(network: keras.Model, answer):
    """What a network answers, before its sigmoid; as it is where the answer is linear. By the inverse of the
    sigmoid, so that networks whose answer is a mean of several heads have logits too."""
    if getattr(network.layers[-1], "activation", None) is keras.activations.linear:
        return answer
    clipped = ops.clip(answer, CERTAIN, 1 - CERTAIN)
    return ops.log(clipped) - ops.log(1 - clipped)


def _enlarged(small: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """A map at another size, linearly, pixels being little areas; its largest size becomes 1."""
    factors = np.divide(shape, small.shape)
    large = ndimage.zoom(small, factors, order=1, mode="nearest", grid_mode=True)
    highest = np.abs(large).max()
    return large / highest if highest > 0 else large


def occlusion_drops(
    network: keras.Model,
    picture: np.ndarray,
    region: np.ndarray,
    patch: Sequence[int],
    stride: Sequence[int],
    channel: int = 0,
    fill: np.ndarray | None = None,
) -> np.ndarray:
    """How far the mean probability in `region` falls when a place is covered: float32 (H, W), or (D, H, W).

    picture: uint8 (H, W, C), or a block (D, H, W, C); region: bool without the channels; patch, stride:
    pixels along each axis (`pixels_of`); fill: grey of the patch, (C,), 0 to 255, None is the picture's mean.
    A pixel has the mean over the patches that cover it, -1 to 1; below 0 the answer grows without it. NaN
    where no patch covers it, and where the region is empty. The network is asked once a patch, in batches.
    """
    if not region.any():
        return np.full(region.shape, np.nan, np.float32)
    fill = picture.mean(axis=tuple(range(region.ndim))) if fill is None else fill
    boxes = patch_boxes(region.shape, patch, stride)

    def covered(box: tuple[slice, ...]) -> np.ndarray:
        shown = picture.copy()
        shown[box] = np.rint(fill)
        return shown

    predictions = chain.from_iterable(predict_batches(network, chain([picture], map(covered, boxes))))
    means = (float(prediction[region, channel].mean()) for prediction in predictions)
    whole, (total, count) = next(means), np.zeros((2, *region.shape))
    for box, mean in zip(boxes, means, strict=True):
        total[box] += whole - mean
        count[box] += 1
    return (total / count).astype(np.float32)


def patch_boxes(shape: Sequence[int], patch: Sequence[int], stride: Sequence[int]) -> list[tuple[slice, ...]]:
    """Boxes of `patch` pixels, a step of `stride` apart, that cover all of `shape`; cut at its end."""
    sides = [
        [slice(start, min(start + size, side)) for start in range(0, max(1, side - size + step), step)]
        for side, size, step in zip(shape, patch, stride, strict=True)
    ]
    return list(product(*sides))


def pixels_of(size_mm: float, pixel_mm: Sequence[float]) -> tuple[int, ...]:
    """The whole pixels nearest to `size_mm` along each axis, at least one. Raises InputError where a pixel's
    size is unknown (NaN)."""
    if not np.isfinite(pixel_mm).all():
        problem = "has no known size, and patches are millimetres."
        raise InputError("picture", problem, "Give the patch in pixels.")
    return tuple(max(1, round(size_mm / step)) for step in pixel_mm)


class Randomized(NamedTuple):
    """A network whose last layers are random."""

    count: int  # how many of the layers with weights
    layer: str  # the one randomized last; "" where none is
    network: keras.Model  # a copy that the next step changes further


def randomize_from_output(network: keras.Model, seed: int) -> Iterator[Randomized]:
    """`network` as it is, then with its last layer random, its last two, ..., all of them.

    Random are the weights that the layers would start a training with, moving averages included. `network`
    keeps its own: what comes is one copy, changed from step to step.
    """
    copy = keras.models.clone_model(network)
    copy.set_weights(network.get_weights())
    fresh = _freshly_initialized(network, seed)
    yield Randomized(0, "", copy)
    for count, (layer, start) in enumerate(zip(_last_first(copy), _last_first(fresh), strict=True), 1):
        layer.set_weights(start.get_weights())
        yield Randomized(count, layer.name, copy)


def count_layers(network: keras.Model) -> int:
    """Layers with weights, those of a network within it one by one."""
    return len(_last_first(network))


def _last_first(network: keras.Model) -> list[keras.layers.Layer]:
    """Those layers from the output on."""
    layers = reversed([layer for layer in network.layers if layer.weights])
    return [each for one in layers for each in (_last_first(one) if isinstance(one, keras.Model) else [one])]


def _freshly_initialized(network: keras.Model, seed: int) -> keras.Model:
    """A twin with the weights that a training would start from, by `seed` alone."""

    def seeded(layer: keras.layers.Layer) -> keras.layers.Layer:
        config = layer.get_config()
        for key, value in config.items():
            if key.endswith("_initializer") and "seed" in (value or {}).get("config", {}):
                value["config"]["seed"] = derived_seed(seed, layer.name, key)
        return type(layer).from_config(config)

    return keras.models.clone_model(network, clone_function=seeded, recursive=True)


@dataclass(frozen=True)
class Uncertainty:
    """Maps float32 of the answers' shape, (..., H, W, K)."""

    mean: np.ndarray  # probability, 0 to 1
    deviation: np.ndarray  # standard deviation of the answers, 0 to 0.5: 0 where all say the same

    @property
    def entropy(self) -> np.ndarray:
        """Predictive entropy of the mean, in bits, 0 to 1: also where one answer by itself is undecided."""
        return predictive_entropy(self.mean)


def over_variants(predict: Predict, images: np.ndarray, names: Sequence[str]) -> Uncertainty:
    """Spread over the variants called `names` and the picture as it is (`variants.VARIANTS`).

    images: float32 (..., H, W, C) in [0, 1]. At the border only those variants count that reach there.
    Raises InputError for an unknown name.
    """
    return _spread(predict_variants(predict, images, choose_variants(names)))


def over_models(answers: Iterable[np.ndarray]) -> Uncertainty:
    """Spread over the answers of one network or more to one picture, float (..., H, W, K); one at a time in
    memory. What leaves 0 to 1 is clipped."""
    return _spread((np.clip(answer, 0, 1), np.ones((1, 1, 1), np.float32)) for answer in answers)


def _spread(answers: Iterable[tuple[np.ndarray, np.ndarray]]) -> Uncertainty:
    """Of (answer, weight): the answer is 0 where its weight is. Deviations are summed around the first
    answer, so that no digits are lost where all are nearly equal."""
    first, total, squares, weights = None, 0.0, 0.0, 0.0
    for answer, weight in answers:
        first = answer if first is None else first
        difference = answer - weight * first
        total, weights = total + difference, weights + weight
        squares = squares + np.divide(difference**2, weight, out=np.zeros_like(difference), where=weight > 0)
    shift = total / weights
    variance = np.maximum(squares / weights - shift**2, 0)
    return Uncertainty(np.float32(first + shift), np.sqrt(variance, dtype=np.float32))
