"""Do two ways of measuring agree? Bias, limits of agreement and concordance, a patient counting once.

Bland & Altman 1986, doi:10.1016/S0140-6736(86)90837-8, and 1999, doi:10.1177/096228029900800204. A high
correlation is no agreement: a system that outlines twice the volume correlates perfectly.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.stats import norm, t

from livseg_lib.evaluation.statistics import SIGNIFICANT, bootstrap_interval, holm, sign_flip_test

WITHIN_LIMITS = float(norm.ppf(1 - SIGNIFICANT / 2))
"""Standard deviations to either side of the bias that hold 95 % of normal differences: 1.96."""


class Agreement(NamedTuple):
    """Of differences measured - reference; each interval is (low, high) at 95 %."""

    n: int
    n_undefined: int
    """Pairs left out, as one of both is NaN."""
    bias: float
    bias_interval: tuple[float, float]
    sd: float
    lower_limit: float
    lower_limit_interval: tuple[float, float]
    upper_limit: float
    upper_limit_interval: tuple[float, float]


def bland_altman(measured: ArrayLike, reference: ArrayLike) -> Agreement:
    """Mean difference of paired measurements (n,), and the limits between which 95 % of differences lie.

    Differences are taken as normal and independent, one a patient. The limits' intervals use their
    variance s^2 (1 / n + 1.96^2 / (2 (n - 1))) of the paper of 1999. Everything but the bias is NaN below
    two pairs, and the bias of none.
    """
    pairs = np.stack([np.asarray(measured, float), np.asarray(reference, float)], axis=1)
    defined = ~np.isnan(pairs).any(axis=1)
    differences = pairs[defined, 0] - pairs[defined, 1]
    n = len(differences)
    bias = float(differences.mean()) if n else np.nan
    sd = float(differences.std(ddof=1)) if n > 1 else np.nan
    limits = bias - WITHIN_LIMITS * sd, bias + WITHIN_LIMITS * sd
    error, limit_error = np.nan, np.nan
    if n > 1:
        error = sd / np.sqrt(n)
        limit_error = sd * np.sqrt(1 / n + WITHIN_LIMITS**2 / (2 * (n - 1)))
    low, high = (_interval(limit, limit_error, n) for limit in limits)
    undefined = int((~defined).sum())
    return Agreement(n, undefined, bias, _interval(bias, error, n), sd, limits[0], low, limits[1], high)


def _interval(value: float, standard_error: float, n: int) -> tuple[float, float]:
    reach = float(t.ppf(1 - SIGNIFICANT / 2, n - 1)) * standard_error if n > 1 else np.nan
    return float(value - reach), float(value + reach)


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


AGREEMENT_COLUMNS = (
    *("n", "n_undefined", "bias", "bias_low", "bias_high", "sd"),
    *("lower_limit", "lower_limit_low", "lower_limit_high"),
    *("upper_limit", "upper_limit_low", "upper_limit_high"),
    *("concordance", "concordance_low", "concordance_high"),
    "p",
)


def agreement_row(measured: ArrayLike, reference: ArrayLike, seed: int = 0) -> dict[str, float]:
    """AGREEMENT_COLUMNS of paired measurements (n,); the interval of the concordance is a bootstrap's, and p
    that of the bias by `paired.sign_flip_test`."""
    found = bland_altman(measured, reference)
    pairs = np.stack([np.asarray(measured, float), np.asarray(reference, float)], axis=1)
    pairs = pairs[~np.isnan(pairs).any(axis=1)]
    row: dict[str, float] = {}
    for name, value in found._asdict().items():
        if name.endswith("_interval"):
            row[name.replace("_interval", "_low")], row[name.replace("_interval", "_high")] = value
        else:
            row[name] = value
    low, high = bootstrap_interval(pairs, concordance, seed=seed)
    row |= {"concordance": float(concordance(pairs)), "concordance_low": low, "concordance_high": high}
    return row | {"p": sign_flip_test(pairs[:, 0] - pairs[:, 1], seed=seed)}


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
