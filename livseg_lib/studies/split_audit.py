"""What a split by slice makes of a score: one network, one budget, the same slices; only the dealing differs.

A slice is scored by a network that did not train on it, under every protocol. What a split by slice adds
to the scores is then the difference on the very same slices, paired by patient. Beside the network stands a
copyist that has learnt nothing: it looks up the training picture that resembles the held-out one most and
hands in its mask. Split by patient that is somebody else's liver; split by slice it is mostly the next slice
of the same scan.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache, partial
from pathlib import Path

import cv2
import keras
import numpy as np
import pandas as pd
from sklearn.neighbors import NearestNeighbors

from livseg_lib.evaluation.slices import patient_table, score_held_out
from livseg_lib.evaluation.statistics import mean_with_interval
from livseg_lib.inference.predict import predict_planes, stored_labels, stored_pictures
from livseg_lib.labels import STRUCTURES, structure_mask
from livseg_lib.outputs import read_table, write_table
from livseg_lib.provenance import code_of, digest, keep_or_make, made_with
from livseg_lib.reporting.pictures import Tile
from livseg_lib.sampling.batches import OPEN_FILES, arrays_checksum
from livseg_lib.sampling.splits import Fold, Protocol, nearest_training_slice
from livseg_lib.studies.training import REGISTRIES, TrainingPlan, build_untrained, train_network
from livseg_lib.systems import published_rows

THRESHOLD = 0.5  # fixed: there are no validation slices that could choose one


_Predictor = Callable[[Fold, Path], np.ndarray]
"""(fold, checkpoints) -> probabilities of `fold.held_out`, uint8 levels (n, h, w), after learning from
`fold.training`. Its method `description`, JSON-ready, tells one from another; `code` gives digests."""


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
        """As `_Predictor` says; a training that was killed goes on from `checkpoints`."""
        keras.utils.clear_session()  # else the graphs of all trainings stay in memory
        network, _ = train_network(self.plan, fold.training, None, self.folder, checkpoints)
        planes = predict_planes(network, stored_rows(fold.held_out, self.folder, stored_pictures))
        return planes[..., 0]

    def count_parameters(self, slices: pd.DataFrame) -> int:
        """Of the network for pictures such as these."""
        shape = stored_pictures(self.folder, slices["array"].iloc[0]).shape[1:]
        return build_untrained(self.plan, shape).count_params()


def stored_rows(slices: pd.DataFrame, folder: Path, read=stored_labels) -> Iterator[np.ndarray]:
    """Pictures or labels of the rows of `slices`, one after another."""
    opened = lru_cache(maxsize=OPEN_FILES)(partial(read, folder))
    for array, index in zip(slices["array"], slices["array_index"], strict=True):
        yield opened(array)[index]


def run_audit(
    dealt: Mapping[str, Sequence[Fold]], predict: _Predictor, structure: str, folder: Path, checkpoints: Path
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
            place, both = fold_folder(checkpoints, protocol, number), (fold.training, fold.held_out)
            # Another predictor, selection or seed has scores of another name.
            slices = [part[["array", "array_index"]].to_csv(index=False) for part in both]
            signature = digest([predict.description(), structure, THRESHOLD, *slices])[:12]
            kept = place / f"scores-{signature}.csv"
            score = partial(_score_fold, fold, predict, structure, folder, kept)
            audit = code_of(_score_fold, type(predict), apart=REGISTRIES)
            made_by = {
                "code": {**getattr(predict, "code", dict)(), "audit": audit},
                "pictures": arrays_checksum(folder, pd.concat(part["array"] for part in both)),
                "libraries": made_with(
                    "keras", "tensorflow", "jax", "torch", "numpy", "imgaug", "scikit-learn"
                ),
            }
            keep_or_make(kept, made_by, score, f"{protocol}, fold {number + 1} of {len(folds)}")
            scores = read_table(kept).astype({"patient": str, "case": str})
            parts.append(scores.assign(protocol=protocol, fold=number))
    return pd.concat(parts, ignore_index=True)


def fold_folder(checkpoints: Path, protocol: str, number: int) -> Path:
    """Where one fold of a protocol is trained and its scores are kept."""
    return checkpoints / protocol.replace(", ", "-").replace(" ", "-") / str(number)


def _score_fold(fold: Fold, predict: _Predictor, structure: str, folder: Path, kept: Path) -> None:
    """A row a held-out slice, as `run_audit` keeps it."""
    planes, held_out = predict(fold, kept.parent), fold.held_out
    reference = structure_mask(np.stack(list(stored_rows(held_out, folder))), structure)
    about = held_out[["patient", "case", "slice", "is_positive"]].reset_index(drop=True)
    nearest = nearest_training_slice(held_out, fold.training)
    there = fold.training["slice"].to_numpy(dtype=float)[nearest]
    distance = np.where(nearest >= 0, np.abs(held_out["slice"].to_numpy(dtype=float) - there), np.nan)
    spacing_mm = held_out["spacing_z_mm"].to_numpy(dtype=float, na_value=np.nan)
    about = about.assign(distance=distance, distance_mm=distance * spacing_mm)
    write_table(pd.concat([about, score_held_out(planes, reference, THRESHOLD)], axis="columns"), kept)
    for weights in kept.parent.glob("*.safetensors"):  # those of a full run would fill the disk
        weights.unlink()


def own_slices(scores: pd.DataFrame, protocols: Sequence[Protocol]) -> pd.DataFrame:
    """The slices on which each protocol would publish: where it learns from positive ones, those."""
    narrow = scores["protocol"].isin([protocol.name for protocol in protocols if protocol.positives_only])
    return scores[~narrow | scores["is_positive"]]


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
    checkpoints: Path,
    parameters: int,
    seed: int,
) -> list[dict]:
    """A row of systems.csv a protocol. `split_by` is its name; those by patient say that they are an audit.

    Means are over patients, `dice_per_case` is pooled over a patient's slices, `presence_accuracy` over
    all slices as system C counts. `train_seconds` are those of all folds, wherever they were interrupted.
    """
    everywhere = {"system": system, "source": "C", "target": structure, "parameters": parameters}
    if structure == STRUCTURES[1]:  # system C outlines tumours only
        table = published_rows()
        row = table[(table["source"] == "C") & (table["metric"] == "dice")].iloc[0]
        everywhere |= {"published_metric": f"dice, {row['protocol']}", "published_value": row["value"]}
    rows = []
    for protocol, scores in own.groupby("protocol", sort=False):
        patients, folds = patient_table(scores), dealt[protocol]
        places = [fold_folder(checkpoints, protocol, number) for number in range(len(folds))]
        seconds = [float(read_table(place / "history.csv")["seconds"].sum()) for place in places]
        rows.append(
            {
                **everywhere,
                "split_by": f"{protocol} (audit)" if protocol.startswith("patient") else protocol,
                "n_train_patients": round(np.mean([fold.training["patient"].nunique() for fold in folds])),
                "n_test_patients": int(patients["pooled_dice"].notna().sum()),
                **mean_with_interval("dice_per_case", patients["pooled_dice"], patients.index, seed=seed),
                **patients[["iou", "precision", "recall"]].mean().to_dict(),
                "presence_accuracy": scores["presence_accuracy"].mean(),
                "train_seconds": sum(seconds),
            }
        )
    return rows


_THUMBNAIL = 32  # pixels a side of the pictures that are compared


class Copyist:
    """A `_Predictor` without a network: the nearest neighbour by squared difference of greys."""

    def __init__(self, structure: str, folder: Path) -> None:
        self.structure, self.folder = structure, folder

    def description(self) -> dict:
        """What decides about its answers."""
        return {"copyist": self.structure, "thumbnail": _THUMBNAIL}

    def __call__(self, fold: Fold, checkpoints: Path) -> np.ndarray:
        """As `_Predictor` says; `checkpoints` stays empty, there is nothing to learn."""
        nearest = fold.training.iloc[most_alike(fold.held_out, fold.training, self.folder)]
        labels = np.stack(list(stored_rows(nearest, self.folder)))
        return structure_mask(labels, self.structure).astype(np.uint8) * 255


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
    """Small pictures as rows, float32 (n, pixels)."""
    pictures = stored_rows(slices, folder, stored_pictures)
    small = [cv2.resize(p, (_THUMBNAIL, _THUMBNAIL), interpolation=cv2.INTER_AREA).ravel() for p in pictures]
    return np.stack(small).astype(np.float32)
