"""Model and data cards: what is known stands there, what is not is said to be missing."""

import json

import numpy as np
import pandas as pd
import pytest
from links import broken_links, external_resources, words

from livseg_lib.models import MODELS
from livseg_lib.outputs import update_systems_table, write_table
from livseg_lib.reporting.cards import (
    cohort_sentence,
    headline_cards,
    in_readers_order,
    network_page,
    systems_view,
    write_cards,
)
from livseg_lib.reporting.folder import NOT_RECORDED, ReportFolder
from livseg_lib.reporting.report import write_report
from livseg_lib.systems import SYSTEMS

HOSTILE = "<script>alert('x')</script>"
MANIFEST = {"dataset": "phantom", "seed": 7, "git_revision": "abc123", "device": "CPU", "n_cases": 5}
MANIFEST |= {"packages": {"keras": "3.15.0", "numpy": "2"}, "data_checksum": "feed"}


def system_row(name: str, target: str, dice: float) -> dict:
    row = {"system": name, "source": "G", "target": target, "split_by": "patient", "dice_per_case": dice}
    row |= {"dice_per_case_low": dice - 0.1, "dice_per_case_high": dice + 0.1, "n_train_patients": 18}
    row |= {"n_test_patients": 8, "parameters": 5e5}
    return row | {"published_metric": "dice", "published_value": 0.67}


RECIPE = {"windows": ["liver", "liver_wide"], "size": 128, "noise_filter": "none", "voxel_size_mm": None}
MODEL = {"system": "unet", "architecture": "unet", "options": {"filters": 16}, "recipe": RECIPE}
MODEL |= {"thresholds": {"liver": 0.6, "tumor": 0.4}, "weights_sha256": "2f90"}
MODEL |= {"training": {"n_train_patients": 18, "slices_seen": 3400, "loss": "bce_dice"}}


def tables() -> dict[str, pd.DataFrame]:
    systems = pd.DataFrame([system_row("unet", "liver", 0.9), system_row("unet", "tumor", 0.5)])
    rows = [("unet", "liver", 0.1), ("unet", "tumor", 0.5), ("x", "liver", 0.9)]
    lits = pd.DataFrame(rows, columns=["system", "structure", "voe"])
    groups = pd.DataFrame({"system": ["unet"], "factor": ["site"], "group": ["A"], "mean": [0.4321]})
    return {"systems": systems, "lits_scores": lits, "groups": groups}


def write(folder, tables: dict, models: dict = {}, manifest: dict = MANIFEST) -> dict[str, str]:  # noqa: B006
    """Cards of a folder with these tables and models; name -> the words of the card."""
    for name, table in tables.items():
        write_table(table, folder / "tables" / f"{name}.csv")
    for place, model in models.items():
        (folder / "models" / place).mkdir(parents=True)
        (folder / "models" / place / "model.json").write_text(json.dumps(model))
    (folder / "manifest.json").write_text(json.dumps(manifest))
    write_cards(ReportFolder(folder))
    return {file.stem: words(file) for file in (folder / "cards").glob("*.html")}


def test_a_model_card_says_what_the_files_know(tmp_path):
    card = write(tmp_path, tables(), {"unet": MODEL})["unet"]
    for expected in (
        SYSTEMS["unet"].sentence,
        "G: 2.5D residual U-Net",
        "filters: 16",
        "windows: liver, liver_wide, size: 128",
        "thresholds: liver: 0.6, tumor: 0.4",
        "SHA-256 of its weights: 2f90",
        "arXiv:1505.04597",
        "Patients 18",
        "Slices seen: 3400",
        "Random seed 7",
        "abc123",
        "keras: 3.15.0",
        "Not for clinical use",
        "0.500",
        "0.432",
        "synthetic phantoms",
        "8 test patients",
        "Calibration of its probabilities: missing, as notebook 25_check_scores has not been run.",
    ):
        assert expected in card, expected
    assert "noise_filter" not in card and "0.900" not in card.split("As the LiTS")[1]  # another system's row


