from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import ttest_1samp

from livseg_lib.evaluation.follow_up import (
    AGREEMENT_COLUMNS,
    agreement_row,
    compare_with_reference,
    concordance,
)

WRIGHT = [494, 395, 516, 434, 476, 557, 413, 442, 650, 433, 417, 656, 267, 478, 178, 423, 427]
MINI_WRIGHT = [512, 430, 520, 428, 500, 600, 364, 380, 658, 445, 432, 626, 260, 477, 259, 350, 451]
"""Peak flow (l/min) of 17 people, the first measurement with either meter: Bland & Altman 1986, table 1."""


def agreement(measured, reference) -> pd.Series:
    return pd.Series(agreement_row(measured, reference))


def test_the_flow_meters_of_1986():
    found = agreement(WRIGHT, MINI_WRIGHT)
    # As the paper prints them: mean -2.1, standard deviation 38.8, interval of the bias -22.0 to 17.8.
    assert found.bias == pytest.approx(-2.1, abs=0.05) and found.sd == pytest.approx(38.8, abs=0.05)
    assert (found.bias_low, found.bias_high) == pytest.approx((-22.0, 17.8), abs=0.15)
    # It rounds 1.96 to 2 for the limits, -79.7 and 75.5, and takes 3 / n for the variance of a limit, so
    # that its intervals, -114.3 to -45.1 and 40.9 to 110.1, are a little wider.
    assert found.lower_limit == pytest.approx(-79.7, abs=0.05 * 38.8)
    assert found.upper_limit == pytest.approx(75.5, abs=0.05 * 38.8)
    assert (found.lower_limit_low, found.lower_limit_high) == pytest.approx((-114.3, -45.1), abs=4)
    assert (found.upper_limit_low, found.upper_limit_high) == pytest.approx((40.9, 110.1), abs=4)


def test_three_differences_by_hand():
    found = agreement([1.0, 3.0, 8.0, np.nan], [1.0, 2.0, 6.0, 5.0])  # 0, 1, 2
    assert (found.n, found.n_undefined, found.bias, found.sd) == (3, 1, 1.0, 1.0)
    nobody, one = agreement([], []), agreement([3.0], [1.0])
    assert nobody.n == 0 and np.isnan([nobody.bias, nobody.concordance]).all()
    assert one.bias == 2 and np.isnan([one.sd, one.lower_limit, one.bias_low, one.bias_high]).all()
    assert found.upper_limit == pytest.approx(2.95996, abs=1e-5)
    by_t_test = tuple(ttest_1samp([0, 1, 2], 0).confidence_interval())
    assert (found.bias_low, found.bias_high) == pytest.approx(by_t_test)
    reach = 4.302653 * np.sqrt(1 / 3 + 1.959964**2 / 4)
    ends = 2.959964 - reach, 2.959964 + reach
    assert (found.upper_limit_low, found.upper_limit_high) == pytest.approx(ends, abs=1e-4)


def test_identities_of_the_concordance():
    values = np.array([1.0, 2.0, 5.0, 9.0])
    assert concordance(np.stack([values, values], axis=1)) == 1
    centred = values - values.mean()
    assert concordance(np.stack([centred, -centred], axis=1)) == pytest.approx(-1)
    assert concordance(np.stack([values, values + 3], axis=1)) < 1
    assert concordance(np.stack([values, 2 * values], axis=1)) < 1
    assert concordance(np.stack([values, np.full(4, 2.0)], axis=1)) == 0
    assert np.isnan(concordance(np.ones((4, 2)))) and np.isnan(concordance(np.ones((0, 2))))
    stacked = np.random.default_rng(0).normal(size=(5, 7, 2))
    np.testing.assert_allclose(concordance(stacked, axis=1), [concordance(pairs) for pairs in stacked])


def test_a_row_a_system_and_measure_over_the_patients_that_both_have():
    patients = pd.DataFrame(
        {
            "outlined_by": ["truth"] * 4 + ["net"] * 4,
            "patient": [1, 2, 3, 4, 1, 2, 3, 3],
            "liver_ml": [10.0, 20.0, 30.0, 40.0, 11.0, 21.0, 30.0, 32.0],
            "longest_diameter_mm": [np.nan, 5.0, 6.0, 7.0, 3.0, 5.0, 6.0, 8.0],
        }
    )
    table = compare_with_reference(patients, ["liver_ml", "longest_diameter_mm"])
    assert list(table) == ["system", "measure", *AGREEMENT_COLUMNS, "p_holm"]
    assert list(table.measure) == ["liver_ml", "longest_diameter_mm"] and (table.system == "net").all()
    np.testing.assert_allclose(table.bias, [1.0, 0.5])  # the two scans of patient 3 count as one
    assert list(table.n) == [3, 2] and list(table.n_undefined) == [0, 1]
