"""What a split by slice makes of a score: one network, one budget, the same slices; only the dealing differs.

A slice is scored by a network that did not train on it, under every protocol. What a split by slice adds
to the scores is then the difference on the very same slices, paired by patient. Beside the network stands a
copyist that has learnt nothing: it hands in the mask of the training picture that resembles the held-out one
most. Split by patient that is somebody else's liver; by slice it is mostly the next slice of the same scan.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from sklearn.neighbors import NearestNeighbors

from livseg_lib.evaluation.slices import patient_table, score_held_out
from livseg_lib.evaluation.statistics import mean_with_interval
from livseg_lib.inference.predict import stored_labels, stored_pictures
from livseg_lib.labels import structure_mask
from livseg_lib.outputs import read_table
from livseg_lib.reporting.pictures import Tile
from livseg_lib.sampling.splits import Fold, Protocol, nearest_training_slice
from livseg_lib.studies.training import TrainingPlan, answer_held_out, stored_rows
from livseg_lib.systems import published_rows


def run_audit(
    dealt: Mapping[str, Sequence[Fold]],
    structure: str,
    folder: Path,
    plan: TrainingPlan | None = None,
    checkpoints: Path = Path(),
) -> pd.DataFrame:
    """Score every slice under every protocol: by networks of `plan`, else by the copyist.

    `dealt` is from `deal_protocols`, `folder` holds the arrays. Trainings and their answers stay below
    `checkpoints` (`answer_held_out`). Returns a row a protocol and slice: protocol, fold, patient, case,
    slice, is_positive, distance (slices to the nearest of the same case in training, NaN: none), distance_mm,
    and the columns of `score_held_out`.
    """
    parts = []
    for protocol, folds in dealt.items():
        for number, fold in enumerate(folds):
            name = fold_folder(protocol, number)
            if plan is None:
                planes = copy_most_alike(fold, structure, folder)
            else:
                planes = answer_held_out(plan, *fold, folder, checkpoints / name, name)[..., 0]
            scores = _score_fold(fold, planes, structure, folder)
            parts.append(scores.assign(protocol=protocol, fold=number))
    return pd.concat(parts, ignore_index=True)


def fold_folder(protocol: str, number: int) -> str:
    """Where one fold of a protocol is trained, below the folder of all."""
    return f"{protocol.replace(', ', '-').replace(' ', '-')}/{number}"


def _score_fold(fold: Fold, planes: np.ndarray, structure: str, folder: Path) -> pd.DataFrame:
    """A row a held-out slice, as `run_audit` has it."""
    held_out = fold.held_out
    reference = structure_mask(np.stack(list(stored_rows(held_out, folder))), structure)
    rows = held_out[["patient", "case", "slice", "is_positive"]].reset_index(drop=True)
    nearest = nearest_training_slice(held_out, fold.training)
    there = fold.training["slice"].to_numpy(dtype=float)[nearest]
    distance = np.where(nearest >= 0, np.abs(held_out["slice"].to_numpy(dtype=float) - there), np.nan)
    spacing_mm = held_out["spacing_z_mm"].to_numpy(dtype=float, na_value=np.nan)
    rows = rows.assign(distance=distance, distance_mm=distance * spacing_mm)
    # At 0.5, always: there are no validation slices that could choose a threshold.
    return pd.concat([rows, score_held_out(planes, reference, 0.5)], axis="columns")


def own_slices(scores: pd.DataFrame, protocols: Sequence[Protocol]) -> pd.DataFrame:
    """The slices on which each protocol would publish: where it learns from positive ones, those."""
    narrow = scores["protocol"].isin([protocol.name for protocol in protocols if protocol.positives_only])
    return scores[~narrow | scores["is_positive"]]


def audit_questions(protocols: Sequence[Protocol]) -> dict[str, tuple[str, str]]:
    """What is asked -> (first, second) protocol, whose difference is the answer."""
    names = {(protocol.deals, protocol.positives_only): protocol.name for protocol in protocols}
    all_slices = (names["slice", False], names["patient", False])
    if ("slice", True) not in names:
        return {"the split": all_slices}
    positive_slices = (names["slice", True], names["patient", True])
    return {
        f"the split, {positive_slices[0].partition(', ')[2]}": positive_slices,
        "the split, all slices": all_slices,
        "the choice of slices, by patient": (positive_slices[1], all_slices[1]),
        "both together, as system C": (positive_slices[0], all_slices[1]),
    }


def audit_systems_rows(
    own: pd.DataFrame,
    dealt: Mapping[str, Sequence[Fold]],
    system: str,
    structure: str,
    checkpoints: Path,
    parameters: int,
    seed: int,
) -> list[dict]:
    """A row of systems.csv a protocol. `split_by` is its name; those by patient say that they are an audit.

    Means are over patients, `dice_per_case` is pooled over a patient's slices, `presence_accuracy` over
    all slices as system C counts. `train_seconds` are those of all folds, wherever they were interrupted.
    """
    everywhere = {"system": system, "source": "C", "target": structure, "parameters": parameters}
    if structure == "tumor":  # system C outlines nothing else
        row = published_rows().query("source == 'C' and metric == 'dice'").iloc[0]
        everywhere |= {"published_metric": f"dice, {row['protocol']}", "published_value": row["value"]}
    rows = []
    for protocol, scores in own.groupby("protocol", sort=False):
        patients, folds = patient_table(scores), dealt[protocol]
        folders = [checkpoints / fold_folder(protocol, number) for number in range(len(folds))]
        seconds = [float(read_table(each / "history.csv")["seconds"].sum()) for each in folders]
        learnt_from = [fold.training["patient"].nunique() for fold in folds]
        row = {"split_by": f"{protocol} (audit)" if protocol.startswith("patient") else protocol}
        row |= {"n_train_patients": round(np.mean(learnt_from))}
        row |= {"n_test_patients": int(patients["pooled_dice"].count())}
        row |= mean_with_interval("dice_per_case", patients["pooled_dice"], patients.index, seed=seed)
        row |= patients[["iou", "precision", "recall"]].mean().to_dict()
        row |= {"presence_accuracy": scores["presence_accuracy"].mean(), "train_seconds": sum(seconds)}
        rows.append(everywhere | row)
    return rows


def copy_most_alike(fold: Fold, structure: str, folder: Path) -> np.ndarray:
    """The copyist's levels (n, h, w): the mask of the nearest neighbour by squared difference of greys."""
    nearest = fold.training.iloc[most_alike(fold.held_out, fold.training, folder)]
    labels = np.stack(list(stored_rows(nearest, folder)))
    return structure_mask(labels, structure).astype(np.uint8) * 255


