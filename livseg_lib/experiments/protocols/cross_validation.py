"""Cross-validation by patient: each fold is scored by a network that saw none of its patients.

This is where hyper-parameters are judged (system E); test patients lie in no fold and are never read.
The fold held out decides nothing about the network that it scores: the budget is fixed beforehand, no
epoch is chosen by it, and a pixel counts from probability 0.5. A loss that shifts probabilities, such as
the focal one, is judged with that shift.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

import keras
import numpy as np
import pandas as pd

from livseg_lib.errors import InputError
from livseg_lib.evaluation.probabilities.probability_histogram import ProbabilityHistogram
from livseg_lib.evaluation.probabilities.thresholds import dice_by_threshold
from livseg_lib.evaluation.statistics.bootstrap import bootstrap_interval
from livseg_lib.experiments.plan import REGISTRIES, TrainingPlan
from livseg_lib.experiments.train_system import train_network
from livseg_lib.inference import stored_labels, stored_pictures
from livseg_lib.inference.planes import predict_planes
from livseg_lib.labels import structure_mask
from livseg_lib.provenance import code_of, digest, keep_or_make, made_with
from livseg_lib.reporting import write_table
from livseg_lib.sampling.batches import arrays_checksum
from livseg_lib.sampling.splits import NO_FOLD, assert_no_leak

THRESHOLD = 0.5


def cross_validate(
    plan: TrainingPlan, slices: pd.DataFrame, folds: Iterable[int], folder: Path, checkpoints: Path
) -> pd.DataFrame:
    """`validate_fold` for each of `folds`, one below the other."""
    return pd.concat(
        [validate_fold(plan, slices, fold, folder, checkpoints) for fold in folds], ignore_index=True
    )


def validate_fold(
    plan: TrainingPlan, slices: pd.DataFrame, fold: int, folder: Path, checkpoints: Path
) -> pd.DataFrame:
    """Train on all other folds, score the patients of `fold`: a row a patient and structure.

    `slices` are the classified ones, with `split` and `fold`; `folder` holds their arrays. Columns: fold,
    patient, structure, dice, is_empty (nothing to find: Dice is 1 where nothing is predicted, else 0, as
    system K has it), n_train_patients, training_loss (of the last epoch), seconds (of the training).

    Killed and called again it goes on after the last whole epoch. The scores stay in `checkpoints`, under
    a name of plan and fold, and are read back next time if code, slices, pictures and libraries are still
    the same; the weights go once they are scored.
    Raises InputError for a fold without patients, and for patients in two folds or in test and a fold.
    """
    development = development_slices(slices)
    held_out = development[development.fold == fold]
    if held_out.empty:
        numbers = ", ".join(str(number) for number in list_folds(slices))
        raise InputError(f"fold {fold}", "has no patients.", f"Choose of {numbers}.")
    name = digest([plan.description(), int(fold)])
    scores = checkpoints / f"{name}.csv"

    def score() -> None:
        seen = plan.choose(development[development.fold != fold])
        assert not set(seen.patient) & set(held_out.patient)
        network, history = train_network(plan, seen, None, folder, checkpoints / name)
        rows = score_patients(network, plan.structures, held_out, folder)
        rows.insert(0, "fold", fold)
        rows["n_train_patients"] = seen.patient.nunique()
        rows["training_loss"], rows["seconds"] = history.loss.iloc[-1], history.seconds.sum()
        write_table(rows, scores)

    keep_or_make(scores, made_by(plan.code(), slices, folder), score, f"{plan.system}, fold {fold}")
    shutil.rmtree(checkpoints / name, ignore_errors=True)
    return pd.read_csv(scores, dtype={"patient": str}, float_precision="round_trip")


def development_slices(slices: pd.DataFrame) -> pd.DataFrame:
    """`slices` without those of test patients. Raises InputError where a patient stands on two sides."""
    sides = slices[["patient"]].assign(split=slices.fold)
    assert_no_leak(slices.drop(columns="split"), sides)
    torn = slices.patient[(slices.split == "test") != (slices.fold == NO_FOLD)]
    if len(torn):
        problem = f"put patient {torn.iloc[0]} both into test and into a fold, or into neither."
        raise InputError(
            "splits", problem, "Mend splits.csv: test patients, and only they, have the fold -1."
        )
    return slices[slices.fold != NO_FOLD]


def list_folds(slices: pd.DataFrame) -> list[int]:
    """Numbers of the folds that have patients, in order."""
    return sorted(int(fold) for fold in development_slices(slices).fold.unique())


def score_patients(
    network: keras.Model, structures: tuple[str, ...], slices: pd.DataFrame, folder: Path
) -> pd.DataFrame:
    """A row a patient and structure: patient, structure, dice, is_empty.

    Counted at picture size over all slices of the patients in `slices`, all their cases together.
    """
    rows = []
    for patient, cases in slices.groupby("patient", sort=True).case.unique().items():
        histograms = {structure: ProbabilityHistogram() for structure in structures}
        for case in cases:
            planes, labels = (
                predict_planes(network, stored_pictures(folder, case)),
                stored_labels(folder, case),
            )
            for channel, (structure, histogram) in enumerate(histograms.items()):
                histogram.add(planes[..., channel], structure_mask(labels, structure))
        for structure, histogram in histograms.items():
            dice = float(dice_by_threshold(histogram, (THRESHOLD,))[0])
            is_empty = not histogram.foreground.any()
            rows.append({"patient": patient, "structure": structure, "dice": dice, "is_empty": is_empty})
    return pd.DataFrame(rows)


def mean_dice(scores: pd.DataFrame) -> float:
    """Mean over patients, each with the mean over its structures."""
    return float(scores.groupby("patient").dice.mean().mean())


def summarize_folds(scores: pd.DataFrame, seed: int) -> pd.DataFrame:
    """A row a structure: mean Dice over patients with its bootstrap interval, and the means of the folds.

    Columns: structure, dice, dice_low, dice_high, n_patients, n_empty, lowest_fold, highest_fold, fold_sd.
    The folds share most of their training patients, so that no such interval is exact: there is no unbiased
    estimate of the variance of cross-validation (Bengio and Grandvalet 2004, JMLR 5:1089).
    """
    rows = []
    for structure, group in scores.groupby("structure", sort=False):
        low, high = bootstrap_interval(group.dice, seed=seed)
        folds = group.groupby("fold").dice.mean()
        rows.append(
            {
                "structure": structure,
                "dice": group.dice.mean(),
                "dice_low": low,
                "dice_high": high,
                "n_patients": len(group),
                "n_empty": int(group.is_empty.sum()),
                "lowest_fold": folds.min(),
                "highest_fold": folds.max(),
                "fold_sd": folds.std() if len(folds) > 1 else np.nan,
            }
        )
    return pd.DataFrame(rows)


def describe_slices(slices: pd.DataFrame) -> str:
    """Digest of what cross-validation reads: which slices, of whom, in which fold, showing how much."""
    columns = ["patient", "case", "array", "array_index", "class", "liver_pixels", "tumor_pixels", "fold"]
    rows = development_slices(slices)[columns].astype(str).sort_values(columns)
    return digest(rows.to_csv(index=False))


def made_by(code: dict[str, str], slices: pd.DataFrame, folder: Path) -> dict:
    """What decides about the scores of `validate_fold` besides plan and fold: code, data, libraries."""
    return {
        "code": {**code, "validation": code_of(validate_fold, apart=REGISTRIES)},
        "slices": describe_slices(slices),
        "pictures": arrays_checksum(folder, development_slices(slices)["array"]),
        "libraries": made_with("keras", "tensorflow", "jax", "torch", "numpy", "imgaug"),
    }
