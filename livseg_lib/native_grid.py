"""The grid that a volume was stored in, kept so that what leaves the library lies on it again."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
from nibabel.nifti1 import Nifti1Header

from livseg_lib.orientation import Orientation

SAME_PLACE_VOXELS = 0.5
"""Two geometries agree if no corner of the grid moves by more than this share of the smallest voxel side."""

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
        """Distance of voxel centres along D, H, W."""
        sides = np.linalg.norm(self.affine[:3, :3], axis=0)
        return tuple(float(sides[axis]) for axis in self.orientation.axes)

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
