from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from livseg_lib.postprocessing import components as c

masks = arrays(bool, st.tuples(*[st.integers(1, 6)] * 3))


@settings(max_examples=60, deadline=None)
@given(masks, st.sampled_from("CF"))
def test_ids_are_those_of_scipy_whatever_the_memory_layout(mask, order):
    expected, expected_count = ndimage.label(mask)
    found, count = c.label_components(np.asarray(mask, order=order))
    assert count == expected_count
    np.testing.assert_array_equal(found, expected)


def test_corner_and_edge_neighbours_are_not_connected():
    mask = np.zeros((2, 2, 2), bool)
    mask[0, 0, 0] = mask[0, 1, 1] = mask[1, 1, 0] = True
    assert c.label_components(mask)[1] == 3


def two_blocks() -> np.ndarray:
    mask = np.zeros((6, 10, 10), bool)
    mask[1:3, 1:3, 1:3] = True  # 8 voxels
    mask[3:5, 5:8, 5:8] = True  # 18 voxels
    return mask


def test_largest_component_keeps_the_one_with_most_voxels():
    largest = c.largest_component(two_blocks())
    assert largest.sum() == 18 and largest[3, 5, 5] and not largest[1, 1, 1]


def test_largest_component_of_equals_is_the_first():
    mask = np.zeros((1, 1, 5), bool)
    mask[0, 0, [1, 3]] = True
    np.testing.assert_array_equal(np.flatnonzero(c.largest_component(mask)), [1])


@pytest.mark.parametrize(
    ("min_volume_ml", "voxels_left"), [(0.0, 26), (0.8, 26), (0.81, 18), (1.8, 18), (2, 0)]
)
def test_small_components_go_by_millilitres(min_volume_ml, voxels_left):
    # Voxels of 0.1 ml: blocks of 0.8 and 1.8 ml. A block of just that size stays.
    assert c.remove_small_components(two_blocks(), min_volume_ml, 0.1).sum() == voxels_left


@settings(max_examples=60, deadline=None)
@given(masks)
def test_fill_holes_agrees_with_scipy(mask):
    np.testing.assert_array_equal(c.fill_holes(mask), ndimage.binary_fill_holes(mask))


def test_fill_holes_closes_a_cavity_but_not_a_tunnel_to_the_edge():
    shell = np.ones((5, 5, 5), bool)
    shell[2, 2, 2] = False
    assert c.fill_holes(shell).all()
    shell[2, 2, 3:] = False
    np.testing.assert_array_equal(c.fill_holes(shell), shell)


STEPS = {
    "largest_component": c.largest_component,
    "remove_small_components": lambda mask: c.remove_small_components(mask, 0.5, 0.1),
    "fill_holes": c.fill_holes,
}


@pytest.mark.parametrize("step", STEPS.values(), ids=STEPS)
def test_empty_stays_empty_and_the_input_is_left_alone(step):
    empty = np.zeros((3, 4, 5), bool)
    result = step(empty)
    assert result.dtype == bool and result.shape == empty.shape and not result.any()
    mask, before = two_blocks(), two_blocks()
    assert step(mask) is not mask
    np.testing.assert_array_equal(mask, before)
