"""What each system is and how well it does: its rows of systems.csv, and cards of models and data.

Model cards are after Mitchell et al. 2019 (arXiv:1810.03993), the data card after Gebru et al. 2018
(arXiv:1803.09010). They are built from tables, model.json and the manifest alone; what these do not tell is
said to be missing. Their words stand in the templates.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from urllib.parse import quote

import numpy as np
import pandas as pd
from markupsafe import Markup

from livseg_lib.errors import counted, format_duration
from livseg_lib.files import write_atomically
from livseg_lib.reporting.folder import (
    DATASETS,
    SOURCES,
    Cell,
    Interval,
    ReportFolder,
    TableView,
    column_title,
    environment,
    format_cell,
    format_number,
    format_text,
    is_missing,
    linked,
    table_view,
)
from livseg_lib.systems import SYSTEMS

PAPERS = {name: system.paper for name, system in SYSTEMS.items() if system.paper}
"""Network -> its paper, in Markdown."""

MAX_CARDS = 4
BASELINES = "threshold"  # how the names of systems without a network begin
FOLDED = ("source", "n_train_patients", "dice_per_case_low", "dice_per_case_high", "published_metric")
FOLDED += ("parameters",)
"""Columns shown inside the cell of another."""

FIRST = ("system", "target", "dice_per_case", "published_value", "split_by", "n_test_patients")
"""What a reader wants beside each other; the other columns follow as they come."""


@dataclass(frozen=True)
class Card:
    """One headline number."""

    label: str
    value: str
    detail: str
    foot: str
    interval: Interval | None


def in_readers_order(systems: pd.DataFrame) -> pd.DataFrame:
    """Tumours, livers, all else; in each the highest Dice first, undefined ones last. Rows whose split puts a
    patient on both sides, and those of the audit, close their target, which they would lead."""
    if not {"target", "split_by", "dice_per_case"} <= set(systems):
        return systems
    keys = {
        "target": systems["target"].map({"tumor": 0, "liver": 1}).fillna(2),
        "flattered": ~systems["split_by"].map(_is_headline).astype(bool),
        "dice": -systems["dice_per_case"],
    }
    order = pd.DataFrame(keys).sort_values(list(keys), kind="stable", na_position="last")
    return systems.loc[order.index]


def headline_cards(systems: pd.DataFrame) -> list[Card]:
    """Mean Dice per test patient, for rows split by patient only: any other split flatters.

    Up to MAX_CARDS rows are shown as they are; of more, the highest of each target, as the card then says.
    """
    if not {"dice_per_case", "split_by"} <= set(systems):
        return []
    honest = systems[systems["split_by"].map(_is_headline) & systems["dice_per_case"].notna()]
    if len(honest) <= MAX_CARDS:
        return [_card(row, "") for row in honest.to_dict("records")]
    return [_best_card(rows) for _, rows in honest.groupby("target", sort=False)]


def _best_card(rows: pd.DataFrame) -> Card:
    """The highest of what was trained; a baseline that learns nothing stands in the remark."""
    is_baseline = rows["system"].str.startswith(BASELINES)
    trained = rows if is_baseline.all() else rows[~is_baseline]
    remarks = [f"highest of {len(trained)}"] if len(trained) > 1 else []
    if is_baseline.any() and len(trained) < len(rows):
        reached = format_number("dice", rows[is_baseline]["dice_per_case"].max())
        remarks.append(f"without a network {reached}")
    return _card(trained.loc[trained["dice_per_case"].idxmax()].to_dict(), "; ".join(remarks))


def systems_view(systems: pd.DataFrame, cards: Mapping[str, str] | None = None) -> TableView:
    """systems.csv with source, interval and published metric folded into the cells they explain.

    `cards`: system -> link to its model card.
    """
    names = [c for c in FIRST if c in systems] + [c for c in systems if c not in FIRST + FOLDED]
    view = table_view(systems[names], "tables/systems.csv")
    rows = [
        [_fold(name, cell, record, cards or {}) for name, cell in zip(names, cells, strict=True)]
        for cells, record in zip(view.rows, systems.to_dict("records"), strict=False)
    ]
    return replace(view, rows=rows)


def is_by_patient(split_by: object) -> bool:
    """Whether no patient is on two sides of the split so described."""
    return "patient" in str(split_by).lower()


def _is_headline(split_by: object) -> bool:
    """Whether a row may stand for its system: the audit's rows by patient are for comparison only."""
    return is_by_patient(split_by) and "audit" not in str(split_by)


