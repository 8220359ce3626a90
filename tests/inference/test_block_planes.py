"""Overlapping blocks: blended they are one volume, whatever its length, in the memory of a block."""

from __future__ import annotations

import tracemalloc

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from livseg_lib.errors import InputError
from livseg_lib.inference.predict import (
    blend_blocks,
    blend_window,
    predict_blocks,
    predict_planes,
    stream_blocks,
)
from livseg_lib.sampling.blocks import cover_blocks

DEPTH, SIZE = 8, 4


class StandIn:
    """Answers like a network of blocks of DEPTH slices, by `answer` of images float32 (1, DEPTH, ...)."""

    input_shape, output_shape = (None, DEPTH, SIZE, SIZE, 1), (None, DEPTH, SIZE, SIZE, 2)

    def __init__(self, answer):
        self.answer, self.shapes = answer, []

    def predict_on_batch(self, images):
        assert images.dtype == np.float32
        self.shapes.append(images.shape)
        return np.repeat(self.answer(images), 2, axis=-1)


def numbered(count: int) -> np.ndarray:
    """Pictures uint8 (count, SIZE, SIZE, 1), each of one grey: its number."""
    greys = np.arange(count, dtype=np.uint8)[:, None, None, None]
    return np.broadcast_to(greys, (count, SIZE, SIZE, 1))


@pytest.mark.parametrize("count", [0, 1, 5, 8, 9, 12, 40, 201])
@pytest.mark.parametrize("overlap", [None, 0, 3, 7])
def test_what_each_slice_answers_by_itself_comes_back_in_its_place(count, overlap):
    network = StandIn(lambda images: images)
    planes = predict_blocks(network, iter(numbered(count)), count, overlap)
    assert planes.shape == (count, SIZE, SIZE, 2) and planes.dtype == np.uint8
    np.testing.assert_array_equal(planes, np.repeat(numbered(count), 2, axis=-1))
    assert set(network.shapes) <= {(1, DEPTH, SIZE, SIZE, 1)}


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 60), st.integers(0, 7), st.integers(0, 255))
def test_constant_in_constant_out(count, overlap, grey):
    network = StandIn(lambda images: np.full_like(images, grey / 255))
    planes = predict_blocks(network, numbered(count), count, overlap)
    assert (planes == grey).all()


@pytest.mark.parametrize(("answer", "level"), [(1.004, 255), (1 + 1e-7, 255), (-0.01, 0), (-1e-7, 0)])
def test_what_rounding_takes_out_of_0_to_1_is_brought_back(answer, level):
    network = StandIn(lambda images: np.full_like(images, answer))
    assert (predict_blocks(network, numbered(12), 12) == level).all()  # 1.004 * 255 is 256: 0 in eight bits
    flat = StandIn(lambda images: np.full_like(images, answer))
    flat.output_shape = (None, SIZE, SIZE, 2)
    assert (predict_planes(flat, numbered(12)) == level).all()


def test_a_network_that_answers_nan_is_refused():
    network = StandIn(lambda images: np.full_like(images, np.nan))
    with pytest.raises(InputError, match="not all between 0 and 1"):
        predict_blocks(network, numbered(12), 12)
    with pytest.raises(InputError, match="not all between 0 and 1"):
        predict_planes(network, numbered(12))


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 40), st.integers(0, 11), st.integers(12, 60), st.integers(0, 2**32 - 1))
def test_a_slice_is_the_weighted_mean_of_its_blocks(depth, overlap, n_slices, seed):
    overlap = min(overlap, depth - 1)
    generator = np.random.default_rng(seed)
    answers = [
        (start, generator.random((depth, 2), np.float32))
        for start in cover_blocks(range(n_slices), n_slices, depth, overlap)
    ]
    total, weight = np.zeros((n_slices + depth, 2)), np.zeros((n_slices + depth, 1))
    for start, answer in answers:
        total[start : start + depth] += blend_window(depth)[:, None] * answer
        weight[start : start + depth] += blend_window(depth)[:, None]
    stretches = list(blend_blocks(answers, depth))
    found = np.concatenate([slices for _, slices in stretches])
    np.testing.assert_allclose(found, (total / np.maximum(weight, 1e-9))[: len(found)], rtol=1e-4)
    firsts = np.cumsum([0] + [len(slices) for _, slices in stretches])[:-1]
    assert [start for start, _ in stretches] == firsts.tolist() and len(found) >= n_slices


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 70), st.integers(0, 30), st.integers(1, 150))
def test_weights_sum_to_one_everywhere(depth, overlap, n_slices):
    overlap = min(overlap, depth - 1)
    starts = cover_blocks(range(n_slices), n_slices, depth, overlap)
    # Each block answers 1 in a channel of its own: what comes out are the weights.
    answers = [
        (s, np.tile(np.eye(len(starts), dtype=np.float32)[i], (depth, 1))) for i, s in enumerate(starts)
    ]
    weights = np.concatenate([slices for _, slices in blend_blocks(answers, depth)])[:n_slices]
    np.testing.assert_allclose(weights.sum(axis=1), 1, rtol=1e-5)
    assert (weights >= 0).all()


