"""Volumes and label maps: read from NIfTI into (D, H, W), written on the scan's own grid.

In memory every volume is in LPS: D runs from feet to head, H from front to back, W from the patient's right
to left, so that `volume[k]` shows as radiologists expect. In files it lies as it did.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import BinaryIO, NoReturn

import numpy as np
from isal import igzip

from livseg_lib import nifti
from livseg_lib.errors import InputError
from livseg_lib.files import GZIP_LEVEL, written_aside
from livseg_lib.labels import require_labels

MAX_VOLUME_BYTES = 4 * 1024**3
"""Most bytes that the voxels of one file may take, stored or as int16: 512 x 512 x 8192 int16."""
_INT16 = np.iinfo(np.int16)
LABELS = "label-map"  # code of the error for a scan that is none
FEW_LABELS, MANY_LABELS, HIGHEST_LABEL = 8, 128, 4095
"""No scan has so few grey levels; a map of all organs has up to the second, in areas of one value."""
_ROUNDING, LARGEST_SLOPE = 0.01, 0.2
"""Labels so far from a whole number are one. Floats that a writer stored as integers with a slope (up to the
second, or whole numbers run into each other) are off by up to half a slope."""


@dataclass(frozen=True, eq=False)
class Volume:
    """A CT scan in memory."""

    voxels: np.ndarray  # int16 HU, (D, H, W) in LPS, C-contiguous
    spacing_mm: tuple[float, float, float]
    """Distance of voxel centres along D, H, W (see `NativeGrid.spacing_mm`); NaN for a stack of pictures."""
    native: nifti.NativeGrid | None = None  # the grid to save on; None for a stack of pictures

    @property
    def voxel_volume_ml(self) -> float:
        """Volume of one voxel in millilitres."""
        return prod(self.spacing_mm) / 1000.0


def load_volume(path: Path | str, limit_bytes: int = MAX_VOLUME_BYTES) -> Volume:
    """Read a CT from .nii or .nii.gz (NIfTI-1 or -2, either byte order), to its end and checked.

    Values are slope * stored + intercept, rounded and clipped to int16. Oblique scans keep their grid:
    axes are put in the order and direction closest to LPS, voxels are never resampled.
    Raises InputError for a file that is missing, empty, truncated, corrupt, not NIfTI or not 3D, that
    claims more than `limit_bytes` or than it can hold, or that goes on far behind its voxels; for voxels
    that are not plain or not finite numbers; and for a geometry that is singular or contradicts itself.
    """
    path = Path(path)
    with _voxels_ahead(path, limit_bytes) as (header, stream):
        voxels = _read_voxels(header, stream, header.grid, _to_hounsfield, path)
    return Volume(voxels, header.grid.spacing_mm, header.grid)


def load_segmentation(path: Path | str, like: Volume, accept_affine_mismatch: bool = False) -> np.ndarray:
    """Read labels 0/1/2, uint8 (D, H, W), on the grid of `like`; see `read_label_array`. Raises InputError
    also for any other label, naming the labels and how many voxels carry them."""
    labels = read_label_array(path, like, accept_affine_mismatch)
    require_labels(labels, path)
    return labels.astype(np.uint8)


def read_label_array(path: Path | str, like: Volume, accept_affine_mismatch: bool = False) -> np.ndarray:
    """Read integer labels of any value, int16 (D, H, W), on the grid of `like`.

    The file may store its axes in another order or direction than the volume did, if it covers the same
    voxels in space (corners within half a voxel). `accept_affine_mismatch` takes the voxels as
    corresponding one to one, whatever the file's affine says; the stored shapes must then be equal.
    Raises InputError as `load_volume` does, and for values that are not integers or another grid.
    """
    path = Path(path)
    if like.native is None:
        problem = "The case is a stack of pictures without a place in space."
        raise InputError(path, problem, "Use its own masks.")
    with _voxels_ahead(path, MAX_VOLUME_BYTES) as (header, stream):
        grid = header.grid
        if not grid.lies_on(like.native):
            if not (accept_affine_mismatch and grid.shape == like.native.shape):
                raise _mismatch(path, grid, like.native)
            grid = like.native
        return _read_voxels(header, stream, grid, _to_labels, path)


def save_segmentation(labels: np.ndarray, like: Volume, path: Path | str) -> Path:
    """Write integer labels (D, H, W) as .nii or .nii.gz on the stored grid of `like`.

    The file has the input's shape, axis order, sform, qform, pixdim, units, data type and byte order,
    slope 1 and intercept 0, and no text. It appears under its name only when it is whole; the same
    labels give the same bytes. Raises InputError if shape or values do not fit.
    """
    path = Path(path)
    _check_savable(labels, like, path)
    with written_aside(path) as partial, partial.open("wb") as file:
        if path.name.endswith(".nii"):
            file.writelines(_file_pieces(labels, like.native))
        else:  # no name and no time inside
            with igzip.IGzipFile("", "wb", GZIP_LEVEL, file, mtime=0) as stream:
                stream.writelines(_file_pieces(labels, like.native))
    return path


def label_values(path: Path | str) -> tuple[int, ...]:
    """The labels of a label map (`labels_among`), or () for a scan.

    A CT is recognised by its first voxels, since air is below 0 HU; a label map is read to its end. Raises
    InputError for a file that cannot be read.
    """
    with _voxels_ahead(Path(path), MAX_VOLUME_BYTES) as (header, stream):
        starts = range(0, header.voxel_count, nifti.CHUNK_BYTES)
        counts = (min(nifti.CHUNK_BYTES, header.voxel_count - start) for start in starts)
        stored = (nifti.read_array(stream, count, header.grid.dtype) for count in counts)
        return labels_among(_scaled(header, piece) for piece in stored)


def labels_among(pieces: Iterable[np.ndarray]) -> tuple[int, ...]:
    """The different values of `pieces` (a line or a plane of voxels each), or () where they are no labels. In
    a label map all voxels are whole numbers, 0 or more, or -1 where nobody looked: few kinds, or mostly equal
    to their neighbours."""
    found = np.zeros(HIGHEST_LABEL + 2, np.int64)  # from -1 on
    inside = repeated = 0
    for piece in pieces:
        in_range = piece.min() > -1.5 and piece.max() < HIGHEST_LABEL + 0.5
        if not (in_range and np.allclose(piece, np.rint(piece), 0, 0.1)):
            return ()
        whole = np.rint(piece).astype(np.int16).ravel()
        found += np.bincount(whole + 1, minlength=len(found))
        inside += np.count_nonzero(whole[1:])
        repeated += np.count_nonzero((whole[1:] == whole[:-1]) & (whole[1:] > 0))
    labels = tuple((np.flatnonzero(found) - 1).tolist())
    in_areas = len(labels) <= MANY_LABELS and 2 * repeated > inside
    return labels if len(labels) <= FEW_LABELS or in_areas else ()


def require_scan(voxels: np.ndarray, where: Path | str) -> None:
    """Raises InputError where `voxels` (D, H, W) are those of a label map."""
    if labels := labels_among(voxels):
        problem = f"It holds {len(labels)} whole numbers from {labels[0]} to {labels[-1]}, in patches:"
        problem += " labels, no scan."
        remedy = "Give the scan that they belong to, or in HU a scan that was scaled to so few values."
        raise InputError(where, problem, remedy, LABELS)


@contextmanager
def _voxels_ahead(path: Path, limit_bytes: int) -> Iterator[tuple[nifti.NiftiHeader, BinaryIO]]:
    """A checked header, and the stream before the first voxel."""
    with nifti.open_checked(path) as stream:
        start = nifti.read_array(stream, 4, np.dtype(np.uint8)).tobytes()
        length, byte_order = nifti.header_length(start, path)
        block = start + nifti.read_array(stream, length - 4, np.dtype(np.uint8)).tobytes()
        header = nifti.parse_header(block, byte_order, path)
        _check_claim(header, limit_bytes, path)
        nifti.skip(stream, header.voxel_offset - length)
        yield header, stream


def _read_voxels(
    header: nifti.NiftiHeader, stream: BinaryIO, grid: nifti.NativeGrid, convert: Callable, path: Path
) -> np.ndarray:
    """int16 (D, H, W) on `grid`, the stream read to its end.

    Plane by plane as they are stored: a second copy of the volume would take as long again.
    `convert(header, plane, refuse)` gives whole numbers that int16 holds, or refuses: says where they lie,
    bool (i, j), and what is wrong.
    """
    voxels = np.empty(grid.lps_shape, np.int16)
    as_stored, (*sides, depth) = grid.to_stored(voxels), grid.shape

    def refuse(where: np.ndarray, problem: str, *remedy_and_code: str) -> NoReturn:
        slices = np.broadcast_to(np.arange(len(voxels))[:, None, None], voxels.shape)
        first = grid.to_stored(slices)[..., k][where].min()
        raise InputError(path, f"Slice {first} has {problem}", *remedy_and_code)

    for k in range(depth):
        stored = nifti.read_array(stream, prod(sides), header.grid.dtype)
        as_stored[..., k] = convert(header, _scaled(header, stored.reshape(sides, order="F")), refuse)
    nifti.read_to_end(stream, path)
    return voxels


def _check_claim(header: nifti.NiftiHeader, limit_bytes: int, path: Path) -> None:
    """Before any memory is asked for: refuse what is too large or cannot be there."""
    claim = header.voxel_count * header.grid.dtype.itemsize
    sizes = f"{' x '.join(map(str, header.grid.shape))} voxels, {claim:,} bytes"
    if max(claim, header.voxel_count * _INT16.dtype.itemsize) > limit_bytes:
        problem = f"The header claims {sizes}, more than the limit of {limit_bytes:,} bytes."
        raise InputError(path, problem, "Crop the scan, or raise limit_bytes if the file is right.")
    expansion = nifti.MOST_GZIP_EXPANSION if nifti.is_gzip(path) else 1
    if header.voxel_offset + claim > path.stat().st_size * expansion:
        raise InputError(path, f"The header claims {sizes}, more than the file can hold.", "Copy it again.")


def _scaled(header: nifti.NiftiHeader, plane: np.ndarray) -> np.ndarray:
    """A part of a volume at a time: no float copy of a whole one is ever made."""
    return plane if header.scaling is None else plane * header.scaling[0] + header.scaling[1]


def _to_hounsfield(header: nifti.NiftiHeader, plane: np.ndarray, refuse: Callable) -> np.ndarray:
    """Whole HU that int16 holds."""
    if np.can_cast(plane.dtype, np.int16):
        return plane
    if not (is_finite := np.isfinite(plane)).all():
        remedy = "Replace these values, for example by -1024 outside the patient."
        refuse(~is_finite, "voxels that are not finite (NaN or infinite).", remedy)
    return np.clip(np.rint(plane), _INT16.min, _INT16.max)


def _to_labels(header: nifti.NiftiHeader, plane: np.ndarray, refuse: Callable) -> np.ndarray:
    """Whole numbers that int16 holds."""
    if plane.dtype.kind == "f":
        slope = abs(header.scaling[0]) if header.scaling else 1.0
        rounding = max(_ROUNDING, 0.51 * slope) if slope <= LARGEST_SLOPE else _ROUNDING
        whole = np.nan_to_num(np.rint(plane))
        if (broken := ~(np.abs(plane - whole) <= rounding)).any():
            problem = f"labels that are not integers, such as {plane[broken][0]:g}."
            remedy = "Save labels as uint8; of probabilities, those above 0.5."
            refuse(broken, problem, remedy, "non-integer-labels")
        plane = whole
    if plane.min() < _INT16.min or plane.max() > _INT16.max:
        beyond = (plane < _INT16.min) | (plane > _INT16.max)
        problem = f"labels from {plane.min():g} to {plane.max():g}, beyond int16."
        refuse(beyond, problem, "This does not look like a segmentation.", "label-values")
    return plane


def _mismatch(path: Path, grid: nifti.NativeGrid, volume: nifti.NativeGrid) -> InputError:
    if grid.lps_shape != volume.lps_shape:
        problem = f"The segmentation is {grid.lps_shape} voxels (D, H, W), its volume {volume.lps_shape}."
        remedy = "Resample it to the volume, or check that the two belong together."
        return InputError(path, problem, remedy, code="shape-mismatch")
    apart_mm = grid.farthest_apart_mm(volume)
    problem = f"Segmentation and volume have equal shapes; their affines are up to {apart_mm:.3g} mm apart."
    remedy = "If voxels correspond one to one, say --accept-affine-mismatch (make: ACCEPT_AFFINE_MISMATCH=1)."
    if grid.shape != volume.shape:
        remedy = "Save it on the grid of its volume."
    return InputError(path, problem, remedy, code="affine-mismatch")


def _check_savable(labels: np.ndarray, like: Volume, path: Path) -> None:
    if not path.name.endswith((".nii.gz", ".nii")):
        raise InputError(path, "A segmentation is saved as NIfTI.", "Give a name in .nii.gz or .nii.")
    if like.native is None:
        raise InputError(path, "A stack of pictures has no grid to save on.", "Save its masks as pictures.")
    if labels.shape != like.native.lps_shape:
        problem = f"Labels are {labels.shape}, the volume's grid is {like.native.lps_shape}."
        raise InputError(path, problem, "Bring labels back to the volume's own grid first.")
    if labels.dtype.kind not in "bui":
        raise InputError(path, f"Labels are {labels.dtype}, not integers.", "Take the argmax first.")
    extremes = np.array([labels.min(), labels.max()])
    if not np.array_equal(extremes, extremes.astype(like.native.dtype)):
        raise InputError(path, f"Labels do not fit the type {like.native.dtype}.", "Use labels 0, 1, 2.")


def _file_pieces(labels: np.ndarray, grid: nifti.NativeGrid) -> Iterator[bytes]:
    """Header, the four zero bytes that say "no extensions", and the voxels in stored order."""
    yield grid.header + bytes(4)
    for plane in np.moveaxis(grid.to_stored(labels), 2, 0):
        yield plane.astype(grid.dtype).tobytes(order="F")


def keep_prediction(labels: np.ndarray, volume: Volume, folder: Path, case_id: str) -> Path:
    """Write labels (D, H, W): NIfTI in the scan's own geometry; .npy for pictures, which have none."""
    folder.mkdir(parents=True, exist_ok=True)
    if volume.native is not None:
        return save_segmentation(labels, like=volume, path=folder / f"{case_id}.nii.gz")
    path = folder / f"{case_id}.npy"
    with written_aside(path) as partial:
        np.save(partial, labels, allow_pickle=False)
    return path


def load_prediction(volume: Volume, folder: Path, case_id: str) -> np.ndarray:
    """Labels uint8 (D, H, W) that `keep_prediction` wrote."""
    if volume.native is not None:
        return load_segmentation(folder / f"{case_id}.nii.gz", like=volume)
    return np.load(folder / f"{case_id}.npy", allow_pickle=False)
