"""The grid that a volume was stored in, kept so that what leaves the library lies on it again."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
from nibabel.nifti1 import Nifti1Header

from livseg_lib.orientation import Orientation

SAME_PLACE_VOXELS = 0.5
"""Two geometries agree if no corner of the grid moves by more than this share of the smallest voxel side."""

RIGHT_ANGLE_DEGREES = 0.1
"""Axes that are off a right angle by less than this are rounded, not sheared."""

GEOMETRY_FIELDS = (
    *("dim", "datatype", "bitpix", "pixdim", "xyzt_units", "qform_code", "sform_code"),
    *("quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z"),
    *("srow_x", "srow_y", "srow_z"),
)
"""All that is carried over from a header. None of it is text, so no name or description ever is."""


@dataclass(frozen=True, eq=False)
class NativeGrid:
    """Where the voxels of a file lie, and how they are stored."""

    shape: tuple[int, int, int]
    """Stored axes i, j, k."""
    affine: np.ndarray
    """4x4 float64, from (i, j, k) to RAS+ mm."""
    dtype: np.dtype
    """Type of the stored voxels, byte order included."""
    header: bytes
    """NIfTI header to save with: the geometry of the file and nothing else (slope 1, intercept 0)."""

    @property
    def orientation(self) -> Orientation:
        """How to get from the stored axes to (D, H, W) and back."""
        return Orientation.of(self.affine)

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Distance between planes (D), between the rows of a plane (H), and along a row (W).

        Their product is the volume of a voxel, sheared or not. On a sheared grid (a tilted gantry) distances
        across planes are approximate: voxels of neighbouring planes do not lie straight above each other.
        """
        depth, height, width = (self.affine[:3, axis] for axis in self.orientation.axes)
        if self.shear_degrees < RIGHT_ANGLE_DEGREES:
            return tuple(float(np.linalg.norm(axis)) for axis in (depth, height, width))
        plane, row = np.linalg.norm(np.cross(height, width)), np.linalg.norm(width)
        volume = abs(np.linalg.det(self.affine[:3, :3]))
        return float(volume / plane), float(plane / row), float(row)

    @property
    def stored_spacing_mm(self) -> tuple[float, float, float]:
        """The same in the order of the stored axes i, j, k."""
        return tuple(self.spacing_mm[axis] for axis in np.argsort(self.orientation.axes))

    @property
    def shear_degrees(self) -> float:
        """How far the axes are from right angles, at most."""
        axes = self.affine[:3, :3] / np.linalg.norm(self.affine[:3, :3], axis=0)
        cosines = np.abs(np.triu(axes.T @ axes, 1))
        return float(np.degrees(np.arcsin(min(cosines.max(), 1.0))))

    @property
    def lps_shape(self) -> tuple[int, int, int]:
        """Shape of the same grid as (D, H, W)."""
        return tuple(self.shape[axis] for axis in self.orientation.axes)

    def farthest_apart_mm(self, other: NativeGrid) -> float:
        """Largest distance between corresponding corners, both grids taken as (D, H, W)."""
        mine = self.orientation.lps_affine(self.affine, self.shape)
        theirs = other.orientation.lps_affine(other.affine, other.shape)
        return corner_distance_mm(mine, theirs, self.lps_shape)

    def lies_on(self, other: NativeGrid) -> bool:
        """Whether both hold the same voxels in space, whatever the order that they are stored in."""
        tolerance_mm = SAME_PLACE_VOXELS * min(self.spacing_mm)
        return self.lps_shape == other.lps_shape and self.farthest_apart_mm(other) <= tolerance_mm


def corner_distance_mm(first: np.ndarray, second: np.ndarray, shape: tuple[int, int, int]) -> float:
    """Largest distance between the eight corners of an array of `shape` under two affines."""
    corners = np.array(list(product(*((0, size - 1) for size in shape), (1,))), dtype=float)
    return float(np.linalg.norm((corners @ (first - second).T)[:, :3], axis=1).max())


def clean_header(header: Nifti1Header) -> bytes:
    """A header of the same kind and byte order with the geometry of `header` only, ready to be written."""
    clean = type(header)(endianness=header.endianness)
    for field in GEOMETRY_FIELDS:
        clean[field] = header[field]
    clean["scl_slope"], clean["scl_inter"] = 1, 0
    clean["vox_offset"] = header.single_vox_offset
    return clean.binaryblock


def new_grid(shape: tuple[int, int, int], affine: np.ndarray, dtype: np.dtype) -> NativeGrid:
    """Grid for voxels that come from elsewhere than NIfTI. `affine`: 4x4 to RAS+ mm, no shear."""
    header = Nifti1Header(endianness="<")
    header.set_data_shape(shape)
    header.set_data_dtype(dtype)
    header.set_xyzt_units("mm")
    header.set_qform(affine, code=1)
    header.set_sform(affine, code=1)
    return NativeGrid(shape, np.asarray(affine, dtype=float), header.get_data_dtype(), clean_header(header))
