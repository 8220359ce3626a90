"""What several systems have said of one case, read from disk once each and cut to where anything is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from livseg_lib.datasets.case import Case
from livseg_lib.evaluation.arrays import Box, foreground_box
from livseg_lib.paths import RunFolders
from livseg_lib.predictions import load_prediction
from livseg_lib.volumes import Volume


def stored_labels(
    folders: RunFolders, systems: Sequence[str], case: Case, volume: Volume, *others: np.ndarray
) -> tuple[list[np.ndarray], Box]:
    """What each system says, uint8 (d, h, w), in the smallest box with all labels, and that box.

    The box holds the labels of `others` (D, H, W) too. One whole prediction in memory at a time.
    """
    cut, boxes = [], [foreground_box(other) for other in others]
    for system in systems:
        labels = load_prediction(volume, folders.predictions(system), case.case_id)
        boxes.append(foreground_box(labels))
        cut.append((labels[boxes[-1]].copy(), boxes[-1]))
    hull = _hull(boxes)
    return [_widened(labels, box, hull) for labels, box in cut], hull


def _hull(boxes: Sequence[Box]) -> Box:
    """The smallest box around all `boxes` that are not empty; an empty one where all are."""
    filled = [box for box in boxes if all(side.stop > side.start for side in box)]
    if not filled:
        return boxes[0]
    sides = zip(*filled, strict=True)
    return tuple(slice(min(s.start for s in side), max(s.stop for s in side)) for side in sides)


def _widened(labels: np.ndarray, box: Box, hull: Box) -> np.ndarray:
    """`labels` of `box` in an array of the size of `hull`."""
    whole = np.zeros([side.stop - side.start for side in hull], np.uint8)
    if labels.size:
        inside = (slice(s.start - h.start, s.stop - h.start) for s, h in zip(box, hull, strict=True))
        whole[tuple(inside)] = labels
    return whole
