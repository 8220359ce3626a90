"""A patient page: whole, offline, escaped, and true to what it was given."""

from __future__ import annotations

import base64
import gzip
import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from livseg_lib.errors import InputError
from livseg_lib.reporting.pages.links import broken_links, external_resources
from livseg_lib.reporting.pages.patient_page import PatientView, page_bytes, remove_pages, write_patient_page

SHAPE, SPACING = (12, 60, 80), (4.0, 1.0, 1.0)
HOSTILE = "</script><script>alert('x')</script>"


def labels(shift: int = 0) -> np.ndarray:
    found = np.zeros(SHAPE, np.uint8)
    found[2:10, 15:45, 20 + shift : 60 + shift] = 1
    found[5:8, 25:32, 30 + shift : 38 + shift] = 2
    found[6, 24, 30 + shift] = 2  # most tumour in slice 6
    return found


def view(**changes) -> PatientView:
    noise = np.random.default_rng(0).normal(0, 15, SHAPE)
    voxels = (60 + 40 * (labels() == 1) + noise - 1000 * (np.arange(SHAPE[2]) < 3)).astype(np.int16)
    table = pd.DataFrame({"system": ["unet", HOSTILE], "dice": [0.8123, np.nan]})
    content = {"case_id": "volume-1", "voxels": voxels, "spacing_mm": SPACING}
    content |= {
        "outlines": {"truth": labels(), "unet": labels(2)},
        "tables": [("Dice", table)],
        "note": "A note.",
    }
    return PatientView(**content | changes)


def page_data(page: Path) -> dict:
    return json.loads(re.search(r'id="data">(.*?)</script>', page.read_text(), re.S)[1])


def unpacked(script: Path) -> tuple[str, str]:
    """The name and the text of a packed script."""
    name, packed = re.fullmatch(r'livseg\.take\("([^"]+)", "([^"]+)"\);\n', script.read_text()).groups()
    return name, gzip.decompress(base64.b64decode(packed)).decode()


def test_page_and_files_are_there_and_resolve(tmp_path):
    page = write_patient_page(view(), tmp_path)
    assert page == tmp_path / "patients" / "volume-1.html"
    assert broken_links(page) == [] and external_resources(page) == []
    text = page.read_text()
    assert "not for clinical use" in text and "A note." in text and "0.812" in text
    data = page_data(page)
    names = {file.name for file in (tmp_path / "patients" / "volume-1").iterdir()}
    assert names == {
        *(f"{k:03d}.webp" for k in range(data["count"])),
        *("outline-0.js", "outline-1.js", "surface.js", "thumbnail.webp"),
    }
    assert (page.parent / data["library"]).exists()
    assert not list(tmp_path.rglob("*.partial*"))


def test_the_box_starts_where_it_says_and_the_page_opens_on_most_tumour(tmp_path):
    data = page_data(write_patient_page(view(), tmp_path))
    assert (data["first"], data["count"]) == (0, 12)  # 12 mm are three slices, more than there are
    assert data["first"] + data["start"] == 6
    truth = data["outlines"][0]
    assert truth["name"] == "truth" and truth["style"]["dash"] == "" != data["outlines"][1]["style"]["dash"]
    assert sum(truth["pixels"]["liver"]) == (labels() > 0).sum()


def test_outlines_and_surfaces_are_packed_scripts_that_name_themselves(tmp_path):
    folder = write_patient_page(view(), tmp_path).with_suffix("")
    name, text = unpacked(folder / "outline-1.js")
    paths = json.loads(text)
    assert name == "outline-1" and list(paths) == ["liver", "tumor"] and len(paths["liver"]) == 12
    name, text = unpacked(folder / "surface.js")
    traces = [trace["name"] for trace in json.loads(text)["data"]]
    assert name == "surface" and traces[:2] == ["Liver, truth", "Tumours, truth"]
    (library,) = (tmp_path / "assets").iterdir()
    assert "plotly.js" in unpacked(library)[1][:300]


