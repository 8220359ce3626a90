"""docs/networks.md: what each network of the catalogue costs, as a page to read beside the code."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from livseg_lib.systems import SYSTEMS

HEADING = """# The networks of the catalogue

Written by `livseg networks --out docs/networks.md`. Research only, not for clinical use.

Every network takes pictures in [0, 1], height x width x channels, or blocks of slices, depth x height x
width x channels, with any number of channels, and gives one sigmoid map a structure. Its departures from
the paper stand in the docstring of its file in `livseg_lib/models/`. GFLOPs are those of one input of the
size in its row, a multiply-add counted as two; milliseconds are those of one picture in a batch of 8, or of
one block alone, for prediction, on {device}.

A block holds many slices: for numbers that can be compared, divide those of its row by its depth, and mind
the sizes.
"""


def network_page(tables: Mapping[str, pd.DataFrame], device: str) -> str:
    """Markdown. `tables` maps a title to a table of `livseg_lib.models.cost.cost_table`."""
    papers = [f"- **{name}**: {system.paper}" for name, system in SYSTEMS.items() if system.paper]
    parts = [HEADING.format(device=device)]
    for title, table in tables.items():
        parts += [f"\n## {title}\n", *_rows(table)]
    parts += ["\n## Papers\n", *papers]
    return "\n".join(parts) + "\n"


def _rows(table: pd.DataFrame) -> list[str]:
    heads = ["network", "input", "parameters", "GFLOPs an input", "ms an input"]
    lines = [f"| {' | '.join(heads)} |", "| --- | --- | ---: | ---: | ---: |"]
    for row in table.itertuples():
        numbers = f"{row.parameters / 1e6:.2f} M | {row.gflops:.1f} | {row.milliseconds_an_input:.0f}"
        lines.append(f"| {row.network} | {row.input} | {numbers} |")
    return lines
