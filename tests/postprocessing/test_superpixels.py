"""Superpixels cover a liver, each voxel once a scale, and keep to its edges."""

from __future__ import annotations

import time

import numpy as np
import pandas as pd
import pytest
from solids import ball, box, dice, scan

from livseg_lib.errors import InputError
from livseg_lib.postprocessing import superpixels as s
from livseg_lib.postprocessing.candidates import match_candidates
from livseg_lib.postprocessing.components import label_components

SPACINGS = {"thick slices": (4.0, 0.8, 0.8), "even": (1.5, 1.5, 1.5), "coarse": (5.0, 4.0, 6.0)}
SCALES_MM = (10.0, 20.0)


def liver_scan(spacing_mm, noise_hu: float = 15.0):
    """An odd-shaped liver with a tumour of 24 mm, in a larger scan; liver, tumour, HU."""
    shape = tuple(int(110 / mm) for mm in spacing_mm)
    liver = ball(shape, (50, 50, 50), 45, spacing_mm) & ~ball(shape, (30, 60, 90), 30, spacing_mm)
    tumor = ball(shape, (55, 45, 40), 12, spacing_mm)
    return liver, tumor, scan(liver, tumor, 50, noise_hu)


@pytest.mark.parametrize("spacing_mm", SPACINGS.values(), ids=SPACINGS)
def test_superpixels_cover_the_liver_and_nothing_else(spacing_mm):
    liver, _, hu = liver_scan(spacing_mm)
    found = s.find_superpixels(liver, hu, spacing_mm, SCALES_MM)
    assert [each.scale_mm for each in found] == list(SCALES_MM)
    for each in found:
        np.testing.assert_array_equal(each.ids > 0, liver[each.box])
        assert liver.sum() == liver[each.box].sum() and each.ids.dtype == np.int32
        numbers = np.unique(each.ids)
        np.testing.assert_array_equal(numbers, np.arange(len(numbers)))


@pytest.mark.parametrize("spacing_mm", [SPACINGS["thick slices"], SPACINGS["even"]])
def test_they_are_about_as_large_as_their_scale_and_in_few_pieces(spacing_mm):
    liver, _, hu = liver_scan(spacing_mm)
    found = s.find_superpixels(liver, hu, spacing_mm, SCALES_MM)
    table = s.describe_superpixels(found, hu)
    for each in found:
        volumes_ml = table[table.scale_mm == each.scale_mm].volume_ml
        cube_ml = each.scale_mm**3 / 1000
        assert 0.4 * cube_ml < volumes_ml.median() < 2 * cube_ml
        assert volumes_ml.sum() == pytest.approx(liver.sum() * np.prod(spacing_mm) / 1000)
        assert volumes_ml.min() > 0.3 * s.LEAST_SHARE * cube_ml  # slivers at the edge have joined others
        pieces = [label_components(each.ids == number)[1] for number in range(1, each.ids.max() + 1, 7)]
        assert np.mean(pieces) < 2


