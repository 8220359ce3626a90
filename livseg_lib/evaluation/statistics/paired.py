"""Is one system better than another on the same patients? Differences, intervals, a paired test, Holm.

The test flips the signs of the patients' differences (Fisher 1935, "The Design of Experiments", chapter 3):
were two systems alike, each patient could as well have differed the other way round. It asks about the
same mean that is reported, needs no normal distribution, and is exact for few patients and for patients on
whom both score alike, where Wilcoxon's signed-rank test has to drop patients or to approximate.

Few patients cannot say much. Of 2^n ways to flip n differences two are extreme, so that no p value lies
below 2 / 2^n: 0.0078 for 8 patients, before any correction. The tables carry that bound.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.stats import permutation_test

from livseg_lib.errors import InputError
from livseg_lib.evaluation.statistics.bootstrap import SIGNIFICANT, bootstrap_interval

FLIPS = 2**13
"""Every way to flip up to 13 patients; of more patients as many ways drawn at random."""

RULE = (
    f"A difference counts as shown only where its corrected p is below {SIGNIFICANT} and its interval leaves "
    "zero out."
)
"""`verdict` in words."""

ALTERNATIVES = {"two-sided": 2, "greater": 1}
"""How many of the extreme ways to flip count as evidence: both, or the one in which the first wins."""


def sign_flip_test(differences: ArrayLike, alternative: str = "two-sided", seed: int = 0) -> float:
    """p value of the mean of paired differences (n,), a number a patient; NaN below two patients.

    `alternative` is "two-sided", or "greater" where only a positive mean was ever the question.
    """
    differences = np.sort(np.asarray(differences, float))  # the order of patients decides nothing
    if len(differences) < 2:
        return np.nan
    rng = np.random.default_rng(seed)
    found = permutation_test(
        (differences,),
        np.mean,
        permutation_type="samples",
        vectorized=True,
        n_resamples=FLIPS,
        alternative=alternative,
        rng=rng,
    )
    return float(found.pvalue)


def smallest_p(differences: ArrayLike, alternative: str = "two-sided") -> float:
    """The p value that `sign_flip_test` gives where every patient differs the same way; NaN as there.

    Patients on whom both score alike do not count: flipping nothing changes nothing.
    """
    differences = np.asarray(differences, float)
    if len(differences) < 2:
        return np.nan
    ways = min(2.0 ** np.count_nonzero(differences), FLIPS + 1)
    return min(1.0, ALTERNATIVES[alternative] / ways)


def holm(p_values: ArrayLike) -> np.ndarray:
    """p values (m,) adjusted for being m: the chance of even one false alarm stays below the level.

    Holm 1979, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of
    Statistics 6. NaN stays NaN and is not counted.
    """
    p_values = np.asarray(p_values, float)
    adjusted = np.full(len(p_values), np.nan)
    order = np.argsort(p_values)[: np.count_nonzero(~np.isnan(p_values))]
    steps = p_values[order] * np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return adjusted


def verdict(rows: pd.DataFrame | pd.Series) -> pd.Series | int:
    """What paired differences show by RULE: 1 that they are above zero, -1 below, 0 nothing.

    `rows`: one row, or a table, with p_holm, difference_low and difference_high (see `compare_pairs`). A
    difference with an undefined p or interval is not shown.
    """
    side = 1 * (rows.difference_low > 0) - 1 * (rows.difference_high < 0)
    return side * (rows.p_holm < SIGNIFICANT)


def patient_scores(rows: pd.DataFrame, metric: str = "dice") -> pd.DataFrame:
    """A row a patient, a column a system, from rows with `patient`, `system` and the metric.

    The cases of one patient are averaged first, so that nobody counts twice. NaN where a score is undefined.
    """
    means = rows.groupby(["patient", "system"], sort=False)[metric].mean()
    return means.unstack("system")


def compare_pairs(
    scores: pd.DataFrame, pairs: Sequence[tuple[str, str]], alternative: str = "two-sided", seed: int = 0
) -> pd.DataFrame:
    """A row for each pair of columns of `scores` (`patient_scores`), corrected for their number.

    Columns: first, second, n_patients, n_undefined (left out, as one of both has no score there),
    difference (mean of first - second), difference_low and difference_high (95 % bootstrap interval over
    patients, not corrected), alternative, p, p_holm, and smallest_p_holm: no p_holm of these pairs could
    have been below it. Raises InputError for a system without scores.
    """
    for name in {name for pair in pairs for name in pair} - set(scores):
        raise InputError(name, "has no scores to compare.", "Evaluate it on the test patients first.")
    if not len(pairs):
        return pd.DataFrame(columns=COLUMNS[2:])
    table = pd.DataFrame([_compare(scores, *pair, alternative, seed) for pair in pairs])
    table["p_holm"] = holm(table["p"])
    bound = table["p"].notna().sum() * table.pop("smallest_p").min()
    return table.assign(smallest_p_holm=min(1.0, bound) if pd.notna(bound) else np.nan)


def compare_systems(patients: pd.DataFrame, baseline: str, seed: int = 0) -> pd.DataFrame:
    """`compare_pairs` for each structure of patients.csv, in two families that answer two questions.

    "baseline": is each system better than `baseline` (alternative "greater": asked before any result)?
    "systems": does any system differ from any other (two-sided)? Within a pair the better mean comes first.
    A baseline that was not scored has no family. Columns as `compare_pairs`, after structure and family.
    """
    parts = []
    for structure, rows in patients.groupby("structure", sort=False):
        scores = patient_scores(rows)
        ranked = scores.drop(columns=baseline, errors="ignore").mean().sort_values(ascending=False).index
        against = [(name, baseline) for name in ranked] if baseline in scores else []
        families = {
            "baseline": compare_pairs(scores, against, "greater", seed),
            "systems": compare_pairs(scores, list(combinations(ranked, 2)), "two-sided", seed),
        }
        for family, table in families.items():
            parts.append(table.assign(structure=structure, family=family))
    table = pd.concat([part for part in parts if not part.empty] or [pd.DataFrame(columns=COLUMNS)])
    return table[list(COLUMNS)].reset_index(drop=True)


COLUMNS = (
    "structure",
    "family",
    "first",
    "second",
    "n_patients",
    "n_undefined",
    "difference",
    "difference_low",
    "difference_high",
    "alternative",
    "p",
    "p_holm",
    "smallest_p_holm",
)


def _compare(scores: pd.DataFrame, first: str, second: str, alternative: str, seed: int) -> dict:
    differences = scores[first] - scores[second]
    defined = differences.dropna().to_numpy()
    low, high = bootstrap_interval(defined, seed=seed)
    return {
        "first": first,
        "second": second,
        "n_patients": len(defined),
        "n_undefined": len(differences) - len(defined),
        "difference": defined.mean() if len(defined) else np.nan,
        "difference_low": low,
        "difference_high": high,
        "alternative": alternative,
        "p": sign_flip_test(defined, alternative, seed),
        "smallest_p": smallest_p(defined, alternative),
    }
