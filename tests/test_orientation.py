from __future__ import annotations

import nibabel
import numpy as np
import pytest
from nifti_files import ORIENTATIONS, axis_affine

from livseg_lib.nifti import Orientation

STORED = np.arange(2 * 3 * 4).reshape(2, 3, 4)


@pytest.mark.parametrize(("axes", "signs"), ORIENTATIONS)
def test_every_orientation_comes_to_lps_and_goes_back(axes, signs):
    affine = axis_affine(axes, signs)
    orientation = Orientation.of(affine)
    volume = orientation.to_lps(STORED)
    lps = orientation.lps_affine(affine, STORED.shape)
    assert nibabel.aff2axcodes(lps) == ("S", "P", "L")
    np.testing.assert_array_equal(orientation.to_stored(volume), STORED)
    for index in np.ndindex(volume.shape):  # the same value at the same place in space
        place = lps @ (*index, 1)
        i, j, k = np.rint(np.linalg.solve(affine, place))[:3].astype(int)
        assert volume[index] == STORED[i, j, k]


def test_there_are_48_different_orientations():
    assert len({Orientation.of(axis_affine(*one)) for one in ORIENTATIONS}) == 48


@pytest.mark.parametrize("degrees", [5, 20, 40, -40])
def test_an_oblique_affine_takes_the_closest_axes(degrees):
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    turn = np.eye(4)
    turn[1:3, 1:3] = [[c, -s], [s, c]]
    assert Orientation.of(turn @ axis_affine()) == Orientation.of(axis_affine())


def test_both_ways_are_views():
    orientation = Orientation.of(axis_affine((2, 0, 1), (1, -1, 1)))
    volume = orientation.to_lps(STORED)
    assert np.shares_memory(volume, STORED)
    assert np.shares_memory(orientation.to_stored(volume), STORED)
