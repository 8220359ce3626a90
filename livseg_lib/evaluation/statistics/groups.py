"""Is a system worse for some patients? Scores by group of patients, and differences between groups.

What is grouped, averaged and drawn is a patient. A group of fewer than three patients has no interval, and no
difference is asked of it: two patients show nothing but themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations, pairwise
from math import comb

import numpy as np
import pandas as pd
from scipy.stats import bootstrap, permutation_test

from livseg_lib.evaluation.statistics.bootstrap import bootstrap_interval
from livseg_lib.evaluation.statistics.paired import FLIPS, holm

FEWEST_PATIENTS = 3
"""That a group has an interval, and is compared with others."""

DIFFERENCE_COLUMNS = ("factor", "first", "second", "n_first", "n_second", "difference")
DIFFERENCE_COLUMNS += ("difference_low", "difference_high", "p", "p_holm", "smallest_p_holm")


def bands(values: pd.Series, edges: Sequence[float], unit: str) -> pd.Series:
    """The class of each number between ascending `edges`, such as "2.5 to 5 mm", in order; NaN of NaN.

    A number on an edge belongs to the class below.
    """
    between = [f"{low:g} to {high:g} {unit}" for low, high in pairwise(edges)]
    names = [f"up to {edges[0]:g} {unit}", *between, f"over {edges[-1]:g} {unit}"]
    return pd.cut(values.astype(float), [-np.inf, *edges, np.inf], labels=names)


def group_means(scores: pd.DataFrame, facts: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """A row a factor, group and system.

    `scores`: a row a patient, a column a system (`paired.patient_scores`). `facts`: a row a patient, a column
    a factor, such as "site", with the group's name; NaN where it is unknown; patients 1 and "1" are one.
    Columns: factor, group, system, n_patients, n_undefined (without a score), mean, low, high (95 % bootstrap
    over patients, NaN below FEWEST_PATIENTS). Groups come in the order of a categorical column, others by
    their names.
    """
    rows = []
    for factor, group, members in _groups(scores, facts):
        for system in scores:
            values = scores.loc[members, system]
            row = {"factor": factor, "group": group, "system": system}
            rows.append(
                row | _mean(values.dropna().to_numpy(), seed) | {"n_undefined": int(values.isna().sum())}
            )
    columns = ["factor", "group", "system", "n_patients", "n_undefined", "mean", "low", "high"]
    return pd.DataFrame(rows, columns=columns)


def group_differences(scores: pd.Series, facts: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """A row (DIFFERENCE_COLUMNS) a pair of groups of one factor that have FEWEST_PATIENTS each.

    `scores`: a number a patient; `facts` as in `group_means`. difference: mean of first - second, with its
    95 % interval by drawing patients within either group (not corrected). p: two-sided, by dealing the
    patients out to the two groups anew (exact for few), and Holm's correction for all pairs of all factors.
    smallest_p_holm: none of them could have been below it.
    """
    scores = scores.dropna()
    rows = []
    for factor, groups in _by_factor(scores, facts).items():
        large = {name: values for name, values in groups.items() if len(values) >= FEWEST_PATIENTS}
        for pair in combinations(large, 2):
            rows.append({"factor": factor} | _difference(pair, [large[name] for name in pair], seed))
    table = pd.DataFrame(rows, columns=list(DIFFERENCE_COLUMNS))
    table["p_holm"] = holm(table["p"])
    table["smallest_p_holm"] = min(1.0, len(table) * table["smallest_p_holm"].min()) if len(table) else np.nan
    return table


def _by_factor(scores: pd.Series, facts: pd.DataFrame) -> dict[str, dict[str, np.ndarray]]:
    found: dict[str, dict[str, np.ndarray]] = {}
    for factor, group, members in _groups(scores, facts):
        found.setdefault(factor, {})[group] = np.sort(scores[members].to_numpy())  # in no order of patients
    return found


def _groups(scores: pd.Series | pd.DataFrame, facts: pd.DataFrame) -> list[tuple[str, str, pd.Index]]:
    """(factor, group, its patients), every group that has any."""
    known = facts.set_axis(facts.index.map(str)).reindex(scores.index.map(str)).set_axis(scores.index)
    known = known.astype("category")
    return [
        (factor, group, known.index[known[factor] == group])
        for factor in known
        for group in known[factor].cat.remove_unused_categories().cat.categories
    ]


def _mean(values: np.ndarray, seed: int) -> dict[str, float]:
    low, high = bootstrap_interval(values, seed=seed) if len(values) >= FEWEST_PATIENTS else (np.nan, np.nan)
    mean = float(values.mean()) if len(values) else np.nan
    return {"n_patients": len(values), "mean": mean, "low": low, "high": high}


def _difference(pair: tuple[str, str], values: Sequence[np.ndarray], seed: int) -> dict:
    low, high = _interval(values, seed)
    found = permutation_test(
        values, _mean_difference, vectorized=True, n_resamples=FLIPS, rng=np.random.default_rng(seed)
    )
    ways = min(comb(len(values[0]) + len(values[1]), len(values[0])), FLIPS + 1)
    return {
        "first": pair[0],
        "second": pair[1],
        "n_first": len(values[0]),
        "n_second": len(values[1]),
        "difference": float(_mean_difference(*values)),
        "difference_low": low,
        "difference_high": high,
        "p": float(found.pvalue),
        "smallest_p_holm": 2 / ways,
    }


def _interval(values: Sequence[np.ndarray], seed: int) -> tuple[float, float]:
    found = bootstrap(
        values,
        _mean_difference,
        vectorized=True,
        n_resamples=2000,
        method="percentile",
        rng=np.random.default_rng(seed),
    )
    return float(found.confidence_interval.low), float(found.confidence_interval.high)


def _mean_difference(first: np.ndarray, second: np.ndarray, axis: int = -1) -> np.ndarray:
    return first.mean(axis=axis) - second.mean(axis=axis)
