"""What a split by slice makes of a score.

The leak audit: one network, one budget, the same slices; only how slices are dealt to folds differs.

A slice is scored by a network that did not train on it, under every protocol. What a split by slice adds
to the scores is then the difference on the very same slices, paired by patient.

A predictor that has learnt nothing and only remembers: what a split gives away for free.

It looks up the training picture that resembles the held-out one most and hands in its mask. Split by
patient that is somebody else's liver; split by slice it is mostly the next slice of the same scan.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Protocol as Interface

import cv2
import keras
import numpy as np
import pandas as pd
from sklearn.neighbors import NearestNeighbors

from livseg_lib.evaluation.inflation import patient_table, score_held_out
from livseg_lib.evaluation.statistics import bootstrap_interval
from livseg_lib.inference.predict import predict_planes, stored_labels, stored_pictures
from livseg_lib.labels import STRUCTURES, structure_mask
from livseg_lib.provenance import code_of, digest, keep_or_make, made_with
from livseg_lib.sampling.batches import OPEN_FILES, arrays_checksum
from livseg_lib.sampling.splits import (
    Fold,
    Protocol,
    nearest_training_slice,
    require_structures,
    select_slices,
)
from livseg_lib.studies.training import REGISTRIES, TrainingPlan, build_untrained, train_network
from livseg_lib.systems import published_rows
from livseg_lib.tables import read_table, write_table

THRESHOLD = 0.5
"""Fixed: there are no validation slices that could choose one."""


class Predictor(Interface):
    """Whatever answers for slices after it has seen others."""

    def description(self) -> dict:
        """JSON-ready: tells one predictor from another."""

    def __call__(self, fold: Fold, checkpoints: Path) -> np.ndarray:
        """Probabilities of `fold.held_out`, uint8 levels (n, h, w), after learning from `fold.training`."""


class NetworkPredictor:
    """Trains the plan's network anew for each fold, from the same first weights."""

    def __init__(self, plan: TrainingPlan, folder: Path) -> None:
        self.plan, self.folder = plan, folder

    def description(self) -> dict:
        """The plan's."""
        return self.plan.description()

    def code(self) -> dict[str, str]:
        """The plan's; what has no such method is known by its class."""
        return self.plan.code()

    def __call__(self, fold: Fold, checkpoints: Path) -> np.ndarray:
        """As `Predictor` says; a training that was killed goes on from `checkpoints`."""
        keras.utils.clear_session()  # else the graphs of all trainings stay in memory
        network, _ = train_network(self.plan, fold.training, None, self.folder, checkpoints)
        planes = predict_planes(network, stored_rows(fold.held_out, self.folder, stored_pictures))
        return planes[..., 0]

    def count_parameters(self, slices: pd.DataFrame) -> int:
        """Of the network for pictures such as these."""
        shape = stored_pictures(self.folder, slices["array"].iloc[0]).shape[1:]
        return build_untrained(self.plan, shape).count_params()


def choose_audit_slices(
    slices: pd.DataFrame, structure: str, negative_ratio: float, seed: int
) -> pd.DataFrame:
    """All slices of all patients that show `structure`, and for each so many others (see `select_slices`).

    Raises InputError where none shows it.
    """
    require_structures(slices, (structure,))
    return select_slices(slices, structure, negative_ratio, seed)


def stored_rows(slices: pd.DataFrame, folder: Path, read=stored_labels) -> Iterator[np.ndarray]:
    """Pictures or labels of the rows of `slices`, one after another."""
    opened = lru_cache(maxsize=OPEN_FILES)(partial(read, folder))
    for array, index in zip(slices["array"], slices["array_index"], strict=True):
        yield opened(array)[index]


def run_audit(
    dealt: Mapping[str, Sequence[Fold]], predict: Predictor, structure: str, folder: Path, checkpoints: Path
) -> pd.DataFrame:
    """Score every slice under every protocol. `dealt` is from `deal_protocols`, `folder` holds the arrays.

    Returns a row a protocol and slice: protocol, fold, patient, case, slice, is_positive, distance (slices
    to the nearest of the same case in training, NaN: none), distance_mm, and the columns of
    `score_held_out`. Killed and called again it goes on: finished folds are kept below `checkpoints`, a
    CSV each, which counts only for the same predictor, slices, pictures, folds, code and libraries.
    """
    parts = []
    for protocol, folds in dealt.items():
        for number, fold in enumerate(folds):
            place = fold_folder(checkpoints, protocol, number)
            kept = place / f"scores-{fold_signature(fold, predict, structure)}.csv"
            score = partial(_score, fold, predict, structure, folder, kept)
            name = f"{protocol}, fold {number + 1} of {len(folds)}"
            keep_or_make(kept, made_by(fold, predict, folder), score, name)
            scores = read_table(kept).astype({"patient": str, "case": str})
            parts.append(scores.assign(protocol=protocol, fold=number))
    return pd.concat(parts, ignore_index=True)


