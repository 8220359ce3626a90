"""What a clinic asks of an outlined liver: how large each tumour is, where it lies, how dark it is.

Labels are 0, 1 and 2; a tumour is a component of label 2 connected by voxel faces, numbered 1..n as
`components.label_components` does. Volumes lie as everywhere here: feet to head, front to back, the
patient's right to left. Places are relative to the outlined liver and name no Couinaud segment: those
follow vessels, which nobody outlined.
"""

from __future__ import annotations

from collections.abc import Sequence

import edt
import numpy as np
import pandas as pd
from scipy.ndimage import find_objects

from livseg_lib.errors import InputError
from livseg_lib.labels import LIVER, structure_mask
from livseg_lib.postprocessing.axial_diameters import axial_diameters
from livseg_lib.postprocessing.boxes import Box, require_volumes, widened
from livseg_lib.postprocessing.components import label_components

TUMOR_COLUMNS = {
    "tumor": "int64",
    "voxels": "int64",
    "volume_ml": "float64",
    "longest_diameter_mm": "float64",
    "perpendicular_diameter_mm": "float64",
    "slice": "int64",
    "centre_slice": "float64",
    "centre_row": "float64",
    "centre_column": "float64",
    "distance_to_border_mm": "float64",
    "position": "object",
    "mean_hu": "float64",
    "sd_hu": "float64",
    "contrast_hu": "float64",
}
"""The columns of `measure_tumors` and their types."""

PLACES = (
    ("lower third", "middle third", "upper third"),
    ("front half", "back half"),
    ("right half", "left half"),
)
"""Of the liver along each axis of a volume, in the order of its voxels: parts of equal volume."""


def measure_tumors(
    voxels: np.ndarray | None, labels: np.ndarray, spacing_mm: Sequence[float]
) -> pd.DataFrame:
    """A row a tumour, TUMOR_COLUMNS, for integer labels (D, H, W), their HU or None, and mm (D, H, W).

    Diameters are those of `axial_diameters`, in slice `slice`. The centre is the mean of the voxels'
    indices, and `position` says in which part of the liver it lies, such as "right half, back half, upper
    third". `distance_to_border_mm` is the shortest way from one of its voxels to one outside the liver,
    between centres: about a voxel where it touches the surface. `mean_hu` and `sd_hu` are over its voxels;
    `contrast_hu` is the mean of the liver outside all tumours minus `mean_hu`, positive for dark tumours.

    Undefined is NaN: mm and ml of an unknown spacing (NaN), HU without voxels, contrast where no other
    liver is left, the border's distance where the liver fills the volume. Raises InputError for arrays of
    other shapes and for labels that are no integers.
    """
    _require_labels(voxels, labels)
    around = _box_around_liver(labels)
    table = _measure_box(
        None if voxels is None else voxels[around], labels[around], np.asarray(spacing_mm, float)
    )
    for name, side in zip(
        ("slice", "centre_slice", "centre_row", "centre_column"), (around[0], *around), strict=True
    ):
        table[name] += side.start
    return table


def measure_liver(voxels: np.ndarray | None, labels: np.ndarray, spacing_mm: Sequence[float]) -> dict:
    """The patient's sums: liver_ml (with its tumours), tumor_ml, tumor_burden, n_tumors, liver_hu.

    `tumor_burden` is the share of the liver that is tumour, 0 to 1, NaN without liver; `liver_hu` is that
    of `mean_liver_hu`. Arguments, NaN and errors as for `measure_tumors`.
    """
    _require_labels(voxels, labels)
    voxel_ml = float(np.prod(spacing_mm)) / 1000.0
    liver = int(np.count_nonzero(structure_mask(labels, "liver")))
    tumor = structure_mask(labels, "tumor")
    tumor_voxels = int(np.count_nonzero(tumor))
    return {
        "liver_ml": liver * voxel_ml,
        "tumor_ml": tumor_voxels * voxel_ml,
        "tumor_burden": tumor_voxels / liver if liver else np.nan,
        "n_tumors": int(label_components(tumor)[1]),
        "liver_hu": mean_liver_hu(voxels, labels),
    }


def mean_liver_hu(voxels: np.ndarray | None, labels: np.ndarray) -> float:
    """Mean HU of the liver outside its tumours (label 1); NaN without voxels or such liver."""
    if voxels is None:
        return np.nan
    values = voxels[labels == LIVER]
    return float(values.mean()) if values.size else np.nan


