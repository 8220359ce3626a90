"""The page of the networks: a row and a paper for each of the catalogue."""

from __future__ import annotations

import pandas as pd

from livseg_lib.models import MODELS
from livseg_lib.reporting.pages.network_page import network_page


def test_every_network_has_its_paper_and_its_row():
    rows = [(name, "64 x 64 x 64 x 3", 1_940_000, 1.24, 8.6) for name in MODELS]
    table = pd.DataFrame(rows, columns=["network", "input", "parameters", "gflops", "milliseconds_an_input"])
    page = network_page({"Small": table}, "CPU of some kind")
    assert "## Small" in page and "CPU of some kind" in page and "not for clinical use" in page
    for name in MODELS:
        assert f"| {name} | 64 x 64 x 64 x 3 | 1.94 M | 1.2 | 9 |" in page
        assert f"**{name}**" in page
