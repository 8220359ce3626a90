"""Tumours found and missed as the LiTS benchmark (system K) counts them, each by itself, and by size.

Predicted and reference tumours are numbered by face connectivity and crossed in one table of common voxels.
Reference tumours that one prediction covers best are merged, then predictions that fall on the same (merged)
tumour; a pair is detected where its IoU exceeds a threshold. Missed and surplus objects are counted unmerged,
so one blob over two tumours leaves one of them missed. Mode "intended" uses the true IoU. Mode "lits_asis"
repeats what the challenge's shipped scorer of 2017 computes, so that its leaderboard can be reproduced.

Sizes are those of readers: the longest diameter in an axial slice, below 10 mm (too small for RECIST 1.1,
doi:10.1016/j.ejca.2008.10.026), up to 20, up to 50 and above.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import compress
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.ndimage import find_objects
from scipy.sparse import coo_array, csr_array

from livseg_lib.errors import InputError
from livseg_lib.evaluation.masks import foreground_box, require_label_volumes
from livseg_lib.evaluation.statistics import mean_with_interval
from livseg_lib.labels import structure_mask
from livseg_lib.postprocessing.components import label_components
from livseg_lib.postprocessing.measures import axial_diameters

MODES = ("intended", "lits_asis")


class Detection(NamedTuple):
    """Counted objects, not voxels. In "lits_asis" true positives can be negative."""

    true_positives: int
    false_positives: int
    false_negatives: int


class LesionPair(NamedTuple):
    """Predicted tumours and the reference tumours that they are matched to; ids ascend from 1."""

    prediction_ids: tuple[int, ...]
    reference_ids: tuple[int, ...]


@dataclass(frozen=True)
class LesionOverlap:
    """The tumours of a prediction and of a reference, and how many voxels they share."""

    prediction_components: np.ndarray  # (D, H, W) ids 1..n of the predicted tumours, 0 elsewhere
    reference_components: np.ndarray
    table: csr_array
    """int64 (n_prediction + 1, n_reference + 1): common voxels of each two ids; row and column 0 are
    the outside, so that a whole row sums to the size of a prediction, a column to that of a reference.
    Sparse: of thousands of specks on either side hardly any two meet."""

    @property
    def n_prediction(self) -> int:
        return self.table.shape[0] - 1

    @property
    def n_reference(self) -> int:
        return self.table.shape[1] - 1

    @cached_property
    def prediction_voxels(self) -> np.ndarray:
        """Size of each predicted tumour by its id, int64 (n_prediction + 1,)."""
        return self.table.sum(axis=1)

    @cached_property
    def reference_voxels(self) -> np.ndarray:
        """Size of each reference tumour by its id, int64 (n_reference + 1,)."""
        return self.table.sum(axis=0)

    @cached_property
    def untouched(self) -> np.ndarray:
        """Of each predicted tumour whether it shares no voxel with a reference one, bool (n_prediction,)."""
        return self.table[1:, 1:].sum(axis=1) == 0

    @cached_property
    def pairs(self) -> list[LesionPair]:
        """Every matched pair that touches at all, in the order of its predictions."""
        return _match(self.table[1:, 1:].tocoo())

    @cached_property
    def pair_of(self) -> tuple[np.ndarray, np.ndarray]:
        """The pair, by its place in `pairs`, of every predicted and of every reference tumour; -1 of none."""
        indices = np.full(self.n_prediction, -1), np.full(self.n_reference, -1)
        for index, pair in enumerate(self.pairs):
            for side, ids in zip(indices, pair, strict=True):
                side[np.array(ids) - 1] = index
        return indices

    @cached_property
    def shared_voxels(self) -> tuple[np.ndarray, np.ndarray]:
        """What every predicted and every reference tumour has in common with the other side of its pair."""
        common = self.table[1:, 1:].tocoo()
        indices = self.pair_of[0][common.row]
        inside = (indices == self.pair_of[1][common.col]) & (indices >= 0)
        ids = (common.row, self.n_prediction), (common.col, self.n_reference)
        return tuple(np.bincount(each[inside], common.data[inside], count) for each, count in ids)

    @cached_property
    def pair_voxels(self) -> tuple[np.ndarray, np.ndarray]:
        """|P and G| and |P or G| of each of `pairs`, float64."""

        def summed(side: int, voxels: np.ndarray) -> np.ndarray:
            members = self.pair_of[side] >= 0
            return np.bincount(self.pair_of[side][members], voxels[members], len(self.pairs))

        common = summed(0, self.shared_voxels[0])
        sizes = summed(0, self.prediction_voxels[1:]) + summed(1, self.reference_voxels[1:])
        return common, sizes - common

    @cached_property
    def boxes(self) -> tuple[list, list]:
        """The box of every predicted and of every reference tumour."""
        sides = (self.prediction_components, self.n_prediction), (self.reference_components, self.n_reference)
        return tuple(find_objects(ids) if count else [] for ids, count in sides)  # the array may be empty

    def masks(self, pair: LesionPair) -> tuple[np.ndarray, np.ndarray]:
        """Boolean masks of a pair's prediction and reference, cropped to the box around both."""
        corners = [boxes[i - 1] for boxes, ids in zip(self.boxes, pair, strict=True) for i in ids]
        along_axes = zip(*corners, strict=True)
        box = tuple(slice(min(s.start for s in axis), max(s.stop for s in axis)) for axis in along_axes)
        return (
            np.isin(self.prediction_components[box], pair.prediction_ids),
            np.isin(self.reference_components[box], pair.reference_ids),
        )


