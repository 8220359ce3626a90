"""Slices in space: their order, what is missing between them, and the affine of the stack."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from livseg_lib.datasets.dicom_headers import SliceHeader
from livseg_lib.datasets.dicom_slices import slices_at_one_place, stack_slices
from livseg_lib.errors import InputError

AXIAL = np.array([[1.0, 0, 0], [0, 1.0, 0]])


def slice_at(position_mm, name="", directions=AXIAL, shape=(6, 7), thickness_mm=2.0) -> SliceHeader:
    position = np.array(position_mm, dtype=float)
    place = shape, position, directions, (0.5, 0.75), thickness_mm
    return SliceHeader(name or str(position_mm), "1", "2", 3, *place)


def axial(*heights, **more):
    return [slice_at((0, 0, z), f"s{k}", **more) for k, z in enumerate(heights)]


@given(st.integers(5, 60), st.floats(0.3, 8.0), st.floats(-2000, 2000), st.data())
def test_every_gap_is_found(count, step_mm, start_mm, data):
    lost = data.draw(st.integers(1, count - 2))
    heights = [start_mm + step_mm * k for k in range(count) if k != lost]
    with pytest.raises(InputError, match=f"1 of {count} slices are missing") as caught:
        stack_slices(axial(*heights[::-1], thickness_mm=step_mm), "x")
    said = float(str(caught.value).partition("at ")[2].split()[0])
    assert said == pytest.approx(start_mm + step_mm * lost, abs=0.06)


@pytest.mark.parametrize(
    ("slices", "said"),
    [
        (axial(0, 1, 2, 5, 6), r"^x: 2 of 7 slices are missing, at 3\.0, 4\.0 mm\."),
        (axial(0, 1, 2, 4, 6), r"^x: 2 of 7 slices are missing, at 3\.0, 5\.0 mm\."),  # the shorter step
        # A step next to whole mm, and one lost: no rounding, which would take 500 slices, or 10, to show.
        (axial(0, 2.004, 3.006, 4.008, thickness_mm=1.002), r"1 of 5 slices are missing, at 1\.0 mm"),
        (axial(0, 1, 3, 4, thickness_mm=1.1), r"1 of 5 slices are missing, at 2\.0 mm"),
        *(
            (axial(*(5.0 * k for k in range(24)), far), r"s23 and s24 lie .* mm apart, other slices 5 mm")
            for far in (1e4, 9e8)
        ),
        (axial(0, 5, 10, 15, 20, 22.5), "evenly spaced: 5 mm apart, but .*2.5 mm between s4 and s5"),
        (axial(0, 2.5, 7.5, 12.5, 17.5, 22.5), "evenly spaced: 5 mm apart, but .*2.5 mm between s0 and s1"),
        (axial(0, 5, 10, 17.5, 22.5, 27.5), "evenly spaced: 5 mm apart, but .*7.5 mm between s2 and s3"),
        (axial(0, 5, 10, 10.5, 15, 20, 25), "evenly spaced: 5 mm apart, but .*0.5 mm between s2 and s3"),
        (axial(0.0, 1.0, 2.0, 3.4, 4.8), "not evenly spaced"),
        (axial(*range(0, 40, 5), *np.arange(37.5, 60, 2.5)), "evenly spaced: 2.5 mm apart, but 5 mm between"),
        (axial(*range(7), *(6 + 1.2 * k for k in range(1, 7))), "not evenly spaced"),  # little by little
        ([slice_at((0, 0.3 * k, k)) for k in range(4)], r"tilted by 16\.7 degrees"),
        ([slice_at((0, 0, 1), "a"), slice_at((40, 0, 1), "b")], "a and b lie beside each other"),
        ([slice_at((0, 0, 0)), slice_at((0, 0, 1), shape=(6, 8))], "differ in size, spacing or direction"),
        ([slice_at((0, 0, 0)), slice_at((0, 0, 1), directions=AXIAL[::-1])], "differ in size"),
        (axial(5, thickness_mm=None), "without a thickness"),
    ],
)
def test_what_is_no_even_stack_is_said_with_its_place_in_a_line(slices, said):
    with pytest.raises(InputError, match=said) as caught:
        stack_slices(slices, "x")
    assert len(str(caught.value)) < 250
    assert (caught.value.code == "missing-slices") == ("missing" in str(caught.value))


@pytest.mark.parametrize("step_mm", [1.25, 1.5, 2.5, 3.75])
@pytest.mark.parametrize(("declared", "to_even"), [(True, True), (True, False), (False, False)])
def test_positions_rounded_to_whole_mm_are_an_even_stack(step_mm, declared, to_even):
    exact = step_mm * np.arange(24)
    heights = np.rint(exact) if to_even else np.floor(exact + 0.5)
    stack = stack_slices(axial(*heights, thickness_mm=step_mm if declared else 7.0), "x")
    assert stack.affine[2, 2] == pytest.approx(step_mm, rel=1e-9 if declared else 0.01)
    assert "rounded to whole mm" in stack.note


@pytest.mark.parametrize("lost", [[3], [9], [3, 9], [4, 8, 12, 16]])
def test_a_lost_slice_of_whole_mm_is_no_rounding(lost):
    heights = [k for k in range(20) if k not in lost]
    with pytest.raises(InputError, match=f"{len(lost)} of 20 slices are missing"):
        stack_slices(axial(*heights, thickness_mm=1.0), "x")


@settings(max_examples=60)
@given(st.sampled_from([1.0, 1.002, 1.25, 1.5, 2.5]), st.integers(6, 40), st.data())
def test_a_declared_step_tells_a_lost_slice_whatever_the_thickness(step_mm, count, data):
    lost = data.draw(st.sets(st.integers(1, count - 2), min_size=1, max_size=count // 4))
    thickness_mm = data.draw(st.sampled_from([1.25, 1.5, 2.0, 3.0, None]))
    heights = [np.rint(step_mm * k) for k in range(count) if k not in lost]
    slices = axial(*heights, thickness_mm=thickness_mm)
    if len({*np.diff(heights)}) == 1:
        return  # every second one, say: these are a stack by themselves
    with pytest.raises(InputError, match=r"missing|evenly"):
        stack_slices([replace(each, declared_step_mm=step_mm) for each in slices], "x")


@pytest.mark.parametrize(("heights", "said"), [((0, 2.1, 4, 6.05), ""), ((0, 2.4, 4, 6), "up to 0.4")])
def test_jitter_is_no_gap_and_is_said(heights, said):
    note = stack_slices(axial(*heights), "x").note
    assert said in note and bool(said) == bool(note)


def test_copies_share_a_place():
    slices = [slice_at((0, 0, z), name) for z, name in ((2, "b"), (0, "c"), (2, "a"))]
    places = slices_at_one_place(slices, "x")
    assert [[one.name for one in place] for place in places] == [["c"], ["a", "b"]]


def test_order_is_along_the_normal_not_along_z():
    oblique = np.array([[1.0, 0, 0], [0, 0.6, 0.8]])
    normal = np.cross(*oblique)
    stack = stack_slices([slice_at(k * normal, str(k), oblique) for k in (3, 0, 2, 1)], "x")
    assert [one.name for one in stack.slices] == ["0", "1", "2", "3"]
    np.testing.assert_allclose(np.linalg.norm(stack.affine[:3, :3], axis=0), (0.75, 0.5, 1.0))
    alone = stack_slices(axial(5), "x").affine[:3, 2]
    np.testing.assert_array_equal(alone, (0, 0, 2))  # as deep as it is thick
