"""A cascade on disk: model.json lists its steps, a folder beside it holds what each network learnt.

model.json                    {"kind": "cascade", "system": ..., "steps": [{"name": ..., "part": ...}, ...]}
coarse_liver/, residual/ ...  model folders and forests, as they are saved by themselves
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from livseg_lib.atomic import written_aside
from livseg_lib.descriptions import (
    NAME,
    between,
    inside,
    list_of,
    of_type,
    one_of,
    read_description,
    record,
    require,
)
from livseg_lib.errors import InputError
from livseg_lib.inference.cascade import Cascade, Part, Step
from livseg_lib.inference.parts import ContourPart, FinishPart, ForestPart, NetworkPart
from livseg_lib.inference.superpixel_part import SuperpixelPart
from livseg_lib.labels import STRUCTURES
from livseg_lib.postprocessing.finishing import FINISHES
from livseg_lib.postprocessing.forest_file import load_forest
from livseg_lib.preprocessing.region import REGIONS
from livseg_lib.training.classifier_folder import load_classifier
from livseg_lib.training.model_folder import load_model
from livseg_lib.training.network_folder import FORMAT, WARNING


@dataclass(frozen=True)
class StepPlan:
    """A step by name: what a new cascade is written in."""

    name: str
    """Of the stage in figures."""
    part: str
    """One of `PARTS`."""
    using: str
    """The model's folder, the function's name, or the number that the part works with."""
    region: str = "scan"
    margin_mm: float = 0.0


def _network(folder: Path, using: str) -> Part:
    return NetworkPart(load_model(folder / using))


def _forest(folder: Path, using: str) -> Part:
    forest, description = load_forest(folder / using)
    require(
        description, record({"threshold": between(0.0, 1.0)}), folder / using, "a forest of a cascade", REMEDY
    )
    return ForestPart(forest, float(description["threshold"]))


def _superpixels(folder: Path, using: str) -> Part:
    return SuperpixelPart(load_classifier(folder / using))


def _finish(folder: Path, using: str) -> Part:
    if using not in FINISHES:
        raise InputError(using, "is no way to finish labels.", f"Choose of {', '.join(FINISHES)}.")
    return FinishPart(using)


def _contour(folder: Path, using: str) -> Part:
    if not re.fullmatch(r"\d{1,3}(\.\d{1,6})?", using):
        raise InputError(using, "is no reach of contours in mm.", "Give a number such as 3.0.")
    return ContourPart(reach_mm=float(using))


PARTS: dict[str, Callable[[Path, str], Part]] = {
    "network": _network,
    "forest": _forest,
    "superpixels": _superpixels,
    "finish": _finish,
    "contour": _contour,
}
"""Kind of part -> what builds it from the cascade's folder and `StepPlan.using`."""

LEARNT = ("network", "forest", "superpixels")
"""Kinds whose `using` is a folder."""

KIND, REMEDY = "a livseg cascade", "Name a folder with model.json and a folder for each part."
STEP = {
    **record(
        {
            "name": of_type("string", maxLength=200),
            "part": of_type("string"),
            "using": of_type("string", maxLength=200),
        },
        {"region": one_of(list(REGIONS)), "margin_mm": between(0.0, 1000.0)},
    ),
    "additionalProperties": False,
}


def save_cascade(
    folder: Path, system: str, plans: Sequence[StepPlan], sources: Mapping[str, Path], training: dict
) -> Path:
    """Write the folder: each learnt part is copied from `sources[using]`; model.json comes last.

    `training` is JSON-ready: patients, seconds, what it was trained on.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.json").unlink(missing_ok=True)
    for using in {plan.using for plan in plans if plan.part in LEARNT}:
        shutil.rmtree(folder / using, ignore_errors=True)
        shutil.copytree(sources[using], folder / using)
    description = {
        "format": FORMAT,
        "warning": WARNING,
        "kind": "cascade",
        "system": system,
        "steps": [asdict(plan) for plan in plans],
        "training": training,
    }
    with written_aside(folder / "model.json") as partial:
        partial.write_text(json.dumps(description, indent=2) + "\n")
    return folder


def load_cascade(folder: Path) -> Cascade:
    """The cascade that `save_cascade` wrote. Raises InputError where the folder is not whole."""
    description = read_description(folder / "model.json", KIND, REMEDY)
    plans = read_plans(folder, description)
    require(description, record({"system": NAME, "training": record({})}), folder, KIND, REMEDY)
    return build_cascade(folder, description["system"], plans, description["training"])


def read_plans(folder: Path, description: dict) -> list[StepPlan]:
    """The steps of a cascade. Raises InputError for those that are none, or whose part lies elsewhere."""
    require(description, record({"steps": list_of(STEP, 1, 64)}), folder, KIND, REMEDY)
    plans = [StepPlan(**step) for step in description["steps"]]
    for plan in plans:
        inside(folder, plan.using)
    return plans


def build_cascade(folder: Path, system: str, plans: Sequence[StepPlan], training: dict) -> Cascade:
    """The cascade of those steps, its learnt parts read from folders in `folder`."""
    parts = {}
    for plan in plans:
        if plan.part not in PARTS:
            raise InputError(plan.part, "is not a part of cascades.", f"Choose one of {', '.join(PARTS)}.")
        inside(folder, plan.using)
        if (plan.part, plan.using) not in parts:
            parts[plan.part, plan.using] = PARTS[plan.part](folder, plan.using)
    steps = [Step(plan.name, parts[plan.part, plan.using], plan.region, plan.margin_mm) for plan in plans]
    parameters = sum(part.parameters for part in parts.values())
    finds_tumors = any("tumor" in part.structures for part in parts.values())
    structures = STRUCTURES if finds_tumors else ("liver",)
    return Cascade(system, structures, tuple(steps), parameters, training)
