"""What one DICOM file holds, from its header alone: the slices of a scan, or why it is none.

Nothing that a header says is ever repeated in a message, but sizes, and numbers and UIDs of series where they
are made of digits: names, dates and descriptions are not even read.
"""

from __future__ import annotations

import hashlib
import re
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from pathlib import Path, PurePosixPath
from typing import BinaryIO

import numpy as np
import pydicom
from pydicom import uid as uids
from pydicom.errors import InvalidDicomError
from pydicom.filereader import read_dataset, read_preamble
from pydicom.valuerep import VR

from livseg_lib.datasets.file_trees import FileTree, open_tree
from livseg_lib.errors import InputError

_CT = uids.CTImageStorage, uids.EnhancedCTImageStorage, uids.LegacyConvertedEnhancedCTImageStorage
_MR = uids.MRImageStorage, uids.EnhancedMRImageStorage, uids.LegacyConvertedEnhancedMRImageStorage
_MODALITY_OF = dict.fromkeys(_CT, "ct") | dict.fromkeys(_MR, "mr")
"""Kinds of object that hold slices of a scan."""
_PLACE = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness")
_VALUES = ("RescaleSlope", "RescaleIntercept", "RescaleType", "FrameType")
_OF_A_FRAME = (*_PLACE, "SpacingBetweenSlices", *_VALUES)
_MACROS = (
    *("PlanePositionSequence", "PlaneOrientationSequence", "PixelMeasuresSequence"),
    *("PixelValueTransformationSequence", "CTImageFrameTypeSequence", "MRImageFrameTypeSequence"),
)
"""Where a multi-frame object holds them (DICOM PS3.3 C.7.6.16)."""
_WANTED = (
    *("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID"),
    *("ImageType", "Modality", "Rows", "Columns", "NumberOfFrames", "BitsAllocated"),
    *("PhotometricInterpretation", "SamplesPerPixel", "ModalityLUTSequence"),
    *_OF_A_FRAME,
)
"""Nothing that names a patient is ever read from a header."""
_GROUPS = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
PREAMBLE_BYTES, MAGIC = 128, b"DICM"
AGAIN = "Export or copy it again, or remove it if it is no slice."
_COLOUR_SPACES = ("RGB", "YBR_", "PALETTE COLOR")
NO_DICOM = "not a DICOM file"
NO_RESCALE = "no-rescale"
NEVER_TOO_LARGE_BYTES = 64 * 1024**2  # above this, a file may hold at most twice what its voxels take
UNSKEWED = 1e-3  # largest error of the length and of the right angle of the two directions of a slice
FARTHEST_MM = 1e9


@dataclass(frozen=True, eq=False)
class SliceHeader:
    """One slice. Directions and positions are DICOM's: LPS, mm."""

    name: str
    instance_uid: str
    series_uid: str
    series_number: int | None
    shape: tuple[int, int]  # rows, columns
    position_mm: np.ndarray  # centre of the first voxel, (3,)
    directions: np.ndarray  # (2, 3): unit vectors along a row and down a column
    pixel_spacing_mm: tuple[float, float]  # between rows, between columns
    thickness_mm: float | None
    frame: int = 0  # index in a multi-frame object; 0 in others
    slope: float = 1.0
    intercept: float = 0.0
    modality: str = "ct"  # "ct" or "mr"
    study: tuple[str, str] = ("", "")  # StudyInstanceUID and FrameOfReferenceUID
    declared_step_mm: float | None = None  # SpacingBetweenSlices
    remarks: tuple[tuple[str, str], ...] = ()
    """Code and sentence of what is odd in its header but can be read."""

    def __str__(self) -> str:
        return f"{self.name} (frame {self.frame + 1})" if self.frame else self.name


def begins_like_dicom(path: Path) -> bool:
    """Whether the first bytes of a file are those of DICOM, with its preamble or without."""
    try:
        with path.open("rb") as file:
            return _is_dicom(file.read(PREAMBLE_BYTES + len(MAGIC)))
    except OSError:  # named when its turn comes
        return False


