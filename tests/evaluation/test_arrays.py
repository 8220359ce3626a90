from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from livseg_lib.evaluation.masks import foreground_box


@settings(max_examples=80, deadline=None)
@given(
    array_shapes(min_dims=2, max_dims=3, max_side=6).flatmap(
        lambda shape: st.tuples(*[arrays(np.uint8, shape, elements=st.integers(0, 1))] * 2)
    )
)
def test_box_is_the_smallest_that_holds_both(pair):
    points = np.argwhere(pair[0] | pair[1])
    box = foreground_box(*pair)
    if len(points) == 0:
        assert pair[0][box].size == 0
    else:
        assert [(s.start, s.stop) for s in box] == list(zip(points.min(0), points.max(0) + 1, strict=True))
