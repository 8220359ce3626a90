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
}

HEADING = """# The networks of the catalogue

Written by `livseg networks --out docs/networks.md`. Research only, not for clinical use.

Every network takes pictures in [0, 1] with any number of channels and gives one sigmoid map a structure.
Its departures from the paper stand in the docstring of its file in `livseg_lib/models/`. GFLOPs are those
of one image, a multiply-add counted as two; milliseconds are those of one image in a batch of 8, for
prediction, on {device}.
"""


def network_page(tables: Mapping[str, pd.DataFrame], device: str) -> str:
    """Markdown. `tables` maps a title to a table of `livseg_lib.models.cost.cost_table`."""
    parts = [HEADING.format(device=device)]
    for title, table in tables.items():
        parts += [f"\n## {title}\n", *_rows(table)]
    parts += ["\n## Papers\n", *(f"- **{name}**: {paper}" for name, paper in PAPERS.items())]
    return "\n".join(parts) + "\n"


def _rows(table: pd.DataFrame) -> list[str]:
    lines = ["| network | parameters | GFLOPs an image | ms an image |", "| --- | ---: | ---: | ---: |"]
    for row in table.itertuples():
        numbers = f"{row.parameters / 1e6:.2f} M | {row.gflops:.1f} | {row.milliseconds_an_image:.0f}"
        lines.append(f"| {row.network} | {numbers} |")
    return lines
