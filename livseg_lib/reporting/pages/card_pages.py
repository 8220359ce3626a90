"""Cards as pages of a report: one a system, one of the data, rewritten whenever the report is."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from urllib.parse import quote

from livseg_lib.files import write_atomically
from livseg_lib.reporting.pages.card_wording import MISSING
from livseg_lib.reporting.pages.cards import BY_SYSTEM, model_card
from livseg_lib.reporting.pages.data_card import data_card
from livseg_lib.reporting.pages.folder import ReportFolder
from livseg_lib.reporting.pages.templating import environment
from livseg_lib.reporting.wording import DATASETS

MODEL_CARD, DATA_CARD = "Model card", "Data card"
AFTER = {
    MODEL_CARD: "Mitchell et al. 2019 (arXiv:1810.03993)",
    DATA_CARD: "Gebru et al. 2018 (arXiv:1803.09010)",
}
TABLES = ("systems", "lits_scores", *BY_SYSTEM, "cases", "findings", "splits_summary", "class_counts")


def write_cards(folder: ReportFolder) -> dict[str, str]:
    """Write cards/<system>.html for each system of systems.csv, and cards/data.html.

    Returns system -> link relative to the report; nothing is written before there is a table of systems.
    """
    tables = {name: table for name in TABLES if (table := folder.table(name)) is not None}
    if "systems" not in tables or "system" not in tables["systems"]:
        return {}
    write = partial(_write, folder)
    write("data", DATA_CARD, data_card(tables, folder.manifest))
    links = {}
    for system in tables["systems"]["system"].astype(str).unique():
        sections = model_card(system, tables, folder.model_records(system), folder.manifest)
        links[system] = write(system, MODEL_CARD, sections)
    return links


def _write(folder: ReportFolder, name: str, kind: str, sections: list) -> str:
    dataset = folder.manifest.get("dataset")
    figures = [f"best_median_worst_{name}_{structure}" for structure in ("tumor", "liver")]
    page = (
        environment()
        .get_template("card.html")
        .render(
            title=DATASETS.get(dataset, dataset) if kind == DATA_CARD else name,
            kind=kind,
            after=AFTER[kind],
            missing=MISSING,
            is_phantom=dataset == "phantom",
            sections=sections,
            figures=[quote(each) for each in figures if (folder.path / "figures" / f"{each}.png").exists()],
        )
    )
    path = Path("cards") / f"{name}.html"
    write_atomically(folder.path / path, page.encode())
    return quote(path.as_posix())
