"""The report page: complete, escaped, offline, and useful from the first notebook on."""

import json
import re

import nbformat
import numpy as np
import pandas as pd
import pytest
from links import broken_links, external_resources, words
from scipy.ndimage import gaussian_filter

from livseg_lib.errors import InputError
from livseg_lib.outputs import save_figure, update_systems_table, write_table
from livseg_lib.reporting import folder as folder_module
from livseg_lib.reporting.patient_page import PatientView, write_patient_page
from livseg_lib.reporting.report import MOST_OPEN_FIGURES, patient_list, write_report
from livseg_lib.reporting.style import new_figure

HOSTILE = "<script>alert('x')</script>"


def system(name: str, dice: float, **values) -> dict:
    row = {"system": name, "source": "C", "target": "tumor", "split_by": "patient", "dice_per_case": dice}
    bounds = {"dice_per_case_low": dice - 0.1, "dice_per_case_high": dice + 0.1}
    rest = {"n_train_patients": 9, "n_test_patients": 4, "published_metric": "dice", "published_value": 0.85}
    return row | bounds | rest | values


@pytest.fixture
def report(tmp_path):
    folder = tmp_path / "reports" / "phantom-quick"
    story = nbformat.v4.new_markdown_cell(f"# Look first\n\n**Purpose.** See {HOSTILE}.")
    nbformat.write(nbformat.v4.new_notebook(cells=[story]), _made(folder / "00_prepare_data.ipynb"))
    (folder / "00_prepare_data.html").write_text("<p>done</p>")
    (folder / "05_evaluate.partial.ipynb").write_text("half written")
    for name in ("00_prepare_data", "05_evaluate"):
        nbformat.write(nbformat.v4.new_notebook(), _made(tmp_path / "notebooks" / f"{name}.ipynb"))
    _made(folder / "models" / "my net" / "model.json").write_text("{}")
    for name in ("training_unet", "contact_sheet", "odd"):
        save_figure(new_figure(2, 1), folder / "figures", name, f"Caption of {name} {HOSTILE}")
    rows = [system("unet", 0.7), system("unet", 0.8, split_by="slice"), system("broken", np.nan)]
    update_systems_table(folder / "tables" / "systems.csv", rows)
    messages = ["The affine is the identity.", "The file is truncated."]
    findings = {"case": ["ok", HOSTILE], "severity": ["warning", "error"], "message": messages}
    write_table(pd.DataFrame(findings), folder / "tables/findings.csv")
    patients = {"patient": [HOSTILE, "p2"], "dice": [0.123456, np.nan], "unheard_of_ml": [1.0, 2.5]}
    write_table(pd.DataFrame(patients), folder / "tables" / "scores.csv")
    results = [
        {"table": "findings", "caption": f"Cases excluded: 1. {HOSTILE}"},
        {"figure": "training_unet", "caption": ""},
        {"figure": "contact_sheet", "caption": ""},
        {"conclusions": [f"One is cut. {HOSTILE}"]},
        {"table": "systems", "caption": "Not twice."},
        {"table": "gone", "caption": "Nothing."},
    ]
    record = {"parameters": {"epochs": 3, "name": HOSTILE}, "results": results}
    record |= {"seconds": 75, "cpu_seconds": 130, "peak_memory_mb": 1234.5}
    record |= {"finished": "2026-11-21T08:40:10+00:00", "notes": ["Trained from scratch."]}
    manifest = {"dataset": "phantom", "target": "tumor", "seed": 7, "device": HOSTILE}
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
        "phantom-quick",
        "Liver tumours in CT",
        "2026-11-21",
        "0.700",
        "0.600 to 0.800",
        "0.85 Dice",
        "cannot be compared directly",
        "The LiTS U-Net report",
        "Look first",
        "1 min 15 s in all, 2 min 10 s of processors",
        "1 234 MB",
        "3.15.0",
        "Unheard of (ml)",
        "Trained from scratch.",
        "Cases excluded: 1.",
        "0.123",
        "Not run yet (this page grows with every notebook that finishes): 05_evaluate",
    ):
        assert expected in text, expected
    assert "nan" not in text.lower().split() and "Not twice." not in text and "Nothing." not in text


def test_a_notebook_shows_what_it_names_in_its_order_and_the_rest_closes_the_page(report):
    page = write_report(report).read_text()
    assert re.findall(r'<section id="(\w+)"', page) == ["systems", "00_prepare_data", "more", "run"]
    names = "00_prepare_data", "more"
    study, more = (page.split(f'<section id="{name}"')[1].split("</section>")[0] for name in names)
    order = ["truncated", "identity", "Caption of training_unet", "Caption of contact_sheet", "One is cut."]
    places = [study.index(words) for words in order]  # errors first, all else as the manifest has it
    assert places == sorted(places)
    assert study.count("<img") == 2 and "Caption of odd" in more and "Unheard of" in more
    assert '<a href="#00_prepare_data">Prepare data</a>' in page


@pytest.mark.parametrize("column", ["dice_per_case", "recall"])
def test_numbers_are_those_of_the_csv(report, column):
    values = pd.DataFrame({"system": ["a", "b", "c"], column: [0.123456, 1.0, np.nan]})
    write_table(values, report / "tables" / "zz.csv")
    table = write_report(report).read_text().split('href="tables/zz.csv"')[1].split("</table>")[0]
    expected = [("0.123456", "0.123"), ("1.0", "1.000"), ("", "–")]
    assert re.findall(r'data-sort="([^"]*)" class="number">([^<]*)<', table) == expected