def test_where_blocks_differ_the_seam_is_smooth_and_each_rules_its_middle():
    answers = [(0, np.zeros((DEPTH, 1), np.float32)), (4, np.ones((DEPTH, 1), np.float32))]
    blended = np.concatenate([slices for _, slices in blend_blocks(answers, DEPTH)])[:, 0]
    assert (blended[:4] == 0).all() and (blended[8:] == 1).all()
    # Raised cosines that overlap by half add up to one by themselves.
    np.testing.assert_allclose(blended[4:8], np.sin(np.pi * (np.arange(4) + 0.5) / 8) ** 2, rtol=1e-5)


def test_only_blocks_of_the_liver_are_looked_at():
    taken = []

    def stream():
        for number, picture in enumerate(numbered(100)):
            taken.append(number)
            yield picture

    network = StandIn(lambda images: images)
    planes = predict_blocks(network, stream(), 100, liver=range(40, 46))
    assert len(network.shapes) == 1 and taken[-1] == 46  # slices above the liver are not even made
    assert np.flatnonzero(planes.any(axis=(1, 2, 3))).tolist() == list(range(39, 47))
    nothing = predict_blocks(network, stream(), 100, liver=range(0))
    assert len(network.shapes) == 1 and nothing.shape == planes.shape and not nothing.any()


def test_a_short_volume_is_filled_up_with_its_last_slice():
    (start, block), *further = stream_blocks(numbered(3), [0], 3, DEPTH)
    assert start == 0 and not further
    assert block[:, 0, 0, 0].tolist() == [0, 1, 2, 2, 2, 2, 2, 2]


def test_a_stream_that_ends_early_is_no_answer():
    with pytest.raises(ValueError, match="after 9 of 20"):
        predict_blocks(StandIn(lambda images: images), iter(numbered(9)), 20)


def test_a_long_volume_streams_through_the_memory_of_a_block():
    stream = (np.full((64, 64, 1), number % 251, np.uint8) for number in range(1000))

    class Large(StandIn):
        input_shape, output_shape = (None, DEPTH, 64, 64, 1), (None, DEPTH, 64, 64, 2)

    tracemalloc.start()
    planes = predict_blocks(Large(lambda images: images), stream, 1000)
    kept, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (planes[:, 0, 0, 0] == np.arange(1000) % 251).all()
    one_block = DEPTH * 64 * 64 * 2 * 4
    assert kept >= planes.nbytes and peak < planes.nbytes + 12 * one_block  # all pictures: 16 blocks


def test_a_network_is_compiled_once_and_its_blocks_see_their_neighbours():
    traces = []

    class Traced(keras.layers.Layer):
        def call(self, images):
            traces.append(images.shape)
            return images

    inputs = keras.Input((DEPTH, SIZE, SIZE, 1))
    mean_of_three = keras.layers.Conv3D(1, (3, 1, 1), padding="same", use_bias=False)
    network = keras.Model(inputs, mean_of_three(Traced()(inputs)))
    mean_of_three.set_weights([np.full((3, 1, 1, 1, 1), 1 / 3, np.float32)])
    pictures = np.random.default_rng(0).integers(0, 256, (30, SIZE, SIZE, 1), np.uint8)
    predict_blocks(network, pictures[:3], 3)
    before = len(traces)
    planes = predict_blocks(network, pictures, 30, overlap=6)
    assert len(traces) == before
    inner = (pictures[:-2].astype(float) + pictures[1:-1] + pictures[2:]) / 3
    # Near the ends of a block its zero padding shows; the window lets little of that through.
    assert np.abs(planes[1:-1] - inner).max() < 30 and np.abs(planes[1:-1] - inner).mean() < 4


def test_blocks_share_a_quarter_where_nothing_else_is_asked():
    network = StandIn(lambda images: images)
    predict_blocks(network, numbered(14), 14)
    assert len(network.shapes) == 2  # 8 and 8 slices with 2 in common
    predict_blocks(network, numbered(15), 15)
    assert len(network.shapes) == 2 + 3
