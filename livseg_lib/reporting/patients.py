"""A predicted patient as one picture: the slice that shows most of a structure."""

from __future__ import annotations

from pathlib import Path

from livseg_lib.datasets.case import Case
from livseg_lib.labels import structure_mask
from livseg_lib.predictions import load_prediction
from livseg_lib.preprocessing import Recipe
from livseg_lib.preprocessing.prepare import channel_windows
from livseg_lib.preprocessing.windows import apply_window
from livseg_lib.reporting.pictures import PatientSlice


def patient_slice(
    rank: str, case: Case, structure: str, dice: float, predictions: Path, recipe: Recipe
) -> PatientSlice:
    """The slice with most of `structure` in the truth, or else in the prediction, or else with most liver."""
    volume = case.read_volume()
    reference, prediction = case.read_labels(volume), load_prediction(volume, predictions, case.case_id)
    candidates = [structure_mask(reference, structure), structure_mask(prediction, structure)]
    shown = next((mask for mask in candidates if mask.any()), structure_mask(reference, "liver"))
    index = int(shown.sum(axis=(1, 2)).argmax())
    grey = apply_window(volume.voxels[index], channel_windows(volume.voxels, recipe)[0])
    return PatientSlice(rank, case.case_id, grey, reference[index], prediction[index], dice)
