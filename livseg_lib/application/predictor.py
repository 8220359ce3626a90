"""A trained system, loaded, with what identifies it; and the record of what it did to a case.

Nothing in a record comes from a patient's header, and no path stands in it: only checksums, sizes, spacing.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from livseg_lib import WARNING, __version__
from livseg_lib.application.inputs import PatientInput
from livseg_lib.application.scan import Scan
from livseg_lib.errors import InputError
from livseg_lib.evaluation.probabilities import is_predicted, presence_levels
from livseg_lib.files import file_checksum, files_checksum, require_there, text_checksum
from livseg_lib.labels import STRUCTURES, structure_mask
from livseg_lib.provenance import library_versions
from livseg_lib.runs import PACKAGES, describe_device, describe_platform, git_revision, peak_memory_mb
from livseg_lib.shelf import find_model
from livseg_lib.storage import fetch

if TYPE_CHECKING:  # only named in signatures
    from livseg_lib.inference.cascade import System
    from livseg_lib.training.model_folder import TrainedModel, TrainedSorter

WEIGHTS, DESCRIPTIONS = ("*.safetensors", "*.onnx"), ("model.json", "forest.json")


@dataclass(frozen=True, eq=False)
class Predictor:
    """A system ready for use."""

    system: System
    identity: dict = field(default_factory=dict)
    """JSON-ready: the system's name, checksums of all that was loaded, and the options of its use."""
    liver_model: System | None = None
    """Finds the liver; the system is then asked for tumours alone."""
    sorter: TrainedSorter | None = None
    """Holds back slices without liver."""
    loaded_by: tuple = ()
    """Arguments of `load_predictor`: another process gets these, and loads it once."""

    def __reduce__(self) -> tuple:
        return _load_once, self.loaded_by

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
    """The system in the folder `model`, with one for the liver, a slice sorter and test-time augmentation.

    `model` and `liver` may be names of models on board, too (`livseg models`).

    Raises InputError where a folder is not whole or the parts do not go together.
    """
    from livseg_lib.inference.cascade import Cascade, augmented, load_system
    from livseg_lib.training.model_folder import load_sorter

    model, liver = find_model(model), find_model(liver) if liver else None
    system = load_system(model)
    if sorter and isinstance(system, Cascade):
        problem = "is a cascade, which finds the slices with liver by itself."
        raise InputError(system.system, problem, "Leave --sorter out.")
    identity = {"system": system.system, "model": model_checksum(model), "augment": list(augment)}
    parts = {"liver": liver, "sorter": sorter}
    identity |= {name: model_checksum(folder) for name, folder in parts.items() if folder}
    return Predictor(
        augmented(system, augment) if augment else system,
        identity,
        load_system(liver) if liver else None,
        load_sorter(Path(sorter)) if sorter else None,
        (model, liver, sorter, tuple(augment)),
    )


@cache
def _load_once(*loaded_by: object) -> Predictor:
    """Of a process that gets a predictor from another: a case must not load it again."""
    return load_predictor(*loaded_by)


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
        cuts = [
            f"the {name} range of the scan" if lower is None else f"{lower:g} to {upper:g}"
            for name, lower, upper in trained.recipe.windows
        ]
        size = trained.recipe.size
        expectation = f"HU cut to {', '.join(cuts)}, in pictures of {size} x {size} pixels"
        described.setdefault(expectation, []).append(trained.system)
    return [
        f"Expected by {', '.join(dict.fromkeys(names))}: {expectation}. Every case is brought to that."
        for expectation, names in described.items()
    ]


def networks_of(system: System) -> list[TrainedModel]:
    """The segmentation networks in a system, in the order of their work."""
    from livseg_lib.inference.cascade import Cascade, NetworkPart

    if not isinstance(system, Cascade):
        return [system]
    return [step.part.trained for step in system.steps if isinstance(step.part, NetworkPart)]


def training_runs(system: System) -> list[str]:
    """Names of the runs that trained its networks, such as "phantom-quick"; unknown ones are left out."""
    runs = (trained.training.get("run", "") for trained in networks_of(system))
    return list(dict.fromkeys(filter(None, runs)))


SMALLEST_SHARE = 1 / 2048
"""Of a picture that has to look like tumour: a disc of 10 mm in a field of 400 mm."""


