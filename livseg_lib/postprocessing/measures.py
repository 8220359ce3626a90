"""What a clinic asks of an outlined liver: how large each tumour is, where it lies, how dark it is.

RECIST 1.1 (doi:10.1016/j.ejca.2008.10.026) adds up longest diameters in the plane of acquisition; the WHO
handbook (1979, ISBN 92-4-170048-3) multiplies them by the longest perpendicular ones.

A tumour is a component of label 2 connected by voxel faces, numbered 1..n as `components.label_components`
does. Places are relative to the outlined liver and name no Couinaud segment: those follow vessels, which
nobody outlined.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import edt
import numpy as np
import pandas as pd
from scipy.ndimage import find_objects
from scipy.spatial import ConvexHull

from livseg_lib.errors import InputError
from livseg_lib.labels import LIVER, STRUCTURES, bounding_box, structure_mask
from livseg_lib.postprocessing.components import label_components, require_volumes
from livseg_lib.preprocessing.geometry import widened

REACH = 0.25
"""How far a pixel reaches beyond its centre, of its side. The centres inside an ellipse end half a pixel
too early on average, and the pixels' edges as much too late. Midway the longest diameter has hardly a bias,
and is never more than half a pixel (of the larger side) too long."""

_SPECK = 512  # voxels of a mask up to which others may well look the same


class AxialDiameters(NamedTuple):
    """Both diameters in mm: NaN for an empty mask, and where the size of a pixel is unknown."""

    slice: int | None  # where the longest one lies, the first of equals; None for an empty mask
    longest_mm: float
    perpendicular_mm: float


def axial_diameters(mask: np.ndarray, spacing_mm: Sequence[float]) -> AxialDiameters:
    """The longest axial diameter of a boolean `mask` (D, H, W), and the longest one across it in its slice.

    The longest joins the farthest two points of a slice, whatever lies between them; the perpendicular one
    is the longest chord across it of the slice's convex hull; of several longest ones, in whatever slices,
    that with the longest chord counts. A row of n pixels is n - 1/2 pixels long.
    `spacing_mm` (D, H, W) may be NaN: then pixels are taken as squares, to find the slice.
    """
    sides = tuple(float(side) for side in spacing_mm[1:])
    # Specks look alike by the thousand: those are measured once.
    measure = _measured if mask.size <= _SPECK else _measured.__wrapped__
    return measure(mask.shape, mask.tobytes(), sides)


@lru_cache(maxsize=4096)
def _measured(shape: tuple[int, ...], content: bytes, sides_mm: tuple[float, float]) -> AxialDiameters:
    """`axial_diameters` of a boolean mask of that shape, given as bytes."""
    mask, sides = np.frombuffer(content, bool).reshape(shape), np.array(sides_mm)
    known = np.isfinite(sides).all()
    assumed = sides if known else np.ones(2)
    longest = AxialDiameters(None, 0.0, np.nan)
    for index in np.flatnonzero(mask.any(axis=(1, 2))):
        extents = [np.ptp(np.flatnonzero(mask[index].any(axis=axis))) + 1 for axis in (1, 0)]
        if np.hypot(*(extents * assumed)) > longest.longest_mm:  # the diagonal of the box around it
            found = AxialDiameters(int(index), *_diameters_mm(mask[index], assumed))
            longest = max(longest, found, key=lambda each: (round(each.longest_mm, 9), each.perpendicular_mm))
    return longest if known and longest.slice is not None else AxialDiameters(longest.slice, np.nan, np.nan)


def _diameters_mm(pixels: np.ndarray, sides_mm: np.ndarray) -> tuple[float, float]:
    """The longest and the perpendicular one of a boolean slice (H, W) that is not empty."""
    hull = _hull(pixels)
    steps_mm = (hull[:, None] - hull) * sides_mm  # of exact differences: where a shape lies changes no digit
    distances = np.linalg.norm(steps_mm, axis=-1)
    longest = np.argwhere(np.triu(distances > distances.max() * (1 - 1e-9)))
    return float(distances.max()), max(_across_mm(steps_mm[:, start], start, end) for start, end in longest)


def _across_mm(corners_mm: np.ndarray, start: int, end: int) -> float:
    """The longest chord across the line from `start` to `end`, of a hull's `corners_mm` (n, 2) from `start`.

    Along the longest diameter the length of chords across it is linear between the hull's corners, so that
    the longest chord is at one of them; and no corner lies beyond the ends of the longest diameter.
    """
    along = corners_mm[end] / np.linalg.norm(corners_mm[end])
    x, y = (corners_mm @ np.array([along, [-along[1], along[0]]]).T).T
    ring = np.arange(end, start + len(x) + 1)[::-1] % len(x)  # the other way round
    upper, lower = (np.interp(x, x[side], y[side]) for side in (slice(start, end + 1), ring))
    return float(np.abs(upper - lower).max())


def _hull(pixels: np.ndarray) -> np.ndarray:
    """Corners of the convex hull around a slice's pixels, float64 (n, 2), in their order around it."""
    rows = np.flatnonzero(pixels.any(axis=1))
    first = pixels[rows].argmax(axis=1)
    last = pixels.shape[1] - 1 - pixels[rows, ::-1].argmax(axis=1)
    centres = np.concatenate([np.stack([rows, columns], axis=1) for columns in (first, last)])
    sides = REACH * np.array([[1, 0], [-1, 0], [0, 1], [0, -1]])
    points = (centres[:, None] + sides).reshape(-1, 2)
    return points[ConvexHull(points).vertices]


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