def cohort_sentence(systems: pd.DataFrame) -> str:
    """Such as "2 systems, trained on 38 patients and tested on 12 others."; "" where it is unknown."""
    columns = ["n_train_patients", "n_test_patients"]
    if not {"system", "split_by", *columns} <= set(systems):
        return ""
    honest = systems[systems["split_by"].map(_is_headline)].dropna(subset=columns)
    if honest.empty:
        return ""
    number = honest["system"].nunique()
    train, test = (_range_of(honest[column].to_numpy(float)) for column in columns)
    trained = f"{counted(number, 'system')}, trained on {counted(train, 'patient')}"
    return f"{trained} and tested on {counted(test, 'other')}."


def _card(row: dict, remark: str) -> Card:
    bounds = "no interval"
    if interval := _interval(row):
        bounds = f"95 % interval {interval.low:.3f} to {interval.high:.3f}"
        interval = replace(interval, published=None)
    patients = counted(format_number("n", row.get("n_test_patients", np.nan)), "test patient")
    foot = ", ".join(filter(None, (format_text(row.get("system")), patients, remark)))
    label = f"{format_text(row.get('target')).capitalize()} Dice"
    return Card(label, format_number("dice", row["dice_per_case"]), bounds, foot, interval)


def _fold(column: str, cell: Cell, row: dict, cards: Mapping[str, str]) -> Cell:
    if column == "system":
        small = "" if is_missing(row.get("source")) else f"source {row['source']}"
        return replace(cell, small=small, link=cards.get(str(row["system"]), ""))
    if column == "n_test_patients" and not is_missing(row.get("n_train_patients")):
        return replace(cell, small=f"{row['n_train_patients']:.0f} in training")
    if column == "train_seconds" and not is_missing(row.get("parameters")):
        return replace(cell, small=f"{format_number('parameters', row['parameters'])} parameters")
    if column == "dice_per_case" and (interval := _interval(row)):
        return replace(cell, small=f"{interval.low:.3f} to {interval.high:.3f}", interval=interval)
    if column == "published_value" and not is_missing(row.get("published_metric")):
        metric, *protocol = str(row["published_metric"]).split(", ")
        return replace(cell, small=", ".join([column_title(metric), *protocol]))
    if column == "split_by" and not is_missing(row.get("split_by")):
        good = is_by_patient(row["split_by"])
        return replace(cell, badge="good" if good else "warn", small="" if good else "patients on both sides")
    return cell


def _interval(row: dict) -> Interval | None:
    values = [row.get(f"dice_per_case{end}") for end in ("", "_low", "_high")]
    if any(is_missing(value) for value in values):
        return None
    published = row.get("published_value") if "dice" in str(row.get("published_metric")).lower() else None
    is_dice = isinstance(published, (int, float)) and 0 <= published <= 1
    return Interval(*map(float, values), float(published) if is_dice else None)


def source_letters(systems: pd.DataFrame) -> list[str]:
    """The letters of the sources that occur, in order."""
    return sorted({x for text in systems.get("source", ()) for x in re.findall(r"\b[A-K]\b", str(text))})


BY_SYSTEM = {
    "systems": "Dice, mean of a test patient with its 95 % interval",
    "lits_scores": "As the LiTS benchmark scores it",
    "lesions_by_size": "Tumours by their size",
    "groups": "By group of patients",
    "calibration": "Calibration of its probabilities",
    "cascades": "Time and tumour burden",
    "baseline": "Against the baseline without a network",
}
"""Tables with a column `system`, shown on the card where they are written, and their captions."""

WRITTEN_BY = {"groups": "25_check_scores", "calibration": "25_check_scores", "lesions_by_size": "05_evaluate"}
"""Those that a card should have -> the notebook that writes them."""

Tables = Mapping[str, pd.DataFrame]
"""Name of a table of the report -> the table; those that are not written yet are not in it."""


