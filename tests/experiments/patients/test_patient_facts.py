"""What is known of patients: from tables, and from what their livers look like."""

from __future__ import annotations

import numpy as np
import pandas as pd

from livseg_lib.datasets.case import Case
from livseg_lib.studies.patients import FACTORS, NO_TUMOR, liver_brightness, patient_facts
from livseg_lib.volumes import NativeGrid, Volume

CASES = pd.DataFrame(
    {
        "case": ["a", "b", "b2", "c"],
        "patient": [0, 1, 1, 2],
        "spacing_mm": ["(5.0, 0.7, 0.7)", "(2.5, 0.7, 0.7)", "(1.0, 0.7, 0.7)", "(nan, nan, nan)"],
        "liver_ml": [1400.0, 1600.0, 1500.0, np.nan],
        "n_tumors": [0, 2, 1, 1],
    }
)
LESIONS = pd.DataFrame(
    {
        "system": ["unet"] * 3 + ["manet"] * 2,
        "patient": [1, 1, 1, 1, 2],
        "kind": ["reference", "reference", "prediction", "reference", "reference"],
        "longest_diameter_mm": [8.0, 30.0, 90.0, 30.0, np.nan],
    }
)


def test_every_fact_by_hand():
    phantom = pd.DataFrame({"case": ["b", "a", "c"], "site": list("BAC"), "phase": ["native"] * 3})
    brightness = pd.Series({"a": 55.0, "b": 110.0})
    facts = patient_facts(CASES, brightness, LESIONS, phantom)
    assert list(facts) == list(FACTORS) and facts.index.tolist() == ["0", "1", "2"]
    assert facts.site.tolist() == ["A", "B", "C"]
    assert facts.loc["0", ["brightness", "slice_spacing"]].tolist() == ["up to 75 HU", "over 2.5 mm"]
    assert facts.loc["1", ["brightness", "slice_spacing"]].tolist() == ["over 75 HU", "up to 2.5 mm"]
    assert facts.loc["2", ["brightness", "slice_spacing", "liver_volume"]].isna().all()
    assert facts.largest_tumor.tolist()[:2] == [NO_TUMOR, "20 to 50 mm"] and pd.isna(facts.largest_tumor["2"])


def test_what_is_known_of_nobody_is_no_column():
    pictures = CASES.assign(spacing_mm="(nan, nan, nan)", liver_ml=np.nan, n_tumors=np.nan)
    facts = patient_facts(pictures, pd.Series(dtype=float), LESIONS.iloc[:0], None)
    assert facts.columns.empty and len(facts) == 3
    assert list(patient_facts(CASES, pd.Series(dtype=float), None, None)) == ["slice_spacing", "liver_volume"]


def test_brightness_is_that_of_the_liver_without_its_tumours():
    labels = np.zeros((2, 4, 4), np.uint8)
    labels[0, :2], labels[1, 0] = 1, 2
    hu = np.where(labels == 1, 104, np.where(labels == 2, 20, -50)).astype(np.int16)

    def case(name: str, native, labels=labels) -> Case:
        return Case(name, name, (), lambda: Volume(hu, (5.0, 1.0, 1.0), native), lambda _: labels)

    grid = NativeGrid.__new__(NativeGrid)  # any: only that there is one
    found = liver_brightness([case("scan", grid), case("picture", None), case("none", grid, labels * 0)])
    assert found["scan"] == 104 and found[["picture", "none"]].isna().all()