_PLACES = (
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
    spacing = np.asarray(spacing_mm, float)
    # All labels, and one voxel more where there is one; the first voxel where there is no label.
    box = bounding_box(labels)
    around = (slice(0, 1),) * 3 if box is None else widened(box, labels.shape, np.ones(3), 1)
    labels, voxels = labels[around], None if voxels is None else voxels[around]
    ids, n_tumors = label_components(structure_mask(labels, "tumor"))
    liver, liver_hu = structure_mask(labels, "liver"), mean_liver_hu(voxels, labels)
    depths_mm = _depths_mm(liver, spacing) if n_tumors else None  # most of the time is spent here
    edges = [_part_edges(liver, axis, len(names)) for axis, names in enumerate(_PLACES)]
    rows = []
    for tumor, box in enumerate(find_objects(ids), start=1):
        inside = ids[box] == tumor
        first = [side.start for side in box]
        centre = np.argwhere(inside).mean(axis=0) + first
        sides = zip(_PLACES, edges, centre, strict=True)
        parts = [names[np.searchsorted(axis_edges, position)] for names, axis_edges, position in sides]
        diameters, count = axial_diameters(inside, spacing), np.count_nonzero(inside)
        hu = np.full(1, np.nan) if voxels is None else voxels[box][inside]
        whole = centre + [side.start for side in around]
        row = {
            "tumor": tumor,
            "voxels": count,
            "volume_ml": count * float(spacing.prod()) / 1000.0,
            "longest_diameter_mm": diameters.longest_mm,
            "perpendicular_diameter_mm": diameters.perpendicular_mm,
            "slice": around[0].start + first[0] + diameters.slice,
            **dict(zip(("centre_slice", "centre_row", "centre_column"), whole, strict=True)),
            "distance_to_border_mm": float(depths_mm[box][inside].min()),
            "position": ", ".join(reversed(parts)),
            "mean_hu": float(hu.mean()),
            "sd_hu": float(hu.std()),
        }
        rows.append(row | {"contrast_hu": liver_hu - row["mean_hu"]})
    return pd.DataFrame(rows, columns=list(TUMOR_COLUMNS)).astype(TUMOR_COLUMNS)


def measure_liver(voxels: np.ndarray | None, labels: np.ndarray, spacing_mm: Sequence[float]) -> dict:
    """The patient's sums: liver_ml (with its tumours), tumor_ml, tumor_burden, n_tumors, liver_hu.

    `tumor_burden` is the share of the liver that is tumour, 0 to 1, NaN without liver; `liver_hu` is that
    of `mean_liver_hu`. Arguments, NaN and errors as for `measure_tumors`.
    """
    _require_labels(voxels, labels)
    voxel_ml = float(np.prod(spacing_mm)) / 1000.0
    liver, tumor = (structure_mask(labels, name) for name in STRUCTURES)
    liver_voxels, tumor_voxels = int(np.count_nonzero(liver)), int(np.count_nonzero(tumor))
    return {
        "liver_ml": liver_voxels * voxel_ml,
        "tumor_ml": tumor_voxels * voxel_ml,
        "tumor_burden": tumor_voxels / liver_voxels if liver_voxels else np.nan,
        "n_tumors": int(label_components(tumor)[1]) if tumor_voxels else 0,
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


def _part_edges(liver: np.ndarray, axis: int, parts: int) -> np.ndarray:
    """Places along `axis`, in voxels, that cut the liver into `parts` of equal volume, (parts - 1,)."""
    other_axes = tuple(k for k in range(3) if k != axis)
    filled = np.cumsum([0, *np.count_nonzero(liver, axis=other_axes)])
    faces = np.arange(len(filled)) - 0.5
    return np.interp(filled[-1] * np.arange(1, parts) / parts, filled, faces)


def _depths_mm(liver: np.ndarray, spacing_mm: np.ndarray) -> np.ndarray:
    """Distance of each voxel of the liver to the nearest outside it, (D, H, W); NaN where undefined. The
    volume's own faces are no border: a liver goes on where a scan ends."""
    if np.isnan(spacing_mm).any() or liver.all():
        return np.full(liver.shape, np.nan, np.float32)
    return edt.edt(liver, anisotropy=tuple(spacing_mm))
