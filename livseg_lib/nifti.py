"""NIfTI files: their bytes, their header and the grid of their voxels, each believed only after a check.

A gzip stream says only at its end whether all before it was right, so files are read to their end, in pieces
of a bounded size.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import product
from math import prod
from pathlib import Path
from typing import BinaryIO

import numpy as np
from isal import igzip, isal_zlib
from nibabel.nifti1 import Nifti1Header
from nibabel.nifti2 import Nifti2Header
from nibabel.orientations import apply_orientation, axcodes2ornt, inv_ornt_aff, io_orientation, ornt_transform
from nibabel.spatialimages import HeaderDataError

from livseg_lib.errors import InputError
from livseg_lib.files import require_there
from livseg_lib.storage import fetch

LPS = axcodes2ornt("SPL")  # of D, H and W: to the head, to the back, to the patient's left
SAME_PLACE_VOXELS = 0.5
"""Two geometries agree if no corner of the grid moves by more than this share of the smallest voxel side."""
RIGHT_ANGLE_DEGREES = 0.1  # axes that are off a right angle by less than this are rounded, not sheared
GEOMETRY_FIELDS = (
    *("dim", "datatype", "bitpix", "pixdim", "xyzt_units", "qform_code", "sform_code"),
    *("quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z"),
    *("srow_x", "srow_y", "srow_z"),
)
"""All that is carried over from a header. None of it is text, so no name or description ever is."""


@dataclass(frozen=True, eq=False)
class NativeGrid:
    """Where the voxels of a file lie, and how they are stored."""

    shape: tuple[int, int, int]  # stored axes i, j, k
    affine: np.ndarray  # 4x4 float64, from (i, j, k) to RAS+ mm
    dtype: np.dtype  # type of the stored voxels, byte order included
    header: bytes
    """NIfTI header to save with: the geometry of the file and nothing else (slope 1, intercept 0)."""

    @property
    def _turn(self) -> np.ndarray:
        """From the stored axes to (D, H, W), by permutation and flips: one of 48, as nibabel writes them."""
        return ornt_transform(io_orientation(self.affine), LPS)

    @property
    def axes(self) -> tuple[int, int, int]:
        """The stored axis that becomes D, H and W."""
        return tuple(np.argsort(self._turn[:, 0]).tolist())

    def to_lps(self, stored: np.ndarray) -> np.ndarray:
        """View of a stored array (i, j, k) as (D, H, W)."""
        return apply_orientation(stored, self._turn)

    def to_stored(self, volume: np.ndarray) -> np.ndarray:
        """View of (D, H, W) as the stored array (i, j, k)."""
        return apply_orientation(volume, ornt_transform(LPS, io_orientation(self.affine)))

    @property
    def lps_affine(self) -> np.ndarray:
        """4x4 from (D, H, W) indices to RAS+ mm."""
        return self.affine @ inv_ornt_aff(self._turn, self.shape)

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Distance between planes (D), between the rows of a plane (H), and along a row (W).

        Their product is the volume of a voxel, sheared or not. On a sheared grid (a tilted gantry) distances
        across planes are approximate: voxels of neighbouring planes do not lie straight above each other.
        """
        depth, height, width = (self.affine[:3, axis] for axis in self.axes)
        if self.shear_degrees < RIGHT_ANGLE_DEGREES:
            return tuple(float(np.linalg.norm(axis)) for axis in (depth, height, width))
        plane, row = np.linalg.norm(np.cross(height, width)), np.linalg.norm(width)
        volume = abs(np.linalg.det(self.affine[:3, :3]))
        return float(volume / plane), float(plane / row), float(row)

    @property
    def stored_spacing_mm(self) -> tuple[float, float, float]:
        """The same in the order of the stored axes i, j, k."""
        return tuple(self.spacing_mm[axis] for axis in np.argsort(self.axes))

    @property
    def shear_degrees(self) -> float:
        """How far the axes are from right angles, at most."""
        axes = self.affine[:3, :3] / np.linalg.norm(self.affine[:3, :3], axis=0)
        cosines = np.abs(np.triu(axes.T @ axes, 1))
        return float(np.degrees(np.arcsin(min(cosines.max(), 1.0))))

    @property
    def says_directions(self) -> bool:
        """Whether the file says which way its axes run; else they are taken for left, front and head."""
        header = HEADER_KINDS[len(self.header)](self.header, check=False)
        return bool(header["sform_code"] or header["qform_code"])

    @property
    def lps_shape(self) -> tuple[int, int, int]:
        """Shape of the same grid as (D, H, W)."""
        return tuple(self.shape[axis] for axis in self.axes)

    def farthest_apart_mm(self, other: NativeGrid) -> float:
        """Largest distance between corresponding corners, both grids taken as (D, H, W)."""
        return corner_distance_mm(self.lps_affine, other.lps_affine, self.lps_shape)

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


