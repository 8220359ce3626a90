from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from livseg_lib.errors import InputError
from livseg_lib.postprocessing.measures import TUMOR_COLUMNS, measure_liver, measure_tumors

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


def test_parts_of_the_liver_are_equal_in_volume_not_in_length():
    labels = np.zeros((3, 5, 40), np.uint8)
    labels[:, :, 2:12] = 1
    labels[1, 2, 12:39] = 1  # a thin left lobe
    labels[1, 2, 14] = 2  # near the middle of its length, but most of the liver lies to the right
    assert measure_tumors(None, labels, (1, 1, 1))["position"][0].startswith("left half")


def test_a_mirrored_patient_has_mirrored_places():
    voxels, labels = patient()
    before, after = (
        measure_tumors(v, m, SPACING) for v, m in ((voxels, labels), (voxels[..., ::-1], labels[..., ::-1]))
    )
    swap = {"right": "left", "left": "right"}
    mirrored = [" ".join(swap.get(word, word) for word in text.split()) for text in before["position"]]
    assert sorted(after["position"]) == sorted(mirrored)


def test_no_tumour_gives_no_rows_of_the_same_types():
    for labels in (np.zeros((3, 4, 5), np.uint8), np.ones((3, 4, 5), np.uint8)):
        table = measure_tumors(None, labels, SPACING)
        assert table.empty and table.dtypes.astype(str).to_dict() == TUMOR_COLUMNS


def test_no_liver_has_no_burden_and_a_healthy_one_has_none_to_speak_of():
    nothing = measure_liver(None, np.zeros((3, 4, 5), np.uint8), SPACING)
    assert np.isnan(nothing["tumor_burden"]) and nothing["liver_ml"] == 0
    assert measure_liver(None, np.ones((3, 4, 5), np.uint8), SPACING)["tumor_burden"] == 0


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


@settings(max_examples=50, deadline=None)
@given(label_volumes)
def test_tumours_add_up_to_the_patient(labels):
    table, sums = measure_tumors(None, labels, SPACING), measure_liver(None, labels, SPACING)
    assert len(table) == sums["n_tumors"]
    assert table["volume_ml"].sum() == pytest.approx(sums["tumor_ml"])


@pytest.mark.parametrize(
    "wrong", [np.zeros((2, 3, 4), bool), np.zeros((2, 3, 4)), np.zeros((3, 4), np.uint8)]
)
def test_what_is_no_label_volume_is_refused(wrong):
    with pytest.raises(InputError):
        measure_tumors(None, wrong, SPACING)


def test_voxels_of_another_grid_are_refused():
    with pytest.raises(InputError, match="one shape"):
        measure_liver(np.zeros((2, 3, 5), np.int16), np.zeros((2, 3, 4), np.uint8), SPACING)
