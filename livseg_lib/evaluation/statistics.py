"""Means with intervals, paired differences, groups: patients are drawn, never slices or tumours.

Paired differences are tested by flipping the signs of the patients' differences (Fisher 1935, "The Design of
Experiments", chapter 3): were two systems alike, each patient could as well have differed the other way
round. It asks about the same mean that is reported, needs no normal distribution, and is exact for few
patients and for patients on whom both score alike, where Wilcoxon's signed-rank test has to drop patients or
to approximate. Few patients cannot say much: of 2^n ways to flip n differences two are extreme, so that no p
value lies below 2 / 2^n: 0.0078 for 8 patients, before any correction. The tables carry that bound.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations, pairwise
from math import comb, fsum

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from livseg_lib.errors import InputError

SIGNIFICANT = 0.05  # the chance of a false alarm that is taken: intervals hold 95 %, and see `verdict`
RESAMPLES = 2000
NUMBERS_AT_ONCE = 2**23
"""Drawn numbers in memory at a time, 64 MB: larger draws are made in portions, to the same result."""


def bootstrap_interval(
    values: ArrayLike, statistic: Callable[..., np.ndarray] = np.nanmean, seed: int = 0
) -> tuple[float, float]:
    """95 % percentile bootstrap interval (Efron 1979) of a statistic over patients: (low, high).

    `values`: one number a patient (n,), or several (n, k) for a statistic that pools them, such as a global
    Dice. `statistic` reduces along the `axis` it is given. Patients with a NaN are left out first; with fewer
    than two left both ends are NaN. Draws for which the statistic is NaN are left out, too. Deterministic by
    `seed`, whatever order patients come in: they are sorted by their numbers (by size before sign, so that
    differences the other way round have the same interval the other way round, unless their sum is 0).
    """
    values = np.asarray(values, float)
    values = values[~np.isnan(values).any(axis=tuple(range(1, values.ndim)))]
    if len(values) < 2:
        return np.nan, np.nan
    numbers = values.reshape(len(values), -1).T
    sides = np.sign([fsum(each) for each in numbers])
    values = values[np.lexsort([*numbers, *(numbers * sides[:, None]), *np.abs(numbers)])]
    chosen = np.random.default_rng(seed).integers(len(values), size=(RESAMPLES, len(values)))
    portions = np.array_split(chosen, -(-chosen.size * values[0].size // NUMBERS_AT_ONCE))
    found = np.concatenate([statistic(values[portion], axis=1) for portion in portions])
    ends = [SIGNIFICANT / 2, 1 - SIGNIFICANT / 2]
    low, high = np.nanquantile(found, ends) if np.isfinite(found).any() else (np.nan, np.nan)
    return float(low), float(high)


def mean_with_interval(
    name: str, values: ArrayLike, units: ArrayLike, pooled: bool = False, fewest: int = 2, seed: int = 0
) -> dict[str, float]:
    """`name`, `name`_low and `name`_high: the mean of `values` (n,) and its 95 % bootstrap interval.

    `units` (n,) names the patient, say, of each value. Units are drawn, and each counts once, with the
    mean of its values; with `pooled` each value counts once (the share of tumours that were found, 0 to 1),
    and units are drawn with all they have, as those of one patient are alike. NaN values are left out; the
    mean of none is NaN, and so is the interval of fewer than `fewest` units.
    """
    groups = pd.Series(np.asarray(values, float)).groupby(np.asarray(units), sort=False)
    sums = groups.agg(["sum", "count"]).query("count > 0").to_numpy(float)
    per_unit, statistic = (sums, _pooled_mean) if pooled else (sums[:, 0] / sums[:, 1], np.mean)
    mean = float(statistic(per_unit, axis=0)) if len(sums) else np.nan
    low, high = bootstrap_interval(per_unit if len(sums) >= fewest else [], statistic, seed=seed)
    return {name: mean, f"{name}_low": low, f"{name}_high": high}


def _pooled_mean(sums: np.ndarray, axis: int) -> np.ndarray:
    """Of (..., n, 2) sums and counts along the axis of n."""
    total, count = np.moveaxis(sums.sum(axis=axis), -1, 0)
    return total / count


def over_seeds(name: str, values: ArrayLike, seed: int = 0) -> dict[str, float]:
    """`name`, `name`_low and `name`_high of values (n_seeds, n_patients): another seed, other patients.

    The mean over patients with a value, of the mean over seeds; its 95 % interval draws seeds *and* patients,
    each with replacement (two factors that are crossed: Owen 2007, doi:10.1214/07-AOAS122), in whatever order
    they come; NaN with fewer than two of either. Beside it `name`_of_worst_seed and `name`_of_best_seed,
    means over the same patients.
    """
    values = np.asarray(values, float)
    values = values[:, ~np.isnan(values).any(axis=0)]
    n_seeds, n_patients = values.shape
    of_seeds = values.mean(axis=1) if n_patients else np.full(n_seeds, np.nan)
    low = high = np.nan
    if min(n_seeds, n_patients) >= 2:
        values = values[np.lexsort(np.sort(np.abs(values)).T)]
        values = values[:, np.lexsort([*values, *np.abs(values)])]
        rng = np.random.default_rng(seed)
        seeds, patients = (rng.integers(n, size=(RESAMPLES, n)) for n in (n_seeds, n_patients))
        means = values[seeds[:, :, None], patients[:, None, :]].mean(axis=(1, 2))
        low, high = np.quantile(means, [SIGNIFICANT / 2, 1 - SIGNIFICANT / 2])
    found = {"": of_seeds.mean(), "_low": low, "_high": high}
    found |= {"_of_worst_seed": of_seeds.min(), "_of_best_seed": of_seeds.max()}
    return {f"{name}{end}": float(value) for end, value in found.items()}


def summarize(
    rows: pd.DataFrame,
    by: str | Sequence[str],
    values: str | Sequence[str],
    unit: str = "patient",
    pooled: bool = False,
    fewest: int = 2,
    seed: int = 0,
) -> pd.DataFrame:
    """A row a group of `rows`, in their order: the columns `by`, then of each of `values` its mean, _low and
    _high (`mean_with_interval`), then n_<unit>s and n_undefined.

    n_<unit>s have all of `values`, n_undefined lack one. Groups without a row are not there. For a table with
    a row a group *and* score, melt the scores first and group by their name too.
    """
    by, values = ([each] if isinstance(each, str) else list(each) for each in (by, values))
    table = []
    for group, part in rows.groupby(by, sort=False, observed=True):
        row = dict(zip(by, group, strict=True))
        for name in values:
            row |= mean_with_interval(name, part[name], part[unit], pooled, fewest, seed)
        defined = part[values].notna().groupby(part[unit], observed=True).any().all(axis=1)
        table.append(row | {f"n_{unit}s": int(defined.sum()), "n_undefined": int((~defined).sum())})
    columns = [*by, *(f"{name}{end}" for name in values for end in ("", "_low", "_high"))]
    return pd.DataFrame(table, columns=[*columns, f"n_{unit}s", "n_undefined"])


FLIPS = 2**13  # every way to flip up to 13 patients; of more patients as many ways drawn at random


def sign_flip_test(differences: ArrayLike, alternative: str = "two-sided", seed: int = 0) -> float:
    """p value of the mean of paired differences (n,), a number a patient; NaN below two patients, and of NaN.

    `alternative` is "two-sided", or "greater" where only a positive mean was ever the question.
    """
    from scipy.stats import permutation_test  # takes a second to import

    differences = np.asarray(differences, float)
    if len(differences) < 2 or np.isnan(differences).any():
        return np.nan
    # Neither the order of patients counts, nor who scores alike on both: flipping nothing changes nothing.
    counting = max(2, np.count_nonzero(differences))
    differences = np.sort(sorted(differences, key=abs)[-counting:])
    if alternative == "two-sided" and differences.mean() < 0:  # neither does the order of the two systems
        differences = -differences[::-1]
    rng = np.random.default_rng(seed)
    flips = {"permutation_type": "samples", "n_resamples": FLIPS, "vectorized": True}
    found = permutation_test((differences,), np.mean, alternative=alternative, rng=rng, **flips)
    return float(found.pvalue)


def smallest_p(differences: ArrayLike, alternative: str = "two-sided") -> float:
    """The p value that `sign_flip_test` gives where every patient differs the same way; NaN as there.

    Patients on whom both score alike do not count.
    """
    if len(differences) < 2:
        return np.nan
    ways = min(2.0 ** np.count_nonzero(differences), FLIPS + 1)
    extreme = {"two-sided": 2, "greater": 1}[alternative]  # both, or that in which the first always wins
    return min(1.0, extreme / ways)


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
    """What paired differences show: 1 that they are above zero, -1 below, 0 nothing.

    A difference counts as shown only where its corrected p is below SIGNIFICANT *and* its interval leaves
    zero out. `rows`: one row, or a table, with p_holm, difference_low and difference_high (see
    `compare_pairs`). A difference with an undefined p or interval is not shown.
    """
    side = 1 * (rows.difference_low > 0) - 1 * (rows.difference_high < 0)
    return side * (rows.p_holm < SIGNIFICANT)


def verdict_in_words(rows: pd.DataFrame) -> str:
    """The differences that are shown, such as "a minus b +0.12 (+0.05 to +0.20, p 0.012)", or that none is.

    `rows` as of `verdict`, with first, second, difference and smallest_p_holm. Where no p could have been low
    enough with so few patients, it says so: that is no sign that things are equal.
    """
    found = [
        f"{row.first} minus {row.second} {row.difference:+.2g} ({row.difference_low:+.2g} to "
        f"{row.difference_high:+.2g}, p {row.p_holm:.2g})"
        for row in rows[verdict(rows) != 0].itertuples()
    ]
    could = (rows.smallest_p_holm < SIGNIFICANT).any()
    few = "" if could else " (with so few patients none could have been)"
    return "; ".join(found) or f"none of {len(rows)} differences is shown{few}"


def patient_scores(rows: pd.DataFrame, value: str = "dice", between: str = "system") -> pd.DataFrame:
    """A row a patient, a column a system, from rows with both and the value.

    The cases of one patient are averaged first, so that nobody counts twice. NaN where a score is undefined.
    """
    return rows.groupby(["patient", between], sort=False, observed=True)[value].mean().unstack(between)


def compare(
    rows: pd.DataFrame,
    pairs: str | Sequence[tuple[str, str]],
    value: str = "dice",
    by: Sequence[str] = (),
    between: str = "system",
    seed: int = 0,
) -> pd.DataFrame:
    """`compare_pairs` of the `patient_scores` of `rows`, once a group by the columns `by`, which come first
    and within which p is corrected. `pairs` are names in the column `between`, or one, compared with all
    others."""
    tables = []
    for group, part in rows.groupby(list(by), sort=False, observed=True) if by else [((), rows)]:
        scores = patient_scores(part, value, between)
        name_pairs = [(name, pairs) for name in scores if name != pairs] if isinstance(pairs, str) else pairs
        table = compare_pairs(scores, name_pairs, seed=seed)
        for position, name in enumerate(by):
            table.insert(position, name, group[position])
        tables.append(table)
    return stacked(tables or [pd.DataFrame(columns=[*by, *PAIR_COLUMNS[2:]])])


def stacked(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """All rows below each other; tables without a row would only change the types of columns."""
    return pd.concat([table for table in tables if len(table)] or tables[:1], ignore_index=True)


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
        return pd.DataFrame(columns=PAIR_COLUMNS[2:])
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
        parts += [table.assign(structure=structure, family=name) for name, table in families.items()]
    return stacked(parts or [pd.DataFrame(columns=PAIR_COLUMNS)])[list(PAIR_COLUMNS)]


PAIR_COLUMNS = ("structure", "family", "first", "second", "n_patients", "n_undefined", "difference")
PAIR_COLUMNS += ("difference_low", "difference_high", "alternative", "p", "p_holm", "smallest_p_holm")


def _compare(scores: pd.DataFrame, first: str, second: str, alternative: str, seed: int) -> dict:
    differences = scores[first] - scores[second]
    defined = differences.dropna().to_numpy()
    n_undefined = len(differences) - len(defined)
    row = {"first": first, "second": second, "n_patients": len(defined), "n_undefined": n_undefined}
    row |= mean_with_interval("difference", defined, range(len(defined)), seed=seed)
    row |= {"alternative": alternative, "p": sign_flip_test(defined, alternative, seed)}
    return row | {"smallest_p": smallest_p(defined, alternative)}


FEWEST_PATIENTS = 3  # that a group has an interval, and is compared with others
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

    `scores`: a row a patient, a column a system (`patient_scores`). `facts`: a row a patient, a column a
    factor, such as "site", with the group's name; NaN where it is unknown; patients 1 and "1" are one.
    Columns: factor, group, system, n_patients, n_undefined (without a score), mean, low, high (95 % bootstrap
    over patients, NaN below FEWEST_PATIENTS). Groups come in the order of a categorical column, or by name.
    """
    columns = ["factor", "group", "system", "n_patients", "n_undefined", "mean", "mean_low", "mean_high"]
    parts = {each[:2]: scores.loc[each[2]].stack(future_stack=True) for each in _groups(scores, facts)}
    table = pd.DataFrame(columns=columns)
    if parts:
        rows = pd.concat(parts, names=[*columns[:2], "patient", "system"]).rename("mean").reset_index()
        table = summarize(rows, columns[:3], "mean", fewest=FEWEST_PATIENTS, seed=seed)[columns]
    return table.rename(columns={"mean_low": "low", "mean_high": "high"})


