"""The report page: complete, escaped, offline, and useful from the first notebook on."""

from __future__ import annotations

import json
import re

import nbformat
import numpy as np
import pandas as pd
import pytest
from scipy.ndimage import gaussian_filter

from livseg_lib.errors import InputError
from livseg_lib.figures import save_figure
from livseg_lib.reporting.pages import folder as folder_module
from livseg_lib.reporting.pages.folder import MAX_OPEN
from livseg_lib.reporting.pages.links import broken_links, external_resources
from livseg_lib.reporting.pages.page import write_report
from livseg_lib.reporting.pages.systems import cohort_sentence, headline_cards, in_readers_order
from livseg_lib.reporting.style import new_figure
from livseg_lib.tables import update_systems_table, write_table

HOSTILE = "<script>alert('x')</script>"


def system(name: str, dice: float, **values) -> dict:
    row = {"system": name, "source": "C", "target": "tumor", "split_by": "patient", "dice_per_case": dice}
    bounds = {"dice_per_case_low": dice - 0.1, "dice_per_case_high": dice + 0.1}
    rest = {"n_train_patients": 9, "n_test_patients": 4, "published_metric": "dice", "published_value": 0.85}
    return row | bounds | rest | values


def words(page) -> str:
    """The text of the page without its tags."""
    return " ".join(re.sub(r"<(style|script)>.*?</\1>|<[^>]+>", " ", page.read_text(), flags=re.S).split())


@pytest.fixture
def report(tmp_path):
    folder = tmp_path / "phantom-quick"
    nbformat.write(
        nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# Look first")]),
        _made(folder / "00_prepare_data.ipynb"),
    )
    (folder / "00_prepare_data.html").write_text("<p>done</p>")
    (folder / "05_evaluate.partial.ipynb").write_text("half written")
    _made(folder / "models" / "my net" / "model.json").write_text("{}")
    for name in ("best_median_worst_unet", "training_unet", "dice_by_patient", "contact_sheet", "odd"):
        save_figure(new_figure(2, 1), folder / "figures", name, f"Caption of {name} {HOSTILE}")
    rows = [system("unet", 0.7), system("unet", 0.8, split_by="slice"), system("broken", np.nan)]
    update_systems_table(folder / "tables" / "systems.csv", rows)
    findings = [
        ("ok", "warning", "The affine is the identity."),
        (HOSTILE, "error", "The file is truncated."),
    ]
    write_table(
        pd.DataFrame(findings, columns=["case", "severity", "message"]), folder / "tables/findings.csv"
    )
    patients = {"patient": [HOSTILE, "p2"], "dice": [0.123456, np.nan], "unheard_of_ml": [1.0, 2.5]}
    write_table(pd.DataFrame(patients), folder / "tables" / "patients.csv")
    record = {"parameters": {"epochs": 3, "name": HOSTILE}, "seconds": 75, "peak_memory_mb": 1234.5}
    record |= {"finished": "2026-11-21T08:40:10+00:00", "notes": ["Trained from scratch."]}
    manifest = {"dataset": "phantom", "profile": "quick", "target": "tumor", "seed": 7, "device": HOSTILE}
    manifest |= {"packages": {"keras": "3.15.0"}, "notebooks": {"00_prepare_data": record}}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def _made(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def test_everything_of_the_folder_is_on_the_page(report):
    text = words(write_report(report))
    for expected in (
        "not for clinical use",
        "Phantom data.",
        "Liver tumours in CT",
        "2026-11-21",
        "0.700",
        "0.600 to 0.800",
        "0.85 Dice",
        "cannot be compared directly",
        "The LiTS U-Net report",
        "Look first",
        "1 min 15 s",
        "1 234 MB",
        "3.15.0",
        "Unheard of (ml)",
        "Trained from scratch.",
        "Cases excluded: 1. Cases with warnings: 1",
        "0.123",
        "More figures",
    ):
        assert expected in text, expected
    not_run = text[text.index("Not run yet:") :].split(".")[0]
    assert "Slices" in not_run and "What the split hides" in not_run and "Patients" not in not_run
    assert "nan" not in text.lower().split()


def test_chapters_come_in_readers_order(report):
    page = write_report(report).read_text()
    chapters = re.findall(r'<section id="(\w+)"', page)
    assert chapters == ["systems", "overlays", "curves", "patients", "data", "more", "run"]
    assert page.index("The file is truncated.") < page.index("The affine is the identity.")  # errors first


def test_a_study_shows_its_figures_and_tables_in_a_chapter_of_its_own(report):
    tables, figures = report / "tables", report / "figures"
    pd.DataFrame({"protocol": ["slice"], "inflation_points": [12.5]}).to_csv(
        tables / "split_inflation.csv", index=False
    )
    (figures / "training_unet.png").rename(figures / "split_audit_points.png")
    page = write_report(report).read_text()
    study = page[page.index('<section id="split_audit"') :].split("</section>")[0]
    assert "What the split hides" in study and "12.5" in study and "<img" in study
    assert '<a href="#split_audit">' in page and 'id="tuning"' not in page


def test_rows_of_the_audit_are_listed_but_never_a_headline(report):
    audit = {"system": "unet_audit", "source": "C", "target": "tumor", "split_by": "patient (audit)"}
    table = update_systems_table(
        report / "tables" / "systems.csv", [audit | {"dice_per_case": 0.99, "n_test_patients": 5}]
    )
    assert all("unet_audit" not in card.foot for card in headline_cards(table))
    assert "tested on 5" not in cohort_sentence(table)
    assert "unet_audit" in words(write_report(report))


def test_every_link_resolves_and_nothing_comes_from_elsewhere(report):
    page = write_report(report)
    assert broken_links(page) == [] and external_resources(page) == []
    assert "05_evaluate" not in page.read_text()  # half-written files are not results
    assert "models/my%20net/model.json" in page.read_text()
    (report / "00_prepare_data.html").unlink()
    assert broken_links(page) == ["00_prepare_data.html"]


def test_hostile_names_stay_text(report):
    page = write_report(report).read_text()
    assert HOSTILE not in page and "&lt;script&gt;alert" in page
    assert page.count("<script>") == 1  # ours


def test_figures_are_inside_with_caption_and_size(report):
    page = write_report(report).read_text()
    assert page.count("data:image/png;base64,") == 5
    assert 'alt="Caption of training_unet' in page and 'width="320" height="160"' in page


def test_figures_beyond_the_limit_are_linked(report, monkeypatch):
    monkeypatch.setattr(folder_module, "MAX_EMBEDDED_BYTES", 10)
    page = write_report(report)
    assert "data:image/png" not in page.read_text() and 'src="figures/odd.png"' in page.read_text()
    assert broken_links(page) == []


def test_an_empty_folder_gives_a_page_that_says_so(tmp_path):
    folder = tmp_path / "lits-full"
    folder.mkdir()
    page = write_report(folder)
    text = words(page)
    assert "LiTS" in text and "full" in text and "not for clinical use" in text
    assert (
        "Not run yet: Systems, Side by side, " in text and "Pictures, Curves, Patients, Slices, Data." in text
    )
    assert "Phantom" not in text
    assert broken_links(page) == [] and [f.name for f in folder.glob("[!.]*")] == ["index.html"]


def test_the_page_is_the_same_each_time(report):
    first = write_report(report).read_bytes()
    assert write_report(report).read_bytes() == first


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("manifest.json", "{"),
        ("manifest.json", "[]"),
        ("tables/cases.csv", ""),
        ("figures/bad.png", "no picture"),
        ("01_bad.ipynb", "{"),
    ],
)
def test_a_broken_file_is_named(report, file, content):
    (report / file).write_text(content)
    with pytest.raises(InputError, match=file.split("/")[-1]):
        write_report(report)


