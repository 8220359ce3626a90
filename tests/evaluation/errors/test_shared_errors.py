"""Errors that systems share, and which painted lesions a true tumour holds."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from livseg_lib.evaluation.errors import (
    TrueCase,
    find_errors,
    match_painted,
    shared_false_positives,
    shared_misses,
)
from livseg_lib.postprocessing.components import label_components

SHAPE, SPACING_MM = (6, 40, 40), (5.0, 1.0, 1.0)
FIRST, SECOND = np.s_[2:4, 4:8, 4:8], np.s_[2:4, 20:24, 20:24]
HERE, THERE = np.s_[1:3, 30:36, 2:8], np.s_[1:3, 30:36, 20:26]


def labels(*boxes) -> np.ndarray:
    found = np.ones(SHAPE, np.uint8)
    for each in boxes:
        found[each] = 2
    return found


@pytest.fixture
def errors():
    """Three systems: all miss SECOND, two find FIRST; HERE is marked by all, THERE by one."""
    case = TrueCase(labels(FIRST, SECOND), SPACING_MM, np.zeros(SHAPE, np.int16))
    shifted = np.s_[1:3, 32:38, 2:8]
    predictions = {"a": labels(FIRST, HERE, THERE), "b": labels(FIRST, HERE), "c": labels(shifted)}
    return case, {system: find_errors(each, case) for system, each in predictions.items()}


def test_who_misses_what(errors):
    _, found = errors
    missed = shared_misses({system: each.tumors for system, each in found.items()}).set_index("object")
    assert list(missed.n_wrong) == [1, 3] and list(missed.wrong_systems) == ["c", "a, b, c"]
    assert (missed.n_systems == 3).all() and (missed.error == "false negative").all()


def test_a_shared_place_is_where_enough_systems_agree_voxel_by_voxel(errors):
    case, found = errors
    masks = {system: each.false_positives for system, each in found.items()}
    [place] = shared_false_positives(masks, case, least=2).itertuples()
    assert (place.n_wrong, place.wrong_systems, place.voxels) == (3, "a, b, c", 2 * 6 * 6)
    [core] = shared_false_positives(masks, case, least=3).itertuples()
    assert core.voxels == 2 * 4 * 6
    assert shared_false_positives(masks, case, least=4).empty
    alone = shared_false_positives(masks, case, least=1)
    assert sorted(alone.n_wrong) == [1, 3]


def painted(*rows) -> pd.DataFrame:
    names = ["diameter_mm", "diffuse", "center_d_mm", "center_h_mm", "center_w_mm"]
    return pd.DataFrame(rows, columns=names)


def test_painted_lesions_find_their_tumour():
    components, _ = label_components(labels(FIRST, SECOND) == 2)
    rows = painted(
        (4, True, 10.0, 5.5, 5.5),
        (4, False, 10.0, 6.5, 6.5),
        (6, False, 10.0, 25.0, 22.0),
        (3, True, 0, 38, 38),
    )
    found = match_painted(components, SPACING_MM, rows).set_index("object")
    assert list(found.painted) == [2, 1] and list(found.edge) == ["mixed", "sharp"]
    box = components[1:, 2:, 3:]
    pd.testing.assert_frame_equal(
        match_painted(box, SPACING_MM, rows, corner=(1, 2, 3)).set_index("object"), found
    )
    none = match_painted(components, SPACING_MM, rows[:0])
    assert list(none.edge) == ["unknown", "unknown"] and list(none.painted) == [0, 0]
    assert match_painted(np.zeros(SHAPE, int), SPACING_MM, rows).empty