@pytest.mark.parametrize("spacing_mm", [SPACINGS["thick slices"], SPACINGS["even"]])
def test_they_keep_to_the_edges_of_a_tumour(spacing_mm):
    liver, tumor, hu = liver_scan(spacing_mm)
    [fine] = s.find_superpixels(liver, hu, spacing_mm, [8.0])
    inside = match_candidates(fine.ids, tumor[fine.box])
    assert dice(np.append(False, inside)[fine.ids], tumor[fine.box]) > 0.85
    # Cubes alone, the same size, would not.
    cubes = sum(
        (np.arange(n) * mm // 8).astype(int).reshape([-1 if a == axis else 1 for a in range(3)]) * 1000**axis
        for axis, (n, mm) in enumerate(zip(fine.ids.shape, spacing_mm, strict=True))
    )
    blind = match_candidates(
        np.unique(cubes, return_inverse=True)[1].reshape(cubes.shape) + 1, tumor[fine.box]
    )
    blind_mask = np.append(False, blind)[np.unique(cubes, return_inverse=True)[1].reshape(cubes.shape) + 1]
    assert (
        dice(np.append(False, inside)[fine.ids], tumor[fine.box]) > dice(blind_mask, tumor[fine.box]) + 0.05
    )


def test_the_table_has_hand_values():
    ids = np.zeros((2, 2, 3), np.int32)
    ids[0, 0], ids[1, 1] = 1, 2
    hu = np.full((5, 5, 5), 999, np.int16)
    box_ = (slice(1, 3), slice(2, 4), slice(0, 3))
    hu[1, 2, :3], hu[2, 3, :3] = (90, 100, 110), (40, 50, 60)
    table = s.describe_superpixels([s.Superpixels(10.0, box_, ids, 0.5)], hu)
    assert table.columns.tolist() == list(s.COLUMNS)
    assert table.iloc[0].tolist() == [10, 1, 1, 2, 1, 1.5, 100, -25]  # the liver's median is 75
    assert table.iloc[1].tolist() == [10, 2, 2, 3, 1, 1.5, 50, 25]


def test_the_darkest_are_dark_few_and_in_order():
    table = pd.DataFrame({"contrast_hu": [5.0, 40, 10, 9.9, 60, 20]})
    assert s.darkest(table, 10).index.tolist() == [1, 2, 4, 5]
    assert s.darkest(table, 10, most=2).index.tolist() == [1, 4]
    assert s.darkest(table, 100).empty


def test_the_darkest_hold_the_tumour_and_little_else():
    spacing_mm = SPACINGS["thick slices"]
    liver, tumor, hu = liver_scan(spacing_mm)
    found = s.find_superpixels(liver, hu, spacing_mm, SCALES_MM)
    chosen = s.darkest(s.describe_superpixels(found, hu)).assign(one=1.0)
    shown = s.paint(found, chosen, "one") > 0
    here = tumor[found[0].box]
    assert (shown & here).sum() > 0.9 * here.sum() and shown.sum() < 3 * here.sum()


def test_painting_takes_the_mean_over_the_scales():
    a, b = np.array([[[1, 1, 2, 0]]], np.int32), np.array([[[1, 2, 2, 0]]], np.int32)
    found = [s.Superpixels(scale, (slice(0, 1),) * 3, ids, 1.0) for scale, ids in ((8.0, a), (16.0, b))]
    table = pd.DataFrame(
        {"scale_mm": [8.0, 8.0, 16.0], "superpixel": [1, 2, 2], "probability": [0.2, 0.6, 1.0]}
    )
    np.testing.assert_allclose(s.paint(found, table, "probability"), [[[0.1, 0.6, 0.8, 0]]])
    with pytest.raises(InputError, match="liver is empty"):
        s.paint([], table, "probability")


def test_the_same_scan_gives_the_same_superpixels():
    liver, _, hu = liver_scan(SPACINGS["even"])
    first, again = (s.find_superpixels(liver, hu, SPACINGS["even"], [10.0])[0].ids for _ in range(2))
    np.testing.assert_array_equal(first, again)


@pytest.mark.parametrize(
    "liver",
    [
        box((1, 60, 60), (0, 5, 5), (1, 50, 50)),
        box((12, 60, 60), (0, 0, 0), (12, 60, 60)),
        box((12, 60, 60), (3, 7, 9), (4, 8, 10)),
        box((12, 60, 60), (3, 7, 9), (4, 8, 40)),
    ],
    ids=["one slice", "whole scan", "one voxel", "one row"],
)
def test_livers_of_any_size_are_covered(liver):
    hu = scan(liver, np.zeros_like(liver), noise_hu=10)
    for each in s.find_superpixels(liver, hu, (4.0, 0.8, 0.8)):
        np.testing.assert_array_equal(each.ids > 0, liver[each.box])


def test_no_liver_gives_no_superpixels_and_bad_input_is_refused():
    nothing = np.zeros((4, 8, 8), bool)
    hu = scan(nothing, nothing)
    assert s.find_superpixels(nothing, hu, (1, 1, 1)) == []
    table = s.describe_superpixels([], hu)
    assert table.columns.tolist() == list(s.COLUMNS) and s.darkest(table).empty
    with pytest.raises(InputError, match="without a size in mm"):
        s.find_superpixels(~nothing, hu, (np.nan,) * 3)
    with pytest.raises(InputError, match="above 0"):
        s.find_superpixels(~nothing, hu, (1, 1, 1), [0.0])


@pytest.mark.slow
def test_a_whole_liver_takes_seconds():
    spacing_mm, shape = (4.0, 0.75, 0.75), (60, 512, 512)
    liver = ball(shape, (100, 180, 150), 75, spacing_mm)
    hu = scan(liver, np.zeros(shape, bool), noise_hu=25)
    began = time.process_time()
    s.describe_superpixels(s.find_superpixels(liver, hu, spacing_mm), hu)
    assert time.process_time() - began < 15
