"""Every tumour by itself, true and predicted, with its size; and what is found of each size.

Sizes are those of readers: the longest diameter in an axial slice, below 10 mm (too small for RECIST 1.1,
doi:10.1016/j.ejca.2008.10.026), up to 20, up to 50 and above.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.ndimage import find_objects
from scipy.sparse import csr_array

from livseg_lib.evaluation.detection import tumor_overlap
from livseg_lib.evaluation.statistics.bootstrap import share_with_interval
from livseg_lib.postprocessing.axial_diameters import axial_diameters

SIZE_CLASSES = ("< 10 mm", "10 to 20 mm", "20 to 50 mm", "> 50 mm")
UNKNOWN_SIZE = "unknown size"
"""Of tumours in volumes without spacing, in tables by size."""

MeasuredPair = tuple[tuple[int, ...], tuple[int, ...]]
"""Ids of the tumours of one side that make a pair, and those of the other side."""


def size_class(longest_diameter_mm: float) -> str:
    """The class of SIZE_CLASSES; 10 and 20 mm belong to the class above, 50 mm to that below; "" of NaN."""
    if np.isnan(longest_diameter_mm):
        return ""
    above = (longest_diameter_mm >= 10, longest_diameter_mm >= 20, longest_diameter_mm > 50)
    return SIZE_CLASSES[sum(above)]


def lesion_rows(prediction: np.ndarray, reference: np.ndarray, spacing_mm: Sequence[float]) -> pd.DataFrame:
    """A row a tumour of two integer label volumes (D, H, W), true ones first; `spacing_mm` (D, H, W).

    Columns: `kind` ("reference" or "prediction"), `lesion` (the id that `label_components` gives it),
    `volume_ml`, `longest_diameter_mm` (of `axial_diameters`), `size_class`; `detected`, `touched`, `iou` and
    `dice`. The last two are those of the matched pair (`detection`) that it belongs to, 0 where to none.
    It is `touched` where it shares a voxel with the other side, and `detected` where it stands for a pair
    with IoU > 0.5: of tumours merged into one, that is the one which shares most voxels (of equals the
    first), so that rows add up to the counts of `detect_lesions`. Sizes are NaN and the class is "" where
    the spacing is NaN. Raises InputError for arrays that cannot be compared.
    """
    found = tumor_overlap(prediction, reference)
    to_prediction = [(pair.reference_ids, pair.prediction_ids) for pair in found.pairs]
    to_reference = [(pair.prediction_ids, pair.reference_ids) for pair in found.pairs]
    sides = {
        "reference": (found.reference_components, found.table.T, to_prediction),
        "prediction": (found.prediction_components, found.table, to_reference),
    }
    rows = []
    for kind, (components, table, pairs) in sides.items():
        sizes, matches = _sizes(components, table, spacing_mm), _matches(table, pairs)
        rows.append(pd.concat([sizes, matches], axis=1).assign(kind=kind))
    table = pd.concat(rows, ignore_index=True)
    return table[["kind", *table.columns.drop("kind")]]


def _sizes(components: np.ndarray, table: csr_array, spacing_mm: Sequence[float]) -> pd.DataFrame:
    """What one side's tumours measure; row i + 1 of `table` sums to the voxels of tumour i + 1."""
    boxes = find_objects(components) if table.shape[0] > 1 else []  # without a tumour the array may be empty
    diameters_mm = [
        axial_diameters(components[box] == lesion, spacing_mm).longest_mm
        for lesion, box in enumerate(boxes, start=1)
    ]
    return pd.DataFrame(
        {
            "lesion": np.arange(1, table.shape[0]),
            "volume_ml": table[1:].sum(axis=1) * float(np.prod(spacing_mm)) / 1000.0,
            "longest_diameter_mm": np.array(diameters_mm, float),
            "size_class": np.array([size_class(each) for each in diameters_mm], object),
        }
    )


def _matches(table: csr_array, pairs: Sequence[MeasuredPair]) -> pd.DataFrame:
    """What the other side has of one side's tumours: those are the rows of `table`."""
    common = table[1:, 1:].tocoo()
    own, other = (_pair_of([each[side] for each in pairs], common.shape[side]) for side in (0, 1))
    inside = (own[common.row] == other[common.col]) & (own[common.row] >= 0)
    shared = np.bincount(common.row[inside], common.data[inside], len(own))
    members, others = own >= 0, other >= 0
    of_pair = np.bincount(own[members], shared[members], len(pairs))
    union = np.bincount(own[members], table.sum(axis=1)[1:][members], len(pairs)) - of_pair
    union += np.bincount(other[others], table.sum(axis=0)[1:][others], len(pairs))
    iou = np.where(members, np.append(of_pair / union, 0.0)[own], 0.0)
    ranked = np.lexsort((-shared, own))  # of equals the first, as sorting keeps their order
    first = ranked[np.unique(own[ranked], return_index=True)[1]]
    detected = np.isin(np.arange(len(own)), first) & (iou > 0.5)
    touched = np.diff(common.tocsr().indptr) > 0
    return pd.DataFrame({"detected": detected, "touched": touched, "iou": iou, "dice": 2 * iou / (1 + iou)})


def _pair_of(members: Sequence[tuple[int, ...]], count: int) -> np.ndarray:
    """The number of the pair that each of the tumours 1 to `count` belongs to, int (count,); -1 of none."""
    numbers = np.full(count, -1)
    for number, ids in enumerate(members):
        numbers[np.array(ids) - 1] = number
    return numbers


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
        row = {"size_class": each}
        for kind, share in (("reference", "recall"), ("prediction", "precision")):
            group = lesions[(size == each) & (lesions["kind"] == kind)]
            row |= _found_of(group, f"n_{kind}", share, group[patient], seed)
        rows.append(row)
    return pd.DataFrame(rows)


def _found_of(group: pd.DataFrame, count: str, share: str, patient: pd.Series, seed: int) -> dict:
    """Counts and shares of one class on one side."""
    detected, touched = group["detected"].astype(bool), group["touched"].astype(bool)
    value, (low, high) = share_with_interval(detected, patient, seed)
    return {
        count: len(group),
        f"{count}_detected": int(detected.sum()),
        f"{count}_touched": int(touched.sum()),
        share: value,
        f"{share}_low": low,
        f"{share}_high": high,
        f"{share}_touched": float(touched.mean()) if len(group) else np.nan,
    }
