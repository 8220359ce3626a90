"""The Dice of one structure is that of the whole scoring."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from livseg_lib.evaluation.cases import score_case
from livseg_lib.evaluation.masks import structure_dice

pairs = arrays(np.uint8, (2, 2, 3, 3), elements=st.integers(0, 2))


@settings(max_examples=60, deadline=None)
@given(pairs)
@example(np.zeros((2, 2, 3, 3), np.uint8))  # both empty
@example(np.stack([np.full((2, 3, 3), 2, np.uint8), np.ones((2, 3, 3), np.uint8)]))  # tumours without liver
def test_as_score_case_has_it(labels):
    scores = score_case(*labels, (1.0, 1.0, 1.0))
    for structure in ("liver", "tumor"):
        assert structure_dice(*labels, structure) == pytest.approx(scores[f"{structure}_dice"])
