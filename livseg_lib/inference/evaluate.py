"""What a system is worth on test patients: its scores, from slices to whole volumes, and their table rows."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
import pandas as pd
from tqdm import tqdm

from livseg_lib.datasets.case import Case
from livseg_lib.evaluation.cases import SCORES, score_case, summarize_cases
from livseg_lib.evaluation.lesions import lesion_rows
from livseg_lib.evaluation.masks import SURFACE_TOLERANCE_MM
from livseg_lib.evaluation.probabilities import ProbabilityHistogram
from livseg_lib.evaluation.slices import score_slices, summarize_slices
from livseg_lib.evaluation.statistics import mean_with_interval
from livseg_lib.inference.predict import labels_from_planes, predict_stack, stored_labels, stored_pictures
from livseg_lib.labels import structure_mask
from livseg_lib.preprocessing.recipe import Recipe, prepare_labels, prepare_slices
from livseg_lib.systems import published_beside
from livseg_lib.training.model_folder import TrainedModel
from livseg_lib.volumes import Volume, keep_prediction


class ScoredSystem(Protocol):
    """What the tables say of a system, a `TrainedModel` or one without a network."""

    system: str
    structures: tuple[str, ...]  # what it outlines, liver before tumour
    training: dict  # `n_train_patients` and `seconds`, where they are known
    parameters: int  # numbers that were learnt


@dataclass
class Evaluation:
    """What one system scored; tables have a row a case (or slice) and structure."""

    system: str
    case_scores: list[dict] = field(default_factory=list)
    """The mappings of `score_case`, with `system`, `patient` and `case`."""
    patients: list[dict] = field(default_factory=list)
    slices: list[pd.DataFrame] = field(default_factory=list)
    lesions: list[pd.DataFrame] = field(default_factory=list)
    """A table of `lesion_rows` a case; none for a system that outlines no tumours."""
    histograms: dict[str, ProbabilityHistogram] = field(default_factory=dict)
    """Pixels by probability, a structure: ROC. Empty for a system that gives labels only."""


def evaluate_system(
    trained: TrainedModel, cases: Iterable[Case], folder: Path, predictions: Path
) -> Evaluation:
    """Predict and score each case, one volume in memory at a time; keep its mask in `predictions`.

    `folder` holds the extracted slices of the cases; a network that learnt from others is shown its own, made
    from the scans. Volumes are scored on the scan's own grid, slices at picture size. Stacks of pictures have
    no grid to save a mask on: theirs is kept as an array.
    """
    evaluation = Evaluation(trained.system)
    evaluation.histograms = {structure: ProbabilityHistogram() for structure in trained.structures}
    for case in tqdm(list(cases), trained.system, unit="patient"):
        volume, truth = case.read_volume(), np.asarray(stored_labels(folder, case.case_id))
        pictures = stored_pictures(folder, case.case_id)
        if Recipe.of_case(folder / case.case_id) != trained.recipe:
            truth = prepare_labels(case.read_labels(volume), volume.spacing_mm, trained.recipe)
            pictures = prepare_slices(volume, trained.recipe)
        began = time.perf_counter()
        pictures = trained.inputs.compose(pictures)
        planes = predict_stack(trained.network, pictures, len(truth), trained.inputs.block_overlap)
        labels = labels_from_planes(planes, volume, trained.recipe, trained.thresholds)
        seconds = time.perf_counter() - began
        _add_case(evaluation, trained, case, labels, volume, predictions, seconds)
        for channel, structure in enumerate(trained.structures):
            mask, threshold = structure_mask(truth, structure), trained.thresholds[structure]
            evaluation.histograms[structure].add(planes[..., channel], mask)
            _add_slices(evaluation, case, structure, score_slices(planes[..., channel], mask, threshold))
    return evaluation


def evaluate_labels(
    system: ScoredSystem,
    predict: Callable[[Case, Volume], np.ndarray],
    cases: Iterable[Case],
    predictions: Path,
) -> Evaluation:
    """Score a system that gives labels 0/1/2, uint8 (D, H, W) on the volume's grid, and no probability. As
    `evaluate_system`, but slices are scored on the scan's own grid too, and there is no ROC curve."""
    evaluation = Evaluation(system.system)
    for case in tqdm(list(cases), system.system, unit="patient"):
        volume = case.read_volume()
        began = time.perf_counter()
        labels = predict(case, volume)
        seconds = time.perf_counter() - began
        truth = _add_case(evaluation, system, case, labels, volume, predictions, seconds)
        for structure in system.structures:
            certain = structure_mask(labels, structure) * np.uint8(255)
            scores = score_slices(certain, structure_mask(truth, structure), 0.5)
            _add_slices(evaluation, case, structure, scores)
    return evaluation


