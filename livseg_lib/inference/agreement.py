"""Where several models, or variants of one picture, agree: their mean, and how sure they are together.

What is a guess of one model alone shows as disagreement of many (deep ensembles, Lakshminarayanan et al.
2017, arXiv:1612.01474). Needs no TensorFlow: planes and label volumes come as arrays.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import combinations

import numpy as np
import pandas as pd
from scipy import ndimage
from scipy.special import entr

from livseg_lib.errors import InputError
from livseg_lib.evaluation.overlap import dice, overlap_counts
from livseg_lib.labels import BACKGROUND, LIVER, STRUCTURES, TUMOR, structure_mask
from livseg_lib.postprocessing.components import label_components

VOLUME_COLUMNS = ("structure", "models", "models_finding", "volume_ml", "volume_ml_std", "pairwise_dice")
LESION_COLUMNS = ("lesion", "models", "models_finding", "volume_ml", "volume_ml_std", "pairwise_dice")


def mean_probability(planes: Iterable[np.ndarray]) -> np.ndarray:
    """Mean float32, 0 to 1, of planes of one shape, uint8 0..255 or float 0..1; one at a time in memory."""
    total, count = None, 0
    for plane in planes:
        scaled = plane.astype(np.float32) / np.float32(255 if plane.dtype == np.uint8 else 1)
        if total is not None and total.shape != scaled.shape:
            raise _not_alike(total.shape, scaled.shape)
        total, count = scaled if total is None else total + scaled, count + 1
    if total is None:
        raise InputError("models", "are none, so that nothing can be averaged.", "Give at least one.")
    return total / np.float32(count)


def predictive_entropy(probability: np.ndarray) -> np.ndarray:
    """How unsure a (mean) probability is, in bits, float32 of its shape: 0 where it is 0 or 1, 1 at 0.5."""
    probability = np.asarray(probability, np.float32)
    return (entr(probability) + entr(np.float32(1) - probability)) / np.float32(np.log(2))


def majority_vote(volumes: Sequence[np.ndarray]) -> np.ndarray:
    """Labels 0/1/2, uint8 (D, H, W): liver, and in it tumour, where more than half of the models see it."""
    liver, tumor = (2 * _votes(volumes, structure) > len(volumes) for structure in STRUCTURES)
    return np.select([tumor, liver], [np.uint8(TUMOR), np.uint8(LIVER)], np.uint8(BACKGROUND))


def disagreement(volumes: Sequence[np.ndarray], structure: str) -> np.ndarray:
    """Share of the models in the minority about `structure`, float32 (D, H, W), 0 to 0.5."""
    votes = _votes(volumes, structure)
    return np.minimum(votes, len(volumes) - votes) / np.float32(len(volumes))


def volume_agreement(volumes: Sequence[np.ndarray], voxel_volume_ml: float) -> pd.DataFrame:
    """How far the models agree about each structure of a scan: `VOLUME_COLUMNS`, a row a structure.

    Mean and standard deviation (of the models; 0 of one) of the volume in ml, how many find any, and the
    mean Dice of all pairs of models: a pair that finds nothing is left out, NaN where none is left.
    """
    rows = []
    for structure in STRUCTURES:
        masks = [structure_mask(labels, structure) for labels in _alike(volumes)]
        rows.append({"structure": structure} | _summary(masks, voxel_volume_ml))
    return pd.DataFrame(rows, columns=VOLUME_COLUMNS)


def lesion_agreement(
    volumes: Sequence[np.ndarray], voxel_volume_ml: float
) -> tuple[pd.DataFrame, np.ndarray]:
    """How far the models agree about each tumour: `LESION_COLUMNS`, and the numbers of the tumours.

    A tumour is a component of what any model calls tumour, numbered from 1 in an array (D, H, W): those
    that one model sees alone are the ones to look at. Tumours that touch in any model count as one.
    `volume_ml` is the mean over all models, a model without it counting 0; pairs as in `volume_agreement`.
    """
    lesions, _ = label_components(_votes(volumes, "tumor") > 0)
    rows = []
    for lesion, box in enumerate(ndimage.find_objects(lesions), start=1):
        inside = lesions[box] == lesion
        masks = [structure_mask(labels[box], "tumor") & inside for labels in volumes]
        rows.append({"lesion": lesion} | _summary(masks, voxel_volume_ml))
    return pd.DataFrame(rows, columns=LESION_COLUMNS), lesions


def _summary(masks: Sequence[np.ndarray], voxel_volume_ml: float) -> dict:
    volumes_ml = np.array([np.count_nonzero(mask) for mask in masks]) * voxel_volume_ml
    pairs = np.array([dice(overlap_counts(*pair)) for pair in combinations(masks, 2)])
    return {
        "models": len(masks),
        "models_finding": int(np.count_nonzero(volumes_ml)),
        "volume_ml": volumes_ml.mean(),
        "volume_ml_std": volumes_ml.std(),
        "pairwise_dice": np.nanmean(pairs) if np.isfinite(pairs).any() else np.nan,
    }


def _votes(volumes: Sequence[np.ndarray], structure: str) -> np.ndarray:
    """How many of the models see `structure`, uint8 (D, H, W)."""
    votes = np.zeros(_alike(volumes)[0].shape, np.uint8)
    for labels in volumes:
        votes += structure_mask(labels, structure)
    return votes


def _alike(volumes: Sequence[np.ndarray]) -> Sequence[np.ndarray]:
    """`volumes`, which must be at least one and of one shape. Raises InputError."""
    if not len(volumes):
        raise InputError("models", "are none, so that nothing can be compared.", "Give at least one.")
    for labels in volumes[1:]:
        if labels.shape != volumes[0].shape:
            raise _not_alike(volumes[0].shape, labels.shape)
    return volumes


def _not_alike(shape: tuple[int, ...], other: tuple[int, ...]) -> InputError:
    return InputError("models", f"answer with {shape} and {other} voxels.", "Bring all to one grid.")