def _score(fold: Fold, predict: Predictor, structure: str, folder: Path, kept: Path) -> None:
    write_table(score_fold(fold, predict, structure, folder, kept.parent), kept)
    for weights in kept.parent.glob("*.safetensors"):  # those of a full run would fill the disk
        weights.unlink()


def made_by(fold: Fold, predict: Predictor, folder: Path) -> dict:
    """What decides about a fold's scores besides predictor, selection and seed (`fold_signature`)."""
    arrays = [*fold.training["array"], *fold.held_out["array"]]
    return {
        "code": {
            **getattr(predict, "code", dict)(),
            "audit": code_of(score_fold, type(predict), apart=REGISTRIES),
        },
        "pictures": arrays_checksum(folder, arrays),
        "libraries": made_with("keras", "tensorflow", "jax", "torch", "numpy", "imgaug", "scikit-learn"),
    }


def fold_folder(checkpoints: Path, protocol: str, number: int) -> Path:
    """Where one fold of a protocol is trained and its scores are kept."""
    return checkpoints / protocol.replace(", ", "-").replace(" ", "-") / str(number)


def training_seconds(dealt: Mapping[str, Sequence[Fold]], checkpoints: Path) -> dict[str, float]:
    """Protocol -> seconds that the trainings of its folds took, wherever they were interrupted."""
    return {
        protocol: sum(
            float(read_table(fold_folder(checkpoints, protocol, number) / "history.csv")["seconds"].sum())
            for number in range(len(folds))
        )
        for protocol, folds in dealt.items()
    }


def score_fold(
    fold: Fold, predict: Predictor, structure: str, folder: Path, checkpoints: Path
) -> pd.DataFrame:
    """A row a held-out slice, as `run_audit` keeps it."""
    planes = predict(fold, checkpoints)
    reference = structure_mask(np.stack(list(stored_rows(fold.held_out, folder))), structure)
    about = fold.held_out[["patient", "case", "slice", "is_positive"]].reset_index(drop=True)
    return pd.concat([about, _distances(fold), score_held_out(planes, reference, THRESHOLD)], axis="columns")


def _distances(fold: Fold) -> pd.DataFrame:
    nearest = nearest_training_slice(fold.held_out, fold.training)
    there = fold.training["slice"].to_numpy(dtype=float)[nearest]
    distance = np.abs(fold.held_out["slice"].to_numpy(dtype=float) - there)
    distance = np.where(nearest >= 0, distance, np.nan)
    spacing = fold.held_out["spacing_z_mm"].to_numpy(dtype=float, na_value=np.nan)
    return pd.DataFrame({"distance": distance, "distance_mm": distance * spacing})


def fold_signature(fold: Fold, predict: Predictor, structure: str) -> str:
    """Tells scores of this fold from those of another predictor, selection or seed."""
    slices = [part[["array", "array_index"]].to_csv(index=False) for part in (fold.training, fold.held_out)]
    return digest([predict.description(), structure, THRESHOLD, *slices])[:12]


def own_slices(scores: pd.DataFrame, protocols: Sequence[Protocol]) -> pd.DataFrame:
    """The slices on which each protocol would publish: where it learns from positive ones, those."""
    narrow = scores["protocol"].isin([protocol.name for protocol in protocols if protocol.positives_only])
    return scores[~narrow | scores["is_positive"]]


NEAR = (1, 2, 3, 5, 10, 20, 50)
"""Slices, the ends of `neighbour_shares`."""


def neighbour_shares(scores: pd.DataFrame) -> pd.DataFrame:
    """protocol, distance (slices), share of held-out slices with one of the same case so near in training."""
    return pd.DataFrame(
        [
            {"protocol": protocol, "distance": near, "share": (rows["distance"] <= near).mean()}
            for protocol, rows in scores.groupby("protocol", sort=False)
            for near in NEAR
        ]
    )


def audit_questions(protocols: Sequence[Protocol]) -> dict[str, tuple[str, str]]:
    """What is asked -> (first, second) protocol, whose difference is the answer."""
    by = {(protocol.deals, protocol.positives_only): protocol.name for protocol in protocols}
    every = (by["slice", False], by["patient", False])
    if ("slice", True) not in by:
        return {"the split": every}
    narrow = (by["slice", True], by["patient", True])
    return {
        f"the split, {narrow[0].partition(', ')[2]}": narrow,
        "the split, all slices": every,
        "the choice of slices, by patient": (narrow[1], every[1]),
        "both together, as system C": (narrow[0], every[1]),
    }