def group_differences(scores: pd.Series, facts: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """A row (DIFFERENCE_COLUMNS) a pair of groups of one factor that have FEWEST_PATIENTS each.

    `scores`: a number a patient; `facts` as in `group_means`. difference: mean of first - second, with its
    95 % interval by drawing patients within either group (not corrected). p: two-sided, by dealing the
    patients out to the two groups again (exact for few), and Holm's correction for all pairs of all factors.
    smallest_p_holm: none of them could have been below it.
    """
    scores = scores.dropna()
    large = [each for each in _groups(scores, facts) if len(each[2]) >= FEWEST_PATIENTS]
    rows = [
        {"factor": first[0], "first": first[1], "second": second[1]}
        | _difference([np.sort(scores[members].to_numpy()) for *_, members in (first, second)], seed)
        for first, second in combinations(large, 2)
        if first[0] == second[0]
    ]
    table = pd.DataFrame(rows, columns=list(DIFFERENCE_COLUMNS))
    table["p_holm"] = holm(table["p"])
    table["smallest_p_holm"] = min(1.0, len(table) * table["smallest_p_holm"].min()) if len(table) else np.nan
    return table


def _groups(scores: pd.Series | pd.DataFrame, facts: pd.DataFrame) -> list[tuple[str, str, pd.Index]]:
    """(factor, group, its patients), every group that has any."""
    known = facts.set_axis(facts.index.map(str)).reindex(scores.index.map(str)).set_axis(scores.index)
    known = known.astype("category")
    return [
        (factor, group, known.index[known[factor] == group])
        for factor in known
        for group in known[factor].cat.remove_unused_categories().cat.categories
    ]


def _difference(values: Sequence[np.ndarray], seed: int) -> dict:
    """Of the scores of two groups, each sorted, as the order of patients decides nothing."""
    from scipy.stats import bootstrap, permutation_test

    drawing = {"n_resamples": RESAMPLES, "method": "percentile", "rng": np.random.default_rng(seed)}
    interval = bootstrap(values, _mean_difference, vectorized=True, **drawing).confidence_interval
    dealing = {"n_resamples": FLIPS, "rng": np.random.default_rng(seed)}
    found = permutation_test(values, _mean_difference, vectorized=True, **dealing)
    n_first, n_second = map(len, values)
    numbers = (n_first, n_second, float(_mean_difference(*values)), interval.low, interval.high, found.pvalue)
    smallest_p = 2 / min(comb(n_first + n_second, n_first), FLIPS + 1)
    return dict(zip(DIFFERENCE_COLUMNS[3:], (*numbers, np.nan, smallest_p), strict=True))


def _mean_difference(first: np.ndarray, second: np.ndarray, axis: int = -1) -> np.ndarray:
    return first.mean(axis=axis) - second.mean(axis=axis)
