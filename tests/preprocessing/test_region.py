"""Boxes around the liver: cut out and pasted back exactly, wherever it lies."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from livseg_lib.datasets.case import Case
from livseg_lib.errors import InputError
from livseg_lib.preprocessing.geometry import (
    REGIONS,
    box_around,
    case_around_liver,
    crop_volume,
    paste,
    slices_around,
)
from livseg_lib.volumes import Volume

SPACING = (5.0, 0.7, 0.9)
SHAPE = (7, 40, 30)


def box(start, stop) -> np.ndarray:
    mask = np.zeros(SHAPE, bool)
    mask[tuple(map(slice, start, stop))] = True
    return mask


def volume(shape=SHAPE, spacing=SPACING) -> Volume:
    return Volume(np.arange(np.prod(shape), dtype=np.int16).reshape(shape), spacing)


def test_a_margin_is_counted_in_millimetres_along_each_axis():
    region = box_around(box((3, 10, 12), (4, 20, 15)), SPACING, 7.0)
    assert region.start == (1, 0, 4) and region.stop == (6, 30, 23)  # ceil of 1.4, 10 and 7.8 voxels


def test_at_the_border_the_box_ends_with_the_scan():
    region = box_around(box((0, 0, 25), (7, 3, 30)), SPACING, 5.0)
    assert region.start == (0, 0, 19) and region.stop == (7, 11, 30)


def test_whole_slices_keep_height_and_width():
    region = slices_around(box((3, 10, 12), (4, 20, 15)), SPACING, 5.0)
    assert region.start == (2, 0, 0) and region.stop == (5, 40, 30)


@pytest.mark.parametrize("kind", ["box", "slices"])
def test_an_empty_mask_has_no_region_and_the_whole_scan_always_is_one(kind):
    empty = np.zeros(SHAPE, bool)
    assert REGIONS[kind](empty, SPACING, 10.0) is None
    assert REGIONS["scan"](empty, SPACING, 10.0).stop == SHAPE


def test_pictures_without_spacing_are_refused():
    with pytest.raises(InputError, match="without a known spacing"):
        box_around(box((0, 0, 0), (1, 1, 1)), (np.nan,) * 3, 10.0)


@given(st.data(), st.floats(0, 30))
def test_the_box_holds_the_mask_and_what_is_cut_out_goes_back(data, margin_mm):
    start = [data.draw(st.integers(0, side - 1)) for side in SHAPE]
    stop = [data.draw(st.integers(first + 1, side)) for first, side in zip(start, SHAPE, strict=True)]
    mask = box(start, stop)
    region = box_around(mask, SPACING, margin_mm)
    assert mask[region.slices].sum() == mask.sum()
    whole, part = volume().voxels, crop_volume(volume(), region)
    np.testing.assert_array_equal(paste(part.voxels, whole, region), whole)
    changed = paste(part.voxels + 1, whole, region) - whole
    assert changed[region.slices].all() and changed.sum() == part.voxels.size
    assert part.spacing_mm == SPACING and part.native is None


def test_a_case_around_its_liver_reads_as_the_cut_out_part():
    labels = box((3, 10, 12), (5, 20, 15)).astype(np.uint8)
    case = Case("a", "a", (), volume, lambda scan: labels, slice_numbers=tuple(range(7)))
    small = case_around_liver(case, "box", 0.0)
    scan = small.read_volume()
    np.testing.assert_array_equal(scan.voxels, volume().voxels[3:5, 10:20, 12:15])
    assert (small.read_labels(scan) == 1).all() and small.slice_numbers is None


def test_a_case_without_liver_is_refused_by_name():
    case = Case("a", "a", (), volume, lambda scan: np.zeros(SHAPE, np.uint8))
    with pytest.raises(InputError, match=r"a: shows no liver"):
        case_around_liver(case, "box", 5.0).read_volume()
