"""The figures that systems A to K were published with, to be printed beside ours.

They stand in `published.csv`, one a row, as their sources print them. They were not measured here, and
their protocols differ from ours and from each other: the table says how.
"""

from __future__ import annotations

from importlib.resources import files

import pandas as pd


def published_rows() -> pd.DataFrame:
    """Columns system, source (letter A to K), target, metric, value (float), protocol, note.

    `target` is empty where the system outlines neither liver nor tumour; E published no figure. Metrics
    bear the names of our own tables where they mean the same.
    """
    with files(__package__).joinpath("published.csv").open(encoding="utf-8") as table:
        return pd.read_csv(table, keep_default_na=False, dtype={"value": float})
