"""Every tumour in a row: sizes and matches by hand, sums as the benchmark counts, shares by size."""

from __future__ import annotations

import io

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from livseg_lib.evaluation.lesions import (
    SIZE_CLASSES,
    detect_lesions,
    lesion_rows,
    size_class,
    summarize_sizes,
)
from livseg_lib.postprocessing.components import label_components
from livseg_lib.postprocessing.measures import axial_diameters

SPACING = (5.0, 2.0, 1.0)
NEAR, FAR = np.s_[1:3, 2:5, 2:6], np.s_[4:8, 8:18, 10:30]
COLUMNS = ["kind", "lesion", "volume_ml", "longest_diameter_mm", "size_class"]
COLUMNS += ["detected", "touched", "iou", "dice"]


def labels(*tumors) -> np.ndarray:
    volume = np.ones((10, 22, 40), np.uint8)
    for tumor in tumors:
        volume[tumor] = 2
    return volume


def test_rows_by_hand():
    half, surplus = np.s_[4:8, 8:18, 10:22], np.s_[8, 1, 1]
    rows = lesion_rows(labels(half, surplus), labels(NEAR, FAR), SPACING)
    assert list(rows) == COLUMNS
    assert rows.kind.tolist() == ["reference"] * 2 + ["prediction"] * 2 and rows.lesion.tolist() == [
        1,
        2,
        1,
        2,
    ]
    assert rows.volume_ml.tolist() == pytest.approx([0.24, 8.0, 4.8, 0.01])
    assert rows.detected.tolist() == [False, True, True, False] == rows.touched.tolist()
    assert rows.iou.tolist() == pytest.approx([0, 0.6, 0.6, 0])
    assert rows.dice.tolist() == pytest.approx([0, 0.75, 0.75, 0])
    far = axial_diameters(labels(FAR) == 2, SPACING).longest_mm
    assert rows.longest_diameter_mm[1] == far == pytest.approx(np.hypot(9 * 2, 19), abs=2)
    assert rows.size_class.tolist() == ["< 10 mm", "20 to 50 mm", "20 to 50 mm", "< 10 mm"]


@pytest.mark.parametrize(
    ("diameter_mm", "expected"),
    [(0.5, 0), (9.99, 0), (10, 1), (19.99, 1), (20, 2), (50, 2), (50.01, 3), (300, 3)],
)
def test_edges_of_the_classes(diameter_mm, expected):
    assert size_class(diameter_mm) == SIZE_CLASSES[expected]


def test_one_blob_over_two_tumours_stands_for_the_one_it_shares_most_with():
    wide, narrow, blob = np.s_[2:4, 2:8, 2:14], np.s_[2:4, 2:8, 15:19], np.s_[2:4, 2:8, 2:19]
    rows = lesion_rows(labels(blob), labels(narrow, wide), SPACING)
    assert rows.detected.tolist() == [True, False, True] and rows.touched.all()
    assert rows.iou.tolist() == pytest.approx([192 / 204] * 3)
    assert detect_lesions(labels(blob), labels(narrow, wide)) == (1, 0, 1)


def test_without_spacing_matches_are_known_and_sizes_are_not():
    rows = lesion_rows(labels(FAR), labels(NEAR, FAR), (np.nan,) * 3)
    assert rows[["volume_ml", "longest_diameter_mm"]].isna().all(axis=None) and (rows.size_class == "").all()
    assert rows.detected.tolist() == [False, True, True]
    flat = lesion_rows(labels(FAR), labels(NEAR, FAR), (np.nan, 2.0, 1.0))
    assert flat.volume_ml.isna().all() and flat.longest_diameter_mm.notna().all()


@pytest.mark.parametrize("predicted", [(), (NEAR,)])
@pytest.mark.parametrize("present", [(), (FAR,)])
def test_empty_and_missed(predicted, present):
    rows = lesion_rows(labels(*predicted), labels(*present), SPACING)
    assert list(rows) == COLUMNS and len(rows) == len(predicted) + len(present)
    assert not rows.detected.any() and not rows.touched.any() and (rows.iou == 0).all()
    assert rows.detected.dtype == bool


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 3))
def test_rows_add_up_to_the_counts_of_the_benchmark_wherever_the_patient_lies(seed, shift):
    rng = np.random.default_rng(seed)
    pair = np.ones((2, 7, 12, 14), np.uint8)
    for volume in pair:
        for corner in np.random.default_rng(seed // 2).integers(0, (5, 9, 11), (5, 3)):
            box = tuple(slice(a, a + s) for a, s in zip(corner, rng.integers(1, 5, 3), strict=True))
            volume[box] = 2
    rows = lesion_rows(*pair, SPACING)
    truth, found = rows[rows.kind == "reference"], rows[rows.kind == "prediction"]
    count = detect_lesions(*pair)
    assert truth.detected.sum() == found.detected.sum() == count.true_positives
    assert (~truth.detected).sum() == count.false_negatives
    assert (~found.detected).sum() == count.false_positives
    assert (rows.detected <= (rows.iou > 0.5)).all() and ((rows.iou > 0) <= rows.touched).all()
    for side, volume in ((truth, pair[1]), (found, pair[0])):
        ids, n = label_components(volume == 2)
        voxels = np.bincount(ids.ravel(), minlength=n + 1)[1:]
        np.testing.assert_allclose(side.volume_ml, voxels * np.prod(SPACING) / 1000)
        assert [axial_diameters(ids == i, SPACING).longest_mm for i in side.lesion] == pytest.approx(
            side.longest_diameter_mm.tolist()
        )
    moved = np.pad(pair, ((0, 0), (shift, 1), (0, shift), (2, 0)))
    pd.testing.assert_frame_equal(lesion_rows(*moved, SPACING), rows)


def table(*rows) -> pd.DataFrame:
    columns = ["patient", "kind", "size_class", "detected", "touched"]
    return pd.DataFrame(rows, columns=columns)


def test_shares_by_size():
    small, large = SIZE_CLASSES[0], SIZE_CLASSES[3]
    lesions = table(
        ("a", "reference", small, True, True),
        ("a", "reference", small, False, True),
        ("b", "reference", small, False, False),
        ("b", "reference", small, False, False),
        ("b", "prediction", large, False, True),
    )
    found = summarize_sizes(lesions).set_index("size_class")
    assert found.index.tolist() == list(SIZE_CLASSES)
    counts = ["n_reference", "n_reference_detected", "n_reference_touched", "n_prediction"]
    assert found.loc[small, counts].tolist() == [4, 1, 2, 0]
    assert (found.loc[small, "recall"], found.loc[small, "recall_touched"]) == (0.25, 0.5)
    assert (found.loc[small, "recall_low"], found.loc[small, "recall_high"]) == (0, 0.5)  # of b and of a
    assert np.isnan(found.loc[small, "precision"]) and found.loc[large, "precision"] == 0
    assert np.isnan(
        found.loc[large, ["recall", "precision_low"]].astype(float)
    ).all()  # one patient: no interval


def test_unknown_sizes_have_a_row_of_their_own_also_when_read_from_a_file():
    lesions = table(("a", "reference", "", True, True), ("a", "reference", SIZE_CLASSES[1], False, False))
    stored = pd.read_csv(io.StringIO(lesions.to_csv(index=False)))
    for each in (lesions, stored):
        found = summarize_sizes(each).set_index("size_class")
        assert found.n_reference.to_dict() == dict.fromkeys(SIZE_CLASSES, 0) | {
            SIZE_CLASSES[1]: 1,
            "unknown size": 1,
        }
        assert found.recall["unknown size"] == 1
    assert (summarize_sizes(table()).n_reference == 0).all()
