"""The report: one index.html that opens offline and can be sent as it is."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from urllib.parse import quote

import pandas as pd

from livseg_lib.datasets.files import natural_key
from livseg_lib.errors import format_duration
from livseg_lib.files import locked, write_atomically
from livseg_lib.labels import STRUCTURES
from livseg_lib.reporting import cards
from livseg_lib.reporting.folder import (
    DATASETS,
    MISSING,
    SOURCES,
    TARGET_WORDS,
    Cell,
    ReportFolder,
    TableView,
    environment,
    format_cell,
    format_number,
    format_text,
    table_view,
)
from livseg_lib.reporting.patient_page import THUMBNAIL
from livseg_lib.reporting.style import structure_name

FACTS = {
    "dataset": "Data set",
    "run": "Run",
    "target": "Target",
    "seed": "Random seed",
    "git_revision": "Code revision",
    "data_checksum": "Data checksum",
    "device": "Device",
    "platform": "Platform",
}

MOST_OPEN_FIGURES, MOST_OPEN_ROWS = 4, 16
"""Of figures that follow each other and of rows of a table; what is more is folded, figures linked."""


def write_report(report_folder: Path | str) -> Path:
    """Write `index.html` from what lies in the folder so far and give its path.

    It shows what the notebooks of the manifest name, in their order, and then what else lies there. Nothing
    in it is fetched from the network. Raises InputError for a file that cannot be read.
    """
    path = Path(report_folder) / "index.html"
    with locked(path):
        folder = ReportFolder(report_folder)
        content = page_content(folder, cards.write_cards(folder))
        page = environment().get_template("page.html").render(**content)
        return write_atomically(path, page.encode())


def page_content(folder: ReportFolder, links: Mapping[str, str]) -> dict:
    """Everything that the template shows. `links`: system -> link to its model card."""
    results = [each for notebook in folder.notebooks for each in notebook.results]
    rest = [
        {kind: name, "caption": name.replace("_", " ").capitalize()}
        for kind, subfolder, suffix in (("figure", "figures", "png"), ("table", "tables", "csv"))
        for name in folder.names(subfolder, suffix)
        if name not in {each.get(kind) for each in results}
    ]
    return {
        "heading": _heading(folder),
        "systems": _systems(folder, links),
        "pages": patient_list(folder.path, folder.table("patients")),
        "studies": [(each, parts) for each in folder.notebooks if (parts := _parts(folder, each.results))],
        "rest": _parts(folder, rest),
        "run": _run(folder),
    }


def _systems(folder: ReportFolder, links: Mapping[str, str]) -> dict | None:
    table = folder.table("systems")
    if table is None:
        return None
    table = cards.in_readers_order(table)
    return {
        "cards": cards.headline_cards(table),
        "view": cards.systems_view(table, links),
        "sources": {letter: SOURCES[letter] for letter in cards.source_letters(table)},
        "splits_by_slice": not all(map(cards.is_by_patient, table.get("split_by", ()))),
    }


def _parts(folder: ReportFolder, results: Sequence[Mapping]) -> list[dict]:
    """What a section shows, one after another; figures that follow each other stand together."""
    parts: list[dict] = []
    for is_figure, group in groupby(results, key=lambda each: "figure" in each):
        if is_figure:
            found = (folder.figure(each["figure"], n < MOST_OPEN_FIGURES) for n, each in enumerate(group))
            if figures := [figure for figure in found if figure is not None]:
                parts.append({"figures": figures, "most": MOST_OPEN_FIGURES})
            continue
        for each in group:
            name = each.get("table", "systems")  # systems.csv opens the page
            table = None if name == "systems" else folder.table(name)
            if table is not None:
                if "severity" in table:  # what was excluded comes first
                    table = table.sort_values("severity", key=lambda column: column != "error", kind="stable")
                view = table_view(table, f"tables/{quote(name)}.csv")
                part = {"table": view, "caption": each["caption"], "is_long": view.total > MOST_OPEN_ROWS}
                parts.append(part)
            elif each.get("conclusions"):
                parts.append({"conclusions": each["conclusions"]})
    return parts


def _heading(folder: ReportFolder) -> dict:
    manifest = folder.manifest
    dataset = str(manifest.get("dataset") or "")
    finished = [str(n.record["finished"]) for n in folder.notebooks if n.record.get("finished")]
    table = folder.table("systems")
    return {
        "dataset": DATASETS.get(dataset, dataset),
        "is_phantom": dataset == "phantom",
        "target": TARGET_WORDS.get(manifest.get("target"), "Liver and liver tumours"),
        "run": manifest.get("run") or "",
        "date": max(finished)[:10] if finished else "",
        "sentence": "" if table is None else cards.cohort_sentence(table),
    }


def _run(folder: ReportFolder) -> dict:
    manifest = folder.manifest
    seconds, cpu_seconds = (
        [n.record[name] for n in folder.notebooks if n.record.get(name) is not None]
        for name in ("seconds", "cpu_seconds")
    )
    facts = [(title, manifest.get(name)) for name, title in FACTS.items()]
    return {
        "facts": [(title, format_text(value)) for title, value in facts if value is not None],
        "packages": sorted((manifest.get("packages") or {}).items()),
        "notebooks": folder.notebooks,
        "not_run": folder.not_run,
        "longest": max(seconds, default=0) or 1,
        "total": format_duration(sum(seconds)) if seconds else "",
        "processors": format_duration(sum(cpu_seconds)) if cpu_seconds else "",
        "notes": [(n.title, note) for n in folder.notebooks for note in n.record.get("notes") or ()],
        "models": folder.models,
        "weights": [(name, f"{size / 1e6:.1f} MB") for name, size in folder.weights.items()],
    }


def patient_list(report: Path, patients: pd.DataFrame | None) -> TableView | None:
    """A row a page in `report`/patients, in natural order; None before there is any. `patients` is
    patients.csv; a patient's Dice is the median over all systems, lowest and highest below it."""
    pages = sorted((report / "patients").glob("*.html"), key=lambda page: natural_key(page.name))
    pages = [page for page in pages if not page.name.startswith(".")]
    if not pages:
        return None
    scores = pd.DataFrame(columns=["case", "structure", "dice"]) if patients is None else patients
    shown = [each for each in reversed(STRUCTURES) if each in set(scores["structure"])]
    has_volumes = "reference_ml" in scores and scores["reference_ml"].notna().any()
    names = [structure_name(each).capitalize() for each in shown]
    titles = ["Patient", *(f"{word} Dice" for word in names)]
    titles += [f"{word} (ml)" for word in names if has_volumes]
    rows = [_row(page, scores[scores["case"] == page.stem], shown, has_volumes) for page in pages]
    return TableView(titles, [False] + [True] * (len(titles) - 1), rows, len(rows))


def _row(page: Path, scores: pd.DataFrame, structures: list[str], has_volumes: bool) -> list[Cell]:
    thumbnail = page.with_suffix("") / THUMBNAIL
    picture = ""
    if thumbnail.exists():
        picture = f"data:image/webp;base64,{base64.b64encode(thumbnail.read_bytes()).decode()}"
    name = Cell(page.stem, page.stem, link=f"patients/{quote(page.name)}", picture=picture)
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
