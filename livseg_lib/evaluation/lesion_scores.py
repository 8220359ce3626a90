"""Two scores that ask of every tumour alike, be it large or small, whether it was found and how well.

Both are NaN where neither side has a tumour, and 0 where only one has.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.sparse import csr_array

from livseg_lib.evaluation.detection import LesionOverlap


class PanopticQuality(NamedTuple):
    """Pairs one to one with IoU > 0.5, their mean IoU (`segmentation`, SQ), F1 of finding them
    (`recognition`, RQ), and `quality` (PQ), the product of the two."""

    matched: int
    segmentation: float
    recognition: float
    quality: float


def lesion_dice(lesions: LesionOverlap) -> float:
    """Lesion-wise Dice, 0 to 1: the Dice of each matched pair, summed, by (pairs + surplus + missed).

    The mean of the BraTS challenge of 2023 (arXiv:2405.09787), in which a missed reference tumour counts 0
    and so does a surplus predicted one. That challenge grows the reference before it numbers it and leaves
    out small tumours; here pairs and surplus and missed tumours are those of `detection` at any overlap, so
    that fragments of one tumour are joined before their Dice is taken, and all but one of them are surplus.
    """
    objects = lesions.n_prediction + lesions.n_reference - len(lesions.pairs)
    if objects == 0:
        return np.nan
    common = np.array([lesions.common_voxels(pair) for pair in lesions.pairs], float)
    union = np.array([lesions.union_voxels(pair) for pair in lesions.pairs], float)
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
        matched=int(matched),
        segmentation=float(iou_sum / matched) if matched else np.nan,
        recognition=float(2 * matched / objects) if objects else np.nan,
        quality=float(2 * iou_sum / objects) if objects else np.nan,
    )


def pairwise_iou(lesions: LesionOverlap) -> csr_array:
    """IoU of predicted and reference tumours that meet, float64 (n_prediction, n_reference)."""
    common = lesions.table[1:, 1:].tocoo()
    either = (
        lesions.prediction_voxels[1:][common.row] + lesions.reference_voxels[1:][common.col] - common.data
    )
    return csr_array((common.data / either, (common.row, common.col)), common.shape)