def test_what_is_not_there_is_said_to_be_missing(tmp_path):
    bare = pd.DataFrame({"system": ["newcomer"]})
    other = pd.DataFrame({"system": ["x"], "ece": [0.1]})
    card = write(tmp_path, {"systems": bare, "calibration": other}, manifest={"dataset": ""})["newcomer"]
    assert card.count(NOT_RECORDED) >= 10 and "nan" not in card.lower().split() and "None" not in card
    assert "25_check_scores has nothing on this system" in card


def test_a_cascade_names_its_steps_and_the_weights_of_each_part(tmp_path):
    cascade = {"system": "unet", "steps": [{"name": "coarse liver"}, {"name": "fine liver"}]}
    cascade |= {"training": {"n_train_patients": 18, "parts": {"coarse_liver": {"epochs": 4}}}}
    part = MODEL | {"system": "coarse_liver", "architecture": "cdnn"}
    card = write(tmp_path, tables(), {"unet": cascade, "unet/coarse_liver": part})["unet"]
    assert "Steps coarse liver, fine liver" in card and "Network coarse_liver" in card
    assert "Budget coarse_liver Epochs: 4" in card and "arXiv:1710.04540" in card


@pytest.mark.parametrize("split_by", ["slice", "patient"])
def test_a_split_by_slice_is_a_limit(tmp_path, split_by):
    rows = pd.DataFrame([system_row("unet", "tumor", 0.9) | {"split_by": split_by}])
    card = write(tmp_path, {"systems": rows})["unet"]
    assert ("patients lie on both sides" in card) == (split_by == "slice")


def test_a_data_card_counts_what_the_tables_hold(tmp_path):
    rows = [("a", "1", "(51, 512, 512)", "(4.5, 0.7, 0.7)", -1024, 700, 0, 0, 1500.0)]
    rows += [("b", "1", "(60, 448, 512)", "(5.0, 0.8, 0.8)", -1000, 1500, 12, 2, 1200.5)]
    rows += [("c", "2", "(70, 512, 512)", "(nan, nan, nan)", 0, 255, 30, np.nan, np.nan)]
    names = ["case", "patient", "shape", "spacing_mm", "hu_low", "hu_high", "tumor_voxels"]
    cases = pd.DataFrame(rows, columns=[*names, "n_tumors", "liver_ml"])
    found = {"case": ["a", "b", "c"], "severity": ["ok", "warning", "error"], "message": ["", "odd", "cut"]}
    card = write(tmp_path, tables() | {"cases": cases, "findings": pd.DataFrame(found)})["data"]
    for expected in (
        "Patients 2 ",
        "Cases 5 ",
        "Slices a case 51 to 70",
        "Rows and columns 448 to 512",
        "Slice distance 4.5 to 5 mm",
        "Pixel side 0.7 to 0.8 mm",
        "HU, lowest to highest −1 024 to 1 500",
        "Cases with tumours 2 of 3",
        "Tumours a case 0 to 2",
        "Excluded: 1 case. Kept with a warning: 1.",
        "odd",
        "Apache-2.0",
        "synthetic phantoms",
    ):
        assert expected in card, expected


@pytest.fixture
def report(tmp_path):
    folder = tmp_path / "phantom-quick"
    rows = [system_row(name, "tumor", dice) for name, dice in (("unet", 0.5), ("unet++", 0.4), ("vote", 0.6))]
    update_systems_table(folder / "tables" / "systems.csv", rows)
    write_table(tables()["lits_scores"], folder / "tables" / "lits_scores.csv")
    write_table(pd.DataFrame({"split": ["test"], "patients": [8]}), folder / "tables" / "splits_summary.csv")
    (folder / "models" / "unet").mkdir(parents=True)
    (folder / "models" / "unet" / "model.json").write_text(json.dumps(MODEL | {"options": {"note": HOSTILE}}))
    (folder / "manifest.json").write_text(json.dumps(MANIFEST))
    return folder


def test_cards_are_written_with_the_report_and_linked_from_it(report):
    page = write_report(report)
    cards = sorted((report / "cards").glob("*.html"))
    assert [file.stem for file in cards] == ["data", "unet++", "unet", "vote"]
    hostile = cards[2].read_text()
    assert HOSTILE not in hostile and "&lt;script&gt;" in hostile and hostile.count("<script>") == 1
    text = page.read_text()
    assert '<a href="cards/unet%2B%2B.html">unet++</a>' in text and 'href="cards/data.html"' in text
    assert text.index(">vote<") < text.index(">unet<") < text.index(">unet++<")  # best tumour Dice first
    for file in (page, *cards):
        assert broken_links(file) == [] and external_resources(file) == []


