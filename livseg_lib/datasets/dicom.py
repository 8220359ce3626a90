"""CT series in DICOM, from a folder or a zip, as volumes."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pydicom
from pydicom.pixels import get_decoder
from pydicom.uid import UID

from livseg_lib.datasets.dicom_headers import Series, SliceHeader, Survey, damage_named, survey_tree
from livseg_lib.datasets.file_trees import FileTree, open_tree
from livseg_lib.datasets.slice_stack import order_slices, stack_affine
from livseg_lib.errors import InputError
from livseg_lib.native_grid import new_grid
from livseg_lib.volumes import MAX_VOLUME_BYTES, Volume

INT16 = np.iinfo(np.int16)
MASK_VALUES = (0, 1, 255)
"""3D-IRCADb-01 stores masks as 0 and 255."""


def survey(source: Path | str) -> Survey:
    """All CT series below `source` (a folder, a zip or a folder in a zip) and the files passed over."""
    with open_tree(source) as tree:
        return survey_tree(tree, source)


def list_series(source: Path | str) -> list[Series]:
    """The CT series below `source`, the one with most slices first."""
    return list(survey(source).series)


def read_series(source: Path | str, series_uid: str | None = None) -> Volume:
    """Read the one CT series below `source`, or the one of several that `series_uid` names.

    Slices are ordered by their position along the slice normal, never by name or number.
    Raises InputError if there is no series or several, if slices are missing, coincide or differ in
    grid, if the stack is uneven or tilted, and if a file is damaged or in a compression that no
    installed decoder reads.
    """
    with open_tree(source) as tree:
        series = _choose(survey_tree(tree, source), series_uid, source)
        slices = order_slices(series.slices, source)
        affine = stack_affine(slices, source)
        stack = _read_stack(tree, slices, source)
    stored = stack.transpose(2, 1, 0)  # (slice, row, column) -> (i, j, k) of NIfTI
    grid = new_grid(stored.shape, affine, np.dtype(np.int16))
    return Volume(np.ascontiguousarray(grid.orientation.to_lps(stored)), grid.spacing_mm, grid)


def read_mask_series(source: Path | str, like: Volume) -> np.ndarray:
    """Read a mask stored as a CT series of 0 and 255 (3D-IRCADb-01): bool (D, H, W) on the grid of `like`.

    Raises InputError as `read_series` does, for other values, and for another grid.
    """
    mask = read_series(source)
    if not np.isin(mask.voxels, MASK_VALUES).all():
        values = f"{mask.voxels.min()} to {mask.voxels.max()}"
        raise InputError(
            source, f"This is no mask: it has values from {values}.", "Give a mask of 0 and 255."
        )
    if like.native is None or not mask.native.lies_on(like.native):
        problem = f"The mask {mask.voxels.shape} does not lie on the grid of its volume {like.voxels.shape}."
        code = "affine-mismatch" if mask.voxels.shape == like.voxels.shape else "shape-mismatch"
        raise InputError(source, problem, "Check that the two belong to one patient.", code=code)
    return mask.voxels > 0


def _choose(found: Survey, series_uid: str | None, source: Path | str) -> Series:
    if not found.series:
        reasons = Counter(reason for _, reason in found.skipped).most_common(3)
        seen = "; ".join(f"{count} files: {reason}" for reason, count in reasons) or "no files"
        raise InputError(source, f"There is no CT series here ({seen}).", "Give the folder of the CT slices.")
    wanted = [one for one in found.series if series_uid in (None, one.uid)]
    if len(wanted) == 1:
        return wanted[0]
    listing = ", ".join(map(str, found.series))
    if series_uid is None:
        raise InputError(source, f"There are several CT series: {listing}.", "Name one by its series UID.")
    raise InputError(source, f"There is no series {series_uid}, but {listing}.", "Name one of these.")


def _read_stack(tree: FileTree, slices: list[SliceHeader], source: Path | str) -> np.ndarray:
    """int16 HU (slice, row, column)."""
    shape = (len(slices), *slices[0].shape)
    if np.prod(shape, dtype=float) * INT16.dtype.itemsize > MAX_VOLUME_BYTES:
        raise InputError(source, f"The series has {shape} voxels, too many to read.", "Give one scan.")
    stack = np.empty(shape, np.int16)
    for k, one in enumerate(slices):
        stack[k] = _read_hounsfield(tree, one, f"{source}/{one.name}")
    return stack


def _read_hounsfield(tree: FileTree, one: SliceHeader, where: str) -> np.ndarray:
    """Slope * stored + intercept, rounded and clipped to int16, (rows, columns)."""
    with damage_named(where), tree.open_file(one.name) as file:
        dataset = pydicom.dcmread(file)
        _check_decoder(dataset.file_meta.TransferSyntaxUID, where)
        slope, intercept = float(dataset.get("RescaleSlope", 1)), float(dataset.get("RescaleIntercept", 0))
        hounsfield = dataset.pixel_array * slope + intercept
    return np.clip(np.rint(hounsfield), INT16.min, INT16.max)


def _check_decoder(syntax: UID, where: str) -> None:
    if syntax.is_compressed and not _has_decoder(syntax):
        remedy = "Install pylibjpeg with pylibjpeg-libjpeg, or decompress the series (gdcmconv --raw)."
        raise InputError(where, f"No decoder is installed for pixels stored as {syntax.name}.", remedy)


def _has_decoder(syntax: UID) -> bool:
    try:
        return get_decoder(syntax).is_available
    except NotImplementedError:  # a syntax that pydicom does not know at all
        return False
