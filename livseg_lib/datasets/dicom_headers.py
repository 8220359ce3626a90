"""What a DICOM folder holds, from the headers alone: CT series and their slices, and what was passed over."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
import pydicom
from pydicom.errors import InvalidDicomError
from pydicom.filereader import read_dataset, read_preamble
from pydicom.uid import UID, CTImageStorage, DeflatedExplicitVRLittleEndian

from livseg_lib.datasets.file_trees import FileTree
from livseg_lib.errors import InputError

WANTED = (
    *("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "SeriesNumber", "ImageType", "Rows", "Columns"),
    *("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness"),
    *("PhotometricInterpretation", "SamplesPerPixel"),
)
"""Nothing that names a patient is ever read from a header."""


@dataclass(frozen=True, eq=False)
class SliceHeader:
    """One CT slice. Directions and positions are DICOM's: LPS, mm."""

    name: str
    instance_uid: str
    series_uid: str
    series_number: int | None
    shape: tuple[int, int]
    """Rows, columns."""
    position_mm: np.ndarray
    """Centre of the first voxel, (3,)."""
    directions: np.ndarray
    """(2, 3): unit vectors along a row and down a column."""
    pixel_spacing_mm: tuple[float, float]
    """Between rows, between columns."""
    thickness_mm: float | None


@dataclass(frozen=True)
class Series:
    """The slices of one CT series, in order of file name."""

    uid: str
    number: int | None
    slices: tuple[SliceHeader, ...]

    def __str__(self) -> str:
        number = "without a number" if self.number is None else self.number
        return f"series {number} of {len(self.slices)} slices ({self.uid})"


@dataclass(frozen=True)
class Survey:
    """Everything found in a folder or zip."""

    series: tuple[Series, ...]
    """Largest first."""
    skipped: tuple[tuple[str, str], ...]
    """File and reason, for all that is no CT slice: other objects, localizers, second copies."""


def survey_tree(tree: FileTree, source: object) -> Survey:
    """Read every header. Raises InputError for a DICOM file that is damaged or lacks its geometry."""
    by_series: dict[str, list[SliceHeader]] = defaultdict(list)
    skipped, seen = [], set()
    for name in tree.names:
        found = _read_header(tree, name, f"{source}/{name}")
        if isinstance(found, str):
            skipped.append((name, found))
        elif found.instance_uid in seen:
            skipped.append((name, "a second copy of another file"))
        else:
            seen.add(found.instance_uid)
            by_series[found.series_uid].append(found)
    series = [Series(uid, slices[0].series_number, tuple(slices)) for uid, slices in by_series.items()]
    series.sort(key=lambda one: (-len(one.slices), one.uid))
    return Survey(tuple(series), tuple(skipped))


@contextmanager
def damage_named(where: str) -> Iterator[None]:
    """Turn whatever pydicom and zipfile raise for a damaged file into an InputError that names it."""
    try:
        yield
    except (InputError, InvalidDicomError, MemoryError):
        raise
    except Exception as error:  # damage shows as AttributeError, ValueError, zlib.error and a dozen others
        problem = f"The DICOM file is damaged or truncated ({type(error).__name__}: {error})."
        raise InputError(where, problem, "Export or copy the series again.") from error


def _read_header(tree: FileTree, name: str, where: str) -> SliceHeader | str:
    """The header of a CT slice, or why the file is none."""
    try:
        with damage_named(where), tree.open_file(name) as file:
            if not file.read(1):
                raise InputError(where, "The file is empty.", "Export or copy the series again.")
            file.seek(0)
            syntax = _transfer_syntax(file)
            if syntax == DeflatedExplicitVRLittleEndian:  # could expand without limit
                raise InputError(where, f"The file is stored as {syntax.name}.", "Save it uncompressed.")
            file.seek(0)
            dataset = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=list(WANTED))
            return _not_a_slice(dataset) or _slice_header(dataset, name, where)
    except InvalidDicomError:
        return "not a DICOM file"


def _transfer_syntax(file: BinaryIO) -> UID:
    """From the file meta information, without touching what follows it."""
    read_preamble(file, force=False)
    meta = read_dataset(file, False, True, stop_when=lambda tag, vr, length: tag.group != 2)
    return UID(meta.TransferSyntaxUID)


def _not_a_slice(dataset: pydicom.Dataset) -> str | None:
    if dataset.SOPClassUID != CTImageStorage:
        return f"not a CT slice but {UID(dataset.SOPClassUID).name}"
    if "LOCALIZER" in (dataset.get("ImageType") or ()):
        return "a localizer"
    if dataset.PhotometricInterpretation != "MONOCHROME2" or dataset.SamplesPerPixel != 1:
        return f"no HU: its pixels are {dataset.PhotometricInterpretation}, not MONOCHROME2"
    return None


def _slice_header(dataset: pydicom.Dataset, name: str, where: str) -> SliceHeader:
    for keyword, length in (("ImagePositionPatient", 3), ("ImageOrientationPatient", 6), ("PixelSpacing", 2)):
        if len(dataset.get(keyword) or ()) != length:
            raise InputError(where, f"The slice has no {keyword}: its place is unknown.", "Export it again.")
    return SliceHeader(
        name=name,
        instance_uid=str(dataset.SOPInstanceUID),
        series_uid=str(dataset.SeriesInstanceUID),
        series_number=None if dataset.get("SeriesNumber") is None else int(dataset.SeriesNumber),
        shape=(int(dataset.Rows), int(dataset.Columns)),
        position_mm=np.array(dataset.ImagePositionPatient, dtype=float),
        directions=np.array(dataset.ImageOrientationPatient, dtype=float).reshape(2, 3),
        pixel_spacing_mm=tuple(float(side) for side in dataset.PixelSpacing),
        thickness_mm=float(dataset.SliceThickness) if dataset.get("SliceThickness") else None,
    )
