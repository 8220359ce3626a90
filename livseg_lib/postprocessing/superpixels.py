"""Tumour candidates without a network (system J, Bai et al. 2019): superpixels of a liver, and their patches.

SLIC (Achanta et al. 2012, doi:10.1109/TPAMI.2012.120; scikit-image) in 3D, on a grid coarse enough that a
superpixel is a few voxels wide. Every liver voxel belongs to one superpixel of each scale; a table says how
large and how dark each is. The darkest are candidates, and a classifier judges them by patches of one size
in mm and in voxels: a voxel of a patch is the mean of that part of the scan which it covers, so that patches
look alike whatever the spacing. Beyond the scan its outermost voxels come again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import edt
import numpy as np
import pandas as pd
from scipy.ndimage import distance_transform_edt
from skimage.segmentation import relabel_sequential, slic
from tqdm import tqdm

from livseg_lib.datasets.case import Case
from livseg_lib.errors import InputError
from livseg_lib.files import written_aside
from livseg_lib.labels import LIVER, STRUCTURES, TUMOR, structure_mask
from livseg_lib.postprocessing.components import known_spacing, require_volumes
from livseg_lib.preprocessing.geometry import Box, box_around, resize
from livseg_lib.preprocessing.recipe import JsonRecord
from livseg_lib.preprocessing.windows import Window, apply_window
from livseg_lib.processes import in_processes
from livseg_lib.runs import derived_seed
from livseg_lib.volumes import Volume

SCALES_MM = (10.0, 16.0, 24.0)
"""Sides of the cubes that superpixels start from: small, middling and large tumours."""
VOXELS_A_SIDE = 5
"""Coarse voxels along a superpixel: larger ones are cut on a coarser grid, never finer than the scan's."""
LEAST_SHARE = 0.2
"""What is left of a cube at the edge of the liver joins its neighbours if it is a smaller share."""
HU_RANGE = 100.0
"""HU count up to so far from the liver's median; beyond are vessels in full contrast, fat and calcium."""
COMPACTNESS = 0.05
"""Weight of distance against brightness: one side of a cube counts as much as `COMPACTNESS` of the range."""
ROUNDS = 5  # of SLIC's clustering; more changed next to nothing
SUPERPIXEL_COLUMNS = (
    *("scale_mm", "superpixel", "center_d", "center_h", "center_w"),
    *("volume_ml", "mean_hu", "contrast_hu"),
)


@dataclass(frozen=True, eq=False)
class Superpixels:
    """The superpixels of a liver at some scales; none where it is empty."""

    box: Box | None  # the part of the volume around the liver
    ids: dict[float, np.ndarray]
    """Scale in mm -> int32, the shape of the box: 1..n on every voxel of the liver, 0 outside it."""
    table: pd.DataFrame
    """A row for each of them, or for those that are candidates: SUPERPIXEL_COLUMNS, index from 0.

    `center_d`, `center_h`, `center_w` are voxel indices of the volume (its mean position), `contrast_hu` is
    the median of the liver minus the superpixel's mean: above 0 where it is darker.
    """


def find_superpixels(
    liver_mask: np.ndarray,
    hu: np.ndarray,
    spacing_mm: Sequence[float],
    scales_mm: Sequence[float] = SCALES_MM,
) -> Superpixels:
    """Superpixels of a liver for each of `scales_mm`.

    `liver_mask` bool and `hu` int16 are (D, H, W), `spacing_mm` (D, H, W). Raises InputError for different
    shapes, an unknown spacing and scales that are not positive.
    """
    require_volumes(liver_mask=liver_mask, hu=hu)
    spacing = known_spacing(spacing_mm)
    if not all(scale > 0 for scale in scales_mm):
        raise InputError("scales_mm", f"is {tuple(scales_mm)}.", "Give sides in mm, above 0.")
    box = box_around(liver_mask, spacing_mm, margin_mm=0.0)
    if box is None:
        return Superpixels(None, {}, pd.DataFrame(columns=SUPERPIXEL_COLUMNS, dtype=float))
    liver = liver_mask[box]
    ids = {mm: _cluster(liver, hu[box], spacing, mm) for mm in scales_mm}
    voxel_ml = float(spacing.prod()) / 1000.0
    tables = [_describe(mm, of_scale, box, hu, voxel_ml) for mm, of_scale in ids.items()]
    return Superpixels(box, ids, pd.concat(tables, ignore_index=True))


