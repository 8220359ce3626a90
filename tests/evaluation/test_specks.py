"""Thousands of specks on both sides are scored as few tumours are: in memory and time that grow with them."""

from __future__ import annotations

import numpy as np
import pytest

from livseg_lib.evaluation.cases import score_case
from livseg_lib.evaluation.froc import find_candidates
from livseg_lib.evaluation.lesions import lesion_rows, tumor_overlap
from livseg_lib.postprocessing.measures import measure_tumors

SPACING_MM = (2.0, 1.0, 1.0)


def specks(first: int) -> np.ndarray:
    """16,384 tumours of one voxel in a liver of 32 x 64 x 64, the first of each pair of rows at `first`."""
    labels = np.ones((32, 64, 64), np.uint8)
    labels[::2, ::2, first::2] = 2
    return labels


@pytest.fixture(scope="module")
def found():
    return score_case(specks(0), specks(0), SPACING_MM)


def test_each_is_found_by_itself(found):
    for name in ("n_tumors_prediction", "n_tumors_reference", "true_positives", "n_tumors_matched"):
        assert found[name] == 16384, name
    assert found["false_positives"] == found["false_negatives"] == 0
    assert found["lesion_dice"] == found["panoptic_quality"] == 1.0
    assert found["tumor_assd"] == found["tumor_hd95"] == 0.0


def test_the_table_holds_only_tumours_that_meet():
    overlap = tumor_overlap(specks(0), specks(1))
    assert overlap.table.nnz <= 2 * 16384 + 1 and overlap.pairs == []
    same = tumor_overlap(specks(0), specks(0))
    assert same.pairs[-1] == ((16384,), (16384,)) and len(same.pairs) == 16384


def test_each_has_a_row_with_its_size_and_its_place():
    rows = lesion_rows(specks(0), specks(0), SPACING_MM)
    assert len(rows) == 2 * 16384 and rows.detected.all() and (rows.iou == 1).all()
    assert rows.longest_diameter_mm.unique() == pytest.approx([0.5]) and (rows.volume_ml == 0.002).all()
    table = measure_tumors(None, specks(0), SPACING_MM)
    assert table.centre_slice.tolist() == np.repeat(np.arange(0, 32, 2), 32 * 32).tolist()


def test_candidates_of_a_curve_are_paired_one_to_one():
    candidates = find_candidates(specks(0) == 2, specks(0) == 2)
    assert len(candidates.found) == 16384 and len(candidates.false_positives) == 0