def lesion_overlap(prediction: np.ndarray, reference: np.ndarray) -> LesionOverlap:
    """Number the objects of two boolean volumes of one shape and count what they share."""
    prediction_components, n_prediction = label_components(prediction)
    reference_components, n_reference = label_components(reference)
    somewhere = prediction | reference
    id_pairs = prediction_components[somewhere], reference_components[somewhere]
    ones = np.ones(len(id_pairs[0]), np.int64)
    table = coo_array((ones, id_pairs), shape=(n_prediction + 1, n_reference + 1))
    return LesionOverlap(prediction_components, reference_components, table.tocsr())  # which adds them up


def tumor_overlap(prediction: np.ndarray, reference: np.ndarray) -> LesionOverlap:
    """`lesion_overlap` of the tumours of two integer label volumes (D, H, W), in the box around them.

    Raises InputError for arrays that cannot be compared.
    """
    require_label_volumes(prediction, reference)
    box = foreground_box(prediction, reference)
    masks = [structure_mask(labels[box], "tumor") for labels in (prediction, reference)]
    box = foreground_box(*masks)
    return lesion_overlap(*(mask[box] for mask in masks))


def _match(common: coo_array) -> list[LesionPair]:
    """Merge and pair objects by common voxels (n_prediction, n_reference); of equals the lowest id wins.

    A group is all references of one best prediction, numbered in the order of each group's lowest reference.
    """
    references, best = _largest(common.col, common.row, common.data)
    group_of = {prediction: group for group, prediction in enumerate(dict.fromkeys(best))}
    group_of_reference = np.zeros(common.shape[1], int)
    group_of_reference[references] = [group_of[prediction] for prediction in best]
    id_pairs = common.row, group_of_reference[common.col]
    merged = csr_array((common.data, id_pairs), (common.shape[0], len(best))).tocoo()
    predictions, chosen = _largest(merged.row, merged.col, merged.data)
    members: dict[int, tuple[list[int], list[int]]] = {group: ([], []) for group in chosen}
    for prediction, group in zip(predictions, chosen, strict=True):
        members[group][0].append(prediction + 1)
    for reference, prediction in zip(references, best, strict=True):
        if (group := group_of[prediction]) in members:
            members[group][1].append(reference + 1)
    return sorted(LesionPair(*map(tuple, each)) for each in members.values())


def _largest(rows: np.ndarray, columns: np.ndarray, values: np.ndarray) -> tuple[list[int], list[int]]:
    """Each of `rows` once, ascending, and the column of its largest value, of equals the lowest."""
    order = np.lexsort((columns, -values, rows))
    once, first = np.unique(rows[order], return_index=True)
    return once.tolist(), columns[order][first].tolist()


def detected_pairs(
    lesions: LesionOverlap, overlap: float = 0.5, mode: str = "intended"
) -> tuple[list[LesionPair], int]:
    """The pairs whose IoU exceeds `overlap`, and the number of true positives that the mode makes of them."""
    if mode not in MODES:
        raise InputError("mode", f"is {mode!r}.", f"Choose one of {MODES}.")
    if mode == "lits_asis":
        return _detected_as_shipped(lesions, overlap)
    exceed = lesions.pair_voxels[0] > overlap * lesions.pair_voxels[1]
    detected = list(compress(lesions.pairs, exceed))
    return detected, len(detected)


