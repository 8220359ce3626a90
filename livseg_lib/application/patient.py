"""A case from its file to labels, measures, cautions and a record: what `livseg predict` and the app do."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd

from livseg_lib.application.predictor import (
    NOT_ASKED,
    Predictor,
    StepClock,
    TumorPresence,
    describe_run,
    hu_seen,
    identify_request,
    networks_of,
    presence_from_labels,
    presence_from_planes,
    training_runs,
)
from livseg_lib.application.scan import PatientInput, Scan
from livseg_lib.datasets.check import liver_hu_findings, volume_findings
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
    found = [_about_training(training_runs(predictor.system)), _about_pictures(predictor)]
    if scan.is_picture:
        found += [_about_picture(scan, hu_seen(predictor.system))]
    else:
        found += [_about_slices(scan), *_about_spacing(scan)]
        found += [verdict.message for verdict in volume_findings(scan.volume, predictor.modality)]
        if predictor.modality == "ct" and "liver" in predictor.structures:
            found += [verdict.message for verdict in liver_hu_findings(scan.volume, labels)]
            found += [_about_phase(scan, labels)]
    if not labels.any():
        found += ["Nothing was found: the mask is empty."]
    return [sentence for sentence in found if sentence]


def _about_training(runs: Sequence[str]) -> str:
    phantoms = [run for run in runs if "phantom" in run]
    if not phantoms:
        return ""
    return (
        f"The system was trained on synthetic phantoms (run {', '.join(phantoms)}): "
        "on a real scan it shows how the program works, and nothing more."
    )


def _about_pictures(predictor: Predictor) -> str:
    today = picture_code()
    others = [
        trained.system
        for trained in networks_of(predictor.system)
        if trained.training.get("picture_code", today) != today
    ]
    if not others:
        return ""
    return f"The code that makes pictures of scans is not the one that {', '.join(others)} was trained with."


def _about_picture(scan: Scan, seen_hu: tuple[float, float]) -> str:
    low, high = scan.window.lower, scan.window.upper
    if low <= seen_hu[0] and seen_hu[1] <= high:
        return ""
    return (
        f"The system was trained to see {seen_hu[0]:g} to {seen_hu[1]:g} HU. "
        f"A picture of {low:g} to {high:g} HU has lost what lay beyond."
    )


def _about_slices(scan: Scan) -> str:
    depth = len(scan.volume.voxels)
    if depth >= WHOLE_LIVER_SLICES:
        return ""
    return f"The scan has {depth} slices: volumes are those of what it shows, not of a whole liver."


def _about_spacing(scan: Scan) -> Iterator[str]:
    step, *pixels = scan.volume.spacing_mm
    for what, values, (low, high) in (
        ("The slices are {} mm apart", [step], LITS_STEP_MM),
        ("The pixels are {} mm wide", pixels, LITS_PIXEL_MM),
    ):
        if not all(low <= round(value, 2) <= high for value in values):
            yield f"{what.format(f'{values[0]:.2f}')}; in the LiTS benchmark it is {low:g} to {high:g} mm."


def _about_phase(scan: Scan, labels: np.ndarray) -> str:
    mean, (low, high) = mean_liver_hu(scan.volume.voxels, labels), PORTAL_VENOUS_HU
    if np.isnan(mean) or low - PHASE_TOLERANCE_HU <= mean <= high + PHASE_TOLERANCE_HU:
        return ""
    likely = "a scan without contrast medium" if mean < low else "another phase of contrast"
    return (
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
    kind: str
    """ "NIfTI", "DICOM" or "picture"."""
    scan: Scan
    labels: np.ndarray
    """0/1/2, uint8 (D, H, W), on the grid of the scan's volume."""
    structures: tuple[str, ...]
    """What was looked for."""
    tumors: pd.DataFrame
    """A row a tumour (`measure_tumors`)."""
    liver: dict
    """`measure_liver`; NaN for what was not looked for and for mm and ml of pictures."""
    presence: TumorPresence
    modality: str
    """ "ct" or "mr"."""
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
        scan = patient.read()
        _require_modality(scan, predictor.modality, patient)
    with clock.step("predict"):
        labels, presence = _outline(predictor, scan)
    with clock.step("measure"):
        tumors, liver = _measure(scan, labels, predictor)
        warnings = cautions(scan, labels, predictor)
    record = {
        "case": patient.case_id,
        "tumor_presence": asdict(presence),
        "measures": liver,
        "notes": list(scan.notes),
        "cautions": warnings,
        **describe_run(patient, scan, predictor, request),
    }
    return PatientResult(
        patient.case_id,
        patient.kind,
        scan,
        labels,
        predictor.structures,
        tumors,
        liver,
        presence,
        predictor.modality,
        record,
        clock,
    )


def _require_modality(scan: Scan, modality: str, patient: PatientInput) -> None:
    """Raises InputError where the headers of a scan say that it is not of the kind that a system knows."""
    if scan.headers and scan.headers[0].Modality != modality.upper():
        problem = (
            f"This is a series of {scan.headers[0].Modality}; the system was made for {modality.upper()}."
        )
        raise InputError(patient.case_id, problem, "Choose the series with --series, or another system.")


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
