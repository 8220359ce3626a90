"""Model cards (Mitchell et al. 2019, arXiv:1810.03993): what a reader must know before using a system.

Built from tables, model.json and the manifest alone. What these do not tell is said to be missing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

import pandas as pd
from markupsafe import Markup

from livseg_lib.errors import format_duration
from livseg_lib.reporting.cells import Cell, TableView, format_cell, format_text, is_missing, table_view
from livseg_lib.reporting.pages import card_wording as words
from livseg_lib.reporting.pages.card_sections import CardSection, Tables, facts_of, linked
from livseg_lib.reporting.pages.systems import in_readers_order, systems_view
from livseg_lib.reporting.wording import DATASETS, SOURCES, column_title
from livseg_lib.systems import SYSTEMS

BY_SYSTEM = {
    "lesions_by_size": "Tumours by their size",
    "groups": "By group of patients",
    "calibration": "Calibration of its probabilities",
    "cascades": "Time and tumour burden",
    "baseline": "Against the baseline without a network",
}
"""Tables with a column `system`, shown on the card where they are written, and their captions."""

LITS = "As the LiTS benchmark scores it"
WRITTEN_BY = {"groups": "25_check_scores", "calibration": "25_check_scores", "lesions_by_size": "05_evaluate"}
"""Those that a card should have -> the notebook that writes them."""


def model_card(
    system: str, tables: Tables, models: Sequence[Mapping], manifest: Mapping
) -> list[CardSection]:
    """The card of `system`, a row of systems.csv or more.

    `models`: its model.json, then those of its parts; empty for what has no weights, such as a vote.
    """
    rows = _rows_of(system, tables.get("systems"))
    sections = [
        CardSection("What it is", facts=_details(system, rows, models, manifest)),
        CardSection("What it is for, and what not", words.USES),
        CardSection("What it was trained with", facts=_training(rows, models, manifest)),
        CardSection("What it was tested on", facts=_evaluation(rows, manifest)),
        CardSection("How it is measured", words.METRICS),
        CardSection("How well it does", tables=_results(system, tables)),
        CardSection("What is not known", _missing_tables(system, tables)),
        CardSection("Limits", _limits(rows, manifest)),
    ]
    return [section for section in sections if section.text or section.facts or section.tables]


def _rows_of(system: str, table: pd.DataFrame | None) -> pd.DataFrame:
    if table is None or "system" not in table:
        return pd.DataFrame()
    return table[table["system"] == system].dropna(axis=1, how="all")


def _first(rows: pd.DataFrame, column: str) -> object:
    return rows[column].dropna().iloc[0] if column in rows and rows[column].notna().any() else None


def _details(system: str, rows: pd.DataFrame, models: Sequence[Mapping], manifest: Mapping) -> list:
    letters = re.findall(r"\b[A-K]\b", str(_first(rows, "source") or ""))
    networks = [model for model in models if "architecture" in model]
    packages = manifest.get("packages") or {}
    steps = [step.get("name") for model in models[:1] for step in model.get("steps", ())]
    parameters = _first(rows, "parameters")
    return facts_of(
        [
            ("Name", system),
            ("In a sentence", SYSTEMS[system].sentence if system in SYSTEMS else None),
            ("Source", [f"{letter}: {SOURCES[letter]}" for letter in letters]),
            ("Outlines", list(rows.get("target", ()))),
            *([("Steps", steps)] if steps else []),
            ("Parameters", None if parameters is None else format_cell("parameters", parameters).text),
            *((f"Network {model.get('system', '')}", _network(model)) for model in networks),
            ("Papers", _papers(networks)),
            ("Code revision", manifest.get("git_revision")),
            ("Versions", {name: packages[name] for name in ("keras", "tensorflow") if name in packages}),
        ]
    )


def _network(model: Mapping) -> dict:
    """What a network is, what it sees and from which answer on it says yes."""
    seen = {**(model.get("recipe") or {}), **(model.get("inputs") or {})}
    return {
        "architecture": model["architecture"],
        **(model.get("options") or {}),
        **{name: value for name, value in seen.items() if value not in (None, "none", 0, False)},
        "thresholds": model.get("thresholds"),
        "SHA-256 of its weights": model.get("weights_sha256"),
    }


def _papers(networks: Sequence[Mapping]) -> Markup | None:
    named = dict.fromkeys(model["architecture"] for model in networks)
    papers = [SYSTEMS[name].paper for name in named if name in SYSTEMS and SYSTEMS[name].paper]
    return Markup("; ").join(map(linked, papers)) or None


def _training(rows: pd.DataFrame, models: Sequence[Mapping], manifest: Mapping) -> list:
    own = (models[0].get("training") or {}) if models else {}
    parts = own.get("parts") or {"": own}
    facts = [
        ("Data", DATASETS.get(manifest.get("dataset"), manifest.get("dataset"))),
        ("Patients", own.get("n_train_patients", _first(rows, "n_train_patients"))),
        ("Random seed", manifest.get("seed")),
        ("Device", manifest.get("device")),
        ("Time", _duration(_first(rows, "train_seconds"))),
    ]
    return facts_of(facts + [(f"Budget {name}".strip(), _budget(part)) for name, part in parts.items()])


def _budget(part: Mapping) -> dict:
    named = ("n_slices", "slices_seen", "batch_size", "epochs", "loss", "loss_options", "peak_memory_mb")
    return {column_title(name): part[name] for name in named if part.get(name) not in (None, {})}


def _duration(seconds: object) -> str | None:
    return None if is_missing(seconds) else format_duration(float(seconds))


def _evaluation(rows: pd.DataFrame, manifest: Mapping) -> list:
    return facts_of(
        [
            ("Data", DATASETS.get(manifest.get("dataset"), manifest.get("dataset"))),
            ("Patients", _first(rows, "n_test_patients")),
            ("Split by", sorted(set(rows.get("split_by", ())))),
            ("Checksum of the data", manifest.get("data_checksum")),
            ("The data in detail", Markup('<a href="data.html">data card</a>')),
        ]
    )


def _missing_tables(system: str, tables: Tables) -> list[str]:
    """A sentence for each table that a card should show but cannot."""
    said = []
    for name, notebook in WRITTEN_BY.items():
        if name not in tables:
            said.append(f"{BY_SYSTEM[name]}: missing, as notebook {notebook} has not been run.")
        elif _rows_of(system, tables[name]).empty:
            said.append(f"{BY_SYSTEM[name]}: missing, as notebook {notebook} has nothing on this system.")
    return said


def _results(system: str, tables: Tables) -> list[tuple[str, TableView]]:
    shown = {
        "systems": "Dice, mean of a test patient with its 95 % interval",
        "lits_scores": LITS,
    } | BY_SYSTEM
    upright = {
        "systems": lambda rows: replace(systems_view(in_readers_order(rows)), file=""),
        "lits_scores": _by_measure,
    }
    found = {name: _rows_of(system, tables.get(name)) for name in shown}
    return [
        (caption, upright.get(name, _without_system)(found[name]))
        for name, caption in shown.items()
        if len(found[name])
    ]


def _without_system(rows: pd.DataFrame) -> TableView:
    return table_view(rows.drop(columns="system"))


def _by_measure(rows: pd.DataFrame) -> TableView:
    """A row a measure, a column a structure: what is wide reads better upright."""
    measures = [name for name in rows if name not in ("system", "structure")]
    cells = [
        [Cell(column_title(name), name), *(format_cell(name, value) for value in rows[name])]
        for name in measures
    ]
    titles = ["Measure", *(format_text(structure).capitalize() for structure in rows["structure"])]
    return TableView(titles, [False] + [True] * len(rows), cells, len(cells))


def _limits(rows: pd.DataFrame, manifest: Mapping) -> list[str]:
    number = _first(rows, "n_test_patients")
    said = [words.PHANTOM_CAVEAT] if manifest.get("dataset") == "phantom" else []
    if number is not None:
        said.append(f"{number:.0f} test patients: the intervals say how little that settles.")
    if any("patient" not in str(split) for split in rows.get("split_by", ())):
        said.append("Some rows are split by slice: patients lie on both sides, which raises scores.")
    if _first(rows, "published_value") is not None:
        said.append(words.PUBLISHED_CAVEAT)
    return [*said, words.ONE_SEED, *words.ETHICS]