def _describe(scale_mm: float, ids: np.ndarray, box: Box, hu: np.ndarray, voxel_ml: float) -> pd.DataFrame:
    """The rows of one scale."""
    inside = ids > 0
    ids, values = ids[inside], hu[box][inside]
    voxels = np.bincount(ids)[1:]
    centers = [
        np.bincount(ids, weights=indices)[1:] / voxels + side.start
        for indices, side in zip(np.nonzero(inside), box, strict=True)
    ]
    mean_hu = np.bincount(ids, weights=values)[1:] / voxels
    numbers, contrast_hu = np.arange(1, len(voxels) + 1), np.median(values) - mean_hu
    columns = (scale_mm, numbers, *centers, voxels * voxel_ml, mean_hu, contrast_hu)
    return pd.DataFrame(dict(zip(SUPERPIXEL_COLUMNS, columns, strict=True)))


def paint(found: Superpixels, values: float | np.ndarray, scale_mm: float | None = None) -> np.ndarray:
    """A value a voxel, float32 in the box of a liver that is not empty: the mean over its superpixels.

    `values` are those of the table's rows, (n,), or of each of them; a superpixel without a row counts as 0.
    It has one of each scale, or of `scale_mm` alone.
    """
    total, table = np.float32(0), found.table.assign(value=values)
    scales_mm = list(found.ids) if scale_mm is None else [scale_mm]
    for each in scales_mm:
        rows = table[table["scale_mm"] == each]
        of_ids = np.zeros(found.ids[each].max() + 1, np.float32)
        of_ids[rows["superpixel"].to_numpy(int)] = rows["value"]
        total = total + of_ids[found.ids[each]]
    return total / len(scales_mm)


def _cluster(liver: np.ndarray, hu: np.ndarray, spacing_mm: np.ndarray, scale_mm: float) -> np.ndarray:
    """Ids of one scale on the liver's box."""
    sides = zip(liver.shape, spacing_mm, strict=True)
    indices = [_coarse_index(size, mm, scale_mm / VOXELS_A_SIDE) for size, mm in sides]
    grey, coarse_liver = _coarse(liver, hu, indices)
    coarse_mm = spacing_mm * np.divide(liver.shape, grey.shape)
    cubes = grey.size * float(coarse_mm.prod()) / scale_mm**3
    ids = slic(
        grey,
        n_segments=max(1, round(cubes)),
        compactness=COMPACTNESS,
        max_num_iter=ROUNDS,
        spacing=coarse_mm,
        channel_axis=None,
        start_label=1,
    )
    whole = _without_slivers(ids, coarse_liver, coarse_mm, LEAST_SHARE * grey.size / max(1, cubes))
    return relabel_sequential(np.where(liver, whole[np.ix_(*indices)], 0))[0].astype(np.int32)


def _coarse_index(size: int, fine_mm: float, coarse_mm: float) -> np.ndarray:
    """The coarse voxel that holds the centre of each of `size` fine ones, int (size,)."""
    coarse = max(1, min(size, round(size * fine_mm / coarse_mm)))
    return ((np.arange(size) + 0.5) * coarse / size).astype(int)


