"""How values read: by hand."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from livseg_lib.errors import format_duration
from livseg_lib.reporting.cells import MAX_ROWS, format_cell, format_text, table_view
from livseg_lib.reporting.wording import column_title, figure_section


@pytest.mark.parametrize(
    ("column", "value", "text"),
    [
        ("dice", 0.91254, "0.913"),
        ("dice", 1.0, "1.000"),
        ("dice", 0, "0.000"),
        ("dice", float("nan"), "–"),
        ("dice", None, "–"),
        ("file", pd.NA, "–"),
        ("n_slices", 29356, "29\u202f356"),
        ("n_slices", 12.0, "12"),
        ("rvd", -0.25, "−0.250"),
        ("assd_mm", math.inf, "∞"),
        ("liver_ml", 1861.44, "1\u202f861.4"),
        ("parameters", 31_032_837, "31 M"),
        ("parameters", 1_941_105, "1.94 M"),
        ("train_seconds", 312.4, "5 min 12 s"),
        ("published_value", 0.8215, "0.8215"),
        ("patient", 12, "12"),
        ("case", 1234567, "1234567"),
        ("structure", "tumor", "tumour"),
        ("has_tumor", True, "yes"),
        ("message", "<script>", "<script>"),  # escaping is the template's work
    ],
)
def test_format_cell(column, value, text):
    assert format_cell(column, value).text == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.42, "0.4 s"),
        (38.4, "38 s"),
        (59.7, "60 s"),
        (60, "1 min 00 s"),
        (3599.8, "1 h 00 min"),
        (7500, "2 h 05 min"),
    ],
)
def test_format_duration(seconds, text):
    assert format_duration(seconds) == text


def test_format_text_of_parameters():
    assert format_text(["liver", 1e-4, None, {"a": False}]) == "liver, 0.0001, –, a: no"


@pytest.mark.parametrize("missing", [np.nan, None, pd.NA])
def test_missing_values_have_nothing_to_be_sorted_by(missing):
    assert format_cell("dice", missing).sort == "" != format_cell("dice", 0.0).sort


def test_a_long_table_shows_its_beginning_and_says_how_much_there_is():
    view = table_view(pd.DataFrame({"patient": range(MAX_ROWS + 1), "dice": 0.5}))
    assert len(view.rows) == MAX_ROWS and view.total == MAX_ROWS + 1
    assert view.numeric == [False, True]


def test_column_titles():
    assert column_title("reference_volume_ml") == "Reference volume (ml)"
    assert column_title("n_empty_reference") == "Empty reference"
    assert column_title("tumor_dice") == "Tumour dice"
    assert column_title("") == ""


def test_figures_find_their_section():
    assert figure_section("best_median_worst_unet")[0] == "overlays"
    assert figure_section("something_else")[0] == "more"
    assert figure_section("contact_sheet")[1] < figure_section("class_balance")[1]
