"""A NIfTI header: parsed from bytes, and believed only after it was checked."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np
from nibabel.nifti1 import Nifti1Header
from nibabel.nifti2 import Nifti2Header
from nibabel.spatialimages import HeaderDataError

from livseg_lib.errors import InputError
from livseg_lib.native_grid import (
    RIGHT_ANGLE_DEGREES,
    SAME_PLACE_VOXELS,
    NativeGrid,
    clean_header,
    corner_distance_mm,
)

HEADER_KINDS = {348: Nifti1Header, 540: Nifti2Header}
"""By their length in bytes, which is the first thing that a header says."""
EOL_CHECKS = ((13, 10, 26, 10), (0, 0, 0, 0))
"""Of NIfTI-2: as it should be, and left out."""
FORM_CODES = range(6)
"""From unknown (0: not there) to a template (5)."""
SIZE_TOLERANCE = 0.01
"""Voxel sizes in pixdim and in the sform may differ by this share."""
LEAST_DETERMINANT = 1e-6
"""An affine is singular below this share of the volume that axes at right angles would span."""
MOST_SHEAR_DEGREES = 45.0
"""A gantry tilts by up to 30."""
LONGEST_QUATERNION = 1.001
"""Its part b, c, d is at most 1 long; by so much it is rounded, not wrong."""
EXPORT_AGAIN = "Export it again from its source."


@dataclass(frozen=True)
class NiftiHeader:
    """What is needed to read the voxels."""

    grid: NativeGrid
    voxel_offset: int
    """Bytes from the start of the file to the first voxel."""
    scaling: tuple[float, float] | None
    """Slope and intercept, or None for values as they are stored."""

    @property
    def voxel_count(self) -> int:
        """Voxels of the whole grid."""
        return prod(self.grid.shape)


def header_length(first_bytes: bytes, path: Path) -> tuple[int, str]:
    """Bytes of the header and its byte order ("<" or ">"), from the first four. Raises InputError."""
    for order in "<>":
        length = int(np.frombuffer(first_bytes, f"{order}i4")[0])
        if length in HEADER_KINDS:
            return length, order
    raise InputError(
        path,
        "This is not a NIfTI file.",
        "Give a .nii or .nii.gz file (NIfTI-1 or NIfTI-2); a picture does not do.",
    )


def parse_header(block: bytes, byte_order: str, path: Path) -> NiftiHeader:
    """Check and translate a whole header. Raises InputError naming the first thing that is wrong."""
    header = HEADER_KINDS[len(block)](block, endianness=byte_order, check=False)
    if bytes(header["magic"]) not in (b"n+1\0", b"n+2\0"):
        raise InputError(
            path, "The header is not that of a single NIfTI file.", "Convert .hdr/.img pairs to .nii.gz."
        )
    _check_codes(header, path)
    shape, dtype = _shape(header, path), _dtype(header, path)
    _check_units(header, path)
    _complete(header)
    grid = NativeGrid(shape, _affine(header, path), dtype, clean_header(header))
    _check_geometry_agrees(header, grid, path)
    return NiftiHeader(grid, _voxel_offset(header, path), _scaling(header, path))


def _check_codes(header: Nifti1Header, path: Path) -> None:
    """What says whether the rest can be trusted, and which geometry counts."""
    if header["sizeof_hdr"] == 540 and tuple(header["eol_check"]) not in EOL_CHECKS:
        raise InputError(
            path, "The file was changed by a conversion of line ends.", "Copy it again as it is."
        )
    for form in ("sform", "qform"):
        if int(header[f"{form}_code"]) not in FORM_CODES:
            raise InputError(path, f"The {form} has a code that does not exist.", EXPORT_AGAIN)


def _shape(header: Nifti1Header, path: Path) -> tuple[int, int, int]:
    axes = int(header["dim"][0])
    shape = [int(size) for size in header["dim"][1 : axes + 1]]
    if not 1 <= axes <= 7 or min(shape) < 1:
        raise InputError(path, f"The header gives an impossible shape ({shape}).", EXPORT_AGAIN)
    if axes < 3 or prod(shape[3:]) != 1:
        sizes = " x ".join(map(str, shape))
        raise InputError(path, f"The image is {sizes}, not a 3D volume.", "Save one 3D volume a file.")
    return tuple(shape[:3])


def _dtype(header: Nifti1Header, path: Path) -> np.dtype:
    try:
        dtype = header.get_data_dtype()
    except (HeaderDataError, KeyError) as error:
        raise InputError(path, "The header gives an unknown data type.", EXPORT_AGAIN) from error
    if dtype.kind not in "iuf" or dtype.itemsize > 8:
        remedy = "Save CT as int16 or float32, labels as uint8."
        raise InputError(
            path, f"Voxels of type {header['datatype']} ({dtype}) are not plain numbers.", remedy
        )
    if dtype.itemsize * 8 != int(header["bitpix"]):
        raise InputError(path, f"The header gives {header['bitpix']} bits a voxel for {dtype}.", EXPORT_AGAIN)
    return dtype


def _check_units(header: Nifti1Header, path: Path) -> None:
    unit = int(header["xyzt_units"]) % 8
    if unit not in (0, 2):  # unknown is taken for mm, as everywhere
        name = {1: "metres", 3: "micrometres"}.get(unit, f"unit {unit}")
        raise InputError(path, f"The voxel size is given in {name}.", "Save it in millimetres.")


def _complete(header: Nifti1Header) -> None:
    """Fill in what the standard, or the sform, says of fields that writers leave out or round."""
    if header["pixdim"][0] == 0:
        header["pixdim"][0] = 1  # qfac, by the standard
    if header["sform_code"] > 0:
        sides, given = np.linalg.norm(header.get_sform()[:3, :3], axis=0), np.abs(header["pixdim"][1:4])
        header["pixdim"][1:4] = np.where(given > 0, given, sides)  # NaN is not above 0 either
    turn = np.array([header[f"quatern_{axis}"] for axis in "bcd"], dtype=float)
    if 1 < (length := np.linalg.norm(turn)) <= LONGEST_QUATERNION and header["qform_code"] > 0:
        for axis, value in zip("bcd", turn / max(length, 1.0), strict=True):
            header[f"quatern_{axis}"] = value


def _affine(header: Nifti1Header, path: Path) -> np.ndarray:
    """To RAS+ mm: the sform, else the qform, else voxel sizes alone (nibabel's order)."""
    try:
        with np.errstate(all="ignore"):  # what is not finite is refused below
            affine = np.asarray(header.get_best_affine(), dtype=float)
    except (ValueError, HeaderDataError) as error:
        raise InputError(path, "The qform is impossible.", EXPORT_AGAIN) from error
    box = np.prod(np.linalg.norm(affine[:3, :3], axis=0))
    volume = abs(np.linalg.det(affine[:3, :3])) if np.isfinite(affine).all() else 0.0
    if not volume > LEAST_DETERMINANT * box:
        raise InputError(
            path, "The affine is singular or not finite: voxels have no place in space.", EXPORT_AGAIN
        )
    return affine


def _check_geometry_agrees(header: Nifti1Header, grid: NativeGrid, path: Path) -> None:
    """sform against pixdim by voxel size, and against the qform by the place of the corners."""
    remedy = "Find out which is right and write it to sform, qform and pixdim."
    sides, pixdim = np.linalg.norm(grid.affine[:3, :3], axis=0), np.abs(header["pixdim"][1:4].astype(float))
    sheared = grid.shear_degrees
    if sheared > MOST_SHEAR_DEGREES:
        problem = (
            f"The axes of the grid are {sheared:.0f} degrees off a right angle: no tilt shears a scan so."
        )
        raise InputError(path, problem, EXPORT_AGAIN)
    told = (sides, grid.stored_spacing_mm) if sheared > RIGHT_ANGLE_DEGREES else (sides,)
    if not any(np.allclose(mm, pixdim, rtol=SIZE_TOLERANCE, atol=0.0) for mm in told):
        problem = f"The affine gives voxels of {_millimetres(sides)}, pixdim {_millimetres(pixdim)}."
        raise InputError(path, problem, remedy)
    if header["sform_code"] > 0 and header["qform_code"] > 0 and len(told) == 1:  # a qform cannot shear
        try:
            apart_mm = corner_distance_mm(
                grid.affine, np.asarray(header.get_qform(), dtype=float), grid.shape
            )
        except (ValueError, HeaderDataError) as error:
            raise InputError(path, "The qform is impossible.", remedy) from error
        if not apart_mm <= SAME_PLACE_VOXELS * sides.min():
            raise InputError(path, f"sform and qform place voxels up to {apart_mm:.3g} mm apart.", remedy)


def _millimetres(sides: np.ndarray) -> str:
    return " x ".join(f"{side:.4g}" for side in sides) + " mm"


def _voxel_offset(header: Nifti1Header, path: Path) -> int:
    offset = float(header["vox_offset"])
    if offset == 0:  # left out by some writers: voxels follow the header at once
        return header.single_vox_offset
    if not header.single_vox_offset <= offset < 2**31:
        raise InputError(path, f"The header places the first voxel at byte {offset:g}.", EXPORT_AGAIN)
    return int(offset)


def _scaling(header: Nifti1Header, path: Path) -> tuple[float, float] | None:
    try:
        slope, intercept = header.get_slope_inter()
    except HeaderDataError as error:
        raise InputError(path, "Slope and intercept are impossible.", EXPORT_AGAIN) from error
    return None if slope is None or (slope, intercept) == (1.0, 0.0) else (slope, intercept)
