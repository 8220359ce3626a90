"""Occlusion of networks whose answer hangs on known pixels."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers

from livseg_lib.errors import InputError
from livseg_lib.inference.explain import covered, occlusion_drops, patch_boxes, pixels_of


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


def test_larger_patches_spread_it_over_all_that_cover_the_pixel():
    picture = np.full((6, 6, 1), 255, np.uint8)
    region = np.zeros((6, 6), bool)
    region[0, 0] = True
    drops = occlusion_drops(same_as_picture((6, 6, 1)), picture, region, (2, 2), (1, 1), fill=np.zeros(1))
    np.testing.assert_allclose(drops[:2, :2], [[1, 0.5], [0.5, 0.25]], atol=1e-6)
    assert not drops[2:].any() and not drops[:, 2:].any()


def test_what_speaks_against_is_below_zero():
    picture = np.zeros((4, 4, 1), np.uint8)
    region = np.ones((4, 4), bool)
    drops = occlusion_drops(same_as_picture((4, 4, 1)), picture, region, (4, 4), (4, 4), fill=np.full(1, 51))
    np.testing.assert_allclose(drops, -0.2, atol=1e-6)


def test_blocks_of_slices_are_covered_in_depth_too():
    block = np.full((3, 4, 4, 1), 255, np.uint8)
    region = np.zeros((3, 4, 4), bool)
    region[1, 2, 2] = True
    patch = (1, 2, 2)
    drops = occlusion_drops(same_as_picture(block.shape), block, region, patch, patch, fill=np.zeros(1))
    assert drops[1, 2:, 2:].min() == 1 and drops.sum() == 4


def test_the_mean_of_the_picture_covers_an_even_one_without_loss():
    picture = np.full((4, 4, 3), 90, np.uint8)
    drops = occlusion_drops(same_as_picture((4, 4, 3)), picture, np.ones((4, 4), bool), (2, 2), (2, 2))
    assert not drops.any()


def test_nothing_asked_about_is_undefined_and_gaps_are_refused():
    network, picture = same_as_picture((4, 4, 1)), np.zeros((4, 4, 1), np.uint8)
    assert np.isnan(occlusion_drops(network, picture, np.zeros((4, 4), bool), (2, 2), (2, 2))).all()
    with pytest.raises(InputError, match="leave gaps"):
        occlusion_drops(network, picture, np.ones((4, 4), bool), (2, 2), (2, 3))


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


def test_covering_leaves_the_picture_itself_alone():
    picture = np.zeros((4, 4, 2), np.uint8)
    changed = covered(picture, (slice(0, 2), slice(1, 3)), np.array([9.6, 3.0]))
    assert not picture.any() and changed[0, 1].tolist() == [10, 3] and changed.sum() == 4 * 13


def test_millimetres_become_pixels_and_unknown_ones_are_refused():
    assert pixels_of(20, (2.5, 4.0)) == (8, 5)
    assert pixels_of(0.1, (2.5, 4.0)) == (1, 1)
    with pytest.raises(InputError, match="no known size"):
        pixels_of(20, (np.nan, np.nan))
