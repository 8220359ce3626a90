"""Intervals that say how far a score depends on which patients happened to be in the test set."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

SIGNIFICANT = 0.05
"""The chance of a false alarm that is taken: intervals hold 95 %, and see `paired.verdict`."""

NUMBERS_AT_ONCE = 2**23
"""How many drawn numbers are in memory at a time, 64 MB: many patients with many numbers each are drawn
in portions, to the same result."""


def bootstrap_interval(
    values: ArrayLike,
    statistic: Callable[..., np.ndarray] = np.nanmean,
    level: float = 1 - SIGNIFICANT,
    resamples: int = 2000,
    seed: int = 0,
) -> tuple[float, float]:
    """Percentile bootstrap interval (Efron 1979) of a statistic over patients: (low, high).

    `values`: one number a patient (n,), or several (n, k) for a statistic that pools them, such as
    a global Dice. `statistic` reduces along the `axis` it is given. Patients with a NaN are left out
    first; with fewer than two patients left both ends are NaN. So are draws for which the statistic is NaN,
    as a recall is where only patients without tumours were drawn. Deterministic by `seed`, whatever order
    the patients come in: they are sorted by their numbers, as names sort differently as text and as numbers
    (by size before sign, so that differences the other way round have the same interval the other way round).
    """
    values = np.asarray(values, float)
    values = values[~np.isnan(values).any(axis=tuple(range(1, values.ndim)))]
    if len(values) < 2:
        return np.nan, np.nan
    numbers = values.reshape(len(values), -1).T
    values = values[np.lexsort([*numbers, *np.abs(numbers)])]
    chosen = np.random.default_rng(seed).integers(len(values), size=(resamples, len(values)))
    portions = np.array_split(chosen, -(-chosen.size * values[0].size // NUMBERS_AT_ONCE))
    found = np.concatenate([statistic(values[portion], axis=1) for portion in portions])
    found = found[~np.isnan(found)]
    if not len(found):
        return np.nan, np.nan
    low, high = np.quantile(found, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def share_with_interval(
    happened: pd.Series, patient: pd.Series, seed: int = 0
) -> tuple[float, tuple[float, float]]:
    """Share of things (tumours, errors) for which it happened, 0 to 1, and its (low, high) interval.

    `happened` bool and `patient`, an element a thing each. What is resampled are the patients who have such
    things, as those of one patient are alike; NaN of none.
    """
    counts = happened.groupby(patient).agg(["sum", "count"]).to_numpy(float).reshape(-1, 2)
    interval = bootstrap_interval(counts, _pooled_share, seed=seed)
    return (float(happened.mean()) if len(happened) else np.nan), interval


def _pooled_share(counts: np.ndarray, axis: int) -> np.ndarray:
    part, whole = np.moveaxis(counts.sum(axis=axis), -1, 0)
    return part / whole