def most_alike(held_out: pd.DataFrame, training: pd.DataFrame, folder: Path) -> np.ndarray:
    """For each held-out row the row number in `training` of the picture that resembles it most, int (n,)."""
    search = NearestNeighbors(n_neighbors=1).fit(_thumbnails(training, folder))
    return search.kneighbors(_thumbnails(held_out, folder), return_distance=False)[:, 0]


def resemblance_pictures(shown: pd.Series, folds: dict[str, list[Fold]], folder: Path) -> list[Tile]:
    """The held-out slice `shown` and, under each protocol, the training picture that resembles it most.

    `folds` maps protocols to those of `deal_protocols`.
    """
    found = {"held out": shown}
    for protocol, parts in folds.items():
        training = next(fold.training for fold in parts if shown.name in fold.held_out.index)
        found[f"dealt by {protocol}"] = training.iloc[most_alike(shown.to_frame().T, training, folder)[0]]
    tiles = []
    for name, row in found.items():
        picture = stored_pictures(folder, row["array"])[row["array_index"], ..., 0]
        truth = np.asarray(stored_labels(folder, row["array"])[row["array_index"]])
        tiles.append(Tile(picture, f"{name}: patient {row['patient']}, slice {row['slice']}", truth))
    return tiles


def _thumbnails(slices: pd.DataFrame, folder: Path) -> np.ndarray:
    """Pictures of 32 x 32 pixels as rows, float32 (n, 1024)."""
    pictures = stored_rows(slices, folder, stored_pictures)
    small = [cv2.resize(picture, (32, 32), interpolation=cv2.INTER_AREA).ravel() for picture in pictures]
    return np.stack(small).astype(np.float32)