def _require_labels(voxels: np.ndarray | None, labels: np.ndarray) -> None:
    require_volumes(labels=labels, **({} if voxels is None else {"voxels": voxels}))
    if labels.dtype.kind not in "iu":
        raise InputError("labels", f"is {labels.dtype}, not integer labels.", "Give labels 0, 1 and 2.")


def _box_around_liver(labels: np.ndarray) -> Box:
    """The box around every label, and one voxel more where there is one; the first voxel without labels."""
    box = find_objects((labels > 0).view(np.uint8), max_label=1)[0]
    return (slice(0, 1),) * 3 if box is None else widened(box, labels.shape, np.ones(3), 1)


def _measure_box(voxels: np.ndarray | None, labels: np.ndarray, spacing_mm: np.ndarray) -> pd.DataFrame:
    """`measure_tumors` with places counted from the corner of the given arrays."""
    ids, _ = label_components(structure_mask(labels, "tumor"))
    liver = structure_mask(labels, "liver")
    depths = _depths_mm(liver, spacing_mm)
    edges = [_part_edges(liver, axis, len(names)) for axis, names in enumerate(PLACES)]
    liver_hu = mean_liver_hu(voxels, labels)
    rows = []
    for tumor, box in enumerate(find_objects(ids), start=1):
        inside = ids[box] == tumor
        hu = None if voxels is None else voxels[box][inside]
        parts = _size(inside, box, spacing_mm), _place(inside, box, depths, edges), _brightness(hu, liver_hu)
        rows.append({"tumor": tumor} | parts[0] | parts[1] | parts[2])
    return pd.DataFrame(rows, columns=list(TUMOR_COLUMNS)).astype(TUMOR_COLUMNS)


def _size(inside: np.ndarray, box: Box, spacing_mm: np.ndarray) -> dict:
    """How much of it there is, and its diameters."""
    voxels = np.count_nonzero(inside)
    diameters = axial_diameters(inside, spacing_mm)
    return {
        "voxels": voxels,
        "volume_ml": voxels * float(spacing_mm.prod()) / 1000.0,
        "longest_diameter_mm": diameters.longest_mm,
        "perpendicular_diameter_mm": diameters.perpendicular_mm,
        "slice": box[0].start + diameters.slice,
    }


def _place(inside: np.ndarray, box: Box, depths_mm: np.ndarray, edges: list[np.ndarray]) -> dict:
    """Where it lies: its centre, its distance from the liver's border, and the part of the liver."""
    centre = np.argwhere(inside).mean(axis=0) + [side.start for side in box]
    parts = [
        names[np.searchsorted(axis_edges, place)]
        for names, axis_edges, place in zip(PLACES, edges, centre, strict=True)
    ]
    return {
        **dict(zip(("centre_slice", "centre_row", "centre_column"), centre, strict=True)),
        "distance_to_border_mm": float(depths_mm[box][inside].min()),
        "position": ", ".join(reversed(parts)),
    }


def _part_edges(liver: np.ndarray, axis: int, parts: int) -> np.ndarray:
    """Places along `axis`, in voxels, that cut the liver into `parts` of equal volume, (parts - 1,)."""
    others = tuple(other for other in range(3) if other != axis)
    filled = np.cumsum([0, *np.count_nonzero(liver, axis=others)])
    faces = np.arange(len(filled)) - 0.5
    return np.interp(filled[-1] * np.arange(1, parts) / parts, filled, faces)


def _depths_mm(liver: np.ndarray, spacing_mm: np.ndarray) -> np.ndarray:
    """Distance of each voxel of the liver to the nearest outside it, (D, H, W); NaN where undefined.

    The volume's own faces are no border: a liver goes on where a scan ends.
    """
    if np.isnan(spacing_mm).any() or liver.all():
        return np.full(liver.shape, np.nan, np.float32)
    return edt.edt(liver, anisotropy=tuple(spacing_mm))


def _brightness(values: np.ndarray | None, liver_hu: float) -> dict[str, float]:
    """Mean and deviation of a tumour's HU, and how much darker than `liver_hu` it is."""
    mean, sd = (np.nan, np.nan) if values is None else (float(values.mean()), float(values.std()))
    return {"mean_hu": mean, "sd_hu": sd, "contrast_hu": liver_hu - mean}