GZIP_MAGIC = b"\x1f\x8b"
MOST_GZIP_EXPANSION = 1032  # Deflate cannot make more than this many bytes out of one
CHUNK_BYTES = 1024**2
TRAILING_BYTES_ALLOWED = CHUNK_BYTES
"""Padding that may follow the voxels; a stream that goes on for longer is refused."""


@contextmanager
def open_checked(path: Path) -> Iterator[BinaryIO]:
    """The bytes of `path`, decompressed where it is gzipped (known by its first bytes, not its name). Raises
    InputError for a missing, empty, truncated or corrupt file, also while the block reads."""
    again = "Copy or download it again."
    fetch(path)
    try:
        require_there(path)
        if not path.is_file():
            raise InputError(path, "This is a folder, pipe or device, not a file.", "Give a file.")
        if path.stat().st_size == 0:
            raise InputError(path, "The file is empty.", "Download or export it again.")
        with igzip.open(path, "rb") if is_gzip(path) else path.open("rb") as stream:
            yield stream
    except (EOFError, igzip.BadGzipFile, isal_zlib.error) as error:
        problem = "The gzip data is corrupt."
        if _has_more_than_gzip(path):
            problem = "Behind its whole gzip stream the file goes on with something else."
        elif isinstance(error, EOFError):
            problem = "The file is truncated: it ends too early."
        raise InputError(path, problem, again) from error
    except OSError as error:
        problem = f"The file cannot be read ({error.strerror or type(error).__name__})."
        raise InputError(path, problem, "Check disk and rights.") from error


def is_gzip(path: Path) -> bool:
    """Whether the file begins as gzip does."""
    with path.open("rb") as stream:
        return stream.read(2) == GZIP_MAGIC


def _has_more_than_gzip(path: Path) -> bool:
    """Whether the file is a whole gzip stream and then no other."""
    member, piece = isal_zlib.decompressobj(wbits=31), CHUNK_BYTES // MOST_GZIP_EXPANSION
    with path.open("rb") as file, suppress(isal_zlib.error):
        while not member.eof and (arrived := file.read(piece)):
            member.decompress(arrived)
        after = (member.unused_data + file.read(len(GZIP_MAGIC)))[: len(GZIP_MAGIC)]
        return member.eof and not GZIP_MAGIC.startswith(after)
    return False


def read_array(stream: BinaryIO, count: int, dtype: np.dtype) -> np.ndarray:
    """The next `count` values, 1D. Raises EOFError if there are fewer. Touches only memory that it fills."""
    values = np.empty(count, dtype)
    space, filled = memoryview(values.view(np.uint8)), 0
    while filled < len(space):
        arrived = stream.readinto(space[filled : filled + CHUNK_BYTES])
        if not arrived:
            raise EOFError
        filled += arrived
    return values


def skip(stream: BinaryIO, count: int) -> None:
    """Pass over `count` bytes. Raises EOFError if there are fewer."""
    while count > 0:
        count -= len(read_array(stream, min(count, CHUNK_BYTES), np.dtype(np.uint8)))


def read_to_end(stream: BinaryIO, path: Path) -> None:
    """Reach the end, where gzip's checksum is. Raises InputError if it is far away (a gzip bomb)."""
    trailing = 0
    while arrived := len(stream.read(CHUNK_BYTES)):
        trailing += arrived
        if trailing > TRAILING_BYTES_ALLOWED:
            problem = f"More than {TRAILING_BYTES_ALLOWED:,} bytes follow the voxels of the header."
            raise InputError(path, problem, "Do not trust this file; export it again from its source.")


HEADER_KINDS = {348: Nifti1Header, 540: Nifti2Header}
"""By their length in bytes, which is the first thing that a header says."""
EOL_CHECKS = ((13, 10, 26, 10), (0, 0, 0, 0))  # of NIfTI-2: as it should be, and left out
FORM_CODES = range(6)  # from unknown (0: not there) to a template (5)
SIZE_TOLERANCE = 0.01  # voxel sizes in pixdim and in the sform may differ by this share
LEAST_DETERMINANT = 1e-6
"""An affine is singular below this share of the volume that axes at right angles would span."""
MOST_SHEAR_DEGREES = 45.0  # a gantry tilts by up to 30
LONGEST_QUATERNION = 1.001  # its part b, c, d is at most 1 long; by so much it is rounded, not wrong
EXPORT_AGAIN = "Export it again from its source."


@dataclass(frozen=True)
class NiftiHeader:
    """What is needed to read the voxels."""

    grid: NativeGrid
    voxel_offset: int  # bytes from the start of the file to the first voxel
    scaling: tuple[float, float] | None  # slope and intercept, or None for values as they are stored

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
    if first_bytes.startswith(GZIP_MAGIC):
        raise InputError(path, "The file is gzipped twice.", "Unpack it once, with gunzip.")
    remedy = "Give a .nii or .nii.gz file (NIfTI-1 or NIfTI-2); a picture does not do."
    raise InputError(path, "This is not a NIfTI file.", remedy)