def audit_systems_rows(
    own: pd.DataFrame,
    dealt: Mapping[str, Sequence[Fold]],
    system: str,
    structure: str,
    seconds: Mapping[str, float],
    parameters: int,
    seed: int,
) -> list[dict]:
    """A row of systems.csv a protocol. `split_by` is its name; those by patient say that they are an audit.

    Means are over patients, `dice_per_case` is pooled over a patient's slices, `presence_accuracy` over
    all slices as system C counts.
    """
    rows = []
    for protocol, scores in own.groupby("protocol", sort=False):
        patients = patient_table(scores)
        low, high = bootstrap_interval(patients["pooled_dice"], seed=seed)
        trained_on = [fold.training["patient"].nunique() for fold in dealt[protocol]]
        rows.append(
            {
                "system": system,
                "source": "C",
                "target": structure,
                "split_by": f"{protocol} (audit)" if protocol.startswith("patient") else protocol,
                "n_train_patients": round(np.mean(trained_on)),
                "n_test_patients": int(patients["pooled_dice"].notna().sum()),
                "dice_per_case": patients["pooled_dice"].mean(),
                "dice_per_case_low": low,
                "dice_per_case_high": high,
                **patients[["iou", "precision", "recall"]].mean().to_dict(),
                "presence_accuracy": scores["presence_accuracy"].mean(),
                **published_dice(structure),
                "train_seconds": seconds[protocol],
                "parameters": parameters,
            }
        )
    return rows


def published_dice(structure: str) -> dict:
    """System C's Dice, whose protocol is audited; it outlines tumours only."""
    if structure != STRUCTURES[1]:
        return {}
    table = published_rows()
    row = table[(table["source"] == "C") & (table["metric"] == "dice")].iloc[0]
    return {"published_metric": f"dice, {row['protocol']}", "published_value": row["value"]}


THUMBNAIL = 32
"""Pixels a side of the pictures that are compared."""


class Copyist:
    """A `split_audit.Predictor` without a network: the nearest neighbour by squared difference of greys."""

    def __init__(self, structure: str, folder: Path) -> None:
        self.structure, self.folder = structure, folder

    def description(self) -> dict:
        """What decides about its answers."""
        return {"copyist": self.structure, "thumbnail": THUMBNAIL}

    def __call__(self, fold: Fold, checkpoints: Path) -> np.ndarray:
        """As `Predictor` says; `checkpoints` stays empty, there is nothing to learn."""
        nearest = fold.training.iloc[most_alike(fold.held_out, fold.training, self.folder)]
        masks = [
            structure_mask(np.asarray(each), self.structure) for each in stored_rows(nearest, self.folder)
        ]
        return np.stack(masks).astype(np.uint8) * 255


def most_alike(held_out: pd.DataFrame, training: pd.DataFrame, folder: Path) -> np.ndarray:
    """For each held-out row the row number in `training` of the picture that resembles it most, int (n,)."""
    search = NearestNeighbors(n_neighbors=1).fit(_thumbnails(training, folder))
    return search.kneighbors(_thumbnails(held_out, folder), return_distance=False)[:, 0]


def resemblance_pictures(
    shown: pd.Series, folds: dict[str, list[Fold]], folder: Path
) -> list[tuple[np.ndarray, np.ndarray, str]]:
    """The held-out slice `shown` and, under each protocol, the training picture that resembles it most.

    (grey uint8 (s, s), labels uint8 (s, s), title) each; `folds` maps protocols to those of `deal_protocols`.
    """
    row = shown.to_frame().T
    rows, titles = [shown], [f"held out: patient {shown['patient']}, slice {shown['slice']}"]
    for protocol, parts in folds.items():
        training = next(fold.training for fold in parts if shown.name in fold.held_out.index)
        found = training.iloc[most_alike(row, training, folder)[0]]
        rows.append(found)
        titles.append(f"dealt by {protocol}: patient {found['patient']}, slice {found['slice']}")
    table = pd.DataFrame(rows)
    pictures = stored_rows(table, folder, stored_pictures)
    return [
        (picture[..., 0], np.asarray(labels), title)
        for picture, labels, title in zip(pictures, stored_rows(table, folder), titles, strict=True)
    ]


def _thumbnails(slices: pd.DataFrame, folder: Path) -> np.ndarray:
    """Small pictures as rows, float32 (n, pixels)."""
    pictures = stored_rows(slices, folder, stored_pictures)
    small = [cv2.resize(p, (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_AREA).ravel() for p in pictures]
    return np.stack(small).astype(np.float32)
