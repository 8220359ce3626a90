"""Connected components of 3D masks: number them, keep the largest, drop the small, fill holes.

Voxels are connected by their six faces, as the LiTS scorer counts tumours (system K). Every function
takes boolean masks (D, H, W), leaves them as they are and returns a new one; empty masks stay empty.
"""

from __future__ import annotations

import cc3d
import numpy as np

FACES = 6


def label_components(mask: np.ndarray) -> tuple[np.ndarray, int]:
    """Number the components of `mask` 1..n; returns the ids (D, H, W), unsigned, 0 outside, and n.

    Ids follow the first voxel of each component in the order of the array's axes, whatever its memory
    layout: the same volume always gets the same ids, and they are those of `scipy.ndimage.label`.
    """
    return cc3d.connected_components(np.ascontiguousarray(mask), connectivity=FACES, return_N=True)


def largest_component(mask: np.ndarray) -> np.ndarray:
    """The component with most voxels (of equals the one that comes first): a patient has one liver."""
    components, count = label_components(mask)
    if count == 0:
        return np.zeros_like(mask)
    voxels = np.bincount(components.ravel(), minlength=count + 1)
    return components == 1 + voxels[1:].argmax()


def remove_small_components(mask: np.ndarray, min_volume_ml: float, voxel_volume_ml: float) -> np.ndarray:
    """`mask` without its components of less than `min_volume_ml` millilitres."""
    components, count = label_components(mask)
    volumes_ml = np.bincount(components.ravel(), minlength=count + 1) * voxel_volume_ml
    keep = volumes_ml >= min_volume_ml
    keep[0] = False
    return keep[components]


def fill_holes(mask: np.ndarray) -> np.ndarray:
    """`mask` with every cavity filled that the outside cannot reach through voxel faces.

    What touches the edge of the volume is no cavity.
    """
    outside, _ = label_components(np.pad(~mask, 1, constant_values=True))
    return (outside != outside[0, 0, 0])[1:-1, 1:-1, 1:-1]


def keep_inside(tumor: np.ndarray, liver: np.ndarray) -> np.ndarray:
    """The voxels of `tumor` that lie in `liver` (which has to contain its tumours: fill its holes first)."""
    return tumor & liver
