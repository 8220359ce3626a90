"""MR scans for whatever asks for HU: a patient's own range, on any scale."""

from __future__ import annotations

import numpy as np
import pytest

from livseg_lib.errors import InputError
from livseg_lib.preprocessing.windows import as_hu, window_bounds
from livseg_lib.volumes import Volume


def scan(scale: float = 1.0) -> Volume:
    voxels = np.random.default_rng(0).integers(400, 1100, (5, 20, 20))
    voxels[:, :8] = 3  # air
    return Volume(np.rint(voxels * scale).astype(np.int16), (4.0, 1.0, 1.0))


def test_a_ct_stays_as_it_is():
    volume = scan()
    assert as_hu(volume, "ct") is volume


def test_the_bodys_range_becomes_that_of_abdominal_hu():
    volume = scan()
    low, high = window_bounds("mr", volume.voxels)
    stretched = as_hu(volume, "mr")
    assert stretched.spacing_mm == volume.spacing_mm and stretched.voxels.dtype == np.int16
    for value, hu in ((low, -100), (high, 300)):
        assert set(stretched.voxels[volume.voxels == value]) == {hu}
    assert (np.diff(stretched.voxels.ravel()[np.argsort(volume.voxels, axis=None)]) >= 0).all()


@pytest.mark.parametrize("scale", [0.5, 25.0])
def test_the_scale_of_the_file_does_not_matter(scale):
    difference = as_hu(scan(scale), "mr").voxels.astype(int) - as_hu(scan(), "mr").voxels
    assert np.abs(difference).max() <= 2


def test_another_modality_is_refused():
    with pytest.raises(InputError, match="modality"):
        as_hu(scan(), "pet")
