from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from livseg_lib.datasets.dicom_headers import SliceHeader
from livseg_lib.datasets.slice_stack import missing_slices, order_slices, stack_affine
from livseg_lib.errors import InputError

AXIAL = np.array([[1.0, 0, 0], [0, 1.0, 0]])


def slice_at(position_mm, name="", directions=AXIAL, shape=(6, 7), thickness_mm=2.0) -> SliceHeader:
    position = np.array(position_mm, dtype=float)
    return SliceHeader(
        name or str(position_mm), "1", "2", 3, shape, position, directions, (0.5, 0.75), thickness_mm
    )


@given(
    st.integers(3, 60),
    st.floats(0.3, 8.0),
    st.floats(-2000, 2000),
    st.data(),
)
def test_every_gap_is_found(count, step_mm, start_mm, data):
    inner = st.integers(2, count - 1) if count > 3 else st.nothing()
    lost = data.draw(st.sets(inner, max_size=count // 2)) if count > 3 else set()
    positions = [start_mm + step_mm * k for k in range(count + 1) if k not in lost]  # 0 and 1 show the step
    expected = sorted(start_mm + step_mm * k for k in lost)
    assert missing_slices(positions[::-1]) == pytest.approx(expected, abs=1e-6)


def test_hand_values():
    assert missing_slices([0, 1, 2, 5, 6]) == [3, 4]
    assert missing_slices([0, 2.1, 4.0, 6.05]) == []  # jitter is no gap
    assert missing_slices([7.0]) == []
    assert missing_slices([]) == []


def test_slices_at_one_place_are_an_error():
    with pytest.raises(InputError, match="Slices a and b lie at the same place"):
        order_slices([slice_at((0, 0, 1), "a"), slice_at((0, 0, 0)), slice_at((0, 0, 1), "b")], "x")


@pytest.mark.parametrize("other", [{"shape": (6, 8)}, {"directions": AXIAL[::-1]}])
def test_slices_of_another_grid_are_an_error(other):
    with pytest.raises(InputError, match="differ in size, spacing or direction"):
        order_slices([slice_at((0, 0, 0)), slice_at((0, 0, 1), **other)], "x")


def test_order_is_along_the_normal_not_along_z():
    oblique = np.array([[1.0, 0, 0], [0, 0.6, 0.8]])
    normal = np.cross(*oblique)
    ordered = order_slices([slice_at(k * normal, str(k), oblique) for k in (3, 0, 2, 1)], "x")
    assert [one.name for one in ordered] == ["0", "1", "2", "3"]
    affine = stack_affine(ordered, "x")
    np.testing.assert_allclose(np.linalg.norm(affine[:3, :3], axis=0), (0.75, 0.5, 1.0))


def test_gantry_tilt_is_an_error():
    tilted = [slice_at((0, 0.3 * k, k)) for k in range(4)]
    with pytest.raises(InputError, match=r"tilted by 16\.7 degrees"):
        stack_affine(tilted, "x")


def test_uneven_slices_are_an_error():
    uneven = [slice_at((0, 0, z)) for z in (0.0, 1.0, 2.0, 3.4, 4.8)]
    with pytest.raises(InputError, match="not evenly spaced"):
        stack_affine(order_slices(uneven, "x"), "x")


def test_a_single_slice_is_as_deep_as_it_is_thick():
    np.testing.assert_array_equal(stack_affine([slice_at((0, 0, 5))], "x")[:3, 2], (0, 0, 2))
    with pytest.raises(InputError, match="without a thickness"):
        stack_affine([slice_at((0, 0, 5), thickness_mm=None)], "x")


def test_directions_that_span_no_space_are_an_error():
    flat = np.array([[1.0, 0, 0], [1.0, 0, 0]])
    with pytest.raises(InputError, match="span no space"):
        stack_affine([slice_at((0, 0, 5), directions=flat)], "x")
