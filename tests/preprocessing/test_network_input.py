"""Neighbouring slices and the liver as channels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from livseg_lib.errors import InputError
from livseg_lib.preprocessing.recipe import NetworkInput, with_neighbours


def pictures(count: int, channels: int = 1) -> list[np.ndarray]:
    return [np.full((2, 3, channels), number, np.uint8) for number in range(count)]


@given(st.integers(0, 9), st.integers(0, 4))
def test_each_picture_stands_between_its_neighbours_and_the_ends_come_again(count, reach):
    found = [picture[0, 0].tolist() for picture in with_neighbours(iter(pictures(count)), reach)]
    wanted = np.arange(count)[:, np.newaxis] + np.arange(-reach, reach + 1)
    assert found == wanted.clip(0, max(count - 1, 0)).tolist()


def test_all_channels_of_a_picture_stay_together():
    coloured = [np.array([[[number, 10 + number]]], np.uint8) for number in range(3)]
    assert next(with_neighbours(coloured, 1)).ravel().tolist() == [0, 10, 0, 10, 1, 11]


def test_the_liver_is_the_last_channel():
    inputs, liver = NetworkInput(neighbours=1, sees_liver=True), np.zeros((2, 2, 3), bool)
    liver[1, 0, 2] = True
    first, second = inputs.compose(pictures(2, 3), liver)
    assert first.shape == second.shape == (2, 3, inputs.channels(3)) == (2, 3, 10)
    assert not first[..., -1].any() and second[0, 2, -1] == 255 and second[..., -1].sum() == 255


def test_without_a_liver_a_network_that_sees_it_says_so():
    with pytest.raises(InputError, match="no liver was found before"):
        NetworkInput(sees_liver=True).compose(pictures(1))


def test_nothing_is_added_by_default():
    given_pictures = pictures(3)
    for before, after in zip(given_pictures, NetworkInput().compose(given_pictures), strict=True):
        np.testing.assert_array_equal(before, after)