def parse_header(block: bytes, byte_order: str, path: Path) -> NiftiHeader:
    """Check and translate a whole header. Raises InputError naming the first thing that is wrong."""
    header = HEADER_KINDS[len(block)](block, endianness=byte_order, check=False)
    if bytes(header["magic"]) not in (b"n+1\0", b"n+2\0"):
        problem = "The header is not that of a single NIfTI file."
        raise InputError(path, problem, "Convert .hdr/.img pairs to .nii.gz.")
    if header["sizeof_hdr"] == 540 and tuple(header["eol_check"]) not in EOL_CHECKS:
        raise InputError(path, "A conversion of line ends has changed the file.", "Copy it again as it is.")
    for form in ("sform", "qform"):
        if int(header[f"{form}_code"]) not in FORM_CODES:
            raise InputError(path, f"The {form} has a code that does not exist.", EXPORT_AGAIN)
    shape, dtype, unit = _shape(header, path), _dtype(header, path), int(header["xyzt_units"]) % 8
    if unit not in (0, 2):  # unknown is taken for mm, as everywhere
        name = {1: "metres", 3: "micrometres"}.get(unit, f"unit {unit}")
        raise InputError(path, f"The voxel size is given in {name}.", "Save it in millimetres.")
    _complete(header)
    grid = NativeGrid(shape, _affine(header, path), dtype, clean_header(header))
    _check_geometry_agrees(header, grid, path)
    first_byte = float(header["vox_offset"]) or header.single_vox_offset  # left out: right behind the header
    if not header.single_vox_offset <= first_byte < 2**31:
        raise InputError(path, f"The header places the first voxel at byte {first_byte:g}.", EXPORT_AGAIN)
    try:
        slope, intercept = header.get_slope_inter()
    except HeaderDataError as error:
        raise InputError(path, "Slope and intercept are impossible.", EXPORT_AGAIN) from error
    as_stored = slope is None or (slope, intercept) == (1.0, 0.0)
    return NiftiHeader(grid, int(first_byte), None if as_stored else (slope, intercept))


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
        problem = f"Voxels of type {header['datatype']} ({dtype}) are not plain numbers."
        raise InputError(path, problem, remedy)
    if header["bitpix"] == 0:  # left out
        header["bitpix"] = dtype.itemsize * 8
    if dtype.itemsize * 8 != int(header["bitpix"]):
        raise InputError(path, f"The header gives {header['bitpix']} bits a voxel for {dtype}.", EXPORT_AGAIN)
    return dtype


def _complete(header: Nifti1Header) -> None:
    """Fill in what the standard, or the sform, says of fields that writers leave out or round."""
    told_by_sform = header["sform_code"] > 0 and abs(header["pixdim"][0]) != 1
    if header["pixdim"][0] == 0 or told_by_sform:
        header["pixdim"][0] = -1 if header["pixdim"][0] < 0 else 1  # qfac; 0 is 1 by the standard
    if header["sform_code"] > 0:
        sides, pixdim = np.linalg.norm(header.get_sform()[:3, :3], axis=0), np.abs(header["pixdim"][1:4])
        header["pixdim"][1:4] = np.where(pixdim > 0, pixdim, sides)  # NaN is not above 0 either
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
        problem = "The affine is singular or not finite: voxels have no place in space."
        raise InputError(path, problem, EXPORT_AGAIN)
    return affine


def _check_geometry_agrees(header: Nifti1Header, grid: NativeGrid, path: Path) -> None:
    """sform against pixdim by voxel size, and against the qform by the place of the corners."""
    remedy = "Find out which is right and write it to sform, qform and pixdim."
    sides, pixdim = np.linalg.norm(grid.affine[:3, :3], axis=0), np.abs(header["pixdim"][1:4].astype(float))
    sheared = grid.shear_degrees
    if sheared > MOST_SHEAR_DEGREES:
        problem = f"The axes of the grid are {sheared:.0f} degrees off a right angle: no tilt shears so."
        raise InputError(path, problem, EXPORT_AGAIN)
    spacings = (sides, grid.stored_spacing_mm) if sheared > RIGHT_ANGLE_DEGREES else (sides,)
    if not any(np.allclose(mm, pixdim, rtol=SIZE_TOLERANCE, atol=0.0) for mm in spacings):
        by_affine, by_pixdim = (" x ".join(f"{side:.4g}" for side in mm) for mm in (sides, pixdim))
        raise InputError(path, f"The affine gives voxels of {by_affine} mm, pixdim {by_pixdim} mm.", remedy)
    if header["sform_code"] > 0 and header["qform_code"] > 0 and len(spacings) == 1:  # a qform cannot shear
        try:
            apart_mm = corner_distance_mm(grid.affine, header.get_qform().astype(float), grid.shape)
        except (ValueError, HeaderDataError) as error:
            raise InputError(path, "The qform is impossible.", remedy) from error
        if not apart_mm <= SAME_PLACE_VOXELS * sides.min():
            raise InputError(path, f"sform and qform place voxels up to {apart_mm:.3g} mm apart.", remedy)
