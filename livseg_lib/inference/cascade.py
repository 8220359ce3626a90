"""Systems of one network or of several steps, each looking where the last one pointed: the liver so far.

The one mechanism behind systems E, G, H, I and J. On disk model.json lists the steps of a cascade, and a
folder beside it holds what each step learnt, as it is saved by itself:

model.json                    {"kind": "cascade", "system": ..., "steps": [{"name": ..., "part": ...}, ...]}
coarse_liver/, residual/ ...  model folders and forests

Finishes that validation patients have chosen are its last steps; model.json names them under "finishes" too,
so that they can be taken back before others are chosen.
"""

from __future__ import annotations

import re
import shutil
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np

from livseg_lib import WARNING, provenance
from livseg_lib.datasets.case import Case
from livseg_lib.errors import InputError
from livseg_lib.evaluation.probabilities import is_predicted, quantize
from livseg_lib.files import write_json
from livseg_lib.inference.predict import predict_batches, predict_volume
from livseg_lib.inference.variants import AugmentedNetwork
from livseg_lib.labels import KINDS, LIVER, STRUCTURES, TUMOR, structure_mask
from livseg_lib.postprocessing import components
from livseg_lib.postprocessing.candidates import candidate_features, filter_candidates
from livseg_lib.postprocessing.forest import Forest, load_forest
from livseg_lib.postprocessing.superpixels import Superpixels, candidate_patches, dark_superpixels, paint
from livseg_lib.preprocessing.geometry import BOXES, crop_volume
from livseg_lib.preprocessing.recipe import with_masks
from livseg_lib.systems import StepPlan
from livseg_lib.training import model_folder
from livseg_lib.volumes import Volume

Part = Callable[[Volume, np.ndarray], np.ndarray]
"""Volume of a region and its labels 0/1/2 so far, uint8 (d, h, w) -> its labels from now on."""


class BasePart:
    """A part that finds no structure by itself and has learnt no numbers, unless it says otherwise."""

    structures: tuple[str, ...] = ()
    parameters: int = 0


@dataclass(frozen=True)
class _TrainedPart:
    """A part that is a network."""

    trained: model_folder.TrainedModel | model_folder.TrainedClassifier

    @property
    def structures(self) -> tuple[str, ...]:
        return self.trained.structures

    @property
    def parameters(self) -> int:
        return self.trained.parameters


@dataclass(frozen=True)
class Step:
    """One part of a cascade, and where it looks."""

    name: str  # of the stage in figures, such as "coarse liver"
    part: Part
    region: str = "scan"  # one of `preprocessing.geometry.BOXES`, around the liver so far
    margin_mm: float = 0.0


@dataclass(frozen=True)
class Cascade:
    """A system of several steps; tables take it as a `ScoredSystem`."""

    system: str
    structures: tuple[str, ...]
    steps: tuple[Step, ...]
    parameters: int
    training: dict = field(default_factory=dict)

    def predict(self, case: Case, volume: Volume) -> np.ndarray:
        """Labels 0/1/2, uint8 (D, H, W), on the grid of `volume`."""
        return run_cascade(volume, self.steps)


def run_cascade(volume: Volume, steps: tuple[Step, ...], liver: np.ndarray | None = None) -> np.ndarray:
    """Labels 0/1/2, uint8 (D, H, W), after the last of `stages`; empty where there was nowhere to look."""
    last = deque(stages(volume, steps, liver), maxlen=1)
    return last[0][1] if last else np.zeros(volume.voxels.shape, np.uint8)


def stages(
    volume: Volume, steps: tuple[Step, ...], liver: np.ndarray | None = None
) -> Iterator[tuple[Step, np.ndarray]]:
    """Each step with the labels after it, uint8 (D, H, W).

    The first step looks at the whole scan. Where no liver is found, steps that look around it are left
    out, and the labels stay empty. A `liver` that is known, bool (D, H, W), stands whatever the steps say
    of it: they are asked for tumours alone.
    """
    labels = np.zeros(volume.voxels.shape, np.uint8) if liver is None else liver * np.uint8(LIVER)
    for step in steps:
        box = BOXES[step.region](structure_mask(labels, "liver"), volume.spacing_mm, step.margin_mm)
        if box is None:
            return
        answer = step.part(crop_volume(volume, box), labels[box])
        labels = np.zeros_like(labels)
        labels[box] = answer
        if liver is not None:
            labels = with_tumors(liver, structure_mask(labels, "tumor"))
        yield step, labels