def test_findings_of_a_clean_data_set(report):
    write_table(pd.DataFrame(columns=["case", "severity", "message"]), report / "tables/findings.csv")
    assert "Every case passed every check." in words(write_report(report))


def test_cards_leave_out_rows_that_leak_or_are_undefined():
    rows = [system("unet", 0.7), system("leaky", 0.9, split_by="slice"), system("broken", np.nan)]
    cards = headline_cards(pd.DataFrame(rows))
    assert [(c.value, c.foot) for c in cards] == [("0.700", "unet, 4 test patients")]


def test_many_systems_give_one_card_a_target_that_says_it_was_chosen():
    rows = [system(f"net{k}", 0.5 + k / 100) for k in range(6)]
    cards = headline_cards(pd.DataFrame(rows))
    assert [(c.value, c.foot) for c in cards] == [("0.550", "net5, 4 test patients, highest of 6")]


@pytest.mark.parametrize(
    ("n_networks", "foot"),
    [
        (1, "net0, 4 test patients, without a network 0.300"),
        (2, "net1, 4 test patients, highest of 2; without a network 0.300"),
    ],
)
def test_a_card_says_what_was_reached_without_a_network(n_networks, foot):
    names = [*(f"threshold_{k}" for k in range(5)), *(f"net{k}" for k in range(n_networks))]
    scores = [0.3] * 5 + [0.5 + k / 100 for k in range(n_networks)]
    (card,) = headline_cards(pd.DataFrame(map(system, names, scores)))
    assert card.foot == foot


def test_cohort_sentence():
    table = pd.DataFrame([system("a", 0.5), system("b", 0.5, n_test_patients=6)])
    assert cohort_sentence(table) == "2 systems, trained on 9 patients and tested on 4 to 6 others."
    one = pd.DataFrame([system("a", 0.5), system("a", 0.9, target="liver")])  # a row a target
    assert cohort_sentence(one) == "1 system, trained on 9 patients and tested on 4 others."
    assert cohort_sentence(pd.DataFrame({"system": ["a"]})) == ""


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


def test_large_pictures_are_embedded_smaller_and_what_is_folded_is_linked(report):
    noise = gaussian_filter(np.random.default_rng(0).normal(size=(300, 300)), 1.2)  # as smooth as CT is
    for number in range(6):
        figure = new_figure(4, 4)
        figure.add_axes((0, 0, 1, 1)).imshow(noise, cmap="gray")
        file = save_figure(figure, report / "figures", f"best_median_worst_{number}")
    page = write_report(report)
    text = page.read_text()
    assert text.count("data:image/webp;base64,") == MAX_OPEN["overlays"]
    assert len(re.findall(r'src="figures/best_median_worst_[^"]+"[^>]* loading="lazy"', text)) == 3
    embedded = max(len(found) for found in re.findall(r"data:image/webp;base64,[^\"]+", text))
    assert embedded < file.stat().st_size and broken_links(page) == []
