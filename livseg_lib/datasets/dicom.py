"""CT and MR series in DICOM, from a folder or a zip, as volumes."""

from __future__ import annotations

import os
import struct
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
from pydicom.encaps import encapsulate, generate_fragments, get_frame
from pydicom.pixels import get_decoder, pixel_array
from pydicom.pixels.utils import get_expected_length
from pydicom.uid import (
    JPEG2000,
    UID,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from livseg_lib.datasets.case import Note
from livseg_lib.datasets.dicom_headers import (
    AGAIN,
    SliceHeader,
    damage_named,
    digits_only,
    read_whole,
    slices_of_file,
)
from livseg_lib.datasets.file_trees import FileTree, open_tree
from livseg_lib.datasets.slice_stack import (
    jitter_note,
    order_slices,
    same_grid,
    slices_at_one_place,
    stack_affine,
)
from livseg_lib.errors import InputError
from livseg_lib.nifti import new_grid
from livseg_lib.processes import one_apart
from livseg_lib.volumes import MAX_VOLUME_BYTES, Volume

_INT16 = np.iinfo(np.int16)
MASK_VALUES = (0, 1, 255)
"""3D-IRCADb-01 stores masks as 0 and 255."""
FEWEST_ALIKE = 3
"""Series of one slice that may be one scan whose slices were given a series each."""
DESCRIBING = (
    *("Rows", "Columns", "SamplesPerPixel", "PhotometricInterpretation", "BitsAllocated"),
    *("BitsStored", "HighBit", "PixelRepresentation"),
)
PIXELS = (
    *(*DESCRIBING, "NumberOfFrames", "PixelData", "PlanarConfiguration"),
    *("ExtendedOffsetTable", "ExtendedOffsetTableLengths", "FloatPixelData", "DoubleFloatPixelData"),
)
DECODERS = {
    **dict.fromkeys((JPEGLossless, JPEGLosslessSV1), "gdcm"),
    **dict.fromkeys((JPEGBaseline8Bit, JPEGExtended12Bit, JPEG2000Lossless, JPEG2000), "pillow"),
    **dict.fromkeys((JPEGLSLossless, JPEGLSNearLossless), "pyjpegls"),
}
"""GDCM only where nobody else reads it, in a process of its own: damaged pixels end that (so do those of
libjpeg-turbo and liblj92)."""
_APART = "gdcm"
FRAME_MARKERS = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}
_LISTED = 3
"""Files named in a message."""


@dataclass(frozen=True)
class Series:
    """The slices of one series, in order of file name."""

    uid: str
    number: int | None
    slices: tuple[SliceHeader, ...]
    broken: tuple[tuple[str, InputError], ...] = ()
    """Files that belong, or may belong, to the series but cannot be read, and why: it is not whole."""
    merged_from: int = 1
    """Series that these slices were given, where each had one of its own."""

    def __str__(self) -> str:
        number = "without a number" if self.number is None else self.number
        return f"series {number} of {len(self.slices)} slices ({self.uid})"

    @property
    def modality(self) -> str:
        """ "ct" or "mr"."""
        return self.slices[0].modality


@dataclass(frozen=True)
class Survey:
    """Everything found in a folder or zip."""

    series: tuple[Series, ...]
    """Largest first."""
    skipped: tuple[tuple[str, str], ...]
    """File and reason, for all that is no slice: other objects, localizers, what cannot be read."""


def survey(source: Path | str) -> Survey:
    """All series below `source` (a folder, a zip or a folder in a zip) and the files passed over."""
    with open_tree(source) as tree:
        return survey_tree(tree, source)


def survey_tree(tree: FileTree, source: object) -> Survey:
    """Read every header, each file by itself."""
    by_series: dict[str, list[SliceHeader]] = defaultdict(list)
    skipped, broken = list(tree.passed_over), []
    for name in tree.names:
        try:
            found = slices_of_file(tree, name, f"{source}/{name}")
        except InputError as error:
            broken.append((name, getattr(error, "series_uid", None), error))
            continue
        if isinstance(found, str):
            skipped.append((name, found))
        else:
            by_series[found[0].series_uid] += found
    series = _merged([_series(uid, slices, broken) for uid, slices in by_series.items()])
    series.sort(key=lambda one: (-len(one.slices), one.uid))
    belonging = {name for one in series for name, _ in one.broken}
    skipped += [(name, error.problem) for name, _, error in broken if name not in belonging]
    return Survey(tuple(series), tuple(skipped))


