"""Diameters of shapes of known size, and the measures of two tumours by hand."""

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from livseg_lib.errors import InputError
from livseg_lib.postprocessing import measures

masks = arrays(bool, st.tuples(st.integers(1, 4), st.integers(1, 8), st.integers(1, 8)))
spacings = st.tuples(*[st.sampled_from([0.5, 0.7, 1.0, 2.5])] * 3)
EQUALLY_LONG = np.array([[[1, 1, 1], [0, 1, 1], [1, 0, 0]]], bool)
"""Across its longest diameters it is not equally wide."""


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (1, 9), (7, 1), (4, 9), (10, 10)])
def test_boxes_by_hand_with_unequal_sides(rows, columns):
    mask = np.zeros((3, 14, 14), bool)
    mask[1, 2 : 2 + rows, 3 : 3 + columns] = True
    found = measures.axial_diameters(mask, (5, 0.5, 2))
    height, width = 0.5 * rows, 2.0 * columns
    # Between centres of opposite corners, and a quarter of a pixel more at both ends along one axis.
    expected = max(np.hypot(height - 0.25, width - 2), np.hypot(height - 0.5, width - 1))
    assert found.longest_mm == pytest.approx(expected)
    assert found.slice == 1


def test_the_perpendicular_of_a_turned_ellipse_is_its_short_axis():
    rows, columns = np.meshgrid(*[np.arange(-30, 31) * 0.8] * 2, indexing="ij")
    turn = np.radians(33)
    along, across = np.cos(turn) * rows + np.sin(turn) * columns, np.cos(turn) * columns - np.sin(turn) * rows
    found = measures.axial_diameters(((along / 20) ** 2 + (across / 12) ** 2 <= 1)[None], (1, 0.8, 0.8))
    assert found.longest_mm == pytest.approx(40, abs=0.4)
    assert found.perpendicular_mm == pytest.approx(24, abs=0.8)


def test_a_cross_is_measured_across_the_hull_and_at_right_angles():
    mask = np.zeros((1, 21, 21), bool)
    mask[0, 10, :] = mask[0, 4:17, 6] = True  # 21 pixels long; 13 high, off the middle
    found = measures.axial_diameters(mask, (1, 1, 1))
    assert found.longest_mm == pytest.approx(20.5)
    assert found.perpendicular_mm == pytest.approx(12.5)


def test_the_longest_slice_counts_and_the_first_of_equals():
    mask = np.zeros((5, 9, 9), bool)
    mask[1, 4, 2:5] = mask[2, 4, 1:8] = mask[4, 1:8, 3] = True
    assert measures.axial_diameters(mask, (1, 1, 1)).slice == 2
    assert measures.axial_diameters(mask, (1, 2, 1)).slice == 4


def test_nothing_is_nan_and_unknown_spacing_leaves_the_slice():
    empty = measures.axial_diameters(np.zeros((2, 3, 4), bool), (1, 1, 1))
    assert empty.slice is None and np.isnan(empty.longest_mm) and np.isnan(empty.perpendicular_mm)
    mask = np.zeros((2, 6, 6), bool)
    mask[1, 2, 1:5] = True
    unknown = measures.axial_diameters(mask, (np.nan,) * 3)
    assert unknown.slice == 1 and np.isnan([unknown.longest_mm, unknown.perpendicular_mm]).all()
    between_slices = measures.axial_diameters(mask, (np.nan, 1, 1))
    assert between_slices.longest_mm == pytest.approx(3.5)


@settings(max_examples=60, deadline=None)
@given(masks, spacings, st.permutations([1, 2]), st.sets(st.integers(0, 2)), st.integers(1, 3))
@example(EQUALLY_LONG, (1.0, 1.0, 1.0), [2, 1], {0, 2}, 1)
@example(np.array([[[0, 1], [1, 1]], [[1, 1], [1, 1]]], bool), (0.5, 0.5, 0.5), [1, 2], {0}, 1)  # two slices
def test_turns_flips_shifts_and_units_change_nothing(mask, spacing, order, flipped, scale):
    assume(mask.any())
    before = measures.axial_diameters(mask, spacing)
    moved = np.pad(np.flip(mask, tuple(flipped)).transpose(0, *order), ((0, 2), (1, 0), (3, 1)))
    turned = (spacing[0], *(scale * spacing[axis] for axis in order))
    after = measures.axial_diameters(moved, turned)
    assert after[1:] == pytest.approx((scale * before.longest_mm, scale * before.perpendicular_mm))


@pytest.mark.parametrize(("pixels", "side_mm", "length_mm"), [(13, 0.8, 10), (63, 0.32, 20), (63, 0.8, 50)])
def test_a_length_on_the_edge_of_a_class_is_met_wherever_it_lies(pixels, side_mm, length_mm):
    for first in range(0, 200, 5):
        row = np.zeros((1, 1, first + pixels), bool)
        row[..., first:] = True
        assert measures.axial_diameters(row, (1, side_mm, side_mm)).longest_mm == length_mm


@settings(max_examples=60, deadline=None)
@given(masks, spacings)
def test_it_lies_between_the_farthest_centres_and_those_plus_half_a_pixel(mask, spacing):
    assume(mask.any())
    found = measures.axial_diameters(mask, spacing)
    farthest = 0.0
    for pixels in mask:
        points = np.argwhere(pixels) * spacing[1:]
        for point in points:
            farthest = max(farthest, np.linalg.norm(points - point, axis=1).max())
    assert farthest < found.longest_mm <= farthest + max(spacing[1:]) / 2 + 1e-9
    assert 0 < found.perpendicular_mm <= found.longest_mm + 1e-9


