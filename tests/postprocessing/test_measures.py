"""Diameters of shapes of known size, and the measures of two tumours by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial.transform import Rotation

from livseg_lib.errors import InputError
from livseg_lib.postprocessing.measures import (
    REACH,
    TUMOR_COLUMNS,
    axial_diameters,
    measure_liver,
    measure_tumors,
)

masks = arrays(bool, st.tuples(st.integers(1, 4), st.integers(1, 8), st.integers(1, 8)))
spacings = st.tuples(*[st.sampled_from([0.5, 0.7, 1.0, 2.5])] * 3)


def ellipsoid(
    semi_axes_mm, rotation: Rotation, spacing_mm, shift=(0.0, 0.0, 0.0)
) -> tuple[np.ndarray, float]:
    """A mask of the voxels whose centres lie inside, and the longest axial diameter that the slices can show.

    The section of x' A x <= 1 with a plane at height z is an ellipse of the in-plane block of A, whose
    longest diameter is 2 sqrt((1 - z^2 / A^-1[0, 0]) / smallest eigenvalue).
    """
    matrix = rotation.as_matrix() @ np.diag(1 / np.square(semi_axes_mm)) @ rotation.as_matrix().T
    half = np.ceil(max(semi_axes_mm) / np.asarray(spacing_mm)).astype(int) + 1
    axes = [np.arange(-n, n + 1) * s + o for n, s, o in zip(half, spacing_mm, shift, strict=True)]
    points = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
    mask = np.einsum("...i,ij,...j->...", points, matrix, points) <= 1
    heights = 1 - axes[0] ** 2 / np.linalg.inv(matrix)[0, 0]
    in_plane = np.linalg.eigvalsh(matrix[1:, 1:])[0]
    return mask, 2 * np.sqrt(heights.max() / in_plane)


@st.composite
def rotated_ellipsoids(draw):
    seed = draw(st.integers(0, 10**6))
    rng = np.random.default_rng(seed)
    longest = rng.uniform(5, 14)
    semi_axes = longest * np.array([1, *rng.uniform(0.6, 1, 2)])
    return ellipsoid(semi_axes, Rotation.random(rng=rng), (1, 1, 1), rng.uniform(-0.5, 0.5, 3))


def test_rotated_ellipsoids_are_measured_within_half_a_voxel_and_without_bias():
    rng = np.random.default_rng(0)
    spacing = np.array([1.25, 0.7, 0.7])
    errors = []
    for _ in range(150):
        semi_axes = rng.uniform(5, 12) * np.array([1, *rng.uniform(0.5, 1, 2)])
        shift = rng.uniform(-0.5, 0.5, 3) * spacing
        mask, longest = ellipsoid(semi_axes, Rotation.random(rng=rng), spacing, shift)
        errors.append((axial_diameters(mask, spacing).longest_mm - longest) / 0.7)
    assert np.mean(np.abs(errors) <= 0.5) >= 0.97
    assert abs(np.mean(errors)) < 0.12


def test_the_perpendicular_of_an_ellipse_is_its_short_axis():
    mask, _ = ellipsoid((6, 12, 20), Rotation.from_euler("x", 33, degrees=True), (1, 0.8, 0.8))
    found = axial_diameters(mask, (1, 0.8, 0.8))
    assert found.slice == mask.shape[0] // 2
    assert found.longest_mm == pytest.approx(40, abs=0.4)
    assert found.perpendicular_mm == pytest.approx(24, abs=0.8)
    across, along = np.diff(found.perpendicular_ends, axis=0)[0], np.diff(found.longest_ends, axis=0)[0]
    assert across @ along == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (1, 9), (7, 1), (4, 9), (10, 10)])
def test_boxes_by_hand_with_unequal_sides(rows, columns):
    mask = np.zeros((3, 14, 14), bool)
    mask[1, 2 : 2 + rows, 3 : 3 + columns] = True
    found = axial_diameters(mask, (5, 0.5, 2))
    height, width = 0.5 * rows, 2.0 * columns
    # Between centres of opposite corners, and a quarter of a pixel more at both ends along one axis.
    expected = max(np.hypot(height - 0.25, width - 2), np.hypot(height - 0.5, width - 1))
    assert found.longest_mm == pytest.approx(expected)
    assert found.slice == 1


def test_one_row_and_one_pixel():
    mask = np.zeros((1, 5, 12), bool)
    mask[0, 2, 1:11] = True
    found = axial_diameters(mask, (3, 0.8, 0.5))
    assert (found.longest_mm, found.perpendicular_mm) == (pytest.approx(9.5 * 0.5), pytest.approx(0.5 * 0.8))
    alone = axial_diameters(np.ones((1, 1, 1), bool), (3, 0.8, 0.5))
    assert (alone.longest_mm, alone.perpendicular_mm) == (pytest.approx(0.4), pytest.approx(0.25))


def test_a_cross_is_measured_across_the_hull_and_at_right_angles():
    mask = np.zeros((1, 21, 21), bool)
    mask[0, 10, :] = mask[0, 4:17, 6] = True  # 21 pixels long; 13 high, off the middle
    found = axial_diameters(mask, (1, 1, 1))
    assert found.longest_mm == pytest.approx(20.5)
    assert found.perpendicular_mm == pytest.approx(12.5)
    np.testing.assert_allclose(found.perpendicular_ends[:, 1], 6)


def test_the_longest_slice_counts_and_the_first_of_equals():
    mask = np.zeros((5, 9, 9), bool)
    mask[1, 4, 2:5] = mask[2, 4, 1:8] = mask[4, 1:8, 3] = True
    assert axial_diameters(mask, (1, 1, 1)).slice == 2
    assert axial_diameters(mask, (1, 2, 1)).slice == 4


def test_nothing_is_nan_and_unknown_spacing_leaves_slice_and_ends():
    empty = axial_diameters(np.zeros((2, 3, 4), bool), (1, 1, 1))
    assert empty.slice is None and np.isnan(empty.longest_mm) and np.isnan(empty.perpendicular_mm)
    mask = np.zeros((2, 6, 6), bool)
    mask[1, 2, 1:5] = True
    unknown = axial_diameters(mask, (np.nan,) * 3)
    assert unknown.slice == 1 and np.isnan([unknown.longest_mm, unknown.perpendicular_mm]).all()
    np.testing.assert_allclose(sorted(unknown.longest_ends.tolist()), [[2, 1 - REACH], [2, 4 + REACH]])
    between_slices = axial_diameters(mask, (np.nan, 1, 1))
    assert between_slices.longest_mm == pytest.approx(3.5)


@settings(max_examples=60, deadline=None)
@given(masks, spacings, st.permutations([1, 2]), st.sets(st.integers(0, 2)), st.integers(1, 3))
def test_turns_flips_shifts_and_units_change_nothing(mask, spacing, order, flipped, scale):
    assume(mask.any())
    before = axial_diameters(mask, spacing)
    moved = np.pad(np.flip(mask, tuple(flipped)).transpose(0, *order), ((0, 2), (1, 0), (3, 1)))
    turned = (spacing[0], *(scale * spacing[axis] for axis in order))
    after = axial_diameters(moved, turned)
    assert after.longest_mm == pytest.approx(scale * before.longest_mm)


@settings(max_examples=60, deadline=None)
@given(masks, spacings)
def test_it_lies_between_the_farthest_centres_and_those_plus_half_a_pixel(mask, spacing):
    assume(mask.any())
    found = axial_diameters(mask, spacing)
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
    table = measure_tumors(*patient(), SPACING)
    assert list(table) == list(TUMOR_COLUMNS)
    np.testing.assert_array_equal(table["voxels"], [24, 32])
    np.testing.assert_allclose(table["volume_ml"], [0.024, 0.032])
    np.testing.assert_array_equal(table["slice"], [3, 7])
    np.testing.assert_allclose(
        table[["centre_slice", "centre_row", "centre_column"]], [[3.5, 7.5, 9], [7.5, 17.5, 21.5]]
    )
    np.testing.assert_allclose(table["longest_diameter_mm"], [np.hypot(1.5, 2.5), np.hypot(1.5, 3.5)])
    # Two rows from the front surface, of half a mm each and one beyond; and at the back surface.
    np.testing.assert_allclose(table["distance_to_border_mm"], [1.5, 0.5])
    np.testing.assert_allclose(table["mean_hu"], [50, 130])
    np.testing.assert_allclose(table["sd_hu"], [10, 0])
    np.testing.assert_allclose(table["contrast_hu"], [50, -30])
    assert list(table["position"]) == [
        "right half, front half, lower third",
        "left half, back half, upper third",
    ]


def test_the_patient_by_hand():
    found = measure_liver(*patient(), SPACING)
    assert found["liver_ml"] == pytest.approx(2.56) and found["tumor_ml"] == pytest.approx(0.056)
    assert found["tumor_burden"] == pytest.approx(56 / 2560)
    assert (found["n_tumors"], found["liver_hu"]) == (2, 100)
    nothing = measure_liver(None, np.zeros((3, 4, 5), np.uint8), SPACING)
    assert np.isnan(nothing["tumor_burden"]) and nothing["liver_ml"] == 0
    assert measure_liver(None, np.ones((3, 4, 5), np.uint8), SPACING)["tumor_burden"] == 0


def test_parts_of_the_liver_are_equal_in_volume_not_in_length():
    labels = np.zeros((3, 5, 40), np.uint8)
    labels[:, :, 2:12] = 1
    labels[1, 2, 12:39] = 1  # a thin left lobe
    labels[1, 2, 14] = 2  # near the middle of its length, but most of the liver lies to the right
    assert measure_tumors(None, labels, (1, 1, 1))["position"][0].startswith("left half")


def test_no_tumour_gives_no_rows_of_the_same_types():
    for labels in (np.zeros((3, 4, 5), np.uint8), np.ones((3, 4, 5), np.uint8)):
        table = measure_tumors(None, labels, SPACING)
        assert table.empty and table.dtypes.astype(str).to_dict() == TUMOR_COLUMNS


def test_unknown_spacing_leaves_what_needs_no_mm():
    voxels, labels = patient()
    table = measure_tumors(voxels, labels, (np.nan,) * 3)
    in_mm = [name for name in table if name.endswith(("_mm", "_ml"))]
    assert len(in_mm) == 4 and table[in_mm].isna().all(axis=None)
    assert table.drop(columns=in_mm).notna().all(axis=None)
    sums = measure_liver(voxels, labels, (np.nan,) * 3)
    assert np.isnan([sums["liver_ml"], sums["tumor_ml"]]).all() and sums["tumor_burden"] > 0


def test_without_voxels_only_brightness_is_missing():
    _, labels = patient()
    table = measure_tumors(None, labels, SPACING)
    assert list(table.columns[table.isna().any()]) == ["mean_hu", "sd_hu", "contrast_hu"]


def test_undefined_distance_and_contrast():
    labels = np.full((3, 4, 5), 2, np.uint8)
    table = measure_tumors(np.zeros(labels.shape, np.int16), labels, SPACING)
    assert table[["distance_to_border_mm", "contrast_hu"]].isna().all(axis=None)


@settings(max_examples=50, deadline=None)
@given(label_volumes, st.tuples(*[st.integers(0, 3)] * 6), st.booleans())
def test_more_air_around_only_moves_the_places(labels, pads, fortran):
    labels = np.pad(labels, 1)
    padded = np.pad(labels, tuple(zip(pads[::2], pads[1::2], strict=True)))
    before = measure_tumors(None, labels, SPACING)
    after = measure_tumors(None, np.asfortranarray(padded) if fortran else padded, SPACING)
    for name, pad in zip(
        ("slice", "centre_slice", "centre_row", "centre_column"), pads[:1] + pads[::2], strict=True
    ):
        after[name] -= pad
    assert before.drop(columns="position").equals(after.drop(columns="position")) or np.allclose(
        before.select_dtypes("number"), after.select_dtypes("number"), equal_nan=True
    )
    assert list(before["position"]) == list(after["position"])


@pytest.mark.parametrize(
    "wrong", [np.zeros((2, 3, 4), bool), np.zeros((2, 3, 4)), np.zeros((3, 4), np.uint8)]
)
def test_what_is_no_label_volume_is_refused(wrong):
    with pytest.raises(InputError):
        measure_tumors(None, wrong, SPACING)
