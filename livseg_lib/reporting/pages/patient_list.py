"""The patient pages of a report as a table: a small picture, a link, and how well each patient went."""

from __future__ import annotations

import base64
from pathlib import Path
from urllib.parse import quote

import pandas as pd

from livseg_lib.datasets.files import natural_key
from livseg_lib.labels import STRUCTURES
from livseg_lib.reporting.cells import MISSING, Cell, TableView, format_cell, format_number
from livseg_lib.reporting.patient_page import THUMBNAIL
from livseg_lib.reporting.style import structure_name


def patient_list(report: Path, patients: pd.DataFrame | None) -> TableView | None:
    """A row a page in `report`/patients, in natural order; None before there is any.

    `patients`: patients.csv, a row a case, system and structure. A patient's Dice is the median over all
    systems, lowest and highest below it.
    """
    pages = sorted((report / "patients").glob("*.html"), key=lambda page: natural_key(page.name))
    pages = [page for page in pages if not page.name.startswith(".")]
    if not pages:
        return None
    scores = pd.DataFrame(columns=["case", "structure", "dice"]) if patients is None else patients
    shown = [each for each in reversed(STRUCTURES) if each in set(scores["structure"])]
    has_volumes = "reference_ml" in scores and scores["reference_ml"].notna().any()
    words = [structure_name(each).capitalize() for each in shown]
    titles = [
        "Patient",
        *(f"{word} Dice" for word in words),
        *(f"{word} (ml)" for word in words if has_volumes),
    ]
    rows = [_row(page, scores[scores["case"] == page.stem], shown, has_volumes) for page in pages]
    return TableView(titles, [False] + [True] * (len(titles) - 1), rows, len(rows))


def _row(page: Path, scores: pd.DataFrame, structures: list[str], has_volumes: bool) -> list[Cell]:
    thumbnail = page.with_suffix("") / THUMBNAIL
    picture = base64.b64encode(thumbnail.read_bytes()).decode() if thumbnail.exists() else ""
    name = Cell(
        page.stem,
        page.stem,
        link=f"patients/{quote(page.name)}",
        picture=picture and f"data:image/webp;base64,{picture}",
    )
    parts = [scores[scores["structure"] == structure] for structure in structures]
    volumes = [format_cell("ml", part["reference_ml"].max()) for part in parts] if has_volumes else []
    return [name, *(_dice(part["dice"]) for part in parts), *volumes]


def _dice(dice: pd.Series) -> Cell:
    defined = dice.dropna()
    if defined.empty:
        return Cell(MISSING)
    low, high = (format_number("dice", bound) for bound in (defined.min(), defined.max()))
    small = f"{low} to {high}, {len(defined)} systems" if len(defined) > 1 else ""
    return Cell(format_number("dice", defined.median()), float(defined.median()), small)
