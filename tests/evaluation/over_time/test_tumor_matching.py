from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from livseg_lib.errors import InputError
from livseg_lib.evaluation.follow_up import TumorGroup, match_tumors

SPACING = (2.0, 1.0, 1.0)


def liver(*tumors: tuple[slice, slice, slice]) -> np.ndarray:
    """A liver of 20 x 30 x 40 voxels with tumours (boxes) in it."""
    labels = np.zeros((30, 50, 60), np.uint8)
    labels[5:25, 10:40, 10:50] = 1
    for tumor in tumors:
        assert (labels[tumor] == 1).all()
        labels[tumor] = 2
    return labels


def box(slice_, row, column, *sides) -> tuple[slice, slice, slice]:
    return tuple(slice(start, start + side) for start, side in zip((slice_, row, column), sides, strict=True))


SMALL, LARGE, OTHER = box(7, 12, 12, 2, 3, 3), box(10, 20, 20, 6, 8, 8), box(18, 30, 40, 4, 5, 5)
LEFT_HALF, RIGHT_HALF = box(10, 20, 20, 6, 8, 3), box(10, 20, 25, 6, 8, 3)


def kinds(before, after, **options) -> list[tuple[str, tuple, tuple]]:
    found = match_tumors(before, SPACING, after, SPACING, **options).groups
    return [(group.kind, group.before, group.after) for group in found]


def test_the_same_scan_matches_itself():
    found = match_tumors(liver(SMALL, LARGE, OTHER), SPACING, liver(SMALL, LARGE, OTHER), SPACING)
    assert found.groups == tuple(TumorGroup((n,), (n,)) for n in (1, 2, 3))
    assert found.shift_mm == (0, 0, 0) and found.liver_dice == 1


def test_each_kind_of_change():
    assert kinds(liver(SMALL, LARGE), liver(LARGE)) == [("vanished", (1,), ()), ("matched", (2,), (1,))]
    assert kinds(liver(LARGE), liver(SMALL, LARGE)) == [("matched", (1,), (2,)), ("new", (), (1,))]
    assert kinds(liver(LEFT_HALF, RIGHT_HALF), liver(LARGE)) == [("merged", (1, 2), (1,))]
    assert kinds(liver(LARGE), liver(LEFT_HALF, RIGHT_HALF)) == [("split", (1,), (1, 2))]
    stripes = [box(10, row, 20, 6, 3, 8) for row in (20, 25)]
    assert kinds(liver(LEFT_HALF, RIGHT_HALF), liver(*stripes)) == [("regrouped", (1, 2), (1, 2))]
    assert kinds(liver(), liver()) == []


def test_a_touch_is_no_match_but_a_tenth_of_the_smaller_is():
    before, after = box(10, 20, 20, 4, 4, 10), box(10, 20, 29, 4, 4, 10)  # a tenth in common
    far = {"nearby_mm": 0.0}
    assert kinds(liver(before), liver(after), **far) == [("matched", (1,), (1,))]
    assert [kind for kind, *_ in kinds(liver(before), liver(after), shared=0.11, **far)] == [
        "vanished",
        "new",
    ]


def test_tumours_beside_themselves_are_paired_with_the_nearest():
    before = liver(box(10, 20, 20, 1, 2, 2), box(10, 20, 26, 1, 2, 2))
    after = liver(box(10, 23, 21, 1, 2, 2), box(10, 23, 27, 1, 2, 2))
    assert kinds(before, after) == [("matched", (1,), (1,)), ("matched", (2,), (2,))]
    assert [kind for kind, *_ in kinds(before, after, nearby_mm=3.0)] == ["vanished"] * 2 + ["new"] * 2
    straight = liver(box(10, 23, 20, 1, 2, 2), box(10, 23, 26, 1, 2, 2))
    assert [kind for kind, *_ in kinds(before, straight, nearby_mm=3.0)] == ["matched"] * 2  # 3 mm is near


@settings(max_examples=25, deadline=None)
@given(st.tuples(st.integers(-5, 5), st.integers(-10, 10), st.integers(-10, 10)))
def test_where_the_patient_lies_does_not_matter(shift):
    before, after = liver(SMALL, LEFT_HALF, RIGHT_HALF), liver(LARGE, OTHER)
    found = match_tumors(before, SPACING, np.roll(after, shift, axis=(0, 1, 2)), SPACING)
    assert found.groups == match_tumors(before, SPACING, after, SPACING).groups
    np.testing.assert_allclose(found.shift_mm, np.multiply(shift, SPACING), atol=1e-9)
    assert found.liver_dice == 1


def test_scans_of_other_spacing_and_size_are_laid_over_each_other():
    before, after = liver(SMALL, LARGE), liver(SMALL, LARGE, OTHER)
    finer = np.pad(after.repeat(2, axis=0).repeat(3, axis=2), ((0, 4), (3, 0), (0, 2)))
    found = match_tumors(before, SPACING, finer, (1.0, 1.0, 1 / 3))
    assert found.groups == match_tumors(before, SPACING, after, SPACING).groups
    assert found.liver_dice == 1


def test_time_turned_round_turns_the_kinds_round():
    before, after = liver(SMALL, LEFT_HALF, RIGHT_HALF), liver(LARGE, OTHER)
    swapped = {(group.after, group.before) for group in match_tumors(before, SPACING, after, SPACING).groups}
    assert swapped == set(match_tumors(after, SPACING, before, SPACING).groups)


def test_without_a_liver_or_spacing_nothing_can_be_laid_over():
    with pytest.raises(InputError, match="later labels: show no liver"):
        match_tumors(liver(), SPACING, np.zeros((3, 3, 3), np.uint8), SPACING)
    with pytest.raises(InputError, match="spacing"):
        match_tumors(liver(), SPACING, liver(), (np.nan,) * 3)


def test_a_part_of_the_smaller_tumour_counts_whichever_scan_it_is_in():
    small, large = box(10, 20, 20, 1, 2, 5), box(10, 21, 20, 4, 4, 10)  # 10 and 160 voxels, 5 in common
    for before, after in ((small, large), (large, small)):
        found = kinds(liver(before), liver(after), shared=0.5, nearby_mm=0.0)
        assert found == [("matched", (1,), (1,))]  # 5 of 10, though a 32nd of the larger
        apart = kinds(liver(before), liver(after), shared=0.51, nearby_mm=0.0)
        assert [kind for kind, *_ in apart] == ["vanished", "new"]


def test_thousands_of_specks_are_refused_at_once():
    labels = np.ones((20, 60, 60), np.uint8)
    labels[::2, ::2, ::2] = 2  # 9,000 of one voxel each
    with pytest.raises(InputError, match="9,000 separate tumours"):
        match_tumors(labels, (1, 1, 1), labels, (1, 1, 1))
