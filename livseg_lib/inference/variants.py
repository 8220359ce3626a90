"""One scan asked several times: turned, shifted and in other greys, or by several systems.

Test-time augmentation: a network answers variants of a picture, and its answers are brought back and
averaged (system C's movements and system B's shifts of grey, in use rather than in training). There is no
flip among them: left to right it shows a body with the liver on the wrong side, and front to back one that
lies on its face. A network is best asked about what it may meet.

What is a guess of one model alone shows as disagreement of many (deep ensembles, Lakshminarayanan et al.
2017, arXiv:1612.01474).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pandas as pd
from scipy.special import entr

from livseg_lib.errors import InputError
from livseg_lib.evaluation.masks import dice, overlap_counts
from livseg_lib.labels import BACKGROUND, LIVER, STRUCTURES, TUMOR, structure_mask

if TYPE_CHECKING:  # only named in signatures
    import keras

Predict = Callable[[np.ndarray], np.ndarray]
"""Images float32 (..., H, W, C) in [0, 1] -> probabilities float32 (..., H, W, K)."""


@dataclass(frozen=True)
class Variant:
    """One way to look at a picture again: moved in its plane, or in other greys. The default is as it is. A
    whole number of pixels is moved and brought back exactly; turned and zoomed pictures are interpolated."""

    rotation_degrees: float = 0.0
    zoom: float = 1.0
    shift_pixels: tuple[int, int] = (0, 0)  # down and to the right
    brightness: float = 0.0  # added to every grey, on the scale 0 to 1
    contrast: float = 1.0  # factor on a grey's distance from the middle one

    def apply(self, images: np.ndarray) -> np.ndarray:
        """Images float32 (..., H, W, C) in [0, 1] seen this way; borders are filled from the edge."""
        if (self.brightness, self.contrast) != (0.0, 1.0):
            images = np.clip((images - 0.5) * self.contrast + 0.5 + self.brightness, 0.0, 1.0)
        return self._move(images, cv2.BORDER_REPLICATE, back=False)

    def undo(self, maps: np.ndarray) -> np.ndarray:
        """Maps float32 (..., H, W, K) of the moved picture, where they belong; 0 where it did not reach."""
        return self._move(maps, cv2.BORDER_CONSTANT, back=True)

    def _move(self, images: np.ndarray, border: int, back: bool) -> np.ndarray:
        if (self.rotation_degrees, self.zoom, self.shift_pixels) == (0.0, 1.0, (0, 0)):
            return images
        height, width = images.shape[-3:-1]
        middle = (width - 1) / 2, (height - 1) / 2
        matrix = cv2.getRotationMatrix2D(middle, self.rotation_degrees, self.zoom)
        matrix[:, 2] += self.shift_pixels[::-1]
        flags = cv2.INTER_LINEAR | (cv2.WARP_INVERSE_MAP if back else 0)
        planes = np.moveaxis(images, -1, -3)  # (..., C, H, W): OpenCV takes four channels at most
        moved = [
            cv2.warpAffine(plane, matrix, (width, height), flags=flags, borderMode=border)
            for plane in np.ascontiguousarray(planes).reshape(-1, height, width)
        ]
        return np.moveaxis(np.reshape(moved, planes.shape), -3, -1)


VARIANTS: dict[str, tuple[Variant, ...]] = {
    "none": (),
    "grey": tuple(Variant(brightness=b, contrast=c) for b in (-0.03, 0.03) for c in (0.95, 1.05)),
    # Odd, so that poolings divide the picture elsewhere.
    "shift": tuple(Variant(shift_pixels=shift) for shift in ((-3, -3), (-3, 3), (3, -3), (3, 3))),
    "rotate": (Variant(rotation_degrees=-8.0), Variant(rotation_degrees=8.0)),
    "zoom": (Variant(zoom=0.95), Variant(zoom=1.05)),
}
"""What is asked besides the picture as it is, all within what training varies (`AUGMENTATIONS`, "light").
"grey" is not for a network that sees the liver's mask as a channel: it would turn grey too."""


