"""docs/networks.md: what each network of the catalogue costs, as a page to read beside the code."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

ARXIV = "[arXiv:{0}](https://arxiv.org/abs/{0})"
DOI = "[doi:{0}](https://doi.org/{0})"

PAPERS = {
    "unet": f"Ronneberger et al. 2015, {ARXIV.format('1505.04597')}, as systems B and C",
    "resnet50_unet": f"He et al. 2015, {ARXIV.format('1512.03385')}, as system B",
    "unet++": f"Zhou et al. 2018, {ARXIV.format('1807.10165')}, as system D",
    "manet": f"Fan et al. 2020, {DOI.format('10.1109/ACCESS.2020.3025372')}, as system D",
    "deeplabv3+": f"Chen et al. 2018, {ARXIV.format('1802.02611')}, as system D",
    "attention_unet": f"Oktay et al. 2018, {ARXIV.format('1804.03999')}, named by system B",
    "residual_unet": f"Han 2017, {ARXIV.format('1704.07239')}, system G",
    "cdnn": f"Yuan 2017, {ARXIV.format('1710.04540')}, system I, layers after {ARXIV.format('1703.05165')}",
    "unet3d": f"Cicek et al. 2016, {ARXIV.format('1606.06650')}, as systems E and J",
}

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
    parts = [HEADING.format(device=device)]
    for title, table in tables.items():
        parts += [f"\n## {title}\n", *_rows(table)]
    parts += ["\n## Papers\n", *(f"- **{name}**: {paper}" for name, paper in PAPERS.items())]
    return "\n".join(parts) + "\n"


def _rows(table: pd.DataFrame) -> list[str]:
    heads = ["network", "input", "parameters", "GFLOPs an input", "ms an input"]
    lines = [f"| {' | '.join(heads)} |", "| --- | --- | ---: | ---: | ---: |"]
    for row in table.itertuples():
        numbers = f"{row.parameters / 1e6:.2f} M | {row.gflops:.1f} | {row.milliseconds_an_input:.0f}"
        lines.append(f"| {row.network} | {row.input} | {numbers} |")
    return lines
