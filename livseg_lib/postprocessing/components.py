"""Connected parts of masks, and predicted labels made tidy by them or drawn to the real edges (system J).

Voxels are connected by their six faces, as the LiTS scorer counts tumours (system K). Every function leaves
its arrays (D, H, W) as they are and returns new ones; empty stays empty.

Edges are found by Chan and Vese's contour without edges in its morphological form (Márquez-Neila et al. 2014,
doi:10.1109/TPAMI.2013.106; scikit-image), in 3D, each object in its own box. A voxel may change sides only
within `reach_mm` of the object's first surface, in mm whatever the spacing: between thick slices nothing
moves, within slices it does. All that lies farther away is painted in the mean HU of its side, so that
neither lung nor vessels nor another tumour pull at the contour.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps

import cc3d
import edt
import numpy as np
from scipy.ndimage import find_objects, gaussian_filter
from skimage.segmentation import morphological_chan_vese

from livseg_lib.errors import InputError
from livseg_lib.labels import BACKGROUND, LIVER, TUMOR, bounding_box, structure_mask
from livseg_lib.preprocessing.geometry import widened


def label_components(mask: np.ndarray) -> tuple[np.ndarray, int]:
    """Number the components of `mask` 1..n; returns the ids (D, H, W), unsigned, 0 outside, and n.

    Ids follow the first voxel of each component in the order of the array's axes, whatever its memory
    layout: the same volume always gets the same ids, and they are those of `scipy.ndimage.label`.
    """
    return cc3d.connected_components(np.ascontiguousarray(mask), connectivity=6, return_N=True)


def largest_component(mask: np.ndarray) -> np.ndarray:
    """The component with most voxels (of equals the one that comes first): a patient has one liver."""
    components, count = label_components(mask)
    if count == 0:
        return np.zeros_like(mask)
    return components == np.bincount(components[mask]).argmax()


def remove_small_components(mask: np.ndarray, min_volume_ml: float, voxel_volume_ml: float) -> np.ndarray:
    """`mask` without its components of less than `min_volume_ml` millilitres."""
    components, count = label_components(mask)
    volumes_ml = np.bincount(components[mask], minlength=count + 1) * voxel_volume_ml
    keep = volumes_ml >= min_volume_ml
    keep[0] = False
    return keep[components]


def fill_holes(mask: np.ndarray) -> np.ndarray:
    """`mask` with every cavity filled that the outside cannot reach through voxel faces. What touches the
    edge of the volume is no cavity."""
    outside, _ = label_components(np.pad(~mask, 1, constant_values=True))
    return (outside != outside[0, 0, 0])[1:-1, 1:-1, 1:-1]


def known_spacing(spacing_mm: Sequence[float]) -> np.ndarray:
    """`spacing_mm` (D, H, W) as float64. Raises InputError where it is unknown (NaN) or not positive."""
    spacing = np.asarray(spacing_mm, float)
    if spacing.shape != (3,) or not (np.isfinite(spacing) & (spacing > 0)).all():
        problem = f"is {tuple(spacing_mm)}: without a size in mm on each axis nothing here can be measured."
        raise InputError("spacing_mm", problem, "Use a volume of known spacing, no stack of pictures.")
    return spacing


def require_volumes(**arrays: np.ndarray) -> None:
    """Raise InputError unless all named `arrays` are volumes (D, H, W) of one shape."""
    shapes = {name: array.shape for name, array in arrays.items()}
    if len(set(shapes.values())) > 1 or any(len(shape) != 3 for shape in shapes.values()):
        found = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise InputError(", ".join(arrays), f"are not volumes of one shape: {found}.", "Use one scan's grid.")


Finish = Callable[[np.ndarray, Sequence[float]], np.ndarray]
"""Labels 0/1/2, uint8 (D, H, W), and spacing_mm (D, H, W) -> labels made tidier, by one habit alone."""

SMALLEST_TUMOR_ML = 0.1
"""A ball of 5.8 mm. What is smaller is not measured in the clinic (RECIST 1.1 starts at 10 mm)."""


def _where_labels_are(finish: Finish) -> Finish:
    """`finish` on the smallest box with all labels: the rest of a scan would cost most of the time."""

    @wraps(finish)
    def on_box(labels: np.ndarray, spacing_mm: Sequence[float]) -> np.ndarray:
        finished = labels.copy()
        box = bounding_box(labels)
        if box is not None:
            finished[box] = finish(labels[box], spacing_mm)
        return finished

    return on_box


def keep_largest_liver(labels: np.ndarray, spacing_mm: Sequence[float]) -> np.ndarray:
    """Only the largest component of the liver (its tumours included): a patient has one."""
    return np.where(largest_component(structure_mask(labels, "liver")), labels, np.uint8(BACKGROUND))


def fill_liver(labels: np.ndarray, spacing_mm: Sequence[float]) -> np.ndarray:
    """Cavities of the liver become liver."""
    liver = structure_mask(labels, "liver")
    return np.where(fill_holes(liver) & ~liver, np.uint8(LIVER), labels)


def fill_tumors(labels: np.ndarray, spacing_mm: Sequence[float]) -> np.ndarray:
    """Cavities of tumours become tumour, whatever they were."""
    return np.where(fill_holes(structure_mask(labels, "tumor")), np.uint8(TUMOR), labels)


def drop_small_tumors(labels: np.ndarray, spacing_mm: Sequence[float]) -> np.ndarray:
    """Tumours of less than `SMALLEST_TUMOR_ML` become liver. Raises InputError for an unknown spacing."""
    voxel_volume_ml = float(known_spacing(spacing_mm).prod()) / 1000.0
    tumor = structure_mask(labels, "tumor")
    kept = remove_small_components(tumor, SMALLEST_TUMOR_ML, voxel_volume_ml)
    return np.where(tumor & ~kept, np.uint8(LIVER), labels)


def keep_tumors_in_liver(labels: np.ndarray, spacing_mm: Sequence[float]) -> np.ndarray:
    """Tumours that touch no liver (label 1) by a face become background: nothing shows a liver there."""
    ids, count = label_components(structure_mask(labels, "tumor"))
    touches = np.zeros(count + 1, bool)
    for axis in range(3):
        below, above = np.moveaxis(ids, axis, 0), np.moveaxis(labels == LIVER, axis, 0)
        touches[below[:-1][above[1:]]] = True
        touches[below[1:][above[:-1]]] = True
    touches[0] = True  # what is no tumour stays
    return np.where(touches[ids], labels, np.uint8(BACKGROUND))


FINISHES: dict[str, Finish] = {
    finish.__name__: _where_labels_are(finish)
    for finish in (keep_largest_liver, fill_liver, fill_tumors, keep_tumors_in_liver, drop_small_tumors)
}
"""By name, in an order that makes sense: each may rely on those before it."""


def require_finishes(names: Sequence[str]) -> None:
    """Raise InputError for names that are not in `FINISHES`."""
    if unknown := [name for name in names if name not in FINISHES]:
        problem = "are no ways to finish labels."
        raise InputError(", ".join(unknown), problem, f"Choose of {', '.join(FINISHES)}.")


def finish_labels(labels: np.ndarray, spacing_mm: Sequence[float], names: Sequence[str]) -> np.ndarray:
    """`labels` after the finishes `names`, one after another in that order; a copy where there are none.
    Raises InputError for a name that is not in `FINISHES`."""
    require_finishes(names)
    finished = labels.copy()
    for name in names:
        finished = FINISHES[name](finished, spacing_mm)
    return finished


def finish_title(name: str) -> str:
    """A finish in words: "drop_small_tumors" reads "drop small tumours"."""
    return name.replace("tumor", "tumour").replace("_", " ")


REACH_MM = 3.0
_LOWEST_HU, _HIGHEST_HU = -100, 300  # HU are cut here, or lung and bone would colour their neighbourhood
_SMOOTHING_MM = 1.0
"""Standard deviation of the Gaussian filter before: one voxel's noise is as large as a tumour's contrast. It
keeps the outline even as well. The contour's own smoothing is left out: across slices of several
millimetres it wore down the ends of small tumours."""
_RIM_MM = 6.0  # the object is compared with liver from the reach to this much farther
LEAST_CONTRAST_HU = 10.0
"""Objects that differ less from their surroundings have no edge to draw to, and stay as they are."""


def refine_outlines(
    mask: np.ndarray,
    liver_mask: np.ndarray,
    hu: np.ndarray,
    spacing_mm: Sequence[float],
    reach_mm: float = REACH_MM,
) -> np.ndarray:
    """`mask` with every component's border on the nearest edge in the image; bool (D, H, W).

    `mask` and `liver_mask` are boolean, `hu` int16, all (D, H, W); `spacing_mm` (D, H, W). The result lies
    inside the liver and differs from `mask` there only within `reach_mm` of its surface. An object without
    contrast, without liver around it, or that would vanish stays as it was. Empty stays empty. Raises
    InputError for different shapes and for an unknown spacing.
    """
    require_volumes(mask=mask, liver_mask=liver_mask, hu=hu)
    spacing = known_spacing(spacing_mm)
    ids, _ = label_components(mask & liver_mask)
    refined = np.zeros_like(mask)
    for number, box in enumerate(find_objects(ids), start=1):
        around = widened(box, mask.shape, spacing, reach_mm + _RIM_MM)
        other_objects = (ids[around] > 0) & (ids[around] != number)
        free = liver_mask[around] & ~other_objects
        refined[around] |= _refine_one(ids[around] == number, free, hu[around], spacing, reach_mm)
    return refined


def _refine_one(
    inside: np.ndarray, free: np.ndarray, hu: np.ndarray, spacing_mm: np.ndarray, reach_mm: float
) -> np.ndarray:
    """One object in its box; `free` is where it may be."""
    beyond_mm = edt.edt(~inside, anisotropy=tuple(spacing_mm))
    depth_mm = edt.edt(inside, anisotropy=tuple(spacing_mm))
    smooth = _smoothed_within(free, hu, spacing_mm)
    core = (depth_mm > min(reach_mm, depth_mm.max() / 2)) & (depth_mm <= reach_mm + _RIM_MM)
    rim = free & (beyond_mm > reach_mm) & (beyond_mm <= reach_mm + _RIM_MM)
    if not rim.any():
        return inside
    core_hu, rim_hu = float(smooth[core].mean()), float(smooth[rim].mean())
    if abs(core_hu - rim_hu) < LEAST_CONTRAST_HU:
        return inside
    always, never = depth_mm > reach_mm, ~free | (beyond_mm > reach_mm)
    smooth[always], smooth[never] = core_hu, rim_hu
    steps = 2 + int(np.ceil(reach_mm / spacing_mm.min()))
    found = (_evolve(smooth, inside, steps) | always) & ~never
    return found if found.any() else inside


def _evolve(smooth: np.ndarray, inside: np.ndarray, steps: int) -> np.ndarray:
    """The contour after `steps`; an axis of one voxel is doubled, as a gradient takes two."""
    doubling = [(0, int(size == 1)) for size in smooth.shape]
    smooth, start = (np.pad(array, doubling, mode="edge") for array in (smooth, inside))
    found = morphological_chan_vese(smooth, steps, init_level_set=start, smoothing=0) > 0
    return found[tuple(slice(size) for size in inside.shape)]


def _smoothed_within(free: np.ndarray, hu: np.ndarray, spacing_mm: np.ndarray) -> np.ndarray:
    """Gaussian mean of the HU of `free` voxels only, float32: ribs and fat beside it leave no trace."""
    sigma = _SMOOTHING_MM / spacing_mm
    clipped = np.clip(hu, _LOWEST_HU, _HIGHEST_HU).astype(np.float32)
    weights = gaussian_filter(free.astype(np.float32), sigma, mode="nearest")
    sums = gaussian_filter(np.where(free, clipped, 0), sigma, mode="nearest")
    return np.divide(sums, weights, out=clipped, where=weights > 1e-3)
