"""Superpixels that are worth a classifier's time, and the patches that it judges them by (system J)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd

from livseg_lib.labels import LIVER, TUMOR
from livseg_lib.postprocessing.superpixels import (
    SCALES_MM,
    Superpixels,
    darkest,
    describe_superpixels,
    find_superpixels,
)
from livseg_lib.preprocessing.patches import PatchRecipe, grey_channels, place_patch
from livseg_lib.volumes import Volume


@dataclass(frozen=True)
class CandidateRecipe:
    """Which superpixels are candidates. Saved with the classifier, so that its use follows it too."""

    scales_mm: tuple[float, ...] = SCALES_MM
    least_contrast_hu: float = 5.0
    """Darker than the liver's median by so much; brighter tumours are missed."""
    most_a_scale: int = 400
    """The darkest of each scale: in one list the many small ones, whose means are noisy, would oust large,
    faint tumours."""

    def to_dict(self) -> dict:
        """JSON-ready mapping; `CandidateRecipe.from_dict` reads it back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict) -> CandidateRecipe:
        """Inverse of `to_dict`."""
        return cls(**{**values, "scales_mm": tuple(values["scales_mm"])})


@dataclass(frozen=True, eq=False)
class Candidates:
    """Superpixels of a liver and a row for each candidate among them."""

    superpixels: list[Superpixels]
    """One a scale; none where the liver is empty."""
    table: pd.DataFrame
    """Columns of `describe_superpixels`; index from 0."""


def find_candidates(volume: Volume, liver: np.ndarray, recipe: CandidateRecipe) -> Candidates:
    """Candidates inside `liver`, bool (D, H, W) on the grid of `volume`.

    Raises InputError for an unknown spacing.
    """
    superpixels = find_superpixels(liver, volume.voxels, volume.spacing_mm, recipe.scales_mm)
    table = describe_superpixels(superpixels, volume.voxels)
    by_scale = [rows for _, rows in table.groupby("scale_mm")] or [table]
    chosen = [darkest(rows, recipe.least_contrast_hu, recipe.most_a_scale) for rows in by_scale]
    return Candidates(superpixels, pd.concat(chosen, ignore_index=True))


def tumor_shares(candidates: Candidates, tumor: np.ndarray) -> np.ndarray:
    """The share of each candidate that is `tumor`, bool (D, H, W): float64 (n,), a row of the table each."""
    shares = np.zeros(len(candidates.table))
    for each in candidates.superpixels:
        rows = np.flatnonzero(candidates.table["scale_mm"] == each.scale_mm)
        voxels = np.bincount(each.ids.ravel())
        common = np.bincount(each.ids[tumor[each.box]], minlength=len(voxels))
        ids = candidates.table["superpixel"].to_numpy(int)[rows]
        shares[rows] = common[ids] / voxels[ids]
    return shares


def candidate_patches(
    volume: Volume, liver: np.ndarray, candidates: Candidates, rows: Sequence[int], recipe: PatchRecipe
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """A patch around each of the candidates `rows` of the table, one at a time.

    Greys uint8 (d, h, w, C), mid-grey being the median HU of the liver, and labels uint8 (d, h, w): 0 outside
    the liver, 1 inside, 2 the superpixel itself, where at least half of the patch's voxel is. Its voxels have
    to be smaller than the superpixels, then.
    """
    if not len(rows):
        return
    middle_hu = float(np.median(volume.voxels[liver]))
    by_scale = {each.scale_mm: each for each in candidates.superpixels}
    for row in candidates.table.iloc[rows].itertuples():
        each = by_scale[row.scale_mm]
        place = place_patch((row.center_d, row.center_h, row.center_w), volume.spacing_mm, recipe)
        near_liver = place.crop(liver)
        # Beyond the superpixels' box its outermost ids come again: there is no liver, so they do not count.
        ids = place.crop(each.ids, [side.start for side in each.box])
        labels = np.zeros(recipe.voxels, np.uint8)
        labels[place.average(near_liver) >= 0.5] = LIVER
        labels[place.average(near_liver & (ids == row.superpixel)) >= 0.5] = TUMOR
        hu = place.average(place.crop(volume.voxels))
        yield grey_channels(hu, middle_hu, recipe), labels