SPACING = (2.0, 0.5, 1.0)
label_volumes = arrays(np.uint8, st.tuples(*[st.integers(2, 6)] * 3), elements=st.integers(0, 2))


def patient() -> tuple[np.ndarray, np.ndarray]:
    """A block of liver (8 slices, 16 rows, 20 columns) at 100 HU with a dark and a bright tumour."""
    labels = np.zeros((12, 24, 30), np.uint8)
    labels[2:10, 4:20, 5:25] = 1
    labels[3:5, 6:10, 8:11] = 2  # 2 x 4 x 3 voxels: low, in front, on the right
    labels[7:9, 16:20, 20:24] = 2  # up to the back of the liver: high, behind, on the left
    voxels = np.full(labels.shape, -50, np.int16)
    voxels[labels == 1] = 100
    voxels[3, 6:10, 8:11], voxels[4, 6:10, 8:11] = 60, 40
    voxels[7:9, 16:20, 20:24] = 130
    return voxels, labels


def test_two_boxes_by_hand():
    table = measures.measure_tumors(*patient(), SPACING)
    assert list(table) == list(measures.TUMOR_COLUMNS)
    np.testing.assert_array_equal(table["voxels"], [24, 32])
    np.testing.assert_allclose(table["volume_ml"], [0.024, 0.032])
    np.testing.assert_array_equal(table["slice"], [3, 7])
    centres = table[["centre_slice", "centre_row", "centre_column"]]
    np.testing.assert_allclose(centres, [[3.5, 7.5, 9], [7.5, 17.5, 21.5]])
    np.testing.assert_allclose(table["longest_diameter_mm"], [np.hypot(1.5, 2.5), np.hypot(1.5, 3.5)])
    # Two rows from the front surface, of half a mm each and one beyond; and at the back surface.
    np.testing.assert_allclose(table["distance_to_border_mm"], [1.5, 0.5])
    np.testing.assert_allclose(table["mean_hu"], [50, 130])
    np.testing.assert_allclose(table["sd_hu"], [10, 0])
    np.testing.assert_allclose(table["contrast_hu"], [50, -30])
    expected = ["right half, front half, lower third", "left half, back half, upper third"]
    assert list(table["position"]) == expected
    without_hu = measures.measure_tumors(None, patient()[1], SPACING)
    assert list(without_hu.columns[without_hu.isna().any()]) == ["mean_hu", "sd_hu", "contrast_hu"]
    full = measures.measure_tumors(np.zeros((3, 4, 5), np.int16), np.full((3, 4, 5), 2, np.uint8), SPACING)
    assert full[["distance_to_border_mm", "contrast_hu"]].isna().all(axis=None)
    for wrong in (np.zeros((2, 3, 4), bool), np.zeros((2, 3, 4)), np.zeros((3, 4), np.uint8)):
        with pytest.raises(InputError):
            measures.measure_tumors(None, wrong, SPACING)


def test_the_patient_by_hand():
    found = measures.measure_liver(*patient(), SPACING)
    assert found["liver_ml"] == pytest.approx(2.56) and found["tumor_ml"] == pytest.approx(0.056)
    assert found["tumor_burden"] == pytest.approx(56 / 2560)
    assert (found["n_tumors"], found["liver_hu"]) == (2, 100)
    nothing = measures.measure_liver(None, np.zeros((3, 4, 5), np.uint8), SPACING)
    assert np.isnan(nothing["tumor_burden"]) and nothing["liver_ml"] == 0
    assert measures.measure_liver(None, np.ones((3, 4, 5), np.uint8), SPACING)["tumor_burden"] == 0


def test_parts_of_the_liver_are_equal_in_volume_not_in_length():
    labels = np.zeros((3, 5, 40), np.uint8)
    labels[:, :, 2:12] = 1
    labels[1, 2, 12:39] = 1  # a thin left lobe
    labels[1, 2, 14] = 2  # near the middle of its length, but most of the liver lies to the right
    assert measures.measure_tumors(None, labels, (1, 1, 1))["position"][0].startswith("left half")


def test_no_tumour_gives_no_rows_of_the_same_types():
    for labels in (np.zeros((3, 4, 5), np.uint8), np.ones((3, 4, 5), np.uint8)):
        table = measures.measure_tumors(None, labels, SPACING)
        assert table.empty and table.dtypes.astype(str).to_dict() == measures.TUMOR_COLUMNS


def test_unknown_spacing_leaves_what_needs_no_mm():
    voxels, labels = patient()
    table = measures.measure_tumors(voxels, labels, (np.nan,) * 3)
    in_mm = [name for name in table if name.endswith(("_mm", "_ml"))]
    assert len(in_mm) == 4 and table[in_mm].isna().all(axis=None)
    assert table.drop(columns=in_mm).notna().all(axis=None)
    sums = measures.measure_liver(voxels, labels, (np.nan,) * 3)
    assert np.isnan([sums["liver_ml"], sums["tumor_ml"]]).all() and sums["tumor_burden"] > 0


@settings(max_examples=25, deadline=None)
@given(label_volumes, st.tuples(*[st.integers(0, 3)] * 6), st.booleans())
def test_more_air_around_only_moves_the_places(labels, pads, fortran):
    labels = np.pad(labels, 1)
    padded = np.pad(labels, tuple(zip(pads[::2], pads[1::2], strict=True)))
    before = measures.measure_tumors(None, labels, SPACING)
    after = measures.measure_tumors(None, np.asfortranarray(padded) if fortran else padded, SPACING)
    places = ["slice", "centre_slice", "centre_row", "centre_column"]
    after[places] -= [pads[0], *pads[::2]]
    numbers = [table.select_dtypes("number") for table in (before, after)]
    np.testing.assert_allclose(*numbers)
    assert list(before["position"]) == list(after["position"])
