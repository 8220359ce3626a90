"""Intervals that say how far a score depends on which patients happened to be in the test set."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike


def bootstrap_interval(
    values: ArrayLike,
    statistic: Callable[..., np.ndarray] = np.nanmean,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> tuple[float, float]:
    """Percentile bootstrap interval (Efron 1979) of a statistic over patients: (low, high).

    `values`: one number a patient (n,), or several (n, k) for a statistic that pools them, such as
    a global Dice. `statistic` reduces along the `axis` it is given. Patients with a NaN are left out
    first; with fewer than two patients left both ends are NaN. Deterministic by `seed`.
    """
    values = np.asarray(values, float)
    values = values[~np.isnan(values).any(axis=tuple(range(1, values.ndim)))]
    if len(values) < 2:
        return np.nan, np.nan
    chosen = np.random.default_rng(seed).integers(len(values), size=(resamples, len(values)))
    low, high = np.quantile(statistic(values[chosen], axis=1), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
