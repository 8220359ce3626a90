"""A trained system and a case: from its file to labels, measures, cautions and a record of the run.

Nothing in a record comes from a patient's header, and no path stands in it: only checksums, sizes, spacing.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from livseg_lib import WARNING, __version__
from livseg_lib.application.inputs import PatientInput
from livseg_lib.application.scan import Scan
from livseg_lib.datasets.catalogue import liver_hu_findings, volume_findings
from livseg_lib.errors import InputError, counted
from livseg_lib.evaluation.probabilities import is_predicted, presence_levels
from livseg_lib.files import file_checksum, files_checksum, require_there, text_checksum
from livseg_lib.labels import STRUCTURES, structure_mask
from livseg_lib.postprocessing.measures import mean_liver_hu, measure_liver, measure_tumors
from livseg_lib.preprocessing.recipe import picture_code, prepare_labels
from livseg_lib.provenance import library_versions, made_with
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
    liver_model: System | None = None  # finds the liver; the system is then asked for tumours alone
    sorter: TrainedSorter | None = None  # holds back slices without liver
    loaded_by: tuple = ()  # arguments of `load_predictor`: another process gets these, and loads it once

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

    `model` and `liver` may be names of models on board, too (`livseg models`). Raises InputError where a
    folder is not whole or the parts do not go together.
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
    found = {path for pattern in (*WEIGHTS, *DESCRIPTIONS) for path in folder.rglob(pattern)}
    files = sorted(path for path in found if path.is_file())  # pipes and devices have no end
    described = [path for path in files if path.name in DESCRIPTIONS]
    weights = {p.relative_to(folder).as_posix(): file_checksum(p) for p in files if p not in described}
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
    systems = {expectation: ", ".join(dict.fromkeys(names)) for expectation, names in described.items()}
    return [f"Expected by {names}: {what}. Every case is brought to that." for what, names in systems.items()]


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


SMALLEST_SHARE = 1 / 2048  # of a picture that has to look like tumour: a disc of 10 mm in a field of 400 mm


@dataclass(frozen=True)
class TumorPresence:
    """The answer for one scan."""

    suspected: bool | None  # None where the system does not look for tumours
    probability: float  # a network's own, 0 to 1, not calibrated; NaN where there is none
    how: str  # a sentence on where the two come from


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


LITS_PIXEL_MM, LITS_STEP_MM = (0.56, 1.0), (0.45, 6.0)
"""Spacing within and between slices in the LiTS benchmark (system K: Bilic et al. 2023,
doi 10.1016/j.media.2022.102680), which most systems here are made for."""
PORTAL_VENOUS_HU = (80.0, 130.0)  # of the liver, as in `preprocessing.windows`
PHASE_TOLERANCE_HU = 15.0
WHOLE_LIVER_SLICES = 16  # a liver of 160 mm in steps of 10 mm, the coarsest that scans are made in


def cautions(scan: Scan, labels: np.ndarray, predictor: Predictor) -> list[str]:
    """What speaks for caution with the `labels` (D, H, W) that `predictor` found in this scan."""
    of_scan = _about_picture(scan, predictor) if scan.is_picture else _about_scan(scan, labels, predictor)
    found = [*_about_system(predictor), *of_scan]
    return found if labels.any() else [*found, "Nothing was found: the mask is empty."]


def _about_system(predictor: Predictor) -> Iterator[str]:
    if phantoms := [run for run in training_runs(predictor.system) if "phantom" in run]:
        told = f"The system was trained on synthetic phantoms (run {', '.join(phantoms)}): "
        yield told + "on a real scan it shows how the program works, and nothing more."
    outdated = [each for each in networks_of(predictor.system) if _sees_other_pictures(each.training)]
    if names := ", ".join(each.system for each in outdated):
        yield f"The code that makes pictures of scans is not the one that {names} was trained with."


def _sees_other_pictures(training: dict) -> bool:
    """Where it can be told: another Python compiles the same code to other bytes."""
    today = made_with()["python"]
    python = training.get("made_by", {}).get("libraries", {}).get("python", today)
    return python == today and training.get("picture_code", picture_code()) != picture_code()


def _about_picture(scan: Scan, predictor: Predictor) -> Iterator[str]:
    windows = [window for trained in networks_of(predictor.system) for window in trained.recipe.windows]
    fixed = [window for window in windows if window.lower is not None]
    low, high = min((each.lower for each in fixed), default=0), max((each.upper for each in fixed), default=0)
    if fixed and not (scan.window.lower <= low and high <= scan.window.upper):
        of_picture = (
            f"A picture of {scan.window.lower:g} to {scan.window.upper:g} HU has lost what lay beyond."
        )
        yield f"The system was trained to see {low:g} to {high:g} HU. {of_picture}"


def _about_scan(scan: Scan, labels: np.ndarray, predictor: Predictor) -> Iterator[str]:
    depth, (step, *pixels) = len(scan.volume.voxels), scan.volume.spacing_mm
    if depth < WHOLE_LIVER_SLICES:
        yield f"The scan has {counted(depth, 'slice')}: volumes are of what it shows, not of a whole liver."
    for sentence, values, (low, high) in (
        ("The slices are {:.2f} mm apart", [step], LITS_STEP_MM),
        ("The pixels are {:.2f} mm wide", pixels, LITS_PIXEL_MM),
    ):
        if not all(low <= round(value, 2) <= high for value in values):
            yield f"{sentence.format(values[0])}; in the LiTS benchmark it is {low:g} to {high:g} mm."
    ends = [name for name, plane in (("first", labels[0]), ("last", labels[-1])) if plane.any()]
    if ends and "liver" in predictor.structures:
        named_ends = " and the ".join(ends)
        yield f"The liver is outlined up to the {named_ends} slice: the scan may not hold all of it."
    if "liver" in predictor.structures and (labels[:, [0, -1]].any() or labels[..., [0, -1]].any()):
        yield "The liver is outlined up to the edge of its slices: they may not hold all of it."
    yield from (finding.message for finding in volume_findings(scan.volume, predictor.modality))
    if predictor.modality != "ct" or "liver" not in predictor.structures:
        return
    yield from (finding.message for finding in liver_hu_findings(scan.volume, labels))
    mean, (low, high) = mean_liver_hu(scan.volume.voxels, labels), PORTAL_VENOUS_HU
    if mean < low - PHASE_TOLERANCE_HU or mean > high + PHASE_TOLERANCE_HU:
        likely = "a scan without contrast medium" if mean < low else "another phase of contrast"
        usual = (
            f"in the portal-venous phase it has {low:.0f} to {high:.0f}: {likely}, or not the liver alone."
        )
        yield f"What was outlined as liver has {mean:.0f} HU on average, {usual}"


NEED_TUMOR = ("tumor_ml", "tumor_burden", "n_tumors")
NEED_LIVER = ("liver_ml", "tumor_burden", "liver_hu", "distance_to_border_mm", "position", "contrast_hu")
"""Measures that mean nothing where the structure was not looked for."""


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


@dataclass(frozen=True, eq=False)
class PatientResult:
    """All that is known of one case."""

    predictor: Predictor
    scan: Scan
    labels: np.ndarray  # 0/1/2, uint8 (D, H, W), on the grid of the scan's volume
    tumors: pd.DataFrame  # a row a tumour (`measure_tumors`)
    record: dict
    """Presence of tumour, measures of the liver, cautions and the run, JSON-ready but for NaN (undefined) and
    without anything about the patient."""
    clock: StepClock  # goes on while the result is written


def predict_case(
    patient: PatientInput, predictor: Predictor, on_step: Callable[[str], None] = lambda step: None
) -> PatientResult:
    """Read, outline and measure one case; `on_step` hears "read", "predict" and "measure" as they begin.
    Raises InputError where the case cannot be used, and whatever the system raises."""
    clock = StepClock(on_step)
    with clock.step("read"):
        content, request = identify_request(patient, predictor)
        scan, known = patient.read(), predictor.modality.upper()
        if scan.headers and scan.headers[0].Modality != known:
            problem = f"is a series of {scan.headers[0].Modality}; the system was made for {known}."
            raise InputError(patient.case_id, problem, "Choose the series with --series, or another system.")
    with clock.step("predict"):
        labels, presence = _outline(predictor, scan)
    with clock.step("measure"):
        tumors, liver = _measure(scan, labels, predictor)
        warned = cautions(scan, labels, predictor)
    record = {
        "case": patient.case_id,
        "tumor_presence": asdict(presence),
        "measures": liver,
        "notes": list(scan.notes),
        "cautions": warned,
        "warning": WARNING,
        "request_sha256": request,
        "input": {
            "kind": patient.kind,
            "files": len(patient.files),
            "sha256": content,
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
    return PatientResult(predictor, scan, labels, tumors, record, clock)


def _outline(predictor: Predictor, scan: Scan) -> tuple[np.ndarray, TumorPresence]:
    """Labels 0/1/2, uint8 (D, H, W), and whether there is a tumour."""
    from livseg_lib.inference.cascade import Cascade, find_liver, outline, with_tumors
    from livseg_lib.inference.predict import labels_from_planes, volume_planes
    from livseg_lib.inference.sorting import SorterGate

    system, volume = predictor.system, scan.volume
    liver = find_liver(predictor.liver_model, volume) if predictor.liver_model else None
    if isinstance(system, Cascade):
        labels = outline(system, volume, liver)
        how = "A tumour is suspected where any voxel is outlined as one; this system gives no probability."
        found = TumorPresence(bool(structure_mask(labels, "tumor").any()), np.nan, how)
        return labels, found if "tumor" in system.structures else NOT_ASKED
    gate = SorterGate(predictor.sorter, system.recipe) if predictor.sorter else None
    planes = volume_planes(system, volume, gate, liver)
    labels, shown = labels_from_planes(planes, volume, system.recipe, system.thresholds), None
    if liver is not None:
        shown = prepare_labels(liver.view(np.uint8), volume.spacing_mm, system.recipe) > 0
        labels = with_tumors(liver, structure_mask(labels, "tumor"))
    return labels, presence_from_planes(planes, system.thresholds, shown)


def _measure(scan: Scan, labels: np.ndarray, predictor: Predictor) -> tuple[pd.DataFrame, dict]:
    has_hu = not scan.is_picture and predictor.modality == "ct"
    voxels = scan.volume.voxels if has_hu else None
    tumors = measure_tumors(voxels, labels, scan.volume.spacing_mm)
    liver = measure_liver(voxels, labels, scan.volume.spacing_mm)
    for structure, measures in (("tumor", NEED_TUMOR), ("liver", NEED_LIVER)):
        if structure not in predictor.structures:
            liver |= {name: np.nan for name in measures if name in liver}
            tumors = tumors.assign(**{name: np.nan for name in measures if name in tumors})
    return tumors, liver


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
