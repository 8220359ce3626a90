"""The list of patient pages on the report."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from livseg_lib.reporting.pages.links import broken_links
from livseg_lib.reporting.pages.page import write_report
from livseg_lib.reporting.pages.patient_list import patient_list
from livseg_lib.reporting.patient_page import PatientView, write_patient_page
from livseg_lib.tables import write_table

SHAPE = (4, 30, 30)


def scores() -> pd.DataFrame:
    rows = [
        ("volume-2", "a", "tumor", 0.2, 5.0),
        ("volume-2", "b", "tumor", 0.6, 5.0),
        ("volume-2", "c", "tumor", 0.5, 5.0),
        ("volume-10", "a", "tumor", np.nan, 0.0),
        ("volume-2", "a", "liver", 0.9, 1500.0),
    ]
    return pd.DataFrame(rows, columns=["case", "system", "structure", "dice", "reference_ml"])


@pytest.fixture
def report(tmp_path):
    for case in ("volume-10", "volume-2"):
        voxels = np.zeros(SHAPE, np.int16) - 100
        write_patient_page(PatientView(case, voxels, (5.0, 1.0, 1.0), {}), tmp_path / "phantom-quick")
    return tmp_path / "phantom-quick"


def test_one_row_a_page_in_natural_order_with_median_and_range(report):
    view = patient_list(report, scores())
    assert view.titles == ["Patient", "Tumour Dice", "Liver Dice", "Tumour (ml)", "Liver (ml)"]
    assert [[cell.text for cell in row] for row in view.rows] == [
        ["volume-2", "0.500", "0.900", "5", "1\u202f500"],
        ["volume-10", "–", "–", "0", "–"],
    ]
    assert view.rows[0][1].small == "0.200 to 0.600, 3 systems" and view.rows[0][2].small == ""
    assert view.rows[0][0].link == "patients/volume-2.html"
    assert view.rows[0][0].picture.startswith("data:image/webp;base64,")


def test_pages_are_listed_before_anything_is_scored(report):
    view = patient_list(report, None)
    assert view.titles == ["Patient"] and len(view.rows) == 2


def test_no_pages_no_list(tmp_path):
    assert patient_list(tmp_path, scores()) is None


def test_the_report_links_them_and_every_link_resolves(report):
    write_table(scores(), report / "tables" / "patients.csv")
    page = write_report(report)
    assert 'href="patients/volume-10.html"' in page.read_text() and broken_links(page) == []


@pytest.mark.parametrize(
    ("dice", "words"),
    [
        ([0.2, np.nan, 0.6], "0.200 to 0.600, 2 systems"),
        ([0.2, np.nan], ""),
        ([0.5, 0.5], "0.500 to 0.500, 2 systems"),
    ],
)
def test_only_systems_with_a_score_are_counted(report, dice, words):
    rows = [("volume-2", name, "tumor", value, 5.0) for name, value in zip("abc", dice, strict=False)]
    view = patient_list(report, pd.DataFrame(rows, columns=list(scores())))
    assert view.rows[0][1].small == words