@dataclass(frozen=True)
class TumorPresence:
    """The answer for one scan."""

    suspected: bool | None
    """None where the system does not look for tumours."""
    probability: float
    """A network's own, 0 to 1, not calibrated; NaN where there is none."""
    how: str
    """A sentence on where the two come from."""


NOT_ASKED = TumorPresence(None, np.nan, "The system was trained to find the liver alone.")


def presence_from_planes(
    planes: np.ndarray, thresholds: Mapping[str, float], liver: np.ndarray | None = None
) -> TumorPresence:
    """The answer of a network, from its planes uint8 (N, h, w, K) and the K thresholds in their order.

    A picture shows a tumour where at least SMALLEST_SHARE of it reaches the threshold, which is to say
    that its n-th largest probability does: that one is the picture's score, and the highest of all
    pictures the scan's. Only pixels in the liver count: in `liver`, bool (N, h, w), or else in what the
    network itself takes for liver, if it looks for it.
    """
    names = list(thresholds)
    if "tumor" not in names:
        return NOT_ASKED
    tumor = planes[..., names.index("tumor")]
    if liver is None and "liver" in names:
        liver = is_predicted(planes[..., names.index("liver")], thresholds["liver"])
    area = max(1, round(tumor[0].size * SMALLEST_SHARE))
    levels = presence_levels(tumor if liver is None else tumor * liver, [area])[:, 0]
    where = "" if liver is None else " inside the liver"
    how = (
        f"In some slice at least {area} of the network's {tumor[0].size} pixels{where} reach this "
        f"probability of tumour. From {thresholds['tumor']:g} on, chosen on validation patients, a tumour is "
        "suspected. The probability is the network's own and not calibrated."
    )
    suspected = bool(is_predicted(levels, thresholds["tumor"]).any())
    return TumorPresence(suspected, float(levels.max()) / 255, how)


def presence_from_labels(labels: np.ndarray) -> TumorPresence:
    """The answer of a system of several steps, which gives labels (D, H, W) and no probability."""
    how = "A tumour is suspected where any voxel is outlined as one; this system gives no probability."
    return TumorPresence(bool(structure_mask(labels, "tumor").any()), np.nan, how)


class StepClock:
    """Seconds by step."""

    def __init__(self, on_step: Callable[[str], None] = lambda step: None) -> None:
        self.on_step, self.seconds = on_step, {}

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Counts the block for the step `name`."""
        self.on_step(name)
        began = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = round(time.perf_counter() - began, 2)


def identify_request(patient: PatientInput, predictor: Predictor) -> tuple[str, str]:
    """What decides about a result, in two checksums: of the case's files; of these, options and models."""
    for file in patient.files:
        fetch(file)
        require_there(file)
    content = files_checksum(patient.files)
    request = [content, patient.options, predictor.identity]
    return content, text_checksum(json.dumps(request, sort_keys=True))


def describe_run(patient: PatientInput, scan: Scan, predictor: Predictor, request: tuple[str, str]) -> dict:
    """What is known before anything is written, JSON-ready; `request`: `identify_request`."""
    return {
        "warning": WARNING,
        "request_sha256": request[1],
        "input": {
            "kind": patient.kind,
            "files": len(patient.files),
            "sha256": request[0],
            "shape": list(scan.volume.voxels.shape),
            "spacing_mm": [round(float(side), 6) for side in scan.volume.spacing_mm],
        },
        "system": {
            **predictor.identity,
            "structures": list(predictor.structures),
            "expects": describe_expectations(predictor.system),
            "trained_in": training_runs(predictor.system),
        },
        **_software(),
    }


@cache
def _software() -> dict:
    """Asked once a process: git takes its time."""
    return {
        "livseg": __version__,
        "git_revision": git_revision(),
        "packages": library_versions(*PACKAGES),
        "device": describe_device(),
        "platform": describe_platform(),
    }


def finished(record: dict, clock: StepClock) -> dict:
    """The record with what is known when all else is written. Memory is the most of the process so far."""
    return record | {
        "seconds": clock.seconds | {"in_all": round(sum(clock.seconds.values()), 2)},
        "peak_memory_mb": peak_memory_mb(),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
    }
