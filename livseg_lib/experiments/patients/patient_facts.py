"""What is known of patients before any system has seen them: the groups that scores are told apart by."""

from __future__ import annotations

import ast
from collections.abc import Iterable

import numpy as np
import pandas as pd

from livseg_lib.datasets.case import Case
from livseg_lib.evaluation.lesion_sizes import SIZE_CLASSES, size_class
from livseg_lib.evaluation.statistics.groups import bands
from livseg_lib.labels import structure_mask

SPACING_EDGES_MM = (2.5,)
"""Thin slices against those that are thicker than most tumours' outlines are known."""
LIVER_EDGES_ML = (1500.0,)
"""About the mean of adults."""
BRIGHTNESS_EDGES_HU = (75.0,)
"""A liver without contrast medium has 50 to 65 HU, in the portal venous phase it has over 100."""

NO_TUMOR = "no tumour"

FACTORS = {
    "site": "Site",
    "phase": "Contrast phase",
    "brightness": "Median HU of the liver",
    "slice_spacing": "Distance of slices",
    "liver_volume": "Liver volume",
    "largest_tumor": "Longest diameter of the largest tumour",
}
"""Columns that `patient_facts` may give, and what they are called."""


def patient_facts(
    cases: pd.DataFrame, brightness: pd.Series, lesions: pd.DataFrame | None, phantom: pd.DataFrame | None
) -> pd.DataFrame:
    """A row a patient (the index, text), a categorical column for each of FACTORS that is known of any.

    `cases`: cases.csv (case, patient, spacing_mm, liver_ml, n_tumors); `brightness`: `liver_brightness`;
    `lesions`: lesions.csv; `phantom`: the phantom's own patients.csv (case, site, phase), which no real data
    set has. The first case of a patient stands for him, but for the largest tumour.
    """
    one_each = cases.assign(patient=cases.patient.astype(str)).drop_duplicates("patient").set_index("case")
    facts = {
        "brightness": bands(brightness.reindex(one_each.index), BRIGHTNESS_EDGES_HU, "HU"),
        "slice_spacing": bands(one_each.spacing_mm.map(_slice_spacing), SPACING_EDGES_MM, "mm"),
        "liver_volume": bands(one_each.liver_ml, LIVER_EDGES_ML, "ml"),
    }
    if phantom is not None:
        facts |= (
            phantom.set_index("case").reindex(one_each.index)[["site", "phase"]].astype("category").items()
        )
    table = pd.DataFrame(facts).set_index(one_each.patient)
    if lesions is not None:
        table["largest_tumor"] = _largest_tumor(cases, lesions).reindex(table.index)
    known = [name for name in FACTORS if name in table and table[name].notna().any()]
    return table[known]


def liver_brightness(cases: Iterable[Case]) -> pd.Series:
    """Median HU of each true liver without its tumours, by case; NaN for pictures, whose greys are no HU."""
    return pd.Series({case.case_id: _median_hu(case) for case in cases}, dtype=float)


def _median_hu(case: Case) -> float:
    volume = case.read_volume()
    labels = case.read_labels(volume)
    liver = volume.voxels[structure_mask(labels, "liver") & ~structure_mask(labels, "tumor")]
    return float(np.median(liver)) if liver.size and volume.native is not None else np.nan


def _slice_spacing(text: str) -> float:
    """The first of three numbers in brackets, as cases.csv has them."""
    return float(ast.literal_eval(text.replace("nan", "None"))[0] or np.nan)


def _largest_tumor(cases: pd.DataFrame, lesions: pd.DataFrame) -> pd.Series:
    """The size class of a patient's largest true tumour, NO_TUMOR of none, NaN where sizes are unknown."""
    n_tumors = cases.n_tumors.groupby(cases.patient.astype(str)).sum(min_count=1)
    reference = lesions[lesions.kind == "reference"]
    longest_mm = reference.groupby(reference.patient.astype(str)).longest_diameter_mm.max()
    classes = longest_mm.map(size_class, na_action="ignore").reindex(n_tumors.index)
    return classes.where(n_tumors != 0, NO_TUMOR).astype(pd.CategoricalDtype([NO_TUMOR, *SIZE_CLASSES]))
