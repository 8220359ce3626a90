"""Outlines drawn to the real edges: morphological active contours within a few millimetres (system J).

Chan and Vese's contour without edges in its morphological form (Márquez-Neila et al. 2014,
doi:10.1109/TPAMI.2013.106; scikit-image), in 3D, each object in its own box. A voxel may change sides only
within `reach_mm` of the object's first surface, in mm whatever the spacing: between thick slices nothing
moves, within slices it does. All that lies farther away is painted in the mean HU of its side, so that
neither lung nor vessels nor another tumour pull at the contour.
"""

from __future__ import annotations

from collections.abc import Sequence

import edt
import numpy as np
from scipy.ndimage import find_objects, gaussian_filter
from skimage.segmentation import morphological_chan_vese

from livseg_lib.postprocessing.components import known_spacing, label_components, require_volumes
from livseg_lib.preprocessing.geometry import widened

REACH_MM = 3.0
_LOWEST_HU, _HIGHEST_HU = -100, 300
"""HU are cut here, or lung and bone would colour their neighbourhood."""
_SMOOTHING_MM = 1.0
"""Standard deviation of the Gaussian filter before: one voxel's noise is as large as a tumour's contrast. It
keeps the outline even as well. The contour's own smoothing is left out: across slices of several
millimetres it wore down the ends of small tumours."""
_RIM_MM = 6.0
"""Liver from the reach to so much farther is what the object is told from."""
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
        others = (ids[around] > 0) & (ids[around] != number)
        free = liver_mask[around] & ~others
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