def write_cards(folder: ReportFolder) -> dict[str, str]:
    """Write cards/<system>.html for each system of systems.csv, and cards/data.html.

    Returns system -> link relative to the report; nothing is written before there is a table of systems.
    """
    names = (*BY_SYSTEM, "cases", "findings", "splits_summary", "class_counts")
    tables = {name: table for name in names if (table := folder.table(name)) is not None}
    if "systems" not in tables or "system" not in tables["systems"]:
        return {}
    _write(folder, "data", "data_card.html", data_card(tables, folder.manifest))
    links = {}
    for system in tables["systems"]["system"].astype(str).unique():
        card = model_card(system, tables, folder.model_records(system), folder.manifest)
        pictures = [f"best_median_worst_{system}_{structure}" for structure in ("tumor", "liver")]
        card["figures"] = [quote(each) for each in pictures if folder.figure(each, is_open=False)]
        links[system] = _write(folder, system, "model_card.html", card)
    return links


def _write(folder: ReportFolder, name: str, template: str, content: dict) -> str:
    dataset = folder.manifest.get("dataset")
    content |= {"dataset": dataset, "dataset_name": DATASETS.get(dataset, dataset)}
    page = environment().get_template(template).render(**content)
    write_atomically(folder.path / "cards" / f"{name}.html", page.encode())
    return quote(f"cards/{name}.html")


def model_card(system: str, tables: Tables, models: Sequence[Mapping], manifest: Mapping) -> dict:
    """What the card of `system`, a row of systems.csv or more, is filled with.

    `models`: its model.json, then those of its parts; empty for what has no weights, such as a vote.
    """
    rows = _rows_of(system, tables.get("systems"))
    networks = [model for model in models if "architecture" in model]
    names = dict.fromkeys(model["architecture"] for model in networks)
    parameters, seconds = _first(rows, "parameters"), _first(rows, "train_seconds")
    training = (models[0].get("training") or {}) if models else {}
    budgets = training.get("parts") or {"": training}
    return {
        "system": system,
        "sentence": SYSTEMS[system].sentence if system in SYSTEMS else None,
        "sources": [f"{letter}: {SOURCES[letter]}" for letter in source_letters(rows)],
        "targets": list(rows.get("target", ())),
        "steps": [step.get("name") for model in models[:1] for step in model.get("steps", ())],
        "parameters": None if parameters is None else format_number("parameters", parameters),
        "networks": {f"Network {model.get('system', '')}": _network(model) for model in networks},
        "papers": Markup("; ").join(linked(PAPERS[name]) for name in names if name in PAPERS),
        "manifest": manifest,
        "n_train_patients": training.get("n_train_patients", _first(rows, "n_train_patients")),
        "time": None if seconds is None else format_duration(float(seconds)),
        "budgets": {f"Budget {name}".strip(): _budget(part) for name, part in budgets.items()},
        "n_test_patients": _first(rows, "n_test_patients"),
        "splits": sorted(set(rows.get("split_by", ()))),
        "splits_by_slice": not all(map(is_by_patient, rows.get("split_by", ()))),
        "is_published": _first(rows, "published_value") is not None,
        "results": _results(system, tables),
        "missing_tables": {
            BY_SYSTEM[n]: (writer, n in tables)
            for n, writer in WRITTEN_BY.items()
            if _rows_of(system, tables.get(n)).empty
        },
    }


def _rows_of(system: str, table: pd.DataFrame | None) -> pd.DataFrame:
    if table is None or "system" not in table:
        return pd.DataFrame()
    return table[table["system"] == system].dropna(axis=1, how="all")


def _first(rows: pd.DataFrame, column: str) -> object:
    return rows[column].dropna().iloc[0] if column in rows and rows[column].notna().any() else None


def _network(model: Mapping) -> dict:
    settings = {**(model.get("recipe") or {}), **(model.get("inputs") or {})}
    return {
        "architecture": model["architecture"],
        **(model.get("options") or {}),
        **{name: value for name, value in settings.items() if value not in (None, "none", 0, False)},
        "thresholds": model.get("thresholds"),
        "SHA-256 of its weights": model.get("weights_sha256"),
    }


def _budget(training: Mapping) -> dict:
    names = ("n_slices", "slices_seen", "batch_size", "epochs", "loss", "loss_options", "peak_memory_mb")
    return {column_title(name): training[name] for name in names if training.get(name) not in (None, {})}


