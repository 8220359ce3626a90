"""Finishes that validation patients have chosen, as the last steps of a cascade on disk.

model.json names them under "finishes" too, so that they can be told from the cascade's own steps, and taken
back before others are chosen.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from livseg_lib.atomic import written_aside
from livseg_lib.descriptions import list_of, one_of, read_description, record, require, require_equal
from livseg_lib.errors import InputError
from livseg_lib.inference.cascade import Cascade
from livseg_lib.inference.cascade_folder import KIND, REMEDY, StepPlan, load_cascade, read_plans
from livseg_lib.postprocessing.finishing import FINISHES, finish_title


def chosen_finishes(folder: Path) -> tuple[str, ...]:
    """Names of the finishes that `set_finishes` has put behind the steps of the cascade in `folder`."""
    return tuple(_read(folder).get("finishes", ()))


def set_finishes(folder: Path, names: Sequence[str]) -> Path:
    """The cascade in `folder` ends with the finishes `names` from now on, instead of those chosen before.

    model.json is either the old one or the new one, whole. Raises InputError for a name that is not in
    `FINISHES`, and for a folder without a cascade.
    """
    if unknown := [name for name in names if name not in FINISHES]:
        problem = "are no ways to finish labels."
        raise InputError(", ".join(unknown), problem, f"Choose of {', '.join(FINISHES)}.")
    description = _read(folder)
    own = _own_steps(description["steps"], description.get("finishes", ()))
    plans = [StepPlan(finish_title(name), "finish", name) for name in names]
    description |= {"steps": [*own, *map(asdict, plans)], "finishes": list(names)}
    with written_aside(folder / "model.json") as partial:
        partial.write_text(json.dumps(description, indent=2) + "\n")
    return folder


def load_unfinished(folder: Path) -> Cascade:
    """The cascade in `folder` with its own steps alone."""
    cascade = load_cascade(folder)
    return replace(cascade, steps=tuple(_own_steps(cascade.steps, chosen_finishes(folder))))


def _own_steps(steps: Sequence, finishes: Sequence[str]) -> list:
    return list(steps[: len(steps) - len(finishes)])


def _read(folder: Path) -> dict:
    description = read_description(folder / "model.json", KIND, "Train it again.")
    if description.get("kind") != "cascade":
        raise InputError(folder, "is not a cascade, and has no steps.", "Finish the labels of cascades.")
    chosen = record({}, {"finishes": list_of(one_of(list(FINISHES)), 0, 64)})
    require(description, chosen, folder, KIND, REMEDY)
    plans, finishes = read_plans(folder, description), description.get("finishes", [])
    last = [plan.using for plan in plans][len(plans) - len(finishes) :]
    require_equal(last, finishes, "the last steps are", folder)
    return description
