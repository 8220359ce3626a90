"""Did the compared systems learn under the same conditions? What their model.json says, side by side."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from livseg_lib.errors import InputError

BUDGET = ("target", "picture_size", "n_train_patients", "n_slices", "slices_seen", "batch_size", "loss")
"""What has to agree for a difference in score to be one of the networks."""

COST = ("epochs", "seconds", "peak_memory_mb")
"""What a training took; may differ."""


def training_facts_table(models: Iterable[Path]) -> pd.DataFrame:
    """A row a model folder: system, architecture, parameters, and the facts of BUDGET and COST.

    A fact that an older model.json does not hold is missing (NaN). Raises InputError for a folder without
    a readable model.json.
    """
    columns = ["system", "architecture", "parameters", *BUDGET, *COST]
    return pd.DataFrame([_facts(folder) for folder in models]).reindex(columns=columns)


def _facts(folder: Path) -> dict:
    path = folder / "model.json"
    try:
        model = json.loads(path.read_text())
        who = {name: model[name] for name in ("system", "architecture", "parameters", "target")}
        return {**model["training"], **who, "picture_size": model["recipe"]["size"]}
    except (OSError, KeyError, TypeError, json.JSONDecodeError) as error:
        problem = f"does not describe a model ({type(error).__name__}: {error})."
        raise InputError(path, problem, "Train the system again.") from error


def budget_remarks(facts: pd.DataFrame) -> pd.Series:
    """For each row in what it departs from the others: "" or such as "slices_seen 1440, not 4800".

    The measure is what most systems have; among equals the one that comes first. Missing reads "unknown".
    """
    usual = {name: _most_common(facts[name]) for name in BUDGET}
    return pd.Series([_remark(row, usual) for row in facts.to_dict("records")], facts.index, dtype=str)


def _most_common(values: pd.Series) -> object:
    counts = values.value_counts(sort=False)
    return counts.idxmax() if len(counts) else None


def _remark(row: dict, usual: dict) -> str:
    remarks = []
    for name, expected in usual.items():
        if expected is not None and pd.isna(row[name]):
            remarks.append(f"{name} unknown")
        elif expected is not None and row[name] != expected:
            remarks.append(f"{name} {_as_text(row[name])}, not {_as_text(expected)}")
    return "; ".join(remarks)


def _as_text(value: object) -> str:
    return f"{value:.0f}" if isinstance(value, float) else str(value)