def study_uid(path: Path) -> str | None:
    """Of the DICOM file `path`; None where it names none or cannot be read."""
    try:
        with damage_named(str(path)), open_tree(path) as tree:
            found = read_whole(tree, path.name, ["StudyInstanceUID"])
            return digits_only(found.get("StudyInstanceUID")) or None
    except InputError:  # said when its series is read
        return None


@contextmanager
def damage_named(where: str) -> Iterator[None]:
    """Turn whatever pydicom and zipfile raise for a damaged file into an InputError that names it. Their
    words and warnings quote what stands in headers, and are dropped."""
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    except (InputError, MemoryError):
        raise
    except Exception as error:  # damage shows as AttributeError, ValueError, zlib.error and a dozen others
        problem = f"The DICOM file is damaged or truncated ({type(error).__name__})."
        damaged = InputError(where, problem, AGAIN)
        damaged.series_uid = getattr(error, "series_uid", None)
        raise damaged from None


def read_whole(tree: FileTree, name: str, keywords: list[str]) -> pydicom.Dataset:
    """The elements of the file `name`, pixels included, and how they are stored."""
    with tree.open_file(name) as file:
        dataset = pydicom.dcmread(_Bounded(file, tree.sizes[name]), force=True, specific_tags=keywords)
    if "TransferSyntaxUID" not in dataset.file_meta:  # without a preamble: pydicom has found out
        implicit, little = dataset.original_encoding
        explicit = uids.ExplicitVRLittleEndian if little else uids.ExplicitVRBigEndian
        dataset.file_meta.TransferSyntaxUID = uids.ImplicitVRLittleEndian if implicit else explicit
    return dataset


def digits_only(uid: object, key: str = "") -> str:
    """`uid` where it is one, else a number in its stead: emptied or replaced UIDs hold anything. The same
    number for the same content of `uid`, or of `key` where `uid` is empty; "" where both are."""
    text = str(uid or "").strip("\0 ")
    if re.fullmatch(r"[0-9.]{1,64}", text):
        return text
    content = text or key
    return f"2.25.{int.from_bytes(hashlib.sha256(content.encode()).digest()[:15], 'big')}" if content else ""


