"""What is asked: a system from its folder, with the models that may help it, and what identifies them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from livseg_lib.checksums import file_checksum, files_checksum
from livseg_lib.errors import InputError
from livseg_lib.labels import STRUCTURES
from livseg_lib.preprocessing.windows import ChannelWindow

if TYPE_CHECKING:  # a folder of results can be looked at without TensorFlow
    from livseg_lib.inference.systems import System
    from livseg_lib.training.model_folder import TrainedModel
    from livseg_lib.training.sorter_folder import TrainedSorter

WEIGHTS, DESCRIPTIONS = ("*.safetensors", "*.onnx"), ("model.json", "forest.json")


@dataclass(frozen=True, eq=False)
class Predictor:
    """A system ready for use."""

    system: System
    identity: dict = field(default_factory=dict)
    """JSON-ready: the system's name, checksums of all that was loaded, and the options of its use."""
    liver_model: TrainedModel | None = None
    """Finds the liver; the system is then asked for tumours alone."""
    sorter: TrainedSorter | None = None
    """Holds back slices without liver."""

    @property
    def structures(self) -> tuple[str, ...]:
        """What the labels tell apart; the others are not absent but were not looked for."""
        found = {*self.system.structures, *(("liver",) if self.liver_model else ())}
        return tuple(structure for structure in STRUCTURES if structure in found)

    @property
    def modality(self) -> str:
        """ "ct", or "mr" where a network was trained on MR scans, which have no HU."""
        return "mr" if "mr" in {each.recipe.modality for each in networks_of(self.system)} else "ct"


def load_predictor(
    model: Path | str,
    liver: Path | str | None = None,
    sorter: Path | str | None = None,
    augment: Sequence[str] = (),
) -> Predictor:
    """The system in the folder `model`, with a liver model, a slice sorter and test-time augmentation.

    Raises InputError where a folder is not whole or the parts do not go together.
    """
    from livseg_lib.inference.cascade import Cascade
    from livseg_lib.inference.systems import augmented, load_system
    from livseg_lib.training.model_folder import load_model
    from livseg_lib.training.sorter_folder import load_sorter

    system = load_system(Path(model))
    if sorter and isinstance(system, Cascade):
        problem = "is a cascade, which finds the slices with liver by itself."
        raise InputError(system.system, problem, "Leave --sorter out.")
    identity = {"system": system.system, "model": model_checksum(model), "augment": list(augment)}
    identity |= {
        name: model_checksum(folder) for name, folder in (("liver", liver), ("sorter", sorter)) if folder
    }
    return Predictor(
        augmented(system, augment) if augment else system,
        identity,
        load_model(Path(liver)) if liver else None,
        load_sorter(Path(sorter)) if sorter else None,
    )


def model_checksum(folder: Path | str) -> dict:
    """SHA-256 of every file of weights below a model folder, and of its model.json with its thresholds."""
    folder = Path(folder)
    files = sorted(path for pattern in WEIGHTS for path in folder.rglob(pattern))
    weights = {path.relative_to(folder).as_posix(): file_checksum(path) for path in files}
    described = [path for name in DESCRIPTIONS for path in folder.rglob(name)]
    return {"weights_sha256": weights, "descriptions_sha256": files_checksum(described)}


def describe_expectations(system: System) -> list[str]:
    """What the networks of `system` expect of a scan, and what is done to every case: a sentence each."""
    described: dict[str, list[str]] = {}
    for trained in networks_of(system):
        cuts = [_describe_window(window) for window in trained.recipe.windows]
        size = trained.recipe.size
        what = f"HU cut to {', '.join(cuts)}, in pictures of {size} x {size} pixels"
        described.setdefault(what, []).append(trained.system)
    return [
        f"Expected by {', '.join(dict.fromkeys(names))}: {what}. Every case is brought to that."
        for what, names in described.items()
    ]


def hu_seen(system: System) -> tuple[float, float]:
    """The lowest and the highest HU that the networks of `system` tell apart, as far as they are fixed."""
    windows = [window for trained in networks_of(system) for window in trained.recipe.windows]
    fixed = [window for window in windows if window.lower_hu is not None]
    return (
        min((window.lower_hu for window in fixed), default=np.inf),
        max((window.upper_hu for window in fixed), default=-np.inf),
    )


def _describe_window(window: ChannelWindow) -> str:
    name, lower, upper = window
    return f"the {name} range of the scan" if lower is None else f"{lower:g} to {upper:g}"


def networks_of(system: System) -> list[TrainedModel]:
    """The segmentation networks in a system, in the order of their work."""
    from livseg_lib.inference.cascade import Cascade
    from livseg_lib.inference.parts import NetworkPart

    if not isinstance(system, Cascade):
        return [system]
    return [step.part.trained for step in system.steps if isinstance(step.part, NetworkPart)]


def training_runs(system: System) -> list[str]:
    """Names of the runs that trained its networks, such as "phantom-quick"; unknown ones are left out."""
    runs = (trained.training.get("run", "") for trained in networks_of(system))
    return list(dict.fromkeys(filter(None, runs)))
