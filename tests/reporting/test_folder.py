"""Executed notebooks as pages: whole, and without anything from the network."""

from __future__ import annotations

import nbformat
import pytest
from links import external_resources

from livseg_lib.errors import InputError
from livseg_lib.reporting.folder import notebook_story, notebook_to_html

WIDGET = "application/vnd.jupyter.widget-view+json"


@pytest.fixture
def executed(tmp_path):
    v4 = nbformat.v4
    bar = {WIDGET: {"model_id": "0", "version_major": 2, "version_minor": 0}, "text/plain": "100 % of 8"}
    cells = [
        v4.new_markdown_cell(
            "intro\n\n## A net *learns*\n\nLoss $1 - x^2$, see [LiTS](https://example.org)."
        ),
        v4.new_code_cell("train()", outputs=[v4.new_output("display_data", data=bar)]),
    ]
    notebook = v4.new_notebook(cells=cells)
    notebook.metadata["widgets"] = {"application/vnd.jupyter.widget-state+json": {"state": {}}}
    path = tmp_path / "03_train_unet.ipynb"
    nbformat.write(notebook, path)
    return path


def test_the_page_loads_nothing_and_keeps_everything(executed):
    html = notebook_to_html(executed, executed.with_suffix(".html"))
    text = html.read_text()
    assert external_resources(html) == []
    for foreign in ("cdnjs", "unpkg", "require.min.js", "mathjax", "import mermaid"):
        assert foreign not in text.lower()
    assert "train" in text and "$1 - x^2$" in text and "https://example.org" in text
    assert "100 % of 8" in text  # the text of a progress bar stands in for its widget
    assert 'href="index.html"' in text
    assert sorted(f.name for f in executed.parent.iterdir()) == ["03_train_unet.html", "03_train_unet.ipynb"]


@pytest.mark.parametrize(
    ("texts", "story"),
    [
        (
            ["intro\n\n## A net *learns*\n\n**Purpose.** See [it](x.md) `learn`.\n\n# Later"],
            ("A net learns", "See it learn."),
        ),
        (["# One", "**Purpose.** Two."], ("One", "Two.")),
        (["no heading"], ("", "")),
        ([], ("", "")),
    ],
)
def test_a_notebook_tells_its_title_and_purpose_without_markdown(tmp_path, texts, story):
    cells = [nbformat.v4.new_code_cell("# Purpose. No"), *map(nbformat.v4.new_markdown_cell, texts)]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "one.ipynb")
    assert notebook_story(tmp_path / "one.ipynb") == story
    assert notebook_story(tmp_path / "none.ipynb") == ("", "")


@pytest.mark.parametrize("content", ["", "not json", "[]", "{}"])
def test_what_is_not_a_notebook_is_refused(tmp_path, content):
    (tmp_path / "bad.ipynb").write_text(content)
    with pytest.raises(InputError, match=r"bad\.ipynb"):
        notebook_to_html(tmp_path / "bad.ipynb", tmp_path / "bad.html")
    assert not (tmp_path / "bad.html").exists()
