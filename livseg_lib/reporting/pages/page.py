"""The report: one index.html that opens offline and can be sent as it is."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from livseg_lib.errors import format_duration
from livseg_lib.files import locked, write_atomically
from livseg_lib.reporting.cells import TableView, format_text, table_view
from livseg_lib.reporting.chapters import STUDIES
from livseg_lib.reporting.pages import systems as systems_table
from livseg_lib.reporting.pages.card_pages import write_cards
from livseg_lib.reporting.pages.folder import MAX_OPEN, ReportFolder
from livseg_lib.reporting.pages.patient_list import patient_list
from livseg_lib.reporting.pages.templating import environment
from livseg_lib.reporting.wording import DATASETS, TARGETS

FACTS = {
    "dataset": "Data set",
    "profile": "Profile",
    "target": "Target",
    "seed": "Random seed",
    "git_revision": "Code revision",
    "data_checksum": "Data checksum",
    "device": "Device",
    "platform": "Platform",
}

CHAPTERS = {
    "systems": "Systems",
    **{name: title for name, (title, _, _) in STUDIES.items()},
    "overlays": "Pictures",
    "curves": "Curves",
    "patients": "Patients",
    "slices": "Slices",
    "data": "Data",
    "more": "More figures",
    "run": "How it was run",
}


def write_report(report_folder: Path | str) -> Path:
    """Write `index.html` from what lies in the folder so far and give its path.

    Nothing in it is fetched from the network: style, script and figures are inside. Chapters without
    anything to show are listed as not run yet. Raises InputError for a file that cannot be read.
    """
    path = Path(report_folder) / "index.html"
    with locked(path):
        folder = ReportFolder(report_folder)
        content = page_content(folder, write_cards(folder))
        page = environment().get_template("page.html").render(**content)
        return write_atomically(path, page.encode())


def page_content(folder: ReportFolder, cards: dict[str, str]) -> dict:
    """Everything that the template shows. `cards`: system -> link to its model card."""
    content = {
        "heading": _heading(folder),
        "systems": _systems(folder, cards),
        "patients": _view(folder, "patients"),
        "pages": patient_list(folder.path, folder.table("patients")),
        "slices": _view(folder, "slices_summary"),
        **{name: _study(folder, name) for name in STUDIES},
        "data": _data(folder),
        "figures": folder.figures,
        "max_open": MAX_OPEN,
        "run": _run(folder),
    }
    chapters = {name: title for name, title in CHAPTERS.items() if _is_present(name, content)}
    not_run = [title for name, title in CHAPTERS.items() if name not in (*chapters, "more", "run")]
    studies = {name: content[name] for name in STUDIES if name in chapters}
    return content | {"chapters": chapters, "not_run": not_run, "studies": studies}


def _heading(folder: ReportFolder) -> dict:
    manifest = folder.manifest
    dataset = str(manifest.get("dataset") or "")
    finished = [str(n.record["finished"]) for n in folder.notebooks if n.record.get("finished")]
    table = folder.table("systems")
    return {
        "dataset": DATASETS.get(dataset, dataset),
        "is_phantom": dataset == "phantom",
        "target": TARGETS.get(manifest.get("target"), "Liver and liver tumours"),
        "profile": manifest.get("profile") or "",
        "date": max(finished)[:10] if finished else "",
        "sentence": "" if table is None else systems_table.cohort_sentence(table),
    }


def _systems(folder: ReportFolder, cards: dict[str, str]) -> dict | None:
    table = folder.table("systems")
    if table is None:
        return None
    table = systems_table.in_readers_order(table)
    return {
        "cards": systems_table.headline_cards(table),
        "view": systems_table.systems_view(table, cards),
        "sources": systems_table.sources_of(table),
        "splits_by_slice": not all(map(systems_table.is_by_patient, table.get("split_by", ()))),
    }


def _study(folder: ReportFolder, name: str) -> dict | None:
    """None where neither a table nor a figure of the study is there."""
    title, sentence, captions = STUDIES[name]
    tables = [(caption, _view(folder, table)) for table, caption in captions.items()]
    tables = [(caption, view) for caption, view in tables if view is not None]
    if not tables and not folder.figures.get(name):
        return None
    return {"title": title, "sentence": sentence, "tables": tables}


def _data(folder: ReportFolder) -> dict:
    findings = folder.table("findings")
    if findings is not None and "severity" in findings:  # excluded cases first
        findings = findings.sort_values("severity", key=lambda s: s != "error", kind="stable")
    return {
        "findings": None if findings is None else table_view(findings, "tables/findings.csv"),
        "excluded": _number_of_cases(findings, "error"),
        "warned": _number_of_cases(findings, "warning"),
        "cases": _view(folder, "cases"),
        "class_counts": _view(folder, "class_counts"),
        "splits": _view(folder, "splits_summary"),
    }


def _number_of_cases(findings: pd.DataFrame | None, severity: str) -> int:
    if findings is None or not {"severity", "case"} <= set(findings):
        return 0
    return findings.loc[findings["severity"] == severity, "case"].nunique()


def _run(folder: ReportFolder) -> dict:
    manifest = folder.manifest
    seconds = [n.record["seconds"] for n in folder.notebooks if n.record.get("seconds") is not None]
    facts = [(title, manifest.get(name)) for name, title in FACTS.items()]
    return {
        "facts": [(title, format_text(value)) for title, value in facts if value is not None],
        "packages": sorted((manifest.get("packages") or {}).items()),
        "notebooks": folder.notebooks,
        "longest": max(seconds, default=0) or 1,
        "total": format_duration(sum(seconds)) if seconds else "",
        "notes": [(n.title, note) for n in folder.notebooks for note in n.record.get("notes") or ()],
        "models": folder.models,
        "weights": [(name, f"{size / 1e6:.1f} MB") for name, size in folder.weights.items()],
    }


def _view(folder: ReportFolder, name: str) -> TableView | None:
    table = folder.table(name)
    return None if table is None else table_view(table, f"tables/{name}.csv")


def _is_present(chapter: str, content: dict) -> bool:
    if chapter == "run":
        return bool(content["run"]["notebooks"])
    if content["figures"].get(chapter):
        return True
    if chapter == "patients" and content["pages"]:
        return True
    own = content.get(chapter)
    if chapter == "data":
        return any(own[name] is not None for name in ("findings", "cases", "class_counts", "splits"))
    return own is not None
