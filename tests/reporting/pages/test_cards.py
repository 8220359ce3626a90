"""Model and data cards: what is known stands there, what is not is said to be missing."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from livseg_lib.reporting.pages.card_pages import write_cards
from livseg_lib.reporting.pages.card_sections import facts_of, linked
from livseg_lib.reporting.pages.card_wording import MISSING, ORIGINS
from livseg_lib.reporting.pages.cards import model_card
from livseg_lib.reporting.pages.data_card import data_card
from livseg_lib.reporting.pages.folder import ReportFolder
from livseg_lib.reporting.pages.links import broken_links, external_resources
from livseg_lib.reporting.pages.page import write_report
from livseg_lib.reporting.wording import DATASETS
from livseg_lib.systems import SYSTEMS
from livseg_lib.tables import update_systems_table, write_table

HOSTILE = "<script>alert('x')</script>"
MANIFEST = {"dataset": "phantom", "seed": 7, "git_revision": "abc123", "device": "CPU", "n_cases": 5}
MANIFEST |= {"packages": {"keras": "3.15.0", "numpy": "2"}, "data_checksum": "feed"}


def system_row(name: str, target: str, dice: float) -> dict:
    row = {"system": name, "source": "G", "target": target, "split_by": "patient", "dice_per_case": dice}
    row |= {"dice_per_case_low": dice - 0.1, "dice_per_case_high": dice + 0.1, "n_train_patients": 18}
    return row | {
        "n_test_patients": 8,
        "published_metric": "dice",
        "published_value": 0.67,
        "parameters": 5e5,
    }


MODEL = {
    "system": "unet",
    "architecture": "unet",
    "options": {"filters": 16},
    "thresholds": {"liver": 0.6, "tumor": 0.4},
    "recipe": {
        "windows": ["liver", "liver_wide"],
        "size": 128,
        "noise_filter": "none",
        "voxel_size_mm": None,
    },
    "training": {"n_train_patients": 18, "slices_seen": 3400, "loss": "bce_dice"},
    "weights_sha256": "2f90",
}


def tables() -> dict[str, pd.DataFrame]:
    systems = pd.DataFrame([system_row("unet", "liver", 0.9), system_row("unet", "tumor", 0.5)])
    lits = pd.DataFrame(
        {"system": ["unet", "unet", "x"], "structure": ["liver", "tumor", "liver"], "voe": [0.1, 0.5, 0.9]}
    )
    groups = pd.DataFrame({"system": ["unet"], "factor": ["site"], "group": ["A"], "mean": [0.4321]})
    return {"systems": systems, "lits_scores": lits, "groups": groups}


def said(sections) -> str:
    """All words of a card."""
    parts = []
    for section in sections:
        parts += [section.title, *map(str, section.text)]
        parts += [f"{term}: {value}" for term, value in section.facts]
        for caption, view in section.tables:
            parts += [caption, *view.titles, *(cell.text for row in view.rows for cell in row)]
    return "\n".join(parts)


def test_a_model_card_says_what_the_files_know():
    card = said(model_card("unet", tables(), [MODEL], MANIFEST))
    for expected in (
        SYSTEMS["unet"].sentence,
        "G: 2.5D residual U-Net",
        "filters: 16",
        "windows: liver, liver_wide, size: 128",
        "thresholds: liver: 0.6, tumor: 0.4",
        "SHA-256 of its weights: 2f90",
        "arXiv:1505.04597",
        "Patients: 18",
        "Slices seen: 3400",
        "Random seed: 7",
        "abc123",
        "keras: 3.15.0",
        "Not for clinical use",
        "0.500",
        "0.432",
        "synthetic phantoms",
        "8 test patients",
    ):
        assert expected in card, expected
    assert "none" not in card and "0.9\n" not in card.split("As the LiTS")[1]  # another system's row


def test_what_is_not_there_is_said_to_be_missing():
    card = said(model_card("unet", tables(), [MODEL], MANIFEST))
    assert "Calibration of its probabilities: missing, as notebook 25_check_scores has not been run." in card
    bare = said(model_card("newcomer", {}, [], {}))
    assert bare.count(MISSING) >= 10 and "nan" not in bare.lower() and "None" not in bare
    other = tables() | {"calibration": pd.DataFrame({"system": ["x"], "ece": [0.1]})}
    assert "has nothing on this system" in said(model_card("unet", other, [MODEL], MANIFEST))


def test_a_cascade_names_its_steps_and_the_weights_of_each_part():
    cascade = {"system": "cascade_25d", "steps": [{"name": "coarse liver"}, {"name": "fine liver"}]}
    cascade |= {"training": {"n_train_patients": 18, "parts": {"coarse_liver": {"epochs": 4}}}}
    part = MODEL | {"system": "coarse_liver", "architecture": "cdnn"}
    card = said(model_card("cascade_25d", tables(), [cascade, part], MANIFEST))
    assert "Steps: coarse liver, fine liver" in card and "Network coarse_liver" in card
    assert "Budget coarse_liver: Epochs: 4" in card and "arXiv:1710.04540" in card


def test_a_split_by_slice_is_a_limit():
    leaky = {"systems": pd.DataFrame([system_row("unet", "tumor", 0.9) | {"split_by": "slice"}])}
    assert "patients lie on both sides" in said(model_card("unet", leaky, [MODEL], MANIFEST))


def test_a_data_card_counts_what_the_tables_hold():
    cases = pd.DataFrame(
        {
            "case": ["a", "b", "c"],
            "patient": ["1", "1", "2"],
            "shape": ["(51, 512, 512)", "(60, 448, 512)", "(70, 512, 512)"],
            "spacing_mm": ["(4.5, 0.7, 0.7)", "(5.0, 0.8, 0.8)", "(nan, nan, nan)"],
            "hu_low": [-1024, -1000, 0],
            "hu_high": [700, 1500, 255],
            "tumor_voxels": [0, 12, 30],
            "n_tumors": [0, 2, np.nan],
            "liver_ml": [1500.0, 1200.5, np.nan],
        }
    )
    findings = pd.DataFrame(
        {"case": ["a", "b", "c"], "severity": ["ok", "warning", "error"], "message": ["", "odd", "cut"]}
    )
    card = said(data_card({"cases": cases, "findings": findings}, MANIFEST))
    for expected in (
        "Patients: 2",
        "Cases: 5",
        "Slices a case: 51 to 70",
        "Rows and columns: 448 to 512",
        "Slice distance: 4.5 to 5 mm",
        "Pixel side: 0.7 to 0.8 mm",
        "HU, lowest to highest: −1\u202f024 to 1\u202f500",
        "Cases with tumours: 2 of 3",
        "Tumours a case: 0 to 2",
        "Excluded: 1 cases. Kept with a warning: 1.",
        "odd",
        "Apache-2.0",
        "synthetic phantoms",
    ):
        assert expected in card, expected


@pytest.mark.parametrize("dataset", [*DATASETS, "unheard of", ""])
def test_every_data_set_has_a_card_even_before_anything_is_known(dataset):
    card = said(data_card({}, {"dataset": dataset}))
    assert MISSING in card and "nan" not in card.lower() and ("synthetic" in card) == (dataset == "phantom")


def test_every_data_set_that_can_be_read_has_an_origin():
    assert set(ORIGINS) == set(DATASETS)


def test_addresses_become_links_and_all_else_is_escaped():
    assert linked("see [a](https://x.org/1) <b>") == 'see <a href="https://x.org/1">a</a> &lt;b&gt;'
    assert linked("[a](javascript:alert)") == "[a](javascript:alert)"
    assert facts_of([("a", None), ("b", []), ("c", float("nan")), ("d", 0)]) == [
        ("a", MISSING),
        ("b", MISSING),
        ("c", MISSING),
        ("d", "0"),
    ]


@pytest.fixture
def report(tmp_path):
    folder = tmp_path / "phantom-quick"
    rows = [
        system_row("unet", "tumor", 0.5),
        system_row("unet++", "tumor", 0.4),
        system_row("vote", "tumor", 0.6),
    ]
    update_systems_table(folder / "tables" / "systems.csv", rows)
    write_table(tables()["lits_scores"], folder / "tables" / "lits_scores.csv")
    write_table(pd.DataFrame({"split": ["test"], "patients": [8]}), folder / "tables" / "splits_summary.csv")
    (folder / "models" / "unet").mkdir(parents=True)
    (folder / "models" / "unet" / "model.json").write_text(json.dumps(MODEL | {"options": {"note": HOSTILE}}))
    (folder / "manifest.json").write_text(json.dumps(MANIFEST))
    return folder


def test_cards_are_written_with_the_report_and_linked_from_it(report):
    page = write_report(report)
    assert sorted(file.name for file in (report / "cards").glob("*.html")) == [
        "data.html",
        "unet++.html",
        "unet.html",
        "vote.html",
    ]
    text = page.read_text()
    assert '<a href="cards/unet%2B%2B.html">unet++</a>' in text and 'href="cards/data.html"' in text
    assert text.index(">vote<") < text.index(">unet<") < text.index(">unet++<")  # best tumour Dice first
    for file in (page, *(report / "cards").glob("*.html")):
        assert broken_links(file) == [] and external_resources(file) == []


def test_cards_escape_and_stay_the_same(report):
    links = write_cards(ReportFolder(report))
    card = (report / "cards" / "unet.html").read_text()
    assert links == {"unet": "cards/unet.html", "unet++": "cards/unet%2B%2B.html", "vote": "cards/vote.html"}
    assert HOSTILE not in card and "&lt;script&gt;" in card and card.count("<script>") == 1
    write_cards(ReportFolder(report))
    assert (report / "cards" / "unet.html").read_text() == card


def test_no_systems_no_cards(tmp_path):
    assert write_cards(ReportFolder(tmp_path)) == {} and not list(tmp_path.iterdir())
