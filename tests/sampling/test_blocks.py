"""Blocks of slices: they cover the liver, lie within the volume, and the same liver gives the same block."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from livseg_lib.errors import InputError
from livseg_lib.sampling.blocks import (
    block_slices,
    block_starts,
    choose_block,
    cover_blocks,
    likely_liver,
    liver_range,
)


@st.composite
def livers(draw) -> tuple[range, int, int]:
    """A liver, the number of slices of its volume, and a depth."""
    n_slices = draw(st.integers(1, 150))
    first = draw(st.integers(0, n_slices - 1))
    return range(first, draw(st.integers(first + 1, n_slices))), n_slices, draw(st.integers(1, 90))


def shown(start: int, n_slices: int, depth: int) -> set[int]:
    return set(block_slices(start, depth, n_slices).tolist())


@given(livers())
def test_each_possible_block_lies_in_the_volume_and_shows_all_the_liver_it_can(case):
    liver, n_slices, depth = case
    starts = block_starts(liver, n_slices, depth)
    assert len(starts) > 0 and starts == block_starts(liver, n_slices, depth)
    for start in starts:
        assert start >= 0 and (start + depth <= n_slices or (start == 0 and depth > n_slices))
        assert len(shown(start, n_slices, depth) & set(liver)) == min(len(liver), depth)
    for outside in {starts[0] - 1, starts[-1] + 1} & set(range(n_slices - depth + 1)):
        assert len(shown(outside, n_slices, depth) & set(liver)) < min(len(liver), depth)


@given(livers(), st.integers(0, 89))
def test_covering_blocks_leave_no_liver_out(case, overlap):
    liver, n_slices, depth = case
    overlap = min(overlap, depth - 1)
    starts = cover_blocks(liver, n_slices, depth, overlap)
    assert set(liver) <= set().union(*(shown(start, n_slices, depth) for start in starts))
    assert starts == sorted(set(starts)) == cover_blocks(liver, n_slices, depth, overlap)
    assert min(starts) >= 0 and max(starts) <= max(n_slices - depth, 0)
    shared = [one + depth - other for one, other in pairwise(starts)]
    assert all(count >= overlap for count in shared)
    assert all(count == overlap for count in shared[:-1])  # no more work than asked for


def test_by_hand():
    assert choose_block(range(40, 60), 100, 64) == 18  # both centred on slice 50
    assert choose_block(range(10, 13), 100, 4) == 9  # of 9 and 10, each as central, the lower
    assert choose_block(range(10, 90), 100, 64) == 18  # longer than the block: its middle
    assert block_starts(range(10, 90), 100, 64) == range(10, 27)
    assert block_starts(range(0, 20), 100, 64) == range(0, 1)
    assert block_starts(range(90, 100), 100, 64) == range(36, 37)
    assert block_starts(range(3, 7), 20, 64) == range(0, 1)
    assert cover_blocks(range(100), 100, 64, 16) == [0, 36]
    assert cover_blocks(range(200), 200, 64, 16) == [0, 48, 96, 136]
    assert cover_blocks(range(20), 20, 64, 16) == [0]
    assert block_slices(1, 4, 3).tolist() == [1, 2, 2, 2]


def test_the_liver_reaches_from_its_first_slice_to_its_last():
    assert liver_range(np.array([0, 1, 0, 1, 0], bool)) == range(1, 4)
    assert liver_range(np.zeros(5, bool)) == range(0)


def test_no_liver_has_no_block():
    assert cover_blocks(range(0), 50, 8, 2) == []
    with pytest.raises(InputError, match="none of the slices"):
        choose_block(range(0), 50, 8)


@pytest.mark.parametrize("overlap", [-1, 8])
def test_an_overlap_that_makes_no_sense_is_refused(overlap):
    with pytest.raises(InputError, match="Give 0 to 7"):
        cover_blocks(range(30), 30, 8, overlap)


def test_a_stray_slice_does_not_stretch_a_guessed_liver_nor_a_doubtful_one_cut_it():
    probability = np.full(60, 0.05)
    probability[30:45] = 0.9
    probability[37] = 0.2
    probability[3] = 0.95
    assert likely_liver(probability) == range(30, 45)
    assert liver_range(probability >= 0.5) == range(3, 45)
    assert likely_liver(probability, 0.99) == range(0)
    assert likely_liver(np.zeros(0)) == range(0)
    assert likely_liver(np.array([0.0, 1.0, 0.0, 1.0, 0.0])) == range(1, 4)  # as sure as either slice alone


@given(st.lists(st.integers(0, 10).map(lambda tenth: tenth / 8 - 0.125), min_size=1, max_size=30))
def test_a_guessed_liver_speaks_more_for_liver_than_any_other_stretch(probability):
    evidence = np.array(probability) - 0.5  # eighths: sums are exact
    stretches = [(a, b) for a in range(len(evidence)) for b in range(a + 1, len(evidence) + 1)]
    best = max(evidence[a:b].sum() for a, b in stretches)
    found = likely_liver(np.array(probability))
    if best <= 0:
        assert found == range(0)
    else:
        assert evidence[found.start : found.stop].sum() == best


@given(livers())
def test_a_sure_guess_is_the_liver_itself(case):
    liver, n_slices, _ = case
    certain = np.zeros(n_slices)
    certain[list(liver)] = 1
    assert likely_liver(certain) == liver == liver_range(certain > 0)
