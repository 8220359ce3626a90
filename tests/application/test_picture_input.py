"""Greys to HU."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from livseg_lib.application.scan import parse_hu_range, read_one_picture, read_pictures
from livseg_lib.errors import InputError


def test_greys_are_hu_as_in_the_public_sets_or_between_the_two_that_are_given(tmp_path):
    path = tmp_path / "slice.png"
    Image.fromarray(np.array([[0, 51, 255]], np.uint8)).save(path)
    scan = read_pictures(lambda: read_one_picture(path))
    assert scan.volume.voxels.tolist() == [[[0, 51, 255]]]
    assert np.isnan(scan.volume.spacing_mm).all() and scan.is_picture
    assert "0 HU and white for 255 HU" in scan.notes[0]
    abdomen = read_pictures(lambda: read_one_picture(path), hu=(-160.0, 240.0))
    assert abdomen.volume.voxels.tolist() == [[[-160, -80, 240]]]
    assert (abdomen.window.lower, abdomen.window.upper) == (-160, 240)
    assert "2 pictures" in read_pictures(lambda: read_one_picture(path), left_out=2).notes[1]


def test_a_range_is_two_rising_numbers():
    assert parse_hu_range("-160,240") == (-160.0, 240.0)
    for wrong in ("", "abdomen", "5", "240,-160", "1,1", "nan,3", "-1e9,0", "1,2,3"):
        with pytest.raises(InputError, match="picture-hu"):
            parse_hu_range(wrong)
