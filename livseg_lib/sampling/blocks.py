"""Which contiguous slices a network of blocks looks at: those that cover the liver (system E: 64 of them).

Where the liver lies is told by labels in training and by a guess in use: a slice sorter's probabilities
(`likely_liver`) or a coarse segmentation (`liver_range`). Labels of test patients are never asked.
"""

from __future__ import annotations

import numpy as np

from livseg_lib.errors import InputError


def liver_range(shows_liver: np.ndarray) -> range:
    """From the first to the last slice that shows liver, of bool (D,); empty where none does."""
    found = np.flatnonzero(shows_liver)
    return range(int(found[0]), int(found[-1]) + 1) if len(found) else range(0)


def likely_liver(probability: np.ndarray, threshold: float = 0.5) -> range:
    """The stretch of slices that speaks most for liver, of probabilities (D,) 0 to 1; may be empty.

    A slice speaks by how far it stands above the threshold, or against liver by how far below: a slice
    called liver in the pelvis does not stretch the liver down to there, a doubtful one within does not cut
    it. The longest of equals.
    """
    evidence = np.concatenate([[0.0], np.cumsum(np.asarray(probability, float) - threshold)])
    least_before = np.minimum.accumulate(evidence)
    gain = evidence - least_before
    if not gain.max() > 0:
        return range(0)
    stop = len(gain) - 1 - int(gain[::-1].argmax())
    return range(int(evidence[: stop + 1].argmin()), stop)


def block_starts(liver: range, n_slices: int, depth: int) -> range:
    """First slices of the blocks of `depth` slices that show as much of the liver as a block can.

    A liver shorter than a block lies wholly in each of them; one that is longer fills each of them. Blocks
    lie within the `n_slices` of the volume; one of fewer slices has the one block from 0 (`block_slices`).
    Raises InputError where there is no liver.
    """
    if not liver:
        problem = "is in none of the slices, so that no block can cover it."
        raise InputError("liver", problem, "Leave out the cases that show none.")
    low, high = sorted((liver.start, liver.stop - depth))
    last = max(n_slices - depth, 0)
    return range(min(max(low, 0), last), min(max(high, 0), last) + 1)


def choose_block(liver: range, n_slices: int, depth: int) -> int:
    """The middle one of `block_starts`: liver and block have one centre, where the volume's ends allow."""
    starts = block_starts(liver, n_slices, depth)
    return starts[(len(starts) - 1) // 2]


def cover_blocks(liver: range, n_slices: int, depth: int, overlap: int) -> list[int]:
    """First slices of blocks of `depth` slices that together cover the liver, from feet to head.

    One where the liver fits into a block, none where there is no liver. Neighbours share `overlap` slices
    (0 to depth - 1), the last two may share more. Raises InputError for another overlap.
    """
    if not 0 <= overlap < depth:
        problem = f"is {overlap} slices of blocks of {depth}."
        raise InputError("overlap", problem, f"Give 0 to {depth - 1}.")
    if not liver:
        return []
    if len(liver) <= depth:
        return [choose_block(liver, n_slices, depth)]
    last = liver.stop - depth
    return [*range(liver.start, last, depth - overlap), last]


def block_slices(start: int, depth: int, n_slices: int) -> np.ndarray:
    """Which slices make a block, int (depth,): where the volume ends before it, its last slice again.

    Truth is repeated as the picture is, so that the copies teach what their original teaches.
    """
    return np.minimum(np.arange(start, start + depth), n_slices - 1)
