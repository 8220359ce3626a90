"""The shape of one object in mm, whatever the voxels' sides: size, roundness, how far it is stretched.

All functions take a boolean mask (D, H, W) of one object, not empty, and `spacing_mm` (D, H, W), float64.
Voxels are little boxes, not points, so that one voxel alone has a shape too.
"""

from __future__ import annotations

import numpy as np
from skimage.measure import marching_cubes, mesh_surface_area


def shape_features(inside: np.ndarray, spacing_mm: np.ndarray) -> dict[str, float]:
    """The "shape" features of `candidates.FEATURES` that the mask alone tells."""
    volume_ml = int(inside.sum()) * float(spacing_mm.prod()) / 1000.0
    lengths = principal_lengths_mm(inside, spacing_mm)
    return {
        "volume_ml": volume_ml,
        "diameter_mm": (6000.0 * volume_ml / np.pi) ** (1 / 3),
        "longest_axis_mm": float(lengths[0]),
        "elongation": float(lengths[1] / lengths[0]),
        "flatness": float(lengths[2] / lengths[0]),
        "extent": float(inside.sum() / np.prod(np.ptp(np.argwhere(inside), axis=0) + 1)),
        "sphericity": sphericity(inside, spacing_mm),
    }


def principal_lengths_mm(inside: np.ndarray, spacing_mm: np.ndarray) -> np.ndarray:
    """Axes, longest first, of the ellipsoid whose second moments are those of the object; float64 (3,).

    The diameter, three times, for a ball; sqrt(5 / 3) times the sides for a box along the axes.
    """
    points_mm = np.argwhere(inside) * spacing_mm
    moments = np.cov(points_mm, rowvar=False, bias=True).reshape(3, 3) + np.diag(spacing_mm**2 / 12)
    return 2 * np.sqrt(5 * np.linalg.eigvalsh(moments)[::-1])


def sphericity(inside: np.ndarray, spacing_mm: np.ndarray) -> float:
    """Surface of the ball of the object's volume over its own surface, both of one triangle mesh: 0 to 1.

    (IBSI, doi:10.1148/radiol.2020191145.) The steps of a mask's surface make it rough: balls of more than
    a few voxels score 0.85 to 0.9.
    """
    vertices, faces, *_ = marching_cubes(np.pad(inside, 1).astype(np.float32), 0.5, spacing=tuple(spacing_mm))
    corners = vertices[faces] - vertices.mean(axis=0)
    volume_mm3 = abs(np.einsum("ni,ni->", corners[:, 0], np.cross(corners[:, 1], corners[:, 2]))) / 6
    return float((36 * np.pi * volume_mm3**2) ** (1 / 3) / mesh_surface_area(vertices, faces))
