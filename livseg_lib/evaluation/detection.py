"""Which tumours were found: the object-wise counting of the LiTS benchmark (system K).

Predicted and reference tumours are numbered by face connectivity and crossed in one table of common
voxels. Reference tumours that one prediction covers best are merged, then predictions that fall on the
same (merged) tumour; a pair is detected where its IoU exceeds a threshold. Missed and surplus objects
are counted unmerged, so one blob over two tumours leaves one of them missed.

Mode "intended" uses the true IoU. Mode "lits_asis" repeats what the challenge's shipped scorer of 2017
computes, so that its leaderboard can be reproduced.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import chain, pairwise
from typing import NamedTuple

import numpy as np
from scipy.ndimage import find_objects
from scipy.sparse import coo_array, csr_array

from livseg_lib.errors import InputError
from livseg_lib.evaluation.arrays import foreground_box, require_label_volumes
from livseg_lib.labels import structure_mask
from livseg_lib.postprocessing.components import label_components

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

    prediction_components: np.ndarray
    """(D, H, W) ids 1..n of the predicted tumours, 0 elsewhere."""
    reference_components: np.ndarray
    table: csr_array
    """int64 (n_prediction + 1, n_reference + 1): common voxels of each two ids; row and column 0 are
    the outside, so that a whole row sums to the size of a prediction, a column to that of a reference.
    Sparse: of thousands of specks on either side hardly any two meet."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "table", csr_array(self.table))

    @property
    def n_prediction(self) -> int:
        """Number of predicted tumours."""
        return self.table.shape[0] - 1

    @property
    def n_reference(self) -> int:
        """Number of reference tumours."""
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
    def pairs(self) -> list[LesionPair]:
        """Every matched pair that touches at all, in the order of its predictions."""
        return _match(self.table[1:, 1:].tocoo())

    def common_voxels(self, pair: LesionPair) -> int:
        """|P and G| of a pair."""
        references = set(pair.reference_ids)
        shared = chain.from_iterable(self._shared[prediction] for prediction in pair.prediction_ids)
        return sum(voxels for reference, voxels in shared if reference in references)

    def union_voxels(self, pair: LesionPair) -> int:
        """|P or G| of a pair."""
        predicted = self.prediction_voxels[list(pair.prediction_ids)].sum()
        return int(predicted + self.reference_voxels[list(pair.reference_ids)].sum()) - self.common_voxels(
            pair
        )

    @cached_property
    def _shared(self) -> list[list[tuple[int, int]]]:
        """Of each predicted id the reference ids that it meets, with their common voxels."""
        ids, voxels, ends = (
            part.tolist() for part in (self.table.indices, self.table.data, self.table.indptr)
        )
        return [list(zip(ids[start:end], voxels[start:end], strict=True)) for start, end in pairwise(ends)]

    def masks(self, pair: LesionPair) -> tuple[np.ndarray, np.ndarray]:
        """Boolean masks of a pair's prediction and reference, cropped to the box around both."""
        corners = [self._boxes[0][i - 1] for i in pair.prediction_ids]
        corners += [self._boxes[1][i - 1] for i in pair.reference_ids]
        along_axes = zip(*corners, strict=True)
        box = tuple(slice(min(s.start for s in axis), max(s.stop for s in axis)) for axis in along_axes)
        return (
            np.isin(self.prediction_components[box], pair.prediction_ids),
            np.isin(self.reference_components[box], pair.reference_ids),
        )

    @cached_property
    def _boxes(self) -> tuple[list, list]:
        """The box of every predicted and of every reference tumour."""
        return find_objects(self.prediction_components), find_objects(self.reference_components)


def lesion_overlap(prediction: np.ndarray, reference: np.ndarray) -> LesionOverlap:
    """Number the objects of two boolean volumes of one shape and count what they share."""
    prediction_components, n_prediction = label_components(prediction)
    reference_components, n_reference = label_components(reference)
    somewhere = prediction | reference
    met = prediction_components[somewhere], reference_components[somewhere]
    ones = np.ones(len(met[0]), np.int64)
    table = coo_array((ones, met), shape=(n_prediction + 1, n_reference + 1))  # csr adds them up
    return LesionOverlap(prediction_components, reference_components, table)


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
    merged = csr_array(
        (common.data, (common.row, group_of_reference[common.col])), (common.shape[0], len(best))
    )
    merged = merged.tocoo()
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
    detected = [p for p in lesions.pairs if lesions.common_voxels(p) > overlap * lesions.union_voxels(p)]
    return detected, len(detected)


def _detected_as_shipped(lesions: LesionOverlap, overlap: float) -> tuple[list[LesionPair], int]:
    """`detected_pairs` as the shipped scorer has it, with its two slips.

    It renames each prediction to its reference's id, but then looks it up by its own id: the "union"
    holds the voxels of whichever prediction now carries that id (often none). And a pair that fails takes
    as many true positives away as it merged references.
    """
    kept = {pair.reference_ids[0]: pair for pair in lesions.pairs}
    true_positives = len(kept)
    for pair in lesions.pairs:
        mistaken = kept.get(pair.prediction_ids[0])
        union = lesions.reference_voxels[list(pair.reference_ids)].sum()
        if mistaken is not None:
            mixed = LesionPair(mistaken.prediction_ids, pair.reference_ids)
            union = lesions.union_voxels(mixed)
        if lesions.common_voxels(pair) <= overlap * union:
            del kept[pair.reference_ids[0]]
            true_positives -= len(pair.reference_ids)
    return list(kept.values()), true_positives


def count_detections(lesions: LesionOverlap, overlap: float = 0.5, mode: str = "intended") -> Detection:
    """Tumours detected, surplus and missed, the latter two unmerged: (0, n_prediction, 0) if none is real."""
    _, true_positives = detected_pairs(lesions, overlap, mode)
    surplus, missed = lesions.n_prediction - true_positives, lesions.n_reference - true_positives
    return Detection(true_positives, surplus, missed)


def detect_lesions(
    prediction: np.ndarray, reference: np.ndarray, overlap: float = 0.5, mode: str = "intended"
) -> Detection:
    """Count the tumours (label 2, face-connected) of two integer label volumes (D, H, W) of one shape.

    A pair counts as detected where its IoU is greater than `overlap` (0 to 1; LiTS uses 0 and 0.5).
    Raises InputError for other arrays or modes.
    """
    return count_detections(tumor_overlap(prediction, reference), overlap, mode)