def read_series(source: Path | str, series_uid: str | None = None) -> Volume:
    """Read the one series below `source`, or the one of several that `series_uid` names.

    Slices are ordered by their position along the slice normal, never by name or number; those sent twice
    with equal pixels are read once. Raises InputError if there is no series or several, if slices are
    missing, differ at one place, or differ in grid, if the stack is uneven or tilted, and if a file is
    damaged or in a compression that no installed decoder reads.
    """
    return read_chosen(source, _choose(survey(source), series_uid, source))


def read_chosen(source: Path | str, series: Series) -> Volume:
    """Read one of the series that `survey(source)` found. Raises InputError as `read_series` does."""
    if series.broken:
        raise series.broken[0][1]
    order = order_slices(series.slices, source)
    copies = {place[0]: place[1:] for place in slices_at_one_place(series.slices, source)}
    affine = stack_affine(order, source)
    with open_tree(source) as tree:
        stack = _read_stack(tree, order, copies, source)
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
        problem = f"This is no mask: it has values from {values}."
        raise InputError(source, problem, "Give a mask of 0 and 255.")
    if like.native is None or not mask.native.lies_on(like.native):
        problem = f"The mask {mask.voxels.shape} does not lie on the grid of its volume {like.voxels.shape}."
        code = "affine-mismatch" if mask.voxels.shape == like.voxels.shape else "shape-mismatch"
        raise InputError(source, problem, "Check that the two belong to one patient.", code=code)
    return mask.voxels > 0


def series_notes(series: Series, source: Path | str) -> list[Note]:
    """What was decided in reading the headers of `series`."""
    slices, found = series.slices, []
    if series.merged_from > 1:
        message = f"{series.merged_from} series of one slice each lie as one scan, and are read as one."
        found.append(("merged-series", message))
    if len(slices) == 1:
        found.append(("one-slice", "This is a series of one slice. Does it belong to another series?"))
    remarks = Counter(remark for one in slices for remark in one.remarks)
    found += [(code, f"{n} of {len(slices)} slices {text}.") for (code, text), n in remarks.items()]
    uids = [(one.instance_uid, one.frame) for one in slices]
    if (own := len(set(uids))) < len(slices) or not all(uid for uid, _ in uids):
        message = f"{len(slices)} slices have {own} SOPInstanceUID(s) in all: they are told by their places."
        found.append(("shared-uid", message))
    if series.modality == "mr":
        found.append(("mr-series", "This is an MR series: its values are no HU. Read it with --modality mr."))
    try:
        places = slices_at_one_place(slices, source)
        if twice := len(slices) - len(places):
            message = f"{twice} slice(s) were sent twice: they are read once, where their pixels are equal."
            found.append(("sent-twice", message))
        if jitter := jitter_note(order_slices(slices, source)):
            found.append(("uneven", jitter))
    except InputError:  # reading says so
        pass
    return [Note(source, code, message) for code, message in found]


def skipped_notes(found: Survey, source: Path | str) -> list[Note]:
    """The files passed over, one note a reason."""
    notes = []
    for reason, names in _by_reason(found.skipped).items():
        listed = ", ".join(names[:_LISTED]) + (", ..." if len(names) > _LISTED else "")
        message = f"{len(names)} file(s) passed over: {reason.rstrip('.')} ({listed})."
        notes.append(Note(Path(source, names[0]), "passed-over", message))
    return notes