def _results(system: str, tables: Tables) -> dict[str, TableView]:
    views = {
        "systems": lambda rows: replace(systems_view(in_readers_order(rows)), file=""),
        "lits_scores": _by_measure,
    }
    found = {}
    for name, caption in BY_SYSTEM.items():
        rows = _rows_of(system, tables.get(name))
        if len(rows):
            found[caption] = views[name](rows) if name in views else table_view(rows.drop(columns="system"))
    return found


def _by_measure(rows: pd.DataFrame) -> TableView:
    """A row a measure, a column a structure: what is wide reads better upright."""
    cells = [
        [Cell(column_title(name), name), *(format_cell(name, value) for value in values)]
        for name, values in rows.drop(columns=["system", "structure"]).items()
    ]
    titles = ["Measure", *(format_text(structure).capitalize() for structure in rows["structure"])]
    return TableView(titles, [False] + [True] * len(rows), cells, len(cells))


def data_card(tables: Tables, manifest: Mapping) -> dict:
    """What the data card shows, from the tables of notebooks 00 to 02 and the manifest."""
    cases, findings = tables.get("cases", pd.DataFrame()), tables.get("findings")
    shape, spacing = _triples(cases, "shape"), _triples(cases, "spacing_mm")
    hu = np.append(_numbers(cases, "hu_low"), _numbers(cases, "hu_high"))
    is_checked = findings is not None and {"case", "severity"} <= set(findings)
    problems = findings[findings["severity"].isin(("error", "warning"))] if is_checked else ()
    tumors = _numbers(cases, "tumor_voxels")  # which pictures have, too
    captions = {"splits_summary": "Patients", "class_counts": "Slices by what they show"}
    return {
        "composition": {
            "Cases": manifest.get("n_cases", len(cases) or None),
            "Cases that can be used": manifest.get("n_usable"),
            "Patients": cases["patient"].nunique() if "patient" in cases else None,
            "Slices a case": _range_of(shape[:, 0]),
            "Rows and columns": _range_of(shape[:, 1:].ravel()),
            "Slice distance": _range_of(spacing[:, 0], " mm"),
            "Pixel side": _range_of(spacing[:, 1:].ravel(), " mm"),
            "HU, lowest to highest": _range_of(hu),
            "Cases with tumours": f"{(tumors > 0).sum()} of {len(tumors)}" if len(tumors) else None,
            "Tumours a case": _range_of(_numbers(cases, "n_tumors")),
            "Liver": _range_of(_numbers(cases, "liver_ml"), " ml"),
        },
        "counts": findings.groupby("severity")["case"].nunique().to_dict() if is_checked else None,
        "findings": table_view(problems) if len(problems) else None,
        "division": {text: table_view(tables[name]) for name, text in captions.items() if name in tables},
        "checksum": manifest.get("data_checksum"),
    }


def _triples(cases: pd.DataFrame, column: str) -> np.ndarray:
    """Float64 (N, 3) from texts such as "(51, 512, 512)"; NaN where they are no three numbers."""
    texts = cases.get(column, pd.Series(dtype=str)).astype(str)
    parts = texts.str.extract(r"^\((.+), (.+), (.+)\)$")
    return parts.apply(pd.to_numeric, errors="coerce").to_numpy(float)


def _numbers(cases: pd.DataFrame, name: str) -> np.ndarray:
    return pd.to_numeric(cases[name], errors="coerce").to_numpy(float) if name in cases else np.array([])


def _range_of(values: np.ndarray, unit: str = "") -> str | None:
    """Such as "0.6 to 0.8 mm"; None where nothing is known."""
    known = values[np.isfinite(values)]
    if not len(known):
        return None
    low, high = (f"{end:,.5g}".replace(",", "\u202f").replace("-", "−") for end in (known.min(), known.max()))
    return f"{low}{unit}" if low == high else f"{low} to {high}{unit}"


def network_page(tables: Mapping[str, pd.DataFrame], device: str) -> str:
    """docs/networks.md. `tables` maps a title to a table of `livseg_lib.models.cost.cost_table`."""
    return environment().get_template("networks.md").render(tables=tables, device=device, papers=PAPERS)
