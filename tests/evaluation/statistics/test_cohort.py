from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from livseg_lib.evaluation.statistics import COHORT_COLUMNS, describe_cohort

ROWS = pd.DataFrame(
    {
        "outlined_by": ["truth"] * 5 + ["net"],
        "patient": [1, 2, 3, 4, 4, 1],
        "tumor_ml": [0.0, 10.0, np.nan, 20.0, 40.0, 7.0],
        "has_tumor": [False, True, True, True, True, True],
    }
)
GROUPS = dict(list(ROWS.groupby("outlined_by", sort=False)))


def test_quartiles_means_and_what_is_undefined():
    table = describe_cohort(GROUPS, ["tumor_ml", "has_tumor"])
    assert list(table) == list(COHORT_COLUMNS) and len(table) == 4
    truth = table.iloc[0]
    assert (truth.group, truth.measure, truth.n, truth.n_undefined) == ("truth", "tumor_ml", 3, 1)
    # Patients 1, 2 and 4 have 0, 10 and 30 ml: the two scans of the last are averaged.
    assert (truth.lowest, truth["median"], truth.highest) == (0, 10, 30)
    assert truth["mean"] == pytest.approx(40 / 3) and truth.lower_quartile == 5
    assert truth.mean_low <= truth["mean"] <= truth.mean_high


def test_a_share_of_patients_is_a_mean():
    table = describe_cohort(GROUPS, ["has_tumor"]).set_index("group")
    assert table["mean"]["truth"] == 0.75 and table.n["truth"] == 4
    assert table["mean"]["net"] == 1 and np.isnan(table.mean_low["net"])  # one patient has no interval
