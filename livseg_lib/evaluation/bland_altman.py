"""Do two ways of measuring agree? Bias, limits of agreement and concordance, a patient counting once.

Bland & Altman 1986, doi:10.1016/S0140-6736(86)90837-8, and 1999, doi:10.1177/096228029900800204. A high
correlation is no agreement: a system that outlines twice the volume correlates perfectly.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.stats import norm, t

from livseg_lib.evaluation.statistics import SIGNIFICANT, bootstrap_interval, holm, sign_flip_test

WITHIN_LIMITS = float(norm.ppf(1 - SIGNIFICANT / 2))
"""Standard deviations to either side of the bias that hold 95 % of normal differences: 1.96."""


AGREEMENT_COLUMNS = (
    *("n", "n_undefined", "bias", "bias_low", "bias_high", "sd"),
    *("lower_limit", "lower_limit_low", "lower_limit_high"),
    *("upper_limit", "upper_limit_low", "upper_limit_high"),
    *("concordance", "concordance_low", "concordance_high"),
    "p",
)


def agreement_row(measured: ArrayLike, reference: ArrayLike, seed: int = 0) -> dict[str, float]:
    """AGREEMENT_COLUMNS of paired measurements (n,): the mean difference measured - reference, and the limits
    between which 95 % of differences lie.

    Differences are taken as normal and independent, one a patient. The limits' intervals use their variance
    s^2 (1 / n + 1.96^2 / (2 (n - 1))) of the paper of 1999; that of the concordance is a bootstrap's, and p
    that of the bias by `sign_flip_test`. n_undefined pairs are left out, as one of both is NaN. Everything
    but the bias is NaN below two pairs, and the bias of none.
    """
    pairs = np.stack([np.asarray(measured, float), np.asarray(reference, float)], axis=1)
    defined = pairs[~np.isnan(pairs).any(axis=1)]
    differences, n = defined[:, 0] - defined[:, 1], len(defined)
    bias = float(differences.mean()) if n else np.nan
    sd = float(differences.std(ddof=1)) if n > 1 else np.nan
    row = {"n": n, "n_undefined": len(pairs) - n}
    several = max(n, 2)  # of fewer sd is NaN, and so is all that follows
    quantile = float(t.ppf(1 - SIGNIFICANT / 2, several - 1))
    reach = quantile * sd * np.sqrt(1 / several)
    limit_reach = quantile * sd * np.sqrt(1 / several + WITHIN_LIMITS**2 / (2 * (several - 1)))
    row |= _around("bias", bias, reach) | {"sd": sd}
    row |= _around("lower_limit", bias - WITHIN_LIMITS * sd, limit_reach)
    row |= _around("upper_limit", bias + WITHIN_LIMITS * sd, limit_reach)
    low, high = bootstrap_interval(defined, concordance, seed=seed)
    row |= {"concordance": float(concordance(defined)), "concordance_low": low, "concordance_high": high}
    return row | {"p": sign_flip_test(differences, seed=seed)}


def _around(name: str, value: float, reach: float) -> dict[str, float]:
    return {name: value, f"{name}_low": float(value - reach), f"{name}_high": float(value + reach)}


def concordance(pairs: ArrayLike, axis: int = 0) -> np.ndarray:
    """Lin's concordance correlation coefficient, -1 to 1, of `pairs` (..., n, 2) along the axis of n.

    1 where all pairs lie on the line of identity (Lin 1989, doi:10.2307/2532051; moments divided by n).
    NaN where there is none, and where all numbers are one and the same. Pairs with NaN must be left out.
    """
    pairs = np.moveaxis(np.asarray(pairs, float), axis, -2)
    if pairs.shape[-2] == 0:
        return np.full(pairs.shape[:-2], np.nan)[()]
    first, second = pairs[..., 0], pairs[..., 1]
    apart = first.mean(axis=-1) - second.mean(axis=-1)
    deviations = pairs - pairs.mean(axis=-2, keepdims=True)
    together = 2 * deviations.prod(axis=-1).mean(axis=-1)
    spread = first.var(axis=-1) + second.var(axis=-1) + apart**2
    return np.divide(together, spread, out=np.full(np.shape(spread), np.nan), where=spread > 0)[()]


def compare_with_reference(
    patients: pd.DataFrame, measures: Sequence[str], reference: str = "truth", seed: int = 0
) -> pd.DataFrame:
    """A row a system and measure: system, measure, AGREEMENT_COLUMNS, and p_holm, which is p corrected for
    the number of systems.

    `patients` has `outlined_by`, `patient` and a column a measure, a row a case; cases of a patient are
    averaged. Systems are compared with the rows outlined by `reference`, over the patients that have both.
    """
    rows = []
    for measure in measures:
        values = patients.groupby(["patient", "outlined_by"], sort=False)[measure].mean().unstack()
        for system in [name for name in patients.outlined_by.unique() if name != reference]:
            both = patients.patient[patients.outlined_by == system].unique()
            pairs = values.loc[both, [system, reference]].to_numpy()
            rows.append({"system": system, "measure": measure, **agreement_row(*pairs.T, seed=seed)})
    table = pd.DataFrame(rows, columns=["system", "measure", *AGREEMENT_COLUMNS])
    return table.assign(p_holm=table.groupby("measure").p.transform(holm))
