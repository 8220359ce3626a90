"""What patient pages show: every system in one order, what is missing, what cannot be measured."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from livseg_lib.datasets.case import Case
from livseg_lib.runs import RunFolders
from livseg_lib.studies.patients import missing_from, patient_view, systems_with_predictions
from livseg_lib.volumes import Volume

SHAPE = (6, 20, 20)
NAMES = ["system", "target", "dice_per_case", "split_by"]
SYSTEMS = [
    ("good", "liver", 0.90, "patient"),
    ("good", "tumor", 0.60, "patient"),
    ("tumor_only", "tumor", 0.70, "patient"),
    ("liver_only", "liver", 0.99, "patient"),
    ("leaky", "tumor", 0.95, "slice"),
    ("unpredicted", "tumor", 0.80, "patient"),
]


def labels() -> np.ndarray:
    found = np.zeros(SHAPE, np.uint8)
    found[1:5, 4:16, 4:16] = 1
    found[2:4, 6:10, 6:10] = 2
    return found


@pytest.fixture
def folders(tmp_path) -> RunFolders:
    folders = RunFolders(tmp_path, "phantom-quick")
    for name in ("good", "tumor_only", "liver_only", "leaky", "also_here"):
        folders.predictions(name).mkdir(parents=True)
    for name in ("good", "tumor_only", "liver_only"):
        found = (
            labels() * (labels() == 2) if name == "tumor_only" else np.minimum(labels(), 1 + (name == "good"))
        )
        np.save(folders.predictions(name) / "p1.npy", found)
    return folders


def case(spacing_mm: tuple[float, float, float]) -> Case:
    volume = Volume(np.full(SHAPE, 80, np.int16), spacing_mm)
    return Case("p1", "p1", (), lambda: volume, lambda _: labels())


def scores() -> pd.DataFrame:
    rows = [("p1", "good", "tumor", 0.6), ("p1", "good", "liver", 0.9), ("p2", "good", "tumor", 0.1)]
    return pd.DataFrame(rows, columns=["case", "system", "structure", "dice"])


def test_systems_stand_by_tumour_dice_then_liver_dice_then_those_without_a_row(folders):
    systems = systems_with_predictions(pd.DataFrame(SYSTEMS, columns=NAMES), folders)
    assert list(systems) == ["tumor_only", "good", "liver_only", "also_here", "leaky"]
    assert systems["tumor_only"] == ("tumor",) and systems["good"] == ("liver", "tumor")


def test_a_page_has_truth_first_all_that_predicted_and_says_who_did_not(folders):
    systems = systems_with_predictions(pd.DataFrame(SYSTEMS, columns=NAMES), folders)
    view = patient_view(case((5.0, 1.0, 1.0)), folders, systems, scores(), "a note")
    assert list(view.outlines) == ["truth", "tumor_only", "good", "liver_only"]
    assert missing_from(view, systems) == ["also_here", "leaky"] and view.note == "a note"
    (_, whole), (_, tumors) = view.tables
    whole = whole.set_index("outlined_by")
    assert whole.loc["good", "tumor_dice"] == 0.6 and np.isnan(whole.loc["truth", "tumor_dice"])
    assert whole.loc["truth", "liver_ml"] == pytest.approx(4 * 12 * 12 * 5 / 1000)
    assert whole.loc["truth", "tumor_ml"] == pytest.approx(2 * 4 * 4 * 5 / 1000)
    assert np.isnan(whole.loc["tumor_only", "liver_ml"]) and np.isnan(whole.loc["liver_only", "tumor_ml"])
    assert tumors["outlined_by"].tolist() == ["truth", "tumor_only"] and tumors["slice"].between(2, 3).all()


def test_pictures_have_dice_but_nothing_in_ml_and_the_page_says_what_they_are(folders):
    view = patient_view(case((np.nan,) * 3), folders, {"good": ("liver", "tumor")}, scores(), "a note")
    ((_, dice),) = view.tables
    assert (
        dice.columns.tolist() == ["outlined_by", "tumor_dice", "liver_dice"] and "Single slices" in view.note
    )


def test_a_case_without_truth_and_scores_still_has_a_page(folders):
    untold = Case("p1", "p1", (), case((5.0, 1.0, 1.0)).read_volume, None)
    view = patient_view(untold, folders, {"good": ("liver", "tumor")}, scores().head(0), "")
    assert list(view.outlines) == ["good"] and len(view.tables) == 2
