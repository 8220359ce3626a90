"""Names of patients and their order decide nothing: every interval and p is that of the numbers alone."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from livseg_lib.evaluation.bland_altman import compare_with_reference
from livseg_lib.evaluation.froc import Candidates, froc_score, recall_with_interval
from livseg_lib.evaluation.inflation import by_distance, inflation_table, protocol_values
from livseg_lib.evaluation.probabilities import ProbabilityHistogram, accuracy_interval, calibration_scores
from livseg_lib.evaluation.statistics import (
    bootstrap_interval,
    compare_systems,
    describe_cohort,
    group_differences,
    group_means,
    patient_scores,
    share_with_interval,
    sign_flip_test,
)

N = 16
"""Patients: more than FLIPS has ways for, so that p values are drawn as well."""

RNG = np.random.default_rng(5)
NUMBERS = RNG.random((N, 2))
LEVELS, TRUTH = RNG.integers(0, 256, (N, 9, 9)).astype(np.uint8), RNG.random((N, 9, 9)) < 0.3
CANDIDATES = [Candidates(*RNG.integers(1, 255, (2, 3)).astype(np.uint8), 4) for _ in range(N)]

NAMES = {
    "numbers": list(range(1, N + 1)),
    "numpy": list(np.arange(1, N + 1)),
    "text": [str(number) for number in range(1, N + 1)],
    "categories": pd.Categorical([str(number) for number in range(1, N + 1)]),
    "padded text": [f"{number:03d}" for number in range(1, N + 1)],
}


def systems(names: list, order: np.ndarray) -> pd.DataFrame:
    table = pd.DataFrame({"patient": names, "liver": NUMBERS[:, 0], "tumor": NUMBERS[:, 1]}).iloc[order]
    table = table.melt("patient", var_name="system", value_name="dice")
    return table.assign(structure="liver", case=table.patient)


def slices(names: list, order: np.ndarray) -> pd.DataFrame:
    table = systems(names, order).rename(columns={"system": "protocol"})
    table = table.assign(slice=1, distance=1.0, n_reference=9, n_predicted=9, present_reference=True)
    return table.assign(**dict.fromkeys(("iou", "loss", "pixel_accuracy", "precision", "recall"), table.dice))


def paired(names: list, order: np.ndarray) -> pd.DataFrame:
    return compare_systems(systems(names, order), "nobody")


def of_groups(names: list, order: np.ndarray) -> list:
    scores = patient_scores(systems(names, order))
    facts = pd.DataFrame({"site": list("AB" * (N // 2))}, index=[str(name) for name in names])
    return [group_means(scores, facts), group_differences(scores.tumor, facts)]


def inflation(names: list, order: np.ndarray) -> list:
    scores = slices(names, order).assign(presence_accuracy=1.0)
    asked = {"?": ("liver", "tumor")}
    return [protocol_values(scores), inflation_table(scores, asked), by_distance(scores, asked.values())]


def agreement(names: list, order: np.ndarray) -> pd.DataFrame:
    return compare_with_reference(
        systems(names, order).rename(columns={"system": "outlined_by"}), ["dice"], "tumor"
    )


def cohort(names: list, order: np.ndarray) -> pd.DataFrame:
    return describe_cohort({"all": systems(names, order)}, ["dice"])


def shares(names: list, order: np.ndarray) -> list:
    table = systems(names, order)
    right = (table.dice > 0.5).to_numpy()
    found = share_with_interval(table.dice > 0.5, table.patient)
    return [found, accuracy_interval(right, np.ones(len(right), bool), table.patient)]


def probabilities(names: list, order: np.ndarray) -> list:
    candidates = [CANDIDATES[place] for place in order]
    histograms = [ProbabilityHistogram() for _ in order]
    for histogram, place in zip(histograms, order, strict=True):
        histogram.add(LEVELS[place], TRUTH[place])
    scores = calibration_scores(histograms)
    return [froc_score(candidates), recall_with_interval(candidates, 1), scores]


def plain(names: list, order: np.ndarray) -> list:
    differences = np.subtract(*NUMBERS[order].T)
    ways = ("two-sided", "greater")
    flipped = [sign_flip_test(differences, way) for way in ways]
    return [bootstrap_interval(differences), bootstrap_interval(differences, np.median), flipped]


def chances(found: object) -> list[float]:
    """Every interval and p value in `found`, in order; means may round differently in another order."""
    if isinstance(found, pd.DataFrame):
        wanted = found.filter(regex=r"(^|_)(low|high|p|p_holm)$")
        return wanted.to_numpy(float).ravel().tolist()
    if isinstance(found, dict):
        return [value for name, value in found.items() if name.endswith(("_low", "_high"))]
    if isinstance(found, (list, tuple)):
        return [value for each in found for value in chances(each)]
    return [float(found)]


@pytest.mark.parametrize(
    "statistic", [paired, of_groups, inflation, agreement, cohort, shares, probabilities, plain]
)
@pytest.mark.parametrize("names", NAMES)
def test_order_and_type_of_names_change_no_interval_and_no_p(statistic: Callable, names: str):
    asked = chances(statistic(NAMES["numbers"], np.arange(N)))
    assert np.isfinite(asked).any()
    for order in (np.arange(N), np.arange(N)[::-1], np.random.default_rng(1).permutation(N)):
        assert chances(statistic(NAMES[names], order)) == pytest.approx(asked, rel=0, abs=0, nan_ok=True)


def test_eight_values_in_either_order_by_hand():
    values = [0.1, 0.9, 0.3, 0.7, 0.5, 0.2, 0.8, 0.6]
    rng = np.random.default_rng(0)
    drawn = np.sort(values)[rng.integers(8, size=(2000, 8))].mean(axis=1)
    expected = tuple(np.quantile(drawn, [0.025, 0.975]))
    assert bootstrap_interval(values) == bootstrap_interval(values[::-1]) == pytest.approx(expected)