def _add_case(
    evaluation: Evaluation,
    system: ScoredSystem,
    case: Case,
    labels: np.ndarray,
    volume: Volume,
    predictions: Path,
    seconds: float,
) -> np.ndarray:
    """Keep and score what was predicted in so many seconds; returns the truth on the volume's grid."""
    keep_prediction(labels, volume, predictions, case.case_id)
    reference = case.read_labels(volume)
    scores = score_case(labels, reference, volume.spacing_mm)
    identity = {"system": system.system, "patient": case.patient, "case": case.case_id}
    evaluation.case_scores.append(identity | scores)
    if "tumor" in system.structures:
        evaluation.lesions.append(_of(identity, lesion_rows(labels, reference, volume.spacing_mm)))
    for structure in system.structures:
        row = _structure_row(scores, structure, volume.voxel_volume_ml)
        evaluation.patients.append({"structure": structure} | identity | row | {"predict_seconds": seconds})
    return reference


def _structure_row(scores: dict, structure: str, voxel_volume_ml: float) -> dict:
    """The columns of patients.csv for one structure, volumes in ml and distances in mm; livers have no
    scores of single lesions (NaN)."""
    is_tumor = structure == "tumor"
    found = {each.column or name: scores[f"{structure}_{name}"] for name, each in SCORES.items()}
    sizes = ("intersection", "prediction", "reference")
    hit, predicted, present = (scores[f"{structure}_{name}_voxels"] for name in sizes)
    return {
        "dice": found["dice"],
        "iou": found["iou"],
        "precision": hit / predicted if predicted else np.nan,
        "recall": hit / present if present else np.nan,
        **found,
        **{name: scores[name] if is_tumor else np.nan for name in ("lesion_dice", "panoptic_quality")},
        "reference_ml": present * voxel_volume_ml,
        "prediction_ml": predicted * voxel_volume_ml,
        "is_empty": present == 0,
        "is_missed": present > 0 and predicted == 0,
    }


def _add_slices(evaluation: Evaluation, case: Case, structure: str, rows: pd.DataFrame) -> None:
    """Keep what `score_slices` gave for all slices of a case, and say whose they are."""
    numbers = list(case.slice_numbers or range(len(rows)))
    identity = {"system": evaluation.system, "structure": structure, "patient": case.patient}
    evaluation.slices.append(_of(identity | {"case": case.case_id, "slice": numbers}, rows))


def _of(identity: dict, rows: pd.DataFrame) -> pd.DataFrame:
    return rows.assign(**identity)[[*identity, *rows]]


def systems_rows(system: ScoredSystem, evaluation: Evaluation, seed: int) -> list[dict]:
    """One row of systems.csv a structure. Means are over test patients; intervals by bootstrap."""
    patients = pd.DataFrame(evaluation.patients)
    slices = pd.concat(evaluation.slices, ignore_index=True)
    pooled, rows = summarize_cases(evaluation.case_scores), []
    for structure in system.structures:
        of_structure = patients[patients["structure"] == structure]
        means = of_structure.groupby("patient")[["iou", "precision", "recall"]].mean()
        dice = mean_with_interval("dice_per_case", of_structure.dice, of_structure.patient, seed=seed)
        of_slices = summarize_slices(slices[slices["structure"] == structure])
        rows.append(
            {
                "system": system.system,
                "target": structure,
                "split_by": "patient",
                "n_train_patients": system.training.get("n_train_patients"),
                "n_test_patients": len(means),
                **dice,
                "dice_global": pooled[structure]["dice_global"],
                **means.mean().to_dict(),
                "roc_auc": evaluation.histograms.get(structure, ProbabilityHistogram()).auc(),
                "presence_accuracy": of_slices["presence_accuracy"],
                **published_beside(system.system, structure),
                "train_seconds": system.training.get("seconds"),
                "parameters": system.parameters,
            }
        )
    return rows


def lits_rows(system: ScoredSystem, evaluation: Evaluation) -> list[dict]:
    """The benchmark's summary (system K, mode "intended") and what we add, a row a structure of `system`."""
    summary = summarize_cases(evaluation.case_scores)
    rows = []
    for structure in system.structures:
        row = {"system": system.system, "structure": structure, **summary[structure]}
        defined = row.pop("n_defined")
        row |= {f"n_defined_{name}": defined[name] for name in ("dice_per_case", "assd", "surface_dice")}
        row["surface_tolerance_mm"] = SURFACE_TOLERANCE_MM
        if structure == "tumor":
            detection = ("precision", "recall", "precision_greater_zero", "recall_greater_zero")
            row |= {name: summary["detection"][name] for name in detection} | summary["lesions"]
        if structure == "tumor" and "liver" in system.structures:  # the burden needs both
            row |= {f"tumor_burden_{name}": summary["tumor_burden"][name] for name in ("rmse", "max_error")}
        rows.append(row)
    return rows
