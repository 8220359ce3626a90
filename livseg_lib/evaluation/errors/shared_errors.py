"""Errors that systems have in common: what all of them miss, what many of them take for a tumour.

An error of one network is that network's; an error of all is the picture's, or the truth's.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from livseg_lib.evaluation.errors.error_objects import (
    FALSE_NEGATIVE,
    FALSE_POSITIVE,
    FEATURES,
    TrueCase,
    describe_objects,
)
from livseg_lib.postprocessing.components import label_components

SHARED_COLUMNS = ("error", "object", "n_systems", "n_wrong", "wrong_systems", *FEATURES)


def shared_misses(tumors: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """System -> `CaseErrors.tumors` of one case; a row a true tumour, SHARED_COLUMNS: how many missed it."""
    tables = list(tumors.values())
    missed = pd.DataFrame({system: ~table.hit.astype(bool) for system, table in tumors.items()})
    return _with_systems(tables[0][["object", *FEATURES]], missed, FALSE_NEGATIVE)


def shared_false_positives(masks: Mapping[str, np.ndarray], case: TrueCase, least: int) -> pd.DataFrame:
    """System -> `CaseErrors.false_positives` of one case; a row a place, SHARED_COLUMNS.

    A place is a connected region of voxels that at least `least` systems take for a tumour each, in false
    positives; `n_wrong` systems mark a part of it. Features are those of the region.
    """
    votes = np.zeros(case.labels.shape, np.uint16)
    for mask in masks.values():
        votes += mask
    places, count = label_components(votes >= least)
    marked = {}
    for system, mask in masks.items():
        touched = np.zeros(count + 1, bool)
        touched[places[mask]] = True
        marked[system] = touched[1:]
    return _with_systems(describe_objects(places, case), pd.DataFrame(marked), FALSE_POSITIVE)


def _with_systems(objects: pd.DataFrame, wrong: pd.DataFrame, error: str) -> pd.DataFrame:
    names = wrong.columns.to_numpy()
    table = objects.reset_index(drop=True).assign(
        error=error,
        n_systems=wrong.shape[1],
        n_wrong=wrong.to_numpy(bool).sum(axis=1),
        wrong_systems=[", ".join(names[row]) for row in wrong.to_numpy(bool)],
    )
    return table[list(SHARED_COLUMNS)]