def test_many_pictures_and_rows_are_folded(report):
    manifest = json.loads((report / "manifest.json").read_text())
    record = manifest["notebooks"]["00_prepare_data"]
    record["results"] = [{"figure": f"many_{number}", "caption": ""} for number in range(6)]
    record["results"] += [{"table": "long", "caption": "Long."}]
    (report / "manifest.json").write_text(json.dumps(manifest))
    write_table(pd.DataFrame({"dice": [0.5] * 17}), report / "tables" / "long.csv")
    noise = gaussian_filter(np.random.default_rng(0).normal(size=(300, 300)), 1.2)  # as smooth as CT is
    for number in range(6):
        figure = new_figure(4, 4)
        figure.add_axes((0, 0, 1, 1)).imshow(noise, cmap="gray")
        file = save_figure(figure, report / "figures", f"many_{number}")
    page = write_report(report)
    text = page.read_text()
    assert text.count("data:image/webp;base64,") == MOST_OPEN_FIGURES
    assert len(re.findall(r'src="figures/many_[45].png"[^>]* loading="lazy"', text)) == 2
    assert "<summary>2 more pictures" in text and "<summary>Long: all 17 rows" in text
    embedded = max(len(found) for found in re.findall(r"data:image/webp;base64,[^\"]+", text))
    assert embedded < file.stat().st_size and broken_links(page) == []


def test_every_link_resolves_and_nothing_comes_from_elsewhere(report):
    page = write_report(report)
    assert broken_links(page) == [] and external_resources(page) == []
    assert "05_evaluate.partial" not in page.read_text()  # half-written files are not results
    text = page.read_text()
    assert HOSTILE not in text and "&lt;script&gt;alert" in text and text.count("<script>") == 1  # ours
    assert "models/my%20net/model.json" in text and write_report(report).read_text() == text
    (report / "00_prepare_data.html").unlink()
    assert set(broken_links(page)) == {"00_prepare_data.html"}


def test_figures_are_inside_until_the_room_is_full_and_then_linked(report, monkeypatch):
    page = write_report(report).read_text()
    assert 'alt="Caption of training_unet' in page and 'width="320" height="160"' in page
    first = len(page.split('src="data:image/png;base64,')[1].split('"')[0])
    monkeypatch.setattr(folder_module, "MAX_EMBEDDED_BYTES", 1.9 * (first + 22))
    page = write_report(report)
    sources = [source[:20] for source in re.findall(r'<img src="([^"]*)"', page.read_text())]
    assert sources == ["data:image/png;base6", "figures/contact_shee", "figures/odd.png"]
    assert broken_links(page) == []


def test_an_empty_folder_gives_a_page_that_says_so(tmp_path):
    folder = tmp_path / "lits-full"
    folder.mkdir()
    page = write_report(folder)
    text = words(page)
    assert "LiTS" in text and "full" in text and "not for clinical use" in text
    assert "Phantom" not in text
    assert broken_links(page) == [] and [f.name for f in folder.glob("[!.]*")] == ["index.html"]


BROKEN = [("manifest.json", "{"), ("manifest.json", "[]"), ("tables/cases.csv", "")]
BROKEN += [("figures/bad.png", "no picture"), ("01_bad.ipynb", "{")]


@pytest.mark.parametrize(("file", "content"), BROKEN)
def test_a_broken_file_is_named(report, file, content):
    (report / file).write_text(content)
    with pytest.raises(InputError, match=file.split("/")[-1]):
        write_report(report)


SHAPE = (4, 30, 30)


def scores() -> pd.DataFrame:
    rows = [
        ("volume-2", "a", "tumor", 0.2, 5.0),
        ("volume-2", "b", "tumor", 0.6, 5.0),
        ("volume-2", "c", "tumor", 0.5, 5.0),
        ("volume-2", "d", "tumor", np.nan, 5.0),
        ("volume-10", "a", "tumor", np.nan, 0.0),
        ("volume-2", "a", "liver", 0.9, 1500.0),
    ]
    return pd.DataFrame(rows, columns=["case", "system", "structure", "dice", "reference_ml"])


@pytest.fixture
def pages(tmp_path):
    for case in ("volume-10", "volume-2"):
        voxels = np.zeros(SHAPE, np.int16) - 100
        write_patient_page(PatientView(case, voxels, (5.0, 1.0, 1.0), {}), tmp_path / "phantom-quick")
    return tmp_path / "phantom-quick"


def test_one_row_a_page_in_natural_order_with_median_and_range(pages):
    view = patient_list(pages, scores())
    assert view.titles == ["Patient", "Tumour Dice", "Liver Dice", "Tumour (ml)", "Liver (ml)"]
    assert [[cell.text for cell in row] for row in view.rows] == [
        ["volume-2", "0.500", "0.900", "5", "1\u202f500"],
        ["volume-10", "–", "–", "0", "–"],
    ]
    assert view.rows[0][1].small == "0.200 to 0.600, 3 systems" and view.rows[0][2].small == ""
    of_two = scores().query("system != 'a'")
    assert patient_list(pages, of_two).rows[0][1].small.endswith(", 2 systems")
    assert view.rows[0][0].link == "patients/volume-2.html"
    assert view.rows[0][0].picture.startswith("data:image/webp;base64,")
    unscored = patient_list(pages, None)
    assert unscored.titles == ["Patient"] and len(unscored.rows) == 2
    assert patient_list(pages / "patients", scores()) is None


def test_the_report_links_them_and_every_link_resolves(pages):
    write_table(scores(), pages / "tables" / "patients.csv")
    page = write_report(pages)
    assert 'href="patients/volume-10.html"' in page.read_text() and broken_links(page) == []