def _coarse(liver: np.ndarray, hu: np.ndarray, indices: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """HU from the liver's median in units of HU_RANGE, -1 to 1, and the liver, on the coarse grid."""
    shape = tuple(int(index[-1]) + 1 for index in indices)
    middle = np.float32(np.median(hu[liver]))
    grey, coarse_liver = np.zeros(shape, np.float32), np.zeros(shape, bool)
    for k, plane in zip(indices[0], zip(liver, hu, strict=True), strict=True):
        # What is no liver is painted as liver: it should not pull at the superpixels along the border.
        offset = np.where(plane[0], np.clip(plane[1] - middle, -HU_RANGE, HU_RANGE), np.float32(0))
        grey[k] += resize(offset, shape[1:]) / HU_RANGE
    grey /= np.bincount(indices[0])[:, None, None]
    coarse_liver[tuple(index[fine] for index, fine in zip(indices, np.nonzero(liver), strict=True))] = True
    return grey, coarse_liver


def _without_slivers(
    ids: np.ndarray, liver: np.ndarray, spacing_mm: np.ndarray, least_voxels: float
) -> np.ndarray:
    """`ids` where those with less than `least_voxels` in the liver have given them to their neighbours."""
    inside = np.where(liver, ids, 0)
    voxels = np.bincount(inside.ravel())
    voxels[0] = 0
    stays = (voxels >= min(least_voxels, voxels.max()))[inside]
    if stays.all():
        return ids
    nearest = distance_transform_edt(~stays, sampling=spacing_mm, return_distances=False, return_indices=True)
    return ids[tuple(nearest)]


@dataclass(frozen=True)
class CandidateRecipe(JsonRecord):
    """Which superpixels are candidates. Saved with the classifier, so that its use follows it too."""

    scales_mm: tuple[float, ...] = SCALES_MM
    least_contrast_hu: float = 5.0
    """Darker than the liver's median by so much or more; brighter tumours are missed."""
    most_a_scale: int = 400
    """The darkest of each scale: in one list the many small ones, whose means are noisy, would oust large,
    faint tumours."""


def dark_superpixels(volume: Volume, liver: np.ndarray, recipe: CandidateRecipe) -> Superpixels:
    """Those inside `liver`, bool (D, H, W) on the grid of `volume`, the candidates alone with a row. Raises
    InputError for an unknown spacing."""
    found = find_superpixels(liver, volume.voxels, volume.spacing_mm, recipe.scales_mm)
    dark = found.table[found.table["contrast_hu"] >= recipe.least_contrast_hu]
    by_scale = [rows for _, rows in dark.groupby("scale_mm")] or [dark]
    chosen = [rows.nlargest(recipe.most_a_scale, "contrast_hu").sort_index() for rows in by_scale]
    return replace(found, table=pd.concat(chosen, ignore_index=True))


def tumor_shares(found: Superpixels, tumor: np.ndarray) -> np.ndarray:
    """The share of each row's superpixel that is `tumor`, bool (D, H, W): float64 (n,)."""
    shares = np.zeros(len(found.table))
    for scale_mm, ids in found.ids.items():
        rows = np.flatnonzero(found.table["scale_mm"] == scale_mm)
        voxels = np.bincount(ids.ravel())
        common = np.bincount(ids[tumor[found.box]], minlength=len(voxels))
        numbers = found.table["superpixel"].to_numpy(int)[rows]
        shares[rows] = common[numbers] / voxels[numbers]
    return shares


@dataclass(frozen=True)
class PatchRecipe(JsonRecord):
    """What a patch shows. Saved with the classifier, so that its use follows it too."""

    size_mm: tuple[float, float, float] = (48.0, 48.0, 48.0)
    """Along (D, H, W): twice the largest superpixel, so that its surroundings are seen."""
    voxels: tuple[int, int, int] = (12, 24, 24)
    """Slices, rows and columns; as many rows as columns, since batches are turned in their plane."""
    widths_hu: tuple[float, ...] = (100.0, 300.0)
    """A window each, one a channel; mid-grey is the median of the patient's liver."""

    def __post_init__(self) -> None:
        for name, length in (("size_mm", 3), ("voxels", 3), ("widths_hu", max(1, len(self.widths_hu)))):
            values = getattr(self, name)
            if len(values) != length or not all(value > 0 for value in values):
                raise InputError(name, f"is {values}.", f"Give {length} numbers above 0.")
        if self.voxels[1] != self.voxels[2]:
            raise InputError("voxels", f"is {self.voxels}.", "Give as many rows as columns.")

    @property
    def channels(self) -> int:
        """Windows, and the masks of `with_masks`."""
        return len(self.widths_hu) + len(STRUCTURES)


PatchSides = Sequence[tuple[np.ndarray, np.ndarray]]
"""Along each axis of a patch the voxels of the scan that it covers, int, some perhaps beyond it; and how much
each of its own takes of them, float32 (own, covered), each row with sum 1."""


def patch_sides(center: Sequence[float], spacing_mm: Sequence[float], recipe: PatchRecipe) -> PatchSides:
    """The patch whose middle is the point `center`, voxel indices (D, H, W): 3.0 is the middle of voxel 3."""
    sides = []
    for middle, mm, size_mm, count in zip(center, spacing_mm, recipe.size_mm, recipe.voxels, strict=True):
        edges = middle + 0.5 + np.linspace(-0.5, 0.5, count + 1) * size_mm / mm
        covered = np.arange(int(np.floor(edges[0])), int(np.ceil(edges[-1])))
        lower, upper = edges[:-1, np.newaxis], edges[1:, np.newaxis]
        overlap = (np.minimum(upper, covered + 1) - np.maximum(lower, covered)).clip(0)
        sides.append((covered, (overlap / overlap.sum(axis=1, keepdims=True)).astype(np.float32)))
    return sides


def crop(array: np.ndarray, sides: PatchSides, first: Sequence[int] = (0, 0, 0)) -> np.ndarray:
    """The voxels that a patch covers, of `array` (D, H, W), which shows the scan from `first` on."""
    parts = zip(sides, first, array.shape, strict=True)
    return array[np.ix_(*((covered - start).clip(0, size - 1) for (covered, _), start, size in parts))]


def average(part: np.ndarray, sides: PatchSides) -> np.ndarray:
    """What `crop` gave, on the patch's own voxels: float32, the shape of the patch."""
    depth, height, width = (weights for _, weights in sides)
    return np.tensordot(depth, height @ part.astype(np.float32) @ width.T, 1)


def grey_channels(hu: np.ndarray, middle_hu: float, recipe: PatchRecipe) -> np.ndarray:
    """HU of a patch (D, H, W) as grey levels, uint8 (D, H, W, windows); `middle_hu` is mid-grey in each."""
    halves = (width_hu / 2 for width_hu in recipe.widths_hu)
    windows = [Window.between(middle_hu - half, middle_hu + half) for half in halves]
    return np.stack([apply_window(hu, window) for window in windows], axis=-1)


def candidate_patches(
    volume: Volume, liver: np.ndarray, candidates: Superpixels, rows: Sequence[int], recipe: PatchRecipe
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """A patch around each of the candidates `rows` of the table, one at a time.

    Greys uint8 (d, h, w, C), mid-grey being the median HU of the liver, and labels uint8 (d, h, w): 0 outside
    the liver, 1 inside, 2 the superpixel itself, where at least half of the patch's voxel is. Its voxels have
    to be smaller than the superpixels, then.
    """
    if not len(rows):
        return
    middle_hu = float(np.median(volume.voxels[liver]))
    first = [side.start for side in candidates.box]
    for row in candidates.table.iloc[rows].itertuples():
        sides = patch_sides((row.center_d, row.center_h, row.center_w), volume.spacing_mm, recipe)
        near_liver = crop(liver, sides)
        # Beyond the superpixels' box its outermost ids come again: there is no liver, so they do not count.
        ids = crop(candidates.ids[row.scale_mm], sides, first)
        labels = np.zeros(recipe.voxels, np.uint8)
        labels[average(near_liver, sides) >= 0.5] = LIVER
        labels[average(near_liver & (ids == row.superpixel), sides) >= 0.5] = TUMOR
        hu = average(crop(volume.voxels, sides), sides)
        yield grey_channels(hu, middle_hu, recipe), labels


TUMOR_SHARE = 0.5  # a superpixel is a tumour where at least this share of its voxels is


@dataclass(frozen=True)
class PatchExtraction:
    """Which patches are cut from a patient."""

    candidates: CandidateRecipe = CandidateRecipe()
    patch: PatchRecipe = PatchRecipe()
    most_of_a_kind: int = 100
    """Of tumour, and of liver, drawn by `seed`: one patient full of tumours must not outweigh the others."""
    most_growth_mm: float = 3.0
    """Each liver is grown by a random amount up to this: what networks find is never the true outline, and
    the fat beside a liver is dark."""
    seed: int = 0


def extract_patches(
    cases: Sequence[Case], extraction: PatchExtraction, folder: Path, workers: int = 2
) -> pd.DataFrame:
    """Patches of the candidates inside the (grown) true liver of each case; returns a row a patch.

    Writes `folder`/<case_id>/images.npy, uint8 (n * d, h, w, C), the n patches one behind another, and
    masks.npy (`candidate_patches`); d, h, w as `extraction.patch.voxels`. Columns: patient, case, array,
    array_index (of the patch's first slice), region ("tumor" or "liver"), class (2 or 1, as a slice's),
    tumor_share and SUPERPIXEL_COLUMNS. Each of the `workers` processes holds one volume. A
    case without candidates has no row. Raises InputError for an unknown spacing.
    """
    job = partial(extract_case_patches, extraction=extraction, folder=Path(folder))
    tables = list(tqdm(in_processes(job, cases, workers), "superpixels", len(cases), unit="case"))
    if not any(len(table) for table in tables):
        raise InputError("superpixels", "of all cases are no candidates.", "Choose a lower least contrast.")
    return pd.concat([table for table in tables if len(table)], ignore_index=True)


def extract_case_patches(case: Case, extraction: PatchExtraction, folder: Path) -> pd.DataFrame:
    """The rows of one case, its arrays written."""
    volume = case.read_volume()
    truth = case.read_labels(volume)
    seed = derived_seed(extraction.seed, case.case_id)
    growth_mm = np.random.default_rng(seed).uniform(0.0, extraction.most_growth_mm)
    to_liver_mm = edt.edt(~structure_mask(truth, "liver"), anisotropy=tuple(volume.spacing_mm))
    liver = to_liver_mm <= growth_mm
    candidates = dark_superpixels(volume, liver, extraction.candidates)
    shares = tumor_shares(candidates, structure_mask(truth, "tumor"))
    rows = draw_kinds(shares >= TUMOR_SHARE, extraction.most_of_a_kind, seed)
    patches = list(candidate_patches(volume, liver, candidates, rows, extraction.patch))
    if patches:
        for name, arrays in zip(("images", "masks"), zip(*patches, strict=True), strict=True):
            with written_aside(folder / case.case_id / f"{name}.npy") as partial_path:
                np.save(partial_path, np.concatenate(arrays))
    is_tumor = shares[rows] >= TUMOR_SHARE
    return candidates.table.iloc[rows].assign(
        patient=case.patient,
        case=case.case_id,
        array=case.case_id,
        array_index=np.arange(len(rows)) * extraction.patch.voxels[0],
        region=np.where(is_tumor, "tumor", "liver"),
        tumor_share=shares[rows],
        **{"class": np.where(is_tumor, TUMOR, LIVER)},
    )


def draw_kinds(is_tumor: np.ndarray, most: int, seed: int) -> np.ndarray:
    """Indices, ascending: at most so many of those that are True, and of those that are not."""
    generator = np.random.default_rng(seed)
    kinds = (np.flatnonzero(is_tumor), np.flatnonzero(~is_tumor))
    indices = [generator.choice(kind, min(most, len(kind)), replace=False) for kind in kinds]
    return np.sort(np.concatenate(indices))
