"""A predictor that has learnt nothing and only remembers: what a split gives away for free.

It looks up the training picture that resembles the held-out one most and hands in its mask. Split by
patient that is somebody else's liver; split by slice it is mostly the next slice of the same scan.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from sklearn.neighbors import NearestNeighbors

from livseg_lib.experiments.protocols.split_audit import stored_rows
from livseg_lib.inference import stored_pictures
from livseg_lib.labels import structure_mask
from livseg_lib.sampling.protocols import Fold

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
