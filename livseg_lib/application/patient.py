"""A case from its file to labels, measures, cautions and a record: what `livseg predict` and the app do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd

from livseg_lib.application.inputs import PatientInput
from livseg_lib.application.predictor import (
    NOT_ASKED,
    Predictor,
    StepClock,
    TumorPresence,
    describe_run,
    identify_request,
    networks_of,
    presence_from_labels,
    presence_from_planes,
    training_runs,
)
from livseg_lib.application.scan import Scan
from livseg_lib.datasets.catalogue import liver_hu_findings, volume_findings
from livseg_lib.errors import InputError
from livseg_lib.labels import structure_mask
from livseg_lib.postprocessing.measures import mean_liver_hu, measure_liver, measure_tumors
from livseg_lib.preprocessing.recipe import picture_code

LITS_PIXEL_MM, LITS_STEP_MM = (0.56, 1.0), (0.45, 6.0)
"""Spacing within and between slices in the LiTS benchmark (system K: Bilic et al. 2023,
doi 10.1016/j.media.2022.102680), which most systems here are made for."""
PORTAL_VENOUS_HU = (80.0, 130.0)
"""Of the liver, as in `preprocessing.windows`."""
PHASE_TOLERANCE_HU = 15.0
WHOLE_LIVER_SLICES = 16
"""A liver of 160 mm in steps of 10 mm, the coarsest that scans are made in."""


def cautions(scan: Scan, labels: np.ndarray, predictor: Predictor) -> list[str]:
    """What speaks for caution with the `labels` (D, H, W) that `predictor` found in this scan."""
    of_scan = _about_picture(scan, predictor) if scan.is_picture else _about_scan(scan, labels, predictor)
    found = [*_about_system(predictor), *of_scan]
    return found if labels.any() else [*found, "Nothing was found: the mask is empty."]


def _about_system(predictor: Predictor) -> Iterator[str]:
    if phantoms := [run for run in training_runs(predictor.system) if "phantom" in run]:
        yield (
            f"The system was trained on synthetic phantoms (run {', '.join(phantoms)}): "
            "on a real scan it shows how the program works, and nothing more."
        )
    today, networks = picture_code(), networks_of(predictor.system)
    outdated = [each.system for each in networks if each.training.get("picture_code", today) != today]
    if outdated:
        names = ", ".join(outdated)
        yield f"The code that makes pictures of scans is not the one that {names} was trained with."


def _about_picture(scan: Scan, predictor: Predictor) -> Iterator[str]:
    windows = [window for trained in networks_of(predictor.system) for window in trained.recipe.windows]
    fixed = [window for window in windows if window.lower is not None]
    low, high = min((each.lower for each in fixed), default=0), max((each.upper for each in fixed), default=0)
    if fixed and not (scan.window.lower <= low and high <= scan.window.upper):
        yield (
            f"The system was trained to see {low:g} to {high:g} HU. A picture of {scan.window.lower:g} to "
            f"{scan.window.upper:g} HU has lost what lay beyond."
        )


def _about_scan(scan: Scan, labels: np.ndarray, predictor: Predictor) -> Iterator[str]:
    depth, (step, *pixels) = len(scan.volume.voxels), scan.volume.spacing_mm
    if depth < WHOLE_LIVER_SLICES:
        yield f"The scan has {depth} slices: volumes are those of what it shows, not of a whole liver."
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
    yield from (finding.message for finding in volume_findings(scan.volume, predictor.modality))
    if predictor.modality != "ct" or "liver" not in predictor.structures:
        return
    yield from (finding.message for finding in liver_hu_findings(scan.volume, labels))
    mean, (low, high) = mean_liver_hu(scan.volume.voxels, labels), PORTAL_VENOUS_HU
    if mean < low - PHASE_TOLERANCE_HU or mean > high + PHASE_TOLERANCE_HU:
        likely = "a scan without contrast medium" if mean < low else "another phase of contrast"
        yield (
            f"What was outlined as liver has {mean:.0f} HU on average, in the portal-venous phase it has "
            f"{low:.0f} to {high:.0f}: {likely}, or not the liver alone."
        )


NEED_TUMOR = ("tumor_ml", "tumor_burden", "n_tumors")
NEED_LIVER = ("liver_ml", "tumor_burden", "liver_hu", "distance_to_border_mm", "position", "contrast_hu")
"""Measures that mean nothing where the structure was not looked for."""


@dataclass(frozen=True, eq=False)
class PatientResult:
    """All that is known of one case."""

    case_id: str
    predictor: Predictor
    """What was looked for, and in scans of which modality."""
    scan: Scan
    labels: np.ndarray
    """0/1/2, uint8 (D, H, W), on the grid of the scan's volume."""
    tumors: pd.DataFrame
    """A row a tumour (`measure_tumors`)."""
    liver: dict
    """`measure_liver`; NaN for what was not looked for and for mm and ml of pictures."""
    presence: TumorPresence
    record: dict
    """The run, JSON-ready and without anything about the patient (`record`)."""
    clock: StepClock
    """Goes on while the result is written."""


def predict_case(
    patient: PatientInput, predictor: Predictor, on_step: Callable[[str], None] = lambda step: None
) -> PatientResult:
    """Read, outline and measure one case; `on_step` hears "read", "predict" and "measure" as they begin.

    Raises InputError where the case cannot be used, and whatever the system raises.
    """
    clock = StepClock(on_step)
    with clock.step("read"):
        request = identify_request(patient, predictor)
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
        **describe_run(patient, scan, predictor, request),
    }
    return PatientResult(patient.case_id, predictor, scan, labels, tumors, liver, presence, record, clock)


def _outline(predictor: Predictor, scan: Scan) -> tuple[np.ndarray, TumorPresence]:
    """Labels 0/1/2, uint8 (D, H, W), and whether there is a tumour."""
    from livseg_lib.inference.cascade import Cascade, find_liver, outline, with_tumors
    from livseg_lib.inference.predict import labels_from_planes, volume_planes
    from livseg_lib.inference.sorting import SorterGate
    from livseg_lib.preprocessing.recipe import prepare_labels

    system, volume = predictor.system, scan.volume
    liver = find_liver(predictor.liver_model, volume) if predictor.liver_model else None
    if isinstance(system, Cascade):
        labels = outline(system, volume, liver)
        return labels, presence_from_labels(labels) if "tumor" in system.structures else NOT_ASKED
    gate = SorterGate(predictor.sorter, system.recipe) if predictor.sorter else None
    planes = volume_planes(system, volume, gate, liver)
    labels = labels_from_planes(planes, volume, system.recipe, system.thresholds)
    if liver is None:
        return labels, presence_from_planes(planes, system.thresholds)
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
