"""A cohort in numbers: how what was measured is spread over its patients, a patient counting once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from livseg_lib.evaluation.statistics.bootstrap import bootstrap_interval

QUANTILES = {"lowest": 0.0, "lower_quartile": 0.25, "median": 0.5, "upper_quartile": 0.75, "highest": 1.0}
COHORT_COLUMNS = ("group", "measure", "n", "n_undefined", "mean", "mean_low", "mean_high", *QUANTILES)


def describe_cohort(
    groups: Mapping[str, pd.DataFrame], measures: Sequence[str], seed: int = 0
) -> pd.DataFrame:
    """A row a group and measure: COHORT_COLUMNS.

    `groups`: name -> rows with `patient` and a column a measure, a row a case; cases of a patient are
    averaged. Patients without a value are left out and counted (`n_undefined`). The interval of the mean is
    a 95 % bootstrap over patients. A measure that is true or false has its share as its mean.
    """
    rows = []
    for group, cases in groups.items():
        for measure in measures:
            values = cases.astype({measure: float}).groupby("patient", sort=False)[measure].mean()
            low, high = bootstrap_interval(values, seed=seed)
            row = {"group": group, "measure": measure, "n": int(values.notna().sum())}
            row |= {"n_undefined": int(values.isna().sum()), "mean": values.mean()}
            row |= {"mean_low": low, "mean_high": high}
            rows.append(row | {name: values.quantile(share) for name, share in QUANTILES.items()})
    return pd.DataFrame(rows, columns=list(COHORT_COLUMNS))
