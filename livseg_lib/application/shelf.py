"""The trained systems that lie in reports/: what the app offers."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from livseg_lib.errors import InputError
from livseg_lib.labels import STRUCTURES
from livseg_lib.reporting.tables import read_table


@dataclass(frozen=True)
class Shelved:
    """One trained system of one run."""

    run: str
    system: str
    folder: Path
    dice: dict[str, float]
    """Mean Dice over the run's test patients, a structure that it outlines; NaN where undefined."""
    dataset: str
    """What it has learnt from, such as "phantom"; empty where the run does not say."""

    @property
    def name(self) -> str:
        """How it is asked for, over HTTP too: "run/system"."""
        return f"{self.run}/{self.system}"

    @property
    def title(self) -> str:
        """Its line in a list: what it scored, and where."""
        named = {"liver": "liver", "tumor": "tumour"}
        scores = ", ".join(f"{named[name]} {value:.2f}" for name, value in self.dice.items())
        return f"{self.system}: {scores or 'not scored'} ({self.run})"


def shelved_systems(reports: Path) -> list[Shelved]:
    """Every trained system below `reports`: the newest run first, in it the best outlines of tumours first.

    A run whose tables cannot be read is named on stderr and left out.
    """
    runs = sorted(reports.glob("*/tables/systems.csv"), key=lambda path: -path.stat().st_mtime)
    return [shelved for table in runs for shelved in _systems_of_run(table)]


def find_shelved(reports: Path, name: str | None) -> Shelved:
    """The system called "run/system", or the first of the shelf for no name; never a path from outside.

    Raises InputError where there is none.
    """
    systems = shelved_systems(reports)
    found = [one for one in systems if not name or name == one.name]
    if not found:
        known = ", ".join(one.name for one in systems) or "none yet"
        raise InputError("system", "There is no trained system of this name.", f"Known: {known}.")
    return found[0]


def _systems_of_run(path: Path) -> list[Shelved]:
    report = path.parents[1]
    try:
        table = read_table(path)
        rows = table[table.target.isin(STRUCTURES) & (table.split_by == "patient")]
        dataset = _dataset(report)
    except (InputError, AttributeError, OSError, ValueError) as error:
        print(f"left out: {report.name}: its tables cannot be read ({error}).", file=sys.stderr)
        return []
    systems = [
        Shelved(report.name, str(name), report / "models" / str(name), _scores(group), dataset)
        for name, group in rows.groupby("system", sort=False)
    ]
    usable = [shelved for shelved in systems if (shelved.folder / "model.json").exists()]
    return sorted(usable, key=lambda shelved: -np.nan_to_num(shelved.dice.get("tumor", -1.0), nan=-1.0))


def _scores(rows: pd.DataFrame) -> dict[str, float]:
    return {row.target: float(row.dice_per_case) for row in rows.itertuples()}


def _dataset(report: Path) -> str:
    manifest = report / "manifest.json"
    return str(json.loads(manifest.read_text()).get("dataset", "")) if manifest.exists() else ""