def _by_reason(skipped: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    names = defaultdict(list)
    for name, reason in skipped:
        names[reason].append(name)
    return names


def _series(uid: str, slices: list[SliceHeader], broken: Sequence[tuple[str, str | None, InputError]]):
    """With the broken files that name it as theirs, or that name none and lie beside its slices."""
    folders = {os.path.dirname(one.name) for one in slices}
    own = [
        (name, error)
        for name, owner, error in broken
        if owner == uid or (owner is None and os.path.dirname(name) in folders)
    ]
    return Series(uid, slices[0].series_number, tuple(slices), tuple(own))


def _merged(series: list[Series]) -> list[Series]:
    """With series of one slice each that form one even stack as one: an anonymiser gave each its own UID."""
    alone = [one for one in series if len(one.slices) == 1]
    merged = [one for one in series if len(one.slices) > 1]
    for alike in _alike(alone):
        slices = tuple(one.slices[0] for one in alike)
        try:
            if len(alike) < FEWEST_ALIKE or len(order_slices(slices, "")) < len(slices):
                raise InputError("", "These are scans of their own.")
            stack_affine(order_slices(slices, ""), "")
        except InputError:
            merged += alike
        else:
            broken = dict(broken for one in alike for broken in one.broken)
            uid = digits_only("", "\0".join(sorted(one.uid for one in alike)))
            merged.append(Series(uid, alike[0].number, slices, tuple(broken.items()), len(alike)))
    return merged


def _alike(alone: list[Series]) -> list[list[Series]]:
    """Groups of one grid, modality and, where several share one, study and frame of reference."""
    studies = Counter(_study(one) for one in alone)
    groups: list[list[Series]] = []
    for one in alone:
        study = _study(one) if studies[_study(one)] > 1 else None
        for group in groups:
            theirs = _study(group[0]) if studies[_study(group[0])] > 1 else None
            if study == theirs and same_grid(one.slices[0], group[0].slices[0]):
                group.append(one)
                break
        else:
            groups.append([one])
    return groups


def _study(one: Series) -> tuple[str, str, str]:
    first = one.slices[0]
    return first.modality, first.study_uid, first.frame_of_reference


def _choose(found: Survey, series_uid: str | None, source: Path | str) -> Series:
    if not found.series:
        reasons = sorted(_by_reason(found.skipped).items(), key=lambda item: -len(item[1]))
        seen = "; ".join(f"{len(names)} files: {reason.rstrip('.')}" for reason, names in reasons[:_LISTED])
        problem = f"There is no CT series here ({seen or 'no files'})."
        raise InputError(source, problem, "Give the folder of the CT slices.")
    wanted = [one for one in found.series if series_uid in (None, one.uid)]
    if len(wanted) == 1:
        return wanted[0]
    listing = ", ".join(map(str, found.series))
    if series_uid is None:
        raise InputError(source, f"There are several CT series: {listing}.", "Name one by its series UID.")
    raise InputError(source, f"There is no series {series_uid}, but {listing}.", "Name one of these.")


def _read_stack(
    tree: FileTree, order: list[SliceHeader], copies: dict[SliceHeader, list[SliceHeader]], source: object
) -> np.ndarray:
    """int16 HU (slice, row, column)."""
    shape = (len(order), *order[0].shape)
    if np.prod(shape, dtype=float) * _INT16.dtype.itemsize > MAX_VOLUME_BYTES:
        raise InputError(source, f"The series has {shape} voxels, too many to read.", "Give one scan.")
    stack = np.empty(shape, np.int16)
    with one_apart() as apart:
        pixels = _Pixels(tree, source, apart)
        for k, one in enumerate(order):
            stack[k] = pixels.hounsfield(one)
            for copy in copies[one]:
                if not np.array_equal(pixels.hounsfield(copy), stack[k]):
                    problem = f"{one} and {copy} lie at the same place, and show different things."
                    raise InputError(source, problem, "Keep one phase and one reconstruction a series.")
    return stack


class _Pixels:
    """Reads slices, and keeps the last file: a multi-frame object holds many."""

    def __init__(self, tree: FileTree, source: object, apart: Executor) -> None:
        self._tree, self._source, self._apart, self._name, self._dataset = tree, source, apart, None, None

    def hounsfield(self, one: SliceHeader) -> np.ndarray:
        """Slope * stored + intercept, rounded to int16, (rows, columns)."""
        where = f"{self._source}/{one.name}"
        with damage_named(where):
            if self._name != one.name:
                self._dataset = read_whole(self._tree, one.name, list(PIXELS))
                self._name = one.name
            values = _rescaled(_decoded(self._dataset, one.frame, where, self._apart), one)
        if values.shape != one.shape:
            raise InputError(where, "The pixels have another size than the header says.", "Export it again.")
        low, high = values.min(), values.max()
        if not (_INT16.min <= low and high <= _INT16.max):
            problem = f"By RescaleSlope and RescaleIntercept values run from {low:g} to {high:g}: no HU."
            raise InputError(where, problem, "Export the series again.")
        return values


def _rescaled(stored: np.ndarray, one: SliceHeader) -> np.ndarray:
    if one.slope == 1 and one.intercept.is_integer() and stored.dtype.itemsize <= 2:
        return stored.astype(np.int64) + int(one.intercept)
    return np.rint(stored * one.slope + one.intercept)


def _refuse_more_pixels(dataset: pydicom.Dataset, where: str) -> None:
    """Raise InputError for a row or more beyond what the header speaks of: the picture has another size.

    What is shorter than a row is padding.
    """
    more = len(dataset.PixelData) - get_expected_length(dataset)
    if more >= int(dataset.Columns) * int(dataset.BitsAllocated) / 8:
        problem = f"There are {more:,} bytes of pixels more than Rows, Columns and NumberOfFrames speak of."
        raise InputError(where, problem, "Export the series again.")


def _decoded(dataset: pydicom.Dataset, frame: int, where: str, apart: Executor) -> np.ndarray:
    """The stored values of a frame, (rows, columns)."""
    syntax = dataset.file_meta.TransferSyntaxUID
    if not syntax.is_compressed:
        _refuse_more_pixels(dataset, where)
    if not syntax.is_compressed or syntax == RLELossless:
        return pixel_array(dataset, index=frame)
    decoder = DECODERS.get(syntax, "")
    if not decoder or decoder not in get_decoder(syntax).available_plugins:
        name = syntax.name if syntax.name != syntax else "a syntax unknown here"
        remedy = "Install python-gdcm, or decompress the series (gdcmconv --raw)."
        raise InputError(where, f"No decoder is installed for pixels stored as {name}.", remedy)
    frames = int(dataset.get("NumberOfFrames") or 1)
    if frames == 1:
        encoded = b"".join(generate_fragments(dataset.PixelData))
    else:
        encoded = get_frame(dataset.PixelData, frame, number_of_frames=frames)
    if _encoded_shape(encoded) != (dataset.Rows, dataset.Columns):
        raise InputError(where, "The compressed pixels have another size than the header says.", AGAIN)
    if decoder != _APART:
        return pixel_array(dataset, index=frame, decoding_plugin=decoder)
    elements = {keyword: dataset.get(keyword) for keyword in DESCRIBING if keyword in dataset}
    return apart.submit(_decode_apart, str(syntax), elements, encoded).result()


def _decode_apart(syntax: str, elements: dict, encoded: bytes) -> np.ndarray:
    """The stored values of one encoded frame."""
    dataset = pydicom.Dataset()
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = UID(syntax)
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    dataset.PixelData = encapsulate([encoded])
    dataset["PixelData"].VR = "OB"
    return pixel_array(dataset, index=0, decoding_plugin=_APART)


def _encoded_shape(encoded: bytes) -> tuple[int, int] | None:
    """Rows and columns that a JPEG, JPEG-LS or JPEG 2000 stream claims; None where it claims none.

    Decoders take the claim's word: a damaged one would cost minutes and gigabytes.
    """
    if (start := encoded.find(b"\xff\x4f\xff\x51", 0, 200)) >= 0:  # the SIZ segment of JPEG 2000
        width, height, left, top = struct.unpack_from(">4I", encoded, start + 8)
        return height - top, width - left
    place = 2
    while place + 9 <= len(encoded) and encoded[place] == 0xFF:
        marker, length = encoded[place + 1], int.from_bytes(encoded[place + 2 : place + 4], "big")
        if marker in FRAME_MARKERS:
            return struct.unpack_from(">2H", encoded, place + 5)
        place += 2 + length if marker != 0xFF else 1
    return None
