"""One case from its file to labels, measures and a record: what `livseg predict` and the app do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd

from livseg_lib.application.cautions import cautions
from livseg_lib.application.predictor import Predictor
from livseg_lib.application.presence import (
    NOT_ASKED,
    TumorPresence,
    presence_from_labels,
    presence_from_planes,
)
from livseg_lib.application.record import StepClock, describe_run, identify_request
from livseg_lib.application.scan import PatientInput, Scan
from livseg_lib.errors import InputError
from livseg_lib.labels import structure_mask
from livseg_lib.postprocessing.tumor_measures import measure_liver, measure_tumors

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
    from livseg_lib.inference.cascade import Cascade, with_tumors
    from livseg_lib.inference.sorting import SorterGate
    from livseg_lib.inference.systems import find_liver, outline
    from livseg_lib.inference.volume import labels_from_planes, volume_planes
    from livseg_lib.preprocessing import prepare_labels

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
