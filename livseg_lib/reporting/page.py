"""The report: one index.html that opens offline and can be sent as it is."""

from __future__ import annotations

from pathlib import Path

import jinja2
import pandas as pd
from markupsafe import Markup

from livseg_lib.atomic import locked, write_atomically
from livseg_lib.durations import format_duration
from livseg_lib.reporting import systems as systems_table
from livseg_lib.reporting.cells import (
    MISSING,
    TableView,
    format_text,
    is_missing,
    table_view,
)
from livseg_lib.reporting.folder import ReportFolder
from livseg_lib.reporting.wording import DATASETS, STUDIES, TARGETS

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
        content = page_content(ReportFolder(report_folder))
        page = _environment().get_template("page.html").render(**content)
        return write_atomically(path, page.encode())


def page_content(folder: ReportFolder) -> dict:
    """Everything that the template shows."""
    content = {
        "heading": _heading(folder),
        "systems": _systems(folder),
        "patients": _view(folder, "patients"),
        "slices": _view(folder, "slices_summary"),
        **{name: _study(folder, name) for name in STUDIES},
        "data": _data(folder),
        "figures": folder.figures,
        "run": _run(folder),
    }
    chapters = {name: title for name, title in CHAPTERS.items() if _is_present(name, content)}
    not_run = [title for name, title in CHAPTERS.items() if name not in (*chapters, "more", "run")]
    studies = {name: content[name] for name in STUDIES if name in chapters}
    return content | {"chapters": chapters, "not_run": not_run, "studies": studies}


def _environment() -> jinja2.Environment:
    loader = jinja2.PackageLoader("livseg_lib.reporting")
    environment = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    for name in ("page.css", "page.js"):
        environment.globals[name.replace(".", "_")] = Markup(loader.get_source(environment, name)[0])
    environment.filters |= {
        "duration": lambda seconds: MISSING if is_missing(seconds) else format_duration(seconds),
        "megabytes": lambda size: MISSING if is_missing(size) else f"{size:,.0f} MB".replace(",", "\u202f"),
        "words": format_text,
    }
    return environment


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


def _systems(folder: ReportFolder) -> dict | None:
    table = folder.table("systems")
    if table is None:
        return None
    return {
        "cards": systems_table.headline_cards(table),
        "view": systems_table.systems_view(table),
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
    }


def _view(folder: ReportFolder, name: str) -> TableView | None:
    table = folder.table(name)
    return None if table is None else table_view(table, f"tables/{name}.csv")


def _is_present(chapter: str, content: dict) -> bool:
    if chapter == "run":
        return bool(content["run"]["notebooks"])
    if content["figures"].get(chapter):
        return True
    own = content.get(chapter)
    if chapter == "data":
        return any(own[name] is not None for name in ("findings", "cases", "class_counts", "splits"))
    return own is not None