def _detected_as_shipped(lesions: LesionOverlap, overlap: float) -> tuple[list[LesionPair], int]:
    """`detected_pairs` as the shipped scorer has it, with its two slips: it renames each prediction to its
    reference's id, but looks it up by its own, so that the "union" holds whichever now carries that (often
    none); and a pair that fails takes as many true positives away as it merged references."""
    kept = {pair.reference_ids[0]: pair for pair in lesions.pairs}
    true_positives = len(kept)
    for pair, common in zip(lesions.pairs, lesions.pair_voxels[0], strict=True):
        references = list(pair.reference_ids)
        union = lesions.reference_voxels[references].sum()
        if mistaken := kept.get(pair.prediction_ids[0]):
            predictions = list(mistaken.prediction_ids)
            overlapping = lesions.table[predictions][:, references].sum()
            union += lesions.prediction_voxels[predictions].sum() - overlapping
        if common <= overlap * union:
            del kept[pair.reference_ids[0]]
            true_positives -= len(pair.reference_ids)
    return list(kept.values()), true_positives


def count_detections(lesions: LesionOverlap, overlap: float = 0.5, mode: str = "intended") -> Detection:
    """Tumours detected, surplus and missed, the latter two unmerged: (0, n_prediction, 0) if none is real.

    A pair is detected where its IoU exceeds `overlap` (LiTS: 0 and 0.5). Raises InputError for other modes.
    """
    _, true_positives = detected_pairs(lesions, overlap, mode)
    surplus, missed = lesions.n_prediction - true_positives, lesions.n_reference - true_positives
    return Detection(true_positives, surplus, missed)


def detect_lesions(
    prediction: np.ndarray, reference: np.ndarray, overlap: float = 0.5, mode: str = "intended"
) -> Detection:
    """`count_detections` of two integer label volumes (D, H, W) of one shape, for programs of others.

    Raises InputError for other arrays and modes.
    """
    return count_detections(tumor_overlap(prediction, reference), overlap, mode)


class PanopticQuality(NamedTuple):
    """Pairs one to one of IoU > 0.5, their mean IoU (SQ), the F1 of finding them (RQ), and SQ x RQ (PQ)."""

    n_tumors_matched: int
    panoptic_quality: float
    segmentation_quality: float
    recognition_quality: float


def lesion_dice(lesions: LesionOverlap) -> float:
    """Lesion-wise Dice, 0 to 1: the Dice of each matched pair, summed, by (pairs + surplus + missed).

    The mean of the BraTS challenge of 2023 (arXiv:2405.09787), which grows the reference before it numbers it
    and leaves out small tumours; here pairs, surplus and missed tumours are those of `count_detections` at
    overlap 0: fragments of one tumour are joined for their Dice, and all but one of them are surplus.
    """
    objects = lesions.n_prediction + lesions.n_reference - len(lesions.pairs)
    if objects == 0:
        return np.nan
    common, union = lesions.pair_voxels
    return float((2 * common / (union + common)).sum() / objects)


def panoptic_quality(lesions: LesionOverlap) -> PanopticQuality:
    """Panoptic quality of the tumours of one case (Kirillov et al. 2019, arXiv:1801.00868).

    Tumours match one to one and unmerged: of several no two can share more than half of their union with
    the same. Segmentation quality is NaN where none matches.
    """
    iou = pairwise_iou(lesions).data
    matched = iou[iou > 0.5]
    return pool_panoptic(len(matched), matched.sum(), lesions.n_prediction, lesions.n_reference)


def pool_panoptic(matched: int, iou_sum: float, n_prediction: int, n_reference: int) -> PanopticQuality:
    """Panoptic quality from counts and the summed IoU of the matches, of one case or of many together."""
    objects = n_prediction + n_reference
    return PanopticQuality(
        n_tumors_matched=int(matched),
        panoptic_quality=float(2 * iou_sum / objects) if objects else np.nan,
        segmentation_quality=float(iou_sum / matched) if matched else np.nan,
        recognition_quality=float(2 * matched / objects) if objects else np.nan,
    )


def pairwise_iou(lesions: LesionOverlap) -> csr_array:
    """IoU of predicted and reference tumours that meet, float64 (n_prediction, n_reference)."""
    common = lesions.table[1:, 1:].tocoo()
    sizes = lesions.prediction_voxels[1:][common.row] + lesions.reference_voxels[1:][common.col]
    return csr_array((common.data / (sizes - common.data), (common.row, common.col)), common.shape)


SIZE_CLASSES = ("< 10 mm", "10 to 20 mm", "20 to 50 mm", "> 50 mm")
UNKNOWN_SIZE = "unknown size"  # of tumours in volumes without spacing, in tables by size


def size_class(longest_diameter_mm: float) -> str:
    """The class of SIZE_CLASSES; 10 and 20 mm belong to the class above, 50 mm to that below; "" of NaN."""
    if np.isnan(longest_diameter_mm):
        return ""
    above = (longest_diameter_mm >= 10, longest_diameter_mm >= 20, longest_diameter_mm > 50)
    return SIZE_CLASSES[sum(above)]


