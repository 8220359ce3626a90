"""Outlines as SVG paths: they enclose what the mask marks, to half a voxel."""

from __future__ import annotations

import re

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from livseg_lib.reporting.pages.outline_paths import outline_path, outline_paths

FINE = 8
"""Pixels of the drawing for each unit of a path."""


def polygons(path: str) -> list[np.ndarray]:
    """Corners (N, 2), x and y in half voxels, of each closed part of a path "Mx ydx dy ..."."""
    parts = []
    for part in path.split("z")[:-1]:
        start, steps = part.removeprefix("M").split("l")
        numbers = [int(number) for number in re.findall(r"-?\d+", steps)]
        corners = np.cumsum(
            [[int(each) for each in start.split()], *zip(*[iter(numbers)] * 2, strict=True)], axis=0
        )
        parts.append(corners)
    return parts


def filled(path: str, shape: tuple[int, int]) -> np.ndarray:
    """What the path encloses by "evenodd", drawn FINE times as large, in half voxels."""
    canvas = np.zeros((2 * shape[0] * FINE, 2 * shape[1] * FINE), np.uint8)
    for corners in polygons(path):
        layer = np.zeros_like(canvas)
        cv2.fillPoly(layer, [corners.astype(np.int32) * FINE], 1)
        canvas ^= layer
    return canvas


def test_a_square_by_hand():
    mask = np.zeros((4, 5), bool)
    mask[1:3, 1:4] = True  # rows 1 and 2, columns 1 to 3: x from 2 to 8, y from 2 to 6 in half voxels
    (corners,) = polygons(outline_path(mask))
    assert corners.min(axis=0).tolist() == [2, 2] and corners.max(axis=0).tolist() == [8, 6]


def test_an_empty_mask_has_no_path_and_a_single_voxel_has_one():
    assert outline_path(np.zeros((3, 3), bool)) == ""
    speck = np.zeros((3, 3), bool)
    speck[1, 1] = True
    (corners,) = polygons(outline_path(speck))
    assert corners.mean(axis=0).tolist() == [3, 3]


def test_a_mask_that_fills_the_picture_is_closed_at_its_border():
    (corners,) = polygons(outline_path(np.ones((6, 9), bool)))
    assert corners.min(axis=0).tolist() == [0, 0] and corners.max(axis=0).tolist() == [18, 12]


def test_holes_stay_holes():
    mask = np.ones((9, 9), bool)
    mask[3:6, 3:6] = False
    path = outline_path(mask)
    assert len(polygons(path)) == 2
    assert filled(path, mask.shape)[9 * FINE, 9 * FINE] == 0  # its centre


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), blur=st.floats(0.5, 4))
def test_the_line_is_nowhere_farther_from_the_mask_than_it_says(seed, blur):
    noise = np.random.default_rng(seed).normal(size=(24, 30)).astype(np.float32)
    mask = cv2.GaussianBlur(noise, (0, 0), blur) > 0
    drawn = filled(outline_path(mask), mask.shape).astype(bool)
    truth = np.kron(mask, np.ones((2 * FINE, 2 * FINE), bool))
    # One voxel from the border on, either way, nothing differs: half a voxel of a cut corner, half of
    # simplification.
    voxel = np.ones((2 * 2 * FINE + 1, 2 * 2 * FINE + 1), np.uint8)
    inner = cv2.erode(truth.astype(np.uint8), voxel, borderValue=0).astype(bool)
    outer = cv2.dilate(truth.astype(np.uint8), voxel).astype(bool)
    assert (drawn | ~inner).all() and (outer | ~drawn).all()


@pytest.mark.parametrize("scale", [(1, 1), (2, 1)])
def test_the_area_of_a_ball_survives(scale):
    rows, columns = np.mgrid[:60, :60]
    mask = ((rows - 30) / scale[0]) ** 2 + ((columns - 30) / scale[1]) ** 2 < 14**2
    area = filled(outline_path(mask), mask.shape).sum() / (2 * FINE) ** 2
    assert area == pytest.approx(mask.sum(), rel=0.03)


def test_structures_of_labels():
    labels = np.zeros((2, 8, 8), np.uint8)
    labels[0, 2:6, 2:6] = 1
    labels[0, 3:5, 3:5] = 2
    paths = outline_paths(labels)
    assert list(paths) == ["liver", "tumor"] and [bool(path) for path in paths["tumor"]] == [True, False]
    assert paths["liver"][0] == outline_path(labels[0] >= 1)  # a tumour is liver, too
    assert outline_paths(np.zeros((2, 8, 8), np.uint8)) == {}