def choose_variants(names: Sequence[str]) -> tuple[Variant, ...]:
    """The picture as it is, then the variants called `names`, such as ("rotate", "zoom"). Raises InputError
    for an unknown name."""
    if unknown := [name for name in names if name not in VARIANTS]:
        problem = f"is not a way to vary a picture: {', '.join(unknown)}."
        raise InputError("test-time augmentation", problem, f"Choose from {', '.join(VARIANTS)}.")
    return (Variant(), *(variant for name in names for variant in VARIANTS[name]))


def predict_variants(
    predict: Predict, images: np.ndarray, variants: Sequence[Variant]
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """For each variant what `predict` says, brought back, and how far it reached, 0 to 1: (H, W, 1)."""
    for variant in variants:
        reach = variant.undo(np.ones((*images.shape[-3:-1], 1), np.float32))
        yield variant.undo(np.asarray(predict(variant.apply(images)))), reach


def predict_augmented(predict: Predict, images: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """Mean probability float32 (..., H, W, K) over the variants called `names` and the picture as it is.

    images: float32 (..., H, W, C) in [0, 1], pictures or blocks of slices. At the border only those
    variants count that reach there. Takes as many times longer as there are variants.
    """
    total, weight = 0.0, 0.0
    for maps, reach in predict_variants(predict, images, choose_variants(names)):
        total, weight = total + maps, weight + reach
    return total / weight


class AugmentedNetwork:
    """A network that answers with the mean over variants, for `predict_planes` and `predict_blocks`. It
    stands in for `network`, which stays as it is: `replace(trained, network=AugmentedNetwork(...))`."""

    def __init__(self, network: keras.Model, names: Sequence[str]) -> None:
        choose_variants(names)  # refuses an unknown name now
        self.network, self.names = network, tuple(names)
        self.input_shape, self.output_shape = network.input_shape, network.output_shape

    def predict_on_batch(self, images: np.ndarray) -> np.ndarray:
        """Images float32 (B, ..., C) in [0, 1] -> probabilities float32 (B, ..., K)."""
        return predict_augmented(self.network.predict_on_batch, images, self.names)

    def count_params(self) -> int:
        """Those of the network."""
        return self.network.count_params()


def predictive_entropy(probability: np.ndarray) -> np.ndarray:
    """How unsure a (mean) probability is, in bits, float32 of its shape: 0 where it is 0 or 1, 1 at 0.5."""
    probability = np.asarray(probability, np.float32)
    return (entr(probability) + entr(np.float32(1) - probability)) / np.float32(np.log(2))


def majority_vote(volumes: Sequence[np.ndarray]) -> np.ndarray:
    """Labels 0/1/2, uint8 (D, H, W): liver, and in it tumour, where more than half of the models see it."""
    votes = (sum(structure_mask(each, name).astype(np.uint8) for each in volumes) for name in STRUCTURES)
    liver, tumor = (found > len(volumes) // 2 for found in votes)
    return np.select([tumor, liver], [np.uint8(TUMOR), np.uint8(LIVER)], np.uint8(BACKGROUND))


def volume_agreement(volumes: Sequence[np.ndarray], voxel_volume_ml: float) -> pd.DataFrame:
    """How far the models agree about a scan, a row a structure.

    Columns: structure, models, models_finding, volume_ml, volume_ml_std, pairwise_dice: mean and standard
    deviation (of the models; 0 of one) of the volume in ml, how many find any, and the mean Dice of all pairs
    of models: a pair that finds nothing is left out, NaN where none is left.
    """
    rows = []
    for structure in STRUCTURES:
        masks = [structure_mask(labels, structure) for labels in volumes]
        voxels = np.array([np.count_nonzero(mask) for mask in masks])
        pairs = np.array([dice(overlap_counts(*pair)) for pair in combinations(masks, 2)])
        rows.append(
            {
                "structure": structure,
                "models": len(masks),
                "models_finding": int(np.count_nonzero(voxels)),
                "volume_ml": voxels.mean() * voxel_volume_ml,
                "volume_ml_std": voxels.std() * voxel_volume_ml,
                "pairwise_dice": np.nanmean(pairs) if np.isfinite(pairs).any() else np.nan,
            }
        )
    return pd.DataFrame(rows)
