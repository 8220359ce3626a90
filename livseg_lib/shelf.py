"""Which trained models there are: those on board, which come with livseg, and those of your runs."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from livseg_lib.errors import InputError
from livseg_lib.labels import STRUCTURES
from livseg_lib.outputs import read_table

ON_BOARD = Path(__file__).parent / "pretrained"


@dataclass(frozen=True)
class Shelved:
    """One trained system."""

    run: str  # that trained it; empty for one on board
    system: str
    folder: Path
    dice: dict[str, float]  # mean Dice over test patients, a structure that it outlines; NaN where undefined
    data: str  # what it has learnt from, such as "phantom"; empty where that is unknown
    licence: str = ""  # of the weights; empty where it is that of your data
    facts: dict = field(default_factory=dict)  # `training` of its model.json

    @property
    def name(self) -> str:
        """How it is asked for, over HTTP too: "run/system", or "liver-ct" on board."""
        return f"{self.run}/{self.system}" if self.run else self.system

    @property
    def title(self) -> str:
        """Its line in a list: what it scored, and where."""
        scores = ", ".join(f"{name} {value:.2f}" for name, value in self.dice.items())
        return f"{self.system}: {scores.replace('tumor', 'tumour')} ({self.run or 'on board'})"


def on_board() -> list[Shelved]:
    """The models that come with livseg."""
    found = []
    for path in sorted(ON_BOARD.glob("*/model.json")):
        facts = json.loads(path.read_bytes())["training"]
        shown = {name: facts[name] for name in ("dice", "data", "licence")}
        found.append(Shelved("", path.parent.name, path.parent, facts=facts, **shown))
    return found


def shelved_systems(reports: Path) -> list[Shelved]:
    """Those on board, then every trained system below `reports`, or of it where it is a run: the newest run
    first, in it the best outlines of tumours first. A run whose tables cannot be read is named on stderr."""
    found = [*reports.glob("*/tables/systems.csv"), *reports.resolve().glob("tables/systems.csv")]
    runs = sorted(found, key=lambda path: -path.stat().st_mtime)
    return on_board() + [shelved for table in runs for shelved in _systems_of_run(table)]


def find_shelved(reports: Path, name: str | None) -> Shelved:
    """The system of that `Shelved.name`, or the first of the shelf for no name; never a path from outside.
    Raises InputError where there is none."""
    systems = shelved_systems(reports)
    for system in systems:
        if not name or name == system.name:
            return system
    known = ", ".join(system.name for system in systems) or "none yet"
    raise InputError("system", "There is no trained system of this name.", f"Known: {known}.")


def find_model(name: Path | str) -> Path:
    """The folder `name`, or that of the model on board which is called so."""
    return next((model.folder for model in on_board() if model.name == str(name)), Path(name))


def models_table(reports: Path) -> pd.DataFrame:
    """A row a shelved system: model (for --model), data, licence, liver_dice, tumor_dice, megabytes."""
    rows = []
    for model in shelved_systems(reports):
        files = [path for path in model.folder.rglob("*") if path.is_file()]
        row = {"model": str(model.folder) if model.run else model.name, "data": model.data}
        row["licence"] = model.licence or "that of the data"
        row |= {f"{structure}_dice": model.dice.get(structure, np.nan) for structure in STRUCTURES}
        rows.append(row | {"megabytes": sum(path.stat().st_size for path in files) / 1e6})
    return pd.DataFrame(rows)


def _systems_of_run(path: Path) -> list[Shelved]:
    report = path.parents[1]
    try:
        table = read_table(path)
        rows = table[table.target.isin(STRUCTURES) & (table.split_by == "patient")]
        manifest = report / "manifest.json"
        data = str(json.loads(manifest.read_bytes()).get("dataset", "")) if manifest.exists() else ""
    except (InputError, AttributeError, OSError, ValueError) as error:
        print(f"left out: {report.name}: its tables cannot be read ({error}).", file=sys.stderr)
        return []
    found = []
    for name, of in rows.astype({"system": str}).groupby("system", sort=False):
        folder, dice = report / "models" / name, dict(zip(of.target, of.dice_per_case, strict=True))
        if (folder / "model.json").exists():
            found.append(Shelved(report.name, name, folder, dice, data))
    return sorted(found, key=lambda shelved: -np.nan_to_num(shelved.dice.get("tumor", -1.0), nan=-1.0))
