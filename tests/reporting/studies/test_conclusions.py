"""Sentences say what the numbers say, and no more."""

from __future__ import annotations

import numpy as np
import pandas as pd

from livseg_lib.evaluation.statistics import compare_systems
from livseg_lib.reporting.studies.conclusions import conclude


def scores(patients: int, **means: float) -> pd.DataFrame:
    """Each system differs from the others by its mean, give or take the same for all patients."""
    ripple = np.linspace(0, 0.05, patients)
    return pd.DataFrame(
        [
            {"structure": "tumor", "system": system, "patient": n, "dice": mean + ripple[n] * mean}
            for system, mean in means.items()
            for n in range(patients)
        ]
    )


def test_what_is_shown_is_named():
    table = compare_systems(scores(9, best=0.9, good=0.8, poor=0.5, threshold=0.1), "threshold")
    baseline, systems = conclude(table)
    assert baseline == "Tumour: each of 3 systems is better than threshold (p < 0.05 after correction)."
    assert "best is better than good, poor (by 0.102 to 0.410)" in systems
    assert "Nothing can be said" not in systems


def test_too_few_patients_are_said_to_be_too_few():
    (sentence,) = conclude(compare_systems(scores(5, a=0.9, b=0.8, c=0.5), "threshold"))
    assert "3 comparisons on 5 patients cannot show any difference" in sentence
    assert "the smallest possible p is 0.188" in sentence  # 3 x 2 / 2^5
    assert "takes 7 patients" in sentence  # 3 x 2 / 2^7 = 0.047, but 3 x 2 / 2^6 = 0.094
    enough = conclude(compare_systems(scores(7, a=0.9, b=0.8, c=0.5), "threshold"))
    assert "better" in enough[0]


def test_what_is_not_shown_is_left_open():
    rng = np.random.default_rng(0)
    noisy = scores(10, a=0.5, b=0.5)
    noisy["dice"] += rng.normal(0, 0.1, len(noisy))
    (sentence,) = conclude(compare_systems(noisy, "threshold"))
    assert (
        sentence == "Tumour: no difference is shown; nothing can be said about 1 comparison on 10 patients."
    )
    worse = scores(10, good=0.9, bad=0.1, threshold=0.4)
    against = conclude(compare_systems(worse, "threshold"))[0]
    assert against == "Tumour: better than threshold after correction: good; not shown for bad."


def test_a_small_p_does_not_stand_for_an_interval_that_holds_zero():
    table = compare_systems(scores(9, good=0.8, poor=0.5, threshold=0.1), "threshold")
    wide = table.assign(difference_low=-0.01)
    assert conclude(wide) == [
        "Tumour: better than threshold after correction: no system; not shown for good, poor.",
        "Tumour: no difference is shown; nothing can be said about 1 comparison on 9 patients.",
    ]