class _Bounded:
    """A file of `size` bytes of which no more is asked for than it has, whatever a length field claims."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file, self._size, self.seek, self.tell = file, size, file.seek, file.tell

    def read(self, count: int = -1) -> bytes:
        return self._file.read(count if 0 <= count <= self._size else self._size)


def _is_dicom(head: bytes) -> bool:
    """A file of Part 10, or a bare data set: its first element is of group 2 or 8, with a sensible length."""
    if head[PREAMBLE_BYTES:] == MAGIC:
        return True
    if len(head) < PREAMBLE_BYTES or head[:2] not in (b"\x02\0", b"\x08\0") or head[3] > 0x20:
        return False
    named = head[4:6].decode("latin-1") in VR.__members__
    return named or 0 < struct.unpack("<I", head[4:8])[0] <= PREAMBLE_BYTES


def slices_of_file(tree: FileTree, name: str, where: str) -> list[SliceHeader] | str:
    """The slices in the file `name`: one, or one a frame; or why it is no part of a scan.

    Raises InputError, which knows the series as `series_uid` where that could be read, for a file that should
    be a slice but is damaged, lacks its place, or has impossible values.
    """
    with damage_named(where), tree.open_file(name) as file:
        dataset = _read_header(file, tree.sizes[name], where)
        modality, reason = (None, NO_DICOM) if dataset is None else _kind(dataset)
        if reason:
            return reason
        values = {keyword: dataset.get(keyword) for keyword in _WANTED} | {"Modality": modality}
        values["SeriesNumber"] = _series_number(dataset)
        # Where that is emptied, the files of a folder that share their number and grid are a series.
        grouping = [values[key] for key in ("SeriesNumber", "Rows", "Columns", *_PLACE[1:])]
        key = "\0".join([str(PurePosixPath(name).parent), *map(str, grouping)])
        series_uid = digits_only(values["SeriesInstanceUID"], key)
        try:
            frames = list(_frames(dataset, values, where))
            shown = [k for k, frame in enumerate(frames) if "LOCALIZER" not in (frame["FrameType"] or ())]
            slices = [_slice(frames[k], k, name, series_uid, where) for k in shown]
            if not slices:
                return "a localizer"
            voxels_bytes = len(frames) * np.prod(slices[0].shape) * int(values["BitsAllocated"] or 16) / 8
            if (size := tree.sizes[name]) > max(NEVER_TOO_LARGE_BYTES, 2 * voxels_bytes):
                raise InputError(where, f"The file has {size:,} bytes, far more than its voxels take.", AGAIN)
            return slices
        except Exception as error:
            error.series_uid = series_uid if values["SeriesInstanceUID"] else None
            raise


def _read_header(file: BinaryIO, size: int, where: str) -> pydicom.Dataset | None:
    """The wanted elements; None where this is no DICOM."""
    if size == 0:
        raise InputError(where, "The file is empty.", AGAIN)
    head = file.read(PREAMBLE_BYTES + len(MAGIC))
    if not _is_dicom(head):
        if head[:PREAMBLE_BYTES].strip(b"\0") and MAGIC not in head:
            return None
        raise InputError(where, "The file begins like DICOM, and is damaged or truncated.", AGAIN)
    bounded = _Bounded(file, size)
    file.seek(0)
    read_preamble(bounded, force=True)
    meta = read_dataset(bounded, False, True, stop_when=lambda tag, vr, length: tag.group != 2)
    if meta.get("TransferSyntaxUID") == uids.DeflatedExplicitVRLittleEndian:  # could expand without limit
        name = uids.DeflatedExplicitVRLittleEndian.name
        raise InputError(where, f"The file is stored as {name}.", "Save it uncompressed.")
    file.seek(0)
    try:
        tags = [*_WANTED, *_GROUPS, "SeriesNumber"]
        return pydicom.dcmread(bounded, stop_before_pixels=True, specific_tags=tags, force=True)
    except InvalidDicomError:
        return None


def _kind(dataset: pydicom.Dataset) -> tuple[str | None, str | None]:
    """The modality, and why the whole file is no slice. Neither for what should be one, and cannot be by
    damage: `_frames` refuses that."""
    storage = dataset.get("SOPClassUID") or dataset.file_meta.get("MediaStorageSOPClassUID") or ""
    kind = uids.UID(str(storage))
    named = {"CT": "ct", "MR": "mr"}.get(dataset.get("Modality")) if not kind and "Rows" in dataset else None
    modality = _MODALITY_OF.get(kind, named)
    if modality is None and kind.name != kind:
        return None, f"not a CT slice but {kind.name}"
    if modality is None:
        return None, None if dataset.preamble else NO_DICOM
    if str(dataset.get("PhotometricInterpretation")).startswith(_COLOUR_SPACES):
        return modality, "no HU: its pixels are colours"
    return modality, "a localizer" if "LOCALIZER" in (dataset.get("ImageType") or ()) else None


def _frames(dataset: pydicom.Dataset, values: dict, where: str) -> Iterator[dict]:
    """What holds for each frame; for the only one in a classic object."""
    if values["Modality"] is None:
        raise _unusable(where, "SOPClassUID", "names no kind of object that is known")
    if not str(values["PhotometricInterpretation"] or "MONOCHROME2").startswith("MONOCHROME"):
        raise _unusable(where, "PhotometricInterpretation", "is not MONOCHROME1 or MONOCHROME2")
    shared, frames = (dataset.get(keyword) or () for keyword in _GROUPS)
    count = int(values["NumberOfFrames"] or 0)
    if not frames and count <= 1:
        yield values
    elif not frames:
        raise _unusable(where, "PerFrameFunctionalGroupsSequence", "is missing: no frame has a place")
    elif len(frames) != count:
        raise _unusable(where, "NumberOfFrames", "is not the number of frames that are described")
    for frame in frames:
        found = dict(values)
        for group, macro in product((*shared, frame), _MACROS):
            for item in group.get(macro) or ():
                found |= {key: item.get(key) for key in _OF_A_FRAME if key in item}
        yield found


def _slice(values: dict, frame: int, name: str, series_uid: str, where: str) -> SliceHeader:
    rows, columns = (int(_numbers(values, keyword, 1, where)[0]) for keyword in ("Rows", "Columns"))
    if not (0 < rows <= 65535 and 0 < columns <= 65535):
        raise _unusable(where, "Rows or Columns", "is not positive")
    position = _numbers(values, "ImagePositionPatient", 3, where)
    if np.abs(position).max() > FARTHEST_MM:
        raise _unusable(where, "ImagePositionPatient", "lies nowhere near a scanner")
    directions = _numbers(values, "ImageOrientationPatient", 6, where).reshape(2, 3)
    if np.abs(directions @ directions.T - np.eye(2)).max() > 2 * UNSKEWED:
        raise _unusable(where, "ImageOrientationPatient", "holds no two unit vectors at a right angle")
    spacing = _numbers(values, "PixelSpacing", 2, where)
    if spacing.min() <= 0:
        raise _unusable(where, "PixelSpacing", "is not positive")
    slope, intercept, remarks = _rescale(values, where)
    if values["PhotometricInterpretation"] == "MONOCHROME1":
        remarks.append(("monochrome1", "are to be shown inverted (MONOCHROME1): values are read as stored"))
    return SliceHeader(
        name=name,
        instance_uid=digits_only(values["SOPInstanceUID"]),
        series_uid=series_uid,
        series_number=values["SeriesNumber"],
        shape=(rows, columns),
        position_mm=position,
        directions=directions,
        pixel_spacing_mm=tuple(spacing.tolist()),
        thickness_mm=_length_mm(values["SliceThickness"]),
        frame=frame,
        slope=slope,
        intercept=intercept,
        modality=values["Modality"],
        study=(digits_only(values["StudyInstanceUID"]), digits_only(values["FrameOfReferenceUID"])),
        declared_step_mm=_length_mm(values["SpacingBetweenSlices"]),
        remarks=tuple(remarks),
    )


def _series_number(dataset: pydicom.Dataset) -> int | None:
    try:
        return int(dataset.get("SeriesNumber"))
    except (TypeError, ValueError):  # missing, emptied, or a word in its stead: nothing hangs on it
        return None


def _rescale(values: dict, where: str) -> tuple[float, float, list[tuple[str, str]]]:
    """Slope, intercept and what is to be said of them."""
    slope_and_intercept, remarks = [], []
    for keyword, neutral in (("RescaleSlope", 1.0), ("RescaleIntercept", 0.0)):
        missing = values[keyword] is None or values[keyword] == ""
        slope_and_intercept.append(neutral if missing else float(_numbers(values, keyword, 1, where)[0]))
        if missing and values["Modality"] == "ct":
            remarks.append((NO_RESCALE, f"have no rescale tag {keyword}: read with {neutral:g}"))
    if slope_and_intercept[0] <= 0:
        raise _unusable(where, "RescaleSlope", "is not above 0")
    if values["ModalityLUTSequence"]:
        raise _unusable(where, "ModalityLUTSequence", "is not read: values would be no HU")
    if values["Modality"] == "ct" and (values["RescaleType"] or "HU") not in ("HU", "HU_MOD", "US"):
        remarks.append(("rescale-type", "have a RescaleType other than HU: their values may be none"))
    return *slope_and_intercept, remarks


def _numbers(values: dict, keyword: str, count: int, where: str) -> np.ndarray:
    found = [values[keyword]] if np.ndim(values[keyword]) == 0 else list(values[keyword])
    if not found or any(each is None or each == "" for each in found):
        raise InputError(where, f"The slice has no {keyword}: its place is unknown.", AGAIN)
    try:
        numbers = np.array([float(each) for each in found]).reshape(count)
    except ValueError:
        raise _unusable(where, keyword, f"is not {count} plain number{'s'[: count - 1]}") from None
    if not np.isfinite(numbers).all():
        raise _unusable(where, keyword, "is not finite")
    return numbers


def _length_mm(value: object) -> float | None:
    """A length that helps, where it is one."""
    try:
        return float(value) if 0 < float(value) < FARTHEST_MM else None
    except (TypeError, ValueError):
        return None


def _unusable(where: str, keyword: str, problem: str) -> InputError:
    return InputError(where, f"{keyword} {problem}.", AGAIN)
