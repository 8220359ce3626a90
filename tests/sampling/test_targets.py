from __future__ import annotations

import numpy as np
import pytest

from livseg_lib.errors import InputError
from livseg_lib.sampling.batches import decode_target, encode_target

LABELS = np.array([[0, 1], [2, 1]], np.uint8)


@pytest.mark.parametrize(
    ("target", "maps"),
    [
        ("liver", [[[0], [1]], [[1], [1]]]),
        ("tumor", [[[0], [0]], [[1], [0]]]),
        ("both", [[[0, 0], [1, 0]], [[1, 1], [1, 0]]]),
    ],
)
def test_one_map_a_structure_by_hand(target, maps):
    encoded = encode_target(LABELS, target)
    assert encoded.dtype == np.float32
    np.testing.assert_array_equal(encoded, maps)


def test_unknown_target_is_refused():
    with pytest.raises(InputError, match="liver, tumor, both"):
        encode_target(LABELS, "spleen")


def test_a_map_of_just_a_half_is_the_structure():
    maps = np.array([[0.5, 0.5], [0.5, 0.49], [0.49, 0.0]], np.float32)
    assert decode_target(maps, "both").tolist() == [2, 1, 0]
