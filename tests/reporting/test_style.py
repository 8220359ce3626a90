"""Names beside lines stay apart."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from livseg_lib.reporting.style import spread


@given(st.lists(st.floats(0, 1), max_size=9))
def test_spread_names_are_apart_in_order_and_inside(positions):
    moved = spread(positions, 0.1, 0, 1)
    assert len(moved) == len(positions)
    in_order = moved[np.argsort(positions, kind="stable")]
    assert (np.diff(in_order) >= 0.1 - 1e-9).all()
    assert all(-1e-9 <= place <= 1 + 1e-9 for place in moved)


def test_what_is_apart_already_stays():
    assert spread([0.9, 0.1, 0.5], 0.2).tolist() == pytest.approx([0.9, 0.1, 0.5])
    assert spread([0.5, 0.5], 0.2).tolist() == pytest.approx([0.4, 0.6])