def with_tumors(liver: np.ndarray, tumor: np.ndarray) -> np.ndarray:
    """Two masks bool of one shape as labels 0/1/2, uint8; tumours count inside the liver alone."""
    labels = liver * np.uint8(LIVER)
    labels[liver & tumor] = TUMOR
    return labels


class SuperpixelPart(_TrainedPart):
    """Tumours are where superpixels of the liver look like them; those found before are forgotten."""

    structures = ("tumor",)

    def __call__(self, volume: Volume, labels: np.ndarray) -> np.ndarray:
        liver = structure_mask(labels, "liver")
        candidates = dark_superpixels(volume, liver, self.trained.candidates)
        probabilities = tumor_probabilities(self.trained, volume, liver, candidates)
        levels = paint_levels(candidates, probabilities, liver.shape)
        return with_tumors(liver, is_predicted(levels, self.trained.threshold))


def tumor_probabilities(
    trained: model_folder.TrainedClassifier, volume: Volume, liver: np.ndarray, candidates: Superpixels
) -> np.ndarray:
    """Probability that each candidate is a tumour, float32 (n,). Patches stream through the network."""
    rows = range(len(candidates.table))
    patches = candidate_patches(volume, liver, candidates, rows, trained.patch)
    pictures = (with_masks(greys, labels) for greys, labels in patches)
    parts = (found[:, KINDS.index("tumor")] for found in predict_batches(trained.network, pictures))
    return np.concatenate([np.zeros(0, np.float32), *parts]).clip(0.0, 1.0)


