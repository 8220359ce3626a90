"""A cascade on disk: model.json lists its steps, a folder beside it holds what each network learnt.

model.json                    {"kind": "cascade", "system": ..., "steps": [{"name": ..., "part": ...}, ...]}
coarse_liver/, residual/ ...  model folders and forests, as they are saved by themselves
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from livseg_lib.atomic import written_aside
from livseg_lib.errors import InputError
from livseg_lib.inference.cascade import Cascade, Part, Step
from livseg_lib.inference.parts import ContourPart, FinishPart, ForestPart, NetworkPart
from livseg_lib.inference.superpixel_part import SuperpixelPart
from livseg_lib.labels import STRUCTURES
from livseg_lib.postprocessing.forest_file import load_forest
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
    return ForestPart(forest, float(description["threshold"]))


def _superpixels(folder: Path, using: str) -> Part:
    return SuperpixelPart(load_classifier(folder / using))


def _finish(folder: Path, using: str) -> Part:
    return FinishPart(using)


def _contour(folder: Path, using: str) -> Part:
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
    try:
        description = json.loads((folder / "model.json").read_text())
        plans = [StepPlan(**plan) for plan in description["steps"]]
        return build_cascade(folder, description["system"], plans, description["training"])
    except (OSError, KeyError, TypeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        problem = f"is not a livseg cascade ({type(error).__name__}: {error})."
        raise InputError(
            folder, problem, "Name a folder with model.json and a folder for each part."
        ) from error


def build_cascade(folder: Path, system: str, plans: Sequence[StepPlan], training: dict) -> Cascade:
    """The cascade of those steps, its learnt parts read from folders in `folder`."""
    parts = {}
    for plan in plans:
        if plan.part not in PARTS:
            raise InputError(plan.part, "is not a part of cascades.", f"Choose one of {', '.join(PARTS)}.")
        if Path(plan.using).name != plan.using:
            raise InputError(plan.using, "is not the name of a folder.", "Use the cascade as it was saved.")
        if (plan.part, plan.using) not in parts:
            parts[plan.part, plan.using] = PARTS[plan.part](folder, plan.using)
    steps = [Step(plan.name, parts[plan.part, plan.using], plan.region, plan.margin_mm) for plan in plans]
    parameters = sum(part.parameters for part in parts.values())
    finds_tumors = any("tumor" in part.structures for part in parts.values())
    structures = STRUCTURES if finds_tumors else ("liver",)
    return Cascade(system, structures, tuple(steps), parameters, training)