def test_windows_never_ask_for_more_than_pictures_hold(tmp_path):
    data = page_data(write_patient_page(view(), tmp_path))
    low, high = data["stored"]
    assert all(low <= a < b <= high for a, b in data["presets"].values()) and len(data["presets"]) == 4


def test_pictures_without_spacing_have_no_surface_and_the_page_says_why(tmp_path):
    grey = np.clip(view().voxels, 0, 255)
    page = write_patient_page(view(voxels=grey, spacing_mm=(np.nan,) * 3), tmp_path)
    text = page.read_text()
    assert "There is no 3D view" in text and "open-surface" not in re.sub(r"<script>.*", "", text, flags=re.S)
    assert not (tmp_path / "assets").exists() and not (page.with_suffix("") / "surface.js").exists()
    data = page_data(page)
    assert data["unit"] == "grey levels" and data["stored"] == [0, 255] and "Liver" not in data["presets"]


@pytest.mark.parametrize("outlines", [{}, {"unet": np.zeros(SHAPE, np.uint8)}, {"unet": labels()}])
def test_without_truth_or_without_anything_found(tmp_path, outlines):
    page = write_patient_page(view(outlines=outlines, tables=[]), tmp_path)
    data = page_data(page)
    assert len(data["outlines"]) == len(outlines) and 0 <= data["start"] < data["count"]
    assert ("Open the 3D view" in page.read_text()) == any(each.any() for each in outlines.values())
    assert all(outline["style"]["dash"] for outline in data["outlines"])  # dashed: nobody's truth


def test_hostile_names_stay_text(tmp_path):
    page = write_patient_page(view(outlines={"truth": labels(), HOSTILE: labels(1)}, note=HOSTILE), tmp_path)
    text = page.read_text()
    assert HOSTILE not in text and text.count("<script") == 3
    assert page_data(page)["outlines"][1]["name"] == HOSTILE


@pytest.mark.parametrize("name", ["", "a/b", "..", ".hidden"])
def test_names_that_are_no_file_names_are_refused(tmp_path, name):
    with pytest.raises(InputError, match="cannot name a file"):
        write_patient_page(view(case_id=name), tmp_path)
    assert not list(tmp_path.iterdir())


def test_arrays_of_another_shape_are_refused(tmp_path):
    with pytest.raises(InputError, match="not volumes of one shape"):
        write_patient_page(view(outlines={"unet": labels()[1:]}), tmp_path)


def test_a_page_never_stands_without_its_files(tmp_path, monkeypatch):
    page = write_patient_page(view(), tmp_path)
    monkeypatch.setattr("livseg_lib.reporting.pages.patient_page.surface_figure", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_patient_page(view(), tmp_path)
    assert not page.exists() and not list(tmp_path.rglob("*.partial*"))


def test_writing_again_replaces_all_and_gives_the_same(tmp_path):
    page = write_patient_page(view(), tmp_path)
    first = {file.name: file.read_bytes() for file in page.with_suffix("").iterdir()}
    (page.with_suffix("") / "old.webp").write_bytes(b"stale")
    write_patient_page(view(), tmp_path)
    assert {file.name: file.read_bytes() for file in page.with_suffix("").iterdir()} == first


def test_a_link_back_only_where_there_is_a_report(tmp_path):
    assert "../index.html" not in write_patient_page(view(), tmp_path).read_text()
    (tmp_path / "index.html").write_text("report")
    assert '<a href="../index.html">' in write_patient_page(view(), tmp_path).read_text()


def test_weight_and_removal(tmp_path):
    page = write_patient_page(view(), tmp_path)
    assert page.stat().st_size < page_bytes(page) < 400_000
    remove_pages(tmp_path)
    assert list((tmp_path / "patients").iterdir()) == []
    remove_pages(tmp_path / "nothing")
