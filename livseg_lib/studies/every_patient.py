"""Cross-validation of systems of single slices: each patient is outlined by networks that never saw them.

Nothing is chosen by the fold that is held out. Thresholds for its patients are those that were best on the
held-out patients of all other folds. In single slices every piece of a tumour counts as one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from tqdm import tqdm

from livseg_lib.errors import InputError
from livseg_lib.evaluation import probabilities
from livseg_lib.evaluation.lesions import count_detections, lesion_overlap
from livseg_lib.evaluation.statistics import mean_with_interval
from livseg_lib.labels import structure_mask
from livseg_lib.processes import in_processes, one_apart
from livseg_lib.studies.training import SorterPlan, TrainingPlan, answer_held_out
from livseg_lib.training.fit import use_mixed_precision_on_gpu


class _Fold(NamedTuple):
    case_id: str  # what it is called where it is lost
    plan: TrainingPlan | SorterPlan
    number: int
    checkpoints: Path


def held_out_answers(
    plans: Mapping[str, TrainingPlan | SorterPlan],
    slices: pd.DataFrame,
    folder: Path,
    checkpoints: Path,
    workers: int | str = 1,
) -> dict[str, np.ndarray]:
    """`answer_held_out` of every system's every fold by networks that never saw its patients.

    `slices` are classified ones with `fold` (0 to k - 1) and `region`; the answers of a system stand in the
    order of `slices` sorted by fold, stably. Folds and systems are shared out to `workers` (of
    `in_processes`), which see the same files; with a loss or network of a cell, which other processes of this
    machine have not, they come one after another. Raises InputError for a sorter with fewer than three folds:
    one is asked, and another chooses the epoch of what learns from the rest.
    """
    folds = sorted(slices.fold.unique())
    if len(folds) < 3 and any(isinstance(plan, SorterPlan) for plan in plans.values()):
        raise InputError("folds", "are fewer than three, and a sorter needs them.", "Give 3 or more.")
    jobs = [
        _Fold(f"{name}, fold {fold + 1} of {len(folds)}", plan, fold, checkpoints / name / str(fold))
        for name, plan in plans.items()
        for fold in folds
    ]
    job = partial(_answer_fold, slices, folder)
    of_cells = [getattr(plan, part, None) for plan in plans.values() for part in ("loss", "architecture")]
    if isinstance(workers, str):
        job = partial(_apart, job)
    elif any(map(callable, of_cells)):
        workers = 1
    done = in_processes(job, jobs, workers)
    predictions = list(tqdm(done, "trained and asked", len(jobs), unit="network"))
    parts = [predictions[start : start + len(folds)] for start in range(0, len(jobs), len(folds))]
    return {name: np.concatenate(part) for name, part in zip(plans, parts, strict=True)}


def _apart(job: Callable[[_Fold], np.ndarray], item: _Fold) -> np.ndarray:
    """In a process of its own: other threads of a worker draw from the same random numbers as new weights."""
    with one_apart() as process:
        return process.submit(job, item).result()


def _answer_fold(slices: pd.DataFrame, folder: Path, job: _Fold) -> np.ndarray:
    use_mixed_precision_on_gpu()  # a new process has not set it
    name, plan, fold, checkpoints = job
    learn, held_out = slices[slices.fold != fold], slices[slices.fold == fold]
    assert not set(learn.patient) & set(held_out.patient)
    if isinstance(plan, SorterPlan):
        chooses = learn.fold == (fold + 1) % slices.fold.nunique()
        learn = learn.assign(split=np.where(chooses, "validation", "train"))
    else:
        learn = plan.choose(learn)
    return answer_held_out(plan, learn, held_out, folder, checkpoints, name)


def score_answers(levels: np.ndarray, labels: np.ndarray, structure: str, rows: pd.DataFrame) -> pd.DataFrame:
    """`rows` (fold, patient, scored, a row a slice) with what one structure scores in each slice.

    `levels` uint8 (n, H, W), `labels` 0/1/2 of the same shape. Adds threshold (of the other folds' scored
    patients), reference_pixels, predicted_pixels, common_pixels; for tumours also tumors, found (at any
    overlap), found_half (IoU > 0.5) and false_alarms (surplus at any overlap), counted slice by slice as
    `count_detections` does: a piece that joins two finds one of them, and of two pieces of one the other is
    a false alarm.
    """
    truth, rows = structure_mask(labels, structure), rows.reset_index(drop=True)
    thresholds = pd.Series(0.5, rows.index)
    for fold in rows.fold.unique():
        histograms = []
        for _, group in rows[(rows.fold != fold) & rows.scored].groupby("patient"):
            histograms.append(probabilities.ProbabilityHistogram())
            histograms[-1].add(levels[group.index], truth[group.index])
        thresholds[rows.fold == fold] = probabilities.choose_threshold(histograms)
    pairs = zip(levels, thresholds, strict=True)
    predicted = np.stack([probabilities.is_predicted(plane, threshold) for plane, threshold in pairs])
    masks = {"reference": truth, "predicted": predicted, "common": truth & predicted}
    pixels = {f"{name}_pixels": mask.sum(axis=(1, 2)) for name, mask in masks.items()}
    rows = rows.assign(structure=structure, threshold=thresholds, **pixels)
    if structure != "tumor":
        return rows
    overlaps = [lesion_overlap(p[None], t[None]) for p, t in zip(predicted, truth, strict=True)]
    touched, halved = ([count_detections(each, share) for each in overlaps] for share in (0.0, 0.5))
    tumors = np.array([each.n_reference for each in overlaps])
    return rows.assign(
        tumors=tumors,
        found=tumors - [count.false_negatives for count in touched],
        found_half=tumors - [count.false_negatives for count in halved],
        false_alarms=[count.false_positives for count in touched],
    )


def dice_by_patient(rows: pd.DataFrame) -> pd.DataFrame:
    """Of `score_answers`, with `system`: system, structure, patient, dice, kept_clear.

    Dice of all pixels of a patient's slices together, NaN where there is nothing to find; there `kept_clear`
    is 1 where nothing was outlined either, else 0 (NaN elsewhere).
    """
    sums = rows.groupby(["system", "structure", "patient"], sort=False)
    sums = sums[["reference_pixels", "predicted_pixels", "common_pixels"]].sum()
    is_there = sums.reference_pixels > 0
    dice = 2 * sums.common_pixels / (sums.reference_pixels + sums.predicted_pixels)
    clear = (sums.predicted_pixels == 0).astype(float)
    found = {"dice": dice.where(is_there), "kept_clear": clear.where(~is_there)}
    return pd.DataFrame(found).reset_index()


def detection_row(rows: pd.DataFrame, seed: int) -> dict:
    """Of tumour rows of `score_answers`: n_slices, n_tumors, and with 95 % intervals over patients the shares
    found and found_half, and false_alarms a slice."""
    row = {"n_slices": len(rows), "n_tumors": int(rows.tumors.sum())}
    rows = rows.reset_index(drop=True)
    each = rows.loc[rows.index.repeat(rows.tumors)]  # a row a tumour, those found first in its slice
    number = each.groupby(level=0).cumcount()
    for share in ("found", "found_half"):
        row |= mean_with_interval(share, number < each[share], each.patient, pooled=True, seed=seed)
    return row | mean_with_interval("false_alarms", rows.false_alarms, rows.patient, pooled=True, seed=seed)


def presence_row(levels: np.ndarray, truth: np.ndarray, rows: pd.DataFrame, seed: int) -> dict:
    """Whether pictures show a tumour: `presence_scores`, and accuracy with its 95 % interval over patients.

    `levels` uint8 (n, H, W), `truth` bool (n,), `rows` as of `score_answers`; scored slices count. The rule
    for a fold (least area and threshold) is the one of best balanced accuracy on all others.
    """
    areas = [pixels for pixels in (1, 4, 8, 16, 32, 64) if pixels <= levels[0].size]
    reached, scored = probabilities.presence_levels(levels, areas), rows.scored.to_numpy()
    called = np.zeros(len(rows), bool)
    for fold in rows.fold.unique():
        in_fold, in_others = (rows.fold == fold).to_numpy(), (rows.fold != fold).to_numpy() & scored
        rule = probabilities.choose_presence_rule(reached[in_others], truth[in_others], areas)
        levels_of_area = reached[in_fold, areas.index(rule.smallest_area)]
        called[in_fold] = probabilities.is_predicted(levels_of_area, rule.threshold)
    right, patients = (called == truth)[scored], rows.patient[scored]
    row = mean_with_interval("accuracy", right, patients, pooled=True, seed=seed)
    return {**row, **probabilities.presence_scores(called[scored], truth[scored])}
