"""The link checker itself must be able to fail."""

import pytest
from links import broken_links, external_resources


@pytest.mark.parametrize(
    ("body", "broken", "n_external"),
    [
        ('<a href="#here">x</a><h2 id="here"></h2>', [], 0),
        ('<a href="#gone">x</a>', ["#gone"], 0),
        ('<a href="page.html#top">x</a>', [], 0),
        ('<a href="gone.html">x</a>', ["gone.html"], 0),
        ('<img src="gone%20too.png">', ["gone%20too.png"], 0),
        ('<a href="https://example.org/x">x</a>', [], 0),
        ('<script src="https://cdn.example.org/x.js"></script>', [], 1),
        ('<link rel="stylesheet" href="//cdn.example.org/x.css">', [], 1),
        ('<img src="http://example.org/x.png">', [], 1),
        ('<style>@import "https://example.org/x.css";</style>', [], 1),
        ("<style>p { background: url(https://example.org/x.png) }</style>", [], 1),
        ('<img src="data:image/png;base64,AA"><style>p { background: url(data:,AA) }</style>', [], 0),
    ],
)
def test_what_leads_nowhere_and_what_is_fetched_from_elsewhere(tmp_path, body, broken, n_external):
    page = tmp_path / "page.html"
    page.write_text(body)
    assert broken_links(page) == broken and len(external_resources(page)) == n_external
