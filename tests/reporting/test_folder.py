"""Executed notebooks as pages, whole and offline; how values read, by hand."""

import math

import nbformat
import pandas as pd
import pytest
from links import external_resources
from markupsafe import Markup

from livseg_lib.errors import InputError, format_duration
from livseg_lib.reporting import folder

WIDGET = "application/vnd.jupyter.widget-view+json"


@pytest.fixture
def executed(tmp_path):
    v4 = nbformat.v4
    bar = {WIDGET: {"model_id": "0", "version_major": 2, "version_minor": 0}, "text/plain": "100 % of 8"}
    story = "intro\n\n## A net *learns*\n\nLoss $1 - x^2$, see [LiTS](https://example.org)."
    code = v4.new_code_cell("train()", outputs=[v4.new_output("display_data", data=bar)])
    notebook = v4.new_notebook(cells=[v4.new_markdown_cell(story), code])
    notebook.metadata["widgets"] = {"application/vnd.jupyter.widget-state+json": {"state": {}}}
    path = tmp_path / "03_train_unet.ipynb"
    nbformat.write(notebook, path)
    return path


def test_the_page_loads_nothing_and_keeps_everything(executed):
    html = folder.notebook_to_html(executed, executed.with_suffix(".html"))
    text = html.read_text()
    assert external_resources(html) == []
    for foreign in ("cdnjs", "unpkg", "require.min.js", "mathjax", "import mermaid"):
        assert foreign not in text.lower()
    assert "train" in text and "$1 - x^2$" in text and "https://example.org" in text
    assert "100 % of 8" in text  # the text of a progress bar stands in for its widget
    assert 'href="index.html"' in text
    assert sorted(f.name for f in executed.parent.iterdir()) == ["03_train_unet.html", "03_train_unet.ipynb"]


MARKED = "intro\n\n## A net *learns*\n\n**Purpose.** See [it](x.md) `learn`.\n\n# Later"
STORIES = [([MARKED], ("A net learns", "See it learn.")), (["# One", "**Purpose.** Two."], ("One", "Two."))]


@pytest.mark.parametrize(("texts", "story"), [*STORIES, (["no heading"], ("", "")), ([], ("", ""))])
def test_a_notebook_tells_its_title_and_purpose_without_markdown(tmp_path, texts, story):
    cells = [nbformat.v4.new_code_cell("# Purpose. No"), *map(nbformat.v4.new_markdown_cell, texts)]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "one.ipynb")
    assert folder.notebook_story(tmp_path / "one.ipynb") == story
    assert folder.notebook_story(tmp_path / "none.ipynb") == ("", "")


@pytest.mark.parametrize("content", ["", "not json", "[]", "{}"])
def test_what_is_not_a_notebook_is_refused(tmp_path, content):
    (tmp_path / "bad.ipynb").write_text(content)
    with pytest.raises(InputError, match=r"bad\.ipynb"):
        folder.notebook_to_html(tmp_path / "bad.ipynb", tmp_path / "bad.html")
    assert not (tmp_path / "bad.html").exists()


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
        ("assd_mm", 9.87654, "9.877"),
        ("assd_mm", 12.345, "12.3"),
        ("liver_ml", 1861.44, "1\u202f861.4"),
        ("parameters", 31_032_837, "31 M"),
        ("parameters", 1_941_105, "1.94 M"),
        ("train_seconds", 312.4, "5 min 12 s"),
        ("published_value", 0.8215, "0.8215"),
        ("patient", 12, "12"),
        ("case", 1234567, "1234567"),
        ("structure", "tumor", "tumour"),
        ("spacing_mm", "(4.5, 0.7390000224113464)", "(4.5, 0.739)"),
        ("patient", "1.2.840.1000830", "1.2.840.1000830"),
        ("has_tumor", True, "yes"),
        ("message", "<script>", "<script>"),  # escaping is the template's work
    ],
)
def test_format_cell(column, value, text):
    assert folder.format_cell(column, value).text == text


def test_headings_are_words_of_people():
    names = {"hu_low": "HU low", "system_c_share": "System C share", "p_holm": "p (Holm)", "p": "P"}
    names |= {"p90_hu": "P90 (HU)", "dice_per_case_low": "Dice per patient low", "msd_mm": "Hausdorff (mm)"}
    assert {name: folder.column_title(name) for name in names} == names


def test_format_duration():
    told = {0.42: "0.4 s", 38.4: "38 s", 59.7: "60 s", 60: "1 min 00 s"}
    told |= {3599.8: "1 h 00 min", 7500: "2 h 05 min"}
    assert {seconds: format_duration(seconds) for seconds in told} == told


def test_a_long_table_shows_its_beginning_and_says_how_much_there_is():
    for total, shown in ((folder.MAX_ROWS, folder.MAX_ROWS), (folder.MAX_ROWS + 1, folder.FIRST_ROWS)):
        view = folder.table_view(pd.DataFrame({"patient": range(total), "dice": 0.5}))
        assert (len(view.rows), view.total, view.numeric) == (shown, total, [False, True])


def test_facts_that_are_empty_are_said_not_to_be_recorded():
    missing = [None, [], {}, "", float("nan"), Markup("")]
    assert [folder.told(value) for value in missing] == [folder.NOT_RECORDED] * len(missing)
    assert [folder.told(value) for value in (0, ["a", None], Markup("<b>"))] == ["0", "a, –", "<b>"]


def test_addresses_become_links_and_all_else_is_escaped():
    assert folder.linked("see [a](https://x.org/1) <b>") == 'see <a href="https://x.org/1">a</a> &lt;b&gt;'
    assert folder.linked("[a](javascript:alert)") == "[a](javascript:alert)"