def paint_levels(candidates: Superpixels, probabilities: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Probabilities (n,) of candidates times 255, uint8 of `shape`: the mean over a voxel's superpixels. It
    has one of each scale; those that are no candidates count 0, as all outside the liver does."""
    levels = np.zeros(shape, np.uint8)
    if candidates.box is not None:
        levels[candidates.box] = quantize(paint(candidates, probabilities))
    return levels


class NetworkPart(_TrainedPart):
    """A segmentation network: one that knows livers replaces what was found before, one that knows
    tumours alone adds them to the liver, inside it."""

    def __call__(self, volume: Volume, labels: np.ndarray) -> np.ndarray:
        liver = structure_mask(labels, "liver")
        found = predict_volume(self.trained, volume, liver=liver)
        is_of_livers = "liver" in self.trained.structures
        return found if is_of_livers else with_tumors(liver, structure_mask(found, "tumor"))


@dataclass(frozen=True)
class FinishPart(BasePart):
    """One of the finishing functions, by name."""

    name: str

    def __call__(self, volume: Volume, labels: np.ndarray) -> np.ndarray:
        return components.FINISHES[self.name](labels, volume.spacing_mm)


@dataclass(frozen=True)
class ForestPart(BasePart):
    """Drops the tumour candidates that a random forest takes for false alarms (system H)."""

    forest: Forest
    threshold: float

    @property
    def parameters(self) -> int:
        """Thresholds in its trees."""
        return int((self.forest.left != np.arange(len(self.forest.left))).sum())

    def __call__(self, volume: Volume, labels: np.ndarray) -> np.ndarray:
        liver, tumor = (structure_mask(labels, structure) for structure in ("liver", "tumor"))
        features, ids = candidate_features(tumor, liver, volume.voxels, volume.spacing_mm)
        return with_tumors(liver, filter_candidates(ids, self.forest.predict(features), self.threshold))


@dataclass(frozen=True)
class ContourPart(BasePart):
    """Draws the outlines of tumours to the edges in the image (system J)."""

    reach_mm: float

    def __call__(self, volume: Volume, labels: np.ndarray) -> np.ndarray:
        liver, tumor = (structure_mask(labels, structure) for structure in ("liver", "tumor"))
        refined = components.refine_outlines(tumor, liver, volume.voxels, volume.spacing_mm, self.reach_mm)
        return with_tumors(liver, refined)


def _forest(folder: Path, using: str) -> Part:
    forest, description = load_forest(folder / using)
    known = provenance.record({"threshold": provenance.between(0.0, 1.0)})
    provenance.require(description, known, folder / using, "a forest of a cascade", REMEDY)
    return ForestPart(forest, float(description["threshold"]))


def _finish(folder: Path, using: str) -> Part:
    components.require_finishes([using])
    return FinishPart(using)


def _contour(folder: Path, using: str) -> Part:
    if not re.fullmatch(r"\d{1,3}(\.\d{1,6})?", using):
        raise InputError(using, "is no reach of contours in mm.", "Give a number such as 3.0.")
    return ContourPart(reach_mm=float(using))


PARTS: dict[str, Callable[[Path, str], Part]] = {
    "network": lambda folder, using: NetworkPart(model_folder.load_model(folder / using)),
    "forest": _forest,
    "superpixels": lambda folder, using: SuperpixelPart(model_folder.load_classifier(folder / using)),
    "finish": _finish,
    "contour": _contour,
}
"""Kind of part -> what builds it from the cascade's folder and `StepPlan.using`."""

LEARNT = ("network", "forest", "superpixels")  # kinds whose `using` is a folder

KIND, REMEDY = "a livseg cascade", "Name a folder with model.json and a folder for each part."
_TEXT = provenance.of_type("string", maxLength=200)
_STEP = provenance.record(
    {"name": _TEXT, "part": provenance.of_type("string"), "using": _TEXT},
    {"region": provenance.one_of(list(BOXES)), "margin_mm": provenance.between(0.0, 1000.0)},
)
_SCHEMA = provenance.record(
    {
        "system": provenance.NAME,
        "training": provenance.record({}),
        "steps": provenance.list_of(_STEP | {"additionalProperties": False}, 1, 64),
    },
    {"finishes": provenance.list_of(provenance.one_of(list(components.FINISHES)), 0, 64)},
)


def save_cascade(
    folder: Path, system: str, plans: Sequence[StepPlan], sources: Mapping[str, Path], training: dict
) -> Path:
    """Write the folder: each learnt part is copied from `sources[using]`; model.json comes last. `training`
    is JSON-ready: patients, seconds, what it was trained on."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.json").unlink(missing_ok=True)
    for using in {plan.using for plan in plans if plan.part in LEARNT}:
        shutil.rmtree(folder / using, ignore_errors=True)
        shutil.copytree(sources[using], folder / using)
    description = {
        "format": model_folder.MODEL_FORMAT,
        "warning": WARNING,
        "kind": "cascade",
        "system": system,
        "steps": [asdict(plan) for plan in plans],
        "training": training,
    }
    write_json(folder / "model.json", description)
    return folder


def load_cascade(folder: Path) -> Cascade:
    """The cascade that `save_cascade` wrote. Raises InputError where the folder is not whole."""
    description = provenance.read_description(folder / "model.json", KIND, REMEDY)
    plans = read_plans(folder, description)
    return build_cascade(folder, description["system"], plans, description["training"])


def read_plans(folder: Path, description: dict) -> list[StepPlan]:
    """The steps of a cascade. Raises InputError for those that are none, or whose part lies elsewhere."""
    provenance.require(description, _SCHEMA, folder, KIND, REMEDY)
    plans = [StepPlan(**step) for step in description["steps"]]
    for plan in plans:
        provenance.inside(folder, plan.using)
    return plans


def build_cascade(folder: Path, system: str, plans: Sequence[StepPlan], training: dict) -> Cascade:
    """The cascade of those steps, its learnt parts read from folders in `folder`."""
    parts = {}
    for plan in plans:
        if plan.part not in PARTS:
            raise InputError(plan.part, "is not a part of cascades.", f"Choose one of {', '.join(PARTS)}.")
        if (plan.part, plan.using) not in parts:
            parts[plan.part, plan.using] = PARTS[plan.part](folder, plan.using)
    steps = [Step(plan.name, parts[plan.part, plan.using], plan.region, plan.margin_mm) for plan in plans]
    finds_tumors = any("tumor" in part.structures for part in parts.values())
    parameters = sum(part.parameters for part in parts.values())
    return Cascade(system, STRUCTURES if finds_tumors else ("liver",), tuple(steps), parameters, training)


def chosen_finishes(folder: Path) -> tuple[str, ...]:
    """Names of the finishes that `set_finishes` has put behind the steps of the cascade in `folder`."""
    return tuple(_read(folder).get("finishes", ()))


def set_finishes(folder: Path, names: Sequence[str]) -> Path:
    """The cascade in `folder` ends with the finishes `names` from now on, instead of those chosen before.

    model.json is either the old one or the new one, whole. Raises InputError for a name that is not in
    `FINISHES`, and for a folder without a cascade.
    """
    components.require_finishes(names)
    description = _read(folder)
    first_steps = description["steps"][: len(description["steps"]) - len(description.get("finishes", ()))]
    plans = [StepPlan(components.finish_title(name), "finish", name) for name in names]
    description |= {"steps": [*first_steps, *map(asdict, plans)], "finishes": list(names)}
    write_json(folder / "model.json", description)
    return folder


def load_unfinished(folder: Path) -> Cascade:
    """The cascade in `folder` with its own steps alone."""
    cascade = load_cascade(folder)
    return replace(cascade, steps=cascade.steps[: len(cascade.steps) - len(chosen_finishes(folder))])


def _read(folder: Path) -> dict:
    description = provenance.read_description(folder / "model.json", KIND, "Train it again.")
    if description.get("kind") != "cascade":
        raise InputError(folder, "is not a cascade, and has no steps.", "Finish the labels of cascades.")
    used, finishes = [plan.using for plan in read_plans(folder, description)], description.get("finishes", [])
    provenance.require_equal(used[len(used) - len(finishes) :], finishes, "the last steps are", folder)
    return description


System = model_folder.TrainedModel | Cascade


def load_system(folder: Path) -> System:
    """What lies in a model folder. Raises InputError where it is not whole."""
    description = provenance.read_description(
        folder / "model.json", "a livseg model", model_folder.MODEL_REMEDY
    )
    return load_cascade(folder) if description.get("kind") == "cascade" else model_folder.load_model(folder)


def outline(system: System, volume: Volume, liver: np.ndarray | None = None) -> np.ndarray:
    """Labels 0/1/2, uint8 (D, H, W), on the grid of `volume`. Where the liver is known, bool (D, H, W), it
    stands, and the system is asked for tumours alone."""
    if isinstance(system, Cascade):
        return run_cascade(volume, system.steps, liver)
    labels = predict_volume(system, volume)
    return labels if liver is None else with_tumors(liver, structure_mask(labels, "tumor"))


def find_liver(system: System, volume: Volume) -> np.ndarray:
    """The largest piece of what a system takes for liver, bool (D, H, W)."""
    return components.largest_component(structure_mask(outline(system, volume), "liver"))


def augmented(system: System, names: Sequence[str]) -> System:
    """The same system, whose networks answer with the mean over variants of a picture (`variants.VARIANTS`).
    Raises InputError for an unknown name."""
    if not isinstance(system, Cascade):
        return replace(system, network=AugmentedNetwork(system.network, names))
    parts = [step.part for step in system.steps]
    parts = [NetworkPart(augmented(p.trained, names)) if isinstance(p, NetworkPart) else p for p in parts]
    steps = (replace(step, part=part) for step, part in zip(system.steps, parts, strict=True))
    return replace(system, steps=tuple(steps))
