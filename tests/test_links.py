"""The link checker itself must be able to fail."""

from __future__ import annotations

import pytest
from links import broken_links, external_resources


def page(tmp_path, body: str):
    path = tmp_path / "page.html"
    path.write_text(body)
    return path


@pytest.mark.parametrize(
    ("body", "broken"),
    [
        ('<a href="#here">x</a><h2 id="here"></h2>', []),
        ('<a href="#gone">x</a>', ["#gone"]),
        ('<a href="page.html#top">x</a>', []),
        ('<a href="gone.html">x</a>', ["gone.html"]),
        ('<img src="gone%20too.png">', ["gone%20too.png"]),
        ('<a href="https://example.org/x">x</a>', []),
    ],
)
def test_broken_links(tmp_path, body, broken):
    assert broken_links(page(tmp_path, body)) == broken


@pytest.mark.parametrize(
    "body",
    [
        '<script src="https://cdn.example.org/x.js"></script>',
        '<link rel="stylesheet" href="//cdn.example.org/x.css">',
        '<img src="http://example.org/x.png">',
        '<style>@import "https://example.org/x.css";</style>',
        "<style>p { background: url(https://example.org/x.png) }</style>",
    ],
)
def test_external_resources_are_found(tmp_path, body):
    assert len(external_resources(page(tmp_path, body))) == 1


def test_clickable_links_and_data_are_no_resources(tmp_path):
    body = '<a href="https://example.org">x</a><img src="data:image/png;base64,AA">'
    style = "<style>p { background: url(data:image/png;base64,AA) }</style>"
    assert external_resources(page(tmp_path, body + style)) == []
