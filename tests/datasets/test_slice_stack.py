from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from livseg_lib.datasets.dicom_headers import SliceHeader
from livseg_lib.datasets.slice_stack import gaps, jitter_note, order_slices, slices_at_one_place, stack_affine
from livseg_lib.errors import InputError

AXIAL = np.array([[1.0, 0, 0], [0, 1.0, 0]])


def slice_at(position_mm, name="", directions=AXIAL, shape=(6, 7), thickness_mm=2.0) -> SliceHeader:
    position = np.array(position_mm, dtype=float)
    return SliceHeader(
        name or str(position_mm), "1", "2", 3, shape, position, directions, (0.5, 0.75), thickness_mm
    )


@given(st.integers(4, 60), st.floats(0.3, 8.0), st.floats(-2000, 2000), st.data())
def test_every_gap_is_found(count, step_mm, start_mm, data):
    lost = data.draw(st.integers(1, count - 2))
    heights = [start_mm + step_mm * k for k in range(count) if k != lost]
    expected = [2.0 if k == lost - 1 else 1.0 for k in range(count - 2)]
    assert gaps(heights[::-1]) == pytest.approx(expected, rel=1e-6)


def test_hand_values():
    assert gaps([0, 1, 2, 5, 6]).tolist() == [1, 1, 3, 1]
    assert gaps([0, 2, 4, 6, 7]).tolist() == [1, 1, 1, 0.5]
    assert gaps([7.0]).tolist() == gaps([]).tolist() == []


def axial(*heights, **more):
    return [slice_at((0, 0, z), f"s{k}", **more) for k, z in enumerate(heights)]


def test_missing_slices_are_named_by_their_place():
    with pytest.raises(InputError, match=r"^x: 2 of 7 slices are missing, at 3\.0, 4\.0 mm\.") as caught:
        order_slices(axial(0, 1, 2, 5, 6), "x")
    assert caught.value.code == "missing-slices"


@pytest.mark.parametrize("far", [1e4, 1e8, 9e8])
def test_a_slice_far_away_is_a_wrong_position_and_costs_nothing(far):
    with pytest.raises(InputError, match=r"s23 and s24 lie .* mm apart, other slices 5 mm") as caught:
        order_slices(axial(*(5.0 * k for k in range(24)), far), "x")
    assert len(str(caught.value)) < 250


@pytest.mark.parametrize(
    ("heights", "where"),
    [
        ([0, 5, 10, 15, 20, 22.5], "2.5 mm between s4 and s5"),
        ([0, 2.5, 7.5, 12.5, 17.5, 22.5], "2.5 mm between s0 and s1"),
        ([0, 5, 10, 17.5, 22.5, 27.5], "7.5 mm between s2 and s3"),
        ([0, 5, 10, 10.5, 15, 20, 25], "0.5 mm between s2 and s3"),
    ],
)
def test_a_step_of_another_length_is_named_and_nothing_is_called_missing(heights, where):
    with pytest.raises(InputError, match=f"not evenly spaced: 5 mm apart, but .*{where}") as caught:
        order_slices(axial(*heights), "x")
    assert "missing" not in str(caught.value)


@pytest.mark.parametrize("step_mm", [1.25, 1.5, 2.5, 3.75])
@pytest.mark.parametrize("declared", [True, False])
def test_positions_rounded_to_whole_mm_are_an_even_stack(step_mm, declared):
    heights = np.floor(step_mm * np.arange(24) + 0.5)
    ordered = order_slices(axial(*heights, thickness_mm=step_mm if declared else 7.0), "x")
    assert stack_affine(ordered, "x")[2, 2] == pytest.approx(step_mm, rel=1e-9 if declared else 0.01)
    assert "rounded to whole mm" in jitter_note(ordered)


def test_a_lost_slice_of_whole_mm_is_no_rounding():
    for lost in ([3], [9], [3, 9], [4, 8, 12, 16]):
        heights = [k for k in range(20) if k not in lost]
        with pytest.raises(InputError, match=f"{len(lost)} of 20 slices are missing"):
            order_slices(axial(*heights, thickness_mm=1.0), "x")


def test_jitter_is_no_gap_and_is_said():
    ordered = order_slices(axial(0, 2.1, 4.0, 6.05), "x")
    assert jitter_note(ordered) == ""
    assert "up to 0.4" in jitter_note(order_slices(axial(0, 2.4, 4.0, 6.0), "x"))


def test_copies_share_a_place_and_neighbours_at_one_height_are_refused():
    places = slices_at_one_place(
        [slice_at((0, 0, z), name) for z, name in ((2, "b"), (0, "c"), (2, "a"))], "x"
    )
    assert [[one.name for one in place] for place in places] == [["c"], ["a", "b"]]
    with pytest.raises(InputError, match="a and b lie beside each other"):
        slices_at_one_place([slice_at((0, 0, 1), "a"), slice_at((40, 0, 1), "b")], "x")


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
