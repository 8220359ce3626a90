"""System J in pictures: superpixels on a slice, patches, one tumour before and after the contour."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from livseg_lib.datasets.case import Case
from livseg_lib.errors import InputError
from livseg_lib.experiments.cascade_parts.superpixel_checks import contour_of_system, paint_cases
from livseg_lib.experiments.cascade_parts.superpixel_training import region_cases
from livseg_lib.inference import stored_labels, stored_pictures
from livseg_lib.inference.superpixel_part import tumor_probabilities
from livseg_lib.labels import TUMOR, structure_mask
from livseg_lib.postprocessing.components import largest_component
from livseg_lib.postprocessing.superpixel_candidates import CandidateRecipe, find_candidates
from livseg_lib.preprocessing.windows import WINDOWS, apply_window
from livseg_lib.reporting.studies.superpixels import PatchPicture
from livseg_lib.training.classifier_folder import TrainedClassifier

WINDOW = WINDOWS["liver_narrow"]
FIELD_MARGIN_MM = 15.0
"""Shown around a tumour."""


def superpixel_view(recipe: CandidateRecipe, case: Case, trained: TrainedClassifier | None = None) -> dict:
    """What `reporting.studies.superpixels.superpixel_scales` draws: the slice with most tumour, or liver.

    Candidates have the value 1, or the probability that `trained` gives them.
    """
    [case] = region_cases([case])
    volume = case.read_volume()
    truth = case.read_labels(volume)
    liver = structure_mask(truth, "liver")
    index = int((truth == truth.max()).sum(axis=(1, 2)).argmax())
    candidates = find_candidates(volume, liver, recipe)
    values = np.ones(len(candidates.table))
    if trained is not None:
        values = tumor_probabilities(trained, volume, liver, candidates)
    return {
        "grey": apply_window(volume.voxels[index], WINDOW),
        "labels": truth[index],
        "candidates": candidates,
        "values": values,
        "index": index,
    }


def patch_pictures(
    patches: pd.DataFrame, folder: Path, depth: int, each: int, seed: int
) -> list[PatchPicture]:
    """Up to `each` patches of tumour, then of liver, drawn by `seed`: the slice with most superpixel."""
    pictures = []
    for kind in ("tumor", "liver"):
        rows = patches[patches.region == kind]
        for row in rows.sample(min(each, len(rows)), random_state=seed).itertuples():
            slices = slice(row.array_index, row.array_index + depth)
            labels = np.asarray(stored_labels(folder, row.array)[slices])
            index = int((labels == TUMOR).sum(axis=(1, 2)).argmax())
            grey = np.asarray(stored_pictures(folder, row.array)[slices][index, ..., 0])
            title = f"{kind.replace('tumor', 'tumour')}, {row.scale_mm:g} mm"
            pictures.append(PatchPicture(grey, labels[index], title))
    return pictures


def contour_views(
    trained: TrainedClassifier, case: Case
) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """The slice that shows most of the tumour found, cut out around it: grey uint8 (h, w), true labels
    (h, w), and the labels before and after the contour, of tumours alone.

    Of the largest tumour where nothing is found. Raises InputError where there is no tumour.
    """
    [painted] = paint_cases(trained, [case])
    before = painted.labels_at(trained.threshold)
    after = contour_of_system()(painted.volume, before)
    tumor = structure_mask(painted.truth, "tumor")
    if not tumor.any():
        raise InputError(case.case_id, "has no tumour to look at.", "Choose a patient with one.")
    shown = largest_component(tumor & structure_mask(before, "tumor"))
    shown = shown if shown.any() else largest_component(tumor)
    index = int(shown.sum(axis=(1, 2)).argmax())
    cut = (index, *_square_around(shown[index], painted.volume.spacing_mm[1:]))
    grey = apply_window(painted.volume.voxels[cut], WINDOW)
    truth, before, after = (
        np.where(labels[cut] == TUMOR, labels[cut], 0) for labels in (painted.truth, before, after)
    )
    return grey, truth, {"superpixels": before, "active contour": after}


def _square_around(mask: np.ndarray, spacing_mm: tuple[float, float]) -> tuple[slice, slice]:
    """Rows and columns of a square around `mask` (H, W), as far as the picture goes."""
    places = [indices * step for indices, step in zip(np.nonzero(mask), spacing_mm, strict=True)]
    half_mm = max(np.ptp(place) for place in places) / 2 + FIELD_MARGIN_MM
    middles = [(place.min() + place.max()) / 2 for place in places]
    return tuple(
        slice(max(0, int((middle - half_mm) / step)), int((middle + half_mm) / step) + 1)
        for middle, step in zip(middles, spacing_mm, strict=True)
    )