def system(name: str, dice: float, **values) -> dict:
    return system_row(name, "tumor", dice) | {"n_train_patients": 9, "n_test_patients": 4} | values


def test_cards_leave_out_rows_that_leak_or_are_undefined_and_those_of_the_audit():
    rows = [system("unet", 0.7), system("leaky", 0.9, split_by="slice"), system("broken", np.nan)]
    rows.append(system("unet_audit", 0.99, split_by="patient (audit)", n_test_patients=5))
    cards = headline_cards(pd.DataFrame(rows))
    assert [(c.value, c.foot) for c in cards] == [("0.700", "unet, 4 test patients")]
    of_unet_and_broken = "2 systems, trained on 9 patients and tested on 4 others."
    assert cohort_sentence(pd.DataFrame(rows)) == of_unet_and_broken
    single = pd.DataFrame([system("unet", 0.7, n_train_patients=1, n_test_patients=1)])
    assert cohort_sentence(single) == "1 system, trained on 1 patient and tested on 1 other."
    assert headline_cards(single)[0].foot == "unet, 1 test patient"


@pytest.mark.parametrize(("value", "shown"), [(0.85, 0.85), (1.0, 1.0), (85.0, None), (np.nan, None)])
def test_only_a_published_dice_stands_on_the_line_from_0_to_1(value, shown):
    rows = pd.DataFrame([system("unet", 0.7, published_value=value)])
    assert systems_view(rows).rows[0][2].interval.published == shown
    other = systems_view(rows.assign(published_metric="accuracy, of slices"))
    assert other.rows[0][2].interval.published is None
    assert np.isnan(value) or other.rows[0][3].small == "Accuracy, of slices"


def test_many_systems_give_one_card_a_target_that_says_it_was_chosen():
    assert len(headline_cards(pd.DataFrame([system(f"net{k}", 0.5) for k in range(4)]))) == 4
    rows = [system(f"net{k}", 0.5 + k / 100) for k in range(6)]
    cards = headline_cards(pd.DataFrame(rows))
    assert [(c.value, c.foot) for c in cards] == [("0.550", "net5, 4 test patients, highest of 6")]


@pytest.mark.parametrize(("n_networks", "foot"), [(1, ""), (2, "highest of 2; ")])
def test_a_card_says_what_was_reached_without_a_network(n_networks, foot):
    names = [*(f"threshold_{k}" for k in range(5)), *(f"net{k}" for k in range(n_networks))]
    scores = [0.3] * 5 + [0.5 + k / 100 for k in range(n_networks)]
    (card,) = headline_cards(pd.DataFrame(map(system, names, scores)))
    assert card.foot == f"net{n_networks - 1}, 4 test patients, {foot}without a network 0.300"


def test_systems_stand_with_the_best_tumour_dice_first_and_flattered_rows_last():
    rows = [
        system("liverish", 0.95, target="liver"),
        system("low", 0.2),
        system("leaky", 0.99, split_by="slice"),
        system("undefined", np.nan),
        system("high", 0.8),
        system("sorter", np.nan, target="slices"),
    ]
    ordered = in_readers_order(pd.DataFrame(rows))["system"].tolist()
    assert ordered == ["high", "low", "undefined", "leaky", "liverish", "sorter"]
    assert in_readers_order(pd.DataFrame({"system": ["a"]}))["system"].tolist() == ["a"]


def test_every_network_has_its_paper_and_its_row():
    rows = [(name, "64 x 64 x 64 x 3", 1_940_000, 1.24, 8.6) for name in MODELS]
    table = pd.DataFrame(rows, columns=["network", "input", "parameters", "gflops", "milliseconds_an_input"])
    page = network_page({"Small": table}, "CPU & more")
    assert "## Small" in page and "CPU & more" in page and "not for clinical use" in page
    for name in MODELS:
        assert f"| {name} | 64 x 64 x 64 x 3 | 1.94 M | 1.2 | 9 |" in page
        assert f"**{name}**" in page