def lesion_rows(prediction: np.ndarray, reference: np.ndarray, spacing_mm: Sequence[float]) -> pd.DataFrame:
    """A row a tumour of two integer label volumes (D, H, W), true ones first; `spacing_mm` (D, H, W).

    Columns: `kind` ("reference" or "prediction"), `lesion` (its id of `label_components`), `volume_ml`,
    `longest_diameter_mm` (of `axial_diameters`), `size_class`, `detected`, `touched`, `iou` and `dice`. The
    last two are those of its pair (`LesionOverlap.pairs`), 0 without. It is `touched` where it shares a voxel
    with the other side, and `detected` where it stands for a pair with IoU > 0.5: of tumours merged into one,
    that which shares most voxels (of equals the first), so that rows add up to `count_detections`. Without
    spacing sizes are NaN and the class is "". Raises InputError for arrays that cannot be compared.
    """
    found = tumor_overlap(prediction, reference)
    sides = (("reference", 1), ("prediction", 0))
    tables = [_rows_of_side(found, side, spacing_mm).assign(kind=kind) for kind, side in sides]
    table = pd.concat(tables, ignore_index=True)
    return table[["kind", *table.columns.drop("kind")]]


def _rows_of_side(lesions: LesionOverlap, side: int, spacing_mm: Sequence[float]) -> pd.DataFrame:
    """`lesion_rows` of the predicted (0) or of the reference tumours (1)."""
    ids = (lesions.prediction_components, lesions.reference_components)[side]
    voxels = (lesions.prediction_voxels, lesions.reference_voxels)[side][1:]
    diameters_mm = [
        axial_diameters(ids[box] == lesion, spacing_mm).longest_mm
        for lesion, box in enumerate(lesions.boxes[side], start=1)
    ]
    pair, shared = lesions.pair_of[side], lesions.shared_voxels[side]
    common, union = lesions.pair_voxels
    iou = np.where(pair >= 0, np.append(common / union, 0.0)[pair], 0.0)
    ranked = np.lexsort((-shared, pair))  # of equals the first, as sorting keeps their order
    stands_for_pair = np.zeros(len(pair), bool)
    stands_for_pair[ranked[np.unique(pair[ranked], return_index=True)[1]]] = True
    return pd.DataFrame(
        {
            "lesion": np.arange(1, len(voxels) + 1),
            "volume_ml": voxels * float(np.prod(spacing_mm)) / 1000.0,
            "longest_diameter_mm": np.array(diameters_mm, float),
            "size_class": np.array([size_class(each) for each in diameters_mm], object),
            "detected": stands_for_pair & (iou > 0.5),
            "touched": lesions.table[1:, 1:].sum(axis=1 - side) > 0,
            "iou": iou,
            "dice": 2 * iou / (1 + iou),
        }
    )


def summarize_sizes(lesions: pd.DataFrame, patient: str = "patient", seed: int = 0) -> pd.DataFrame:
    """A row a size class: how many tumours there are, how many were found, and shares of them.

    `lesions` has the columns of `lesion_rows` and, under the name `patient`, whose tumour it is. Of the true
    ones n_reference, n_reference_detected, n_reference_touched, `recall` (detected share) with its 95 %
    interval by bootstrap over patients (recall_low, recall_high) and `recall_touched`; of the predicted ones
    the same with n_prediction and `precision`, classed by their own size. Shares of no tumour are NaN, and
    so are intervals of one patient; where all or none are found the bootstrap gives no width, which is no
    certainty. All of SIZE_CLASSES have a row, tumours of unknown size one more where there are any.
    """
    size = lesions["size_class"].fillna("").replace("", UNKNOWN_SIZE)
    classes = (*SIZE_CLASSES, UNKNOWN_SIZE) if (size == UNKNOWN_SIZE).any() else SIZE_CLASSES
    rows = []
    for each in classes:
        row: dict[str, object] = {"size_class": each}
        for kind, share in (("reference", "recall"), ("prediction", "precision")):
            group = lesions[(size == each) & (lesions["kind"] == kind)]
            detected, touched = group["detected"].astype(bool), group["touched"].astype(bool)
            row |= {f"n_{kind}": len(group), f"n_{kind}_detected": int(detected.sum())}
            row |= {f"n_{kind}_touched": int(touched.sum())}
            row |= mean_with_interval(share, detected, group[patient], pooled=True, seed=seed)
            row |= {f"{share}_touched": float(touched.mean()) if len(group) else np.nan}
        rows.append(row)
    return pd.DataFrame(rows)
