"""Slices of a DICOM series: their order in space, what is missing between them, the affine, and their pixels.

Pixels are HU, by decoders that damage cannot end this process with.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from functools import lru_cache, partial
from typing import NamedTuple

import numpy as np
import pydicom
from pydicom import uid as uids
from pydicom.encaps import encapsulate, generate_fragments, get_frame
from pydicom.pixels import get_decoder, pixel_array
from pydicom.pixels.utils import get_expected_length

from livseg_lib.datasets.dicom_headers import AGAIN, SliceHeader, damage_named, read_whole
from livseg_lib.datasets.file_trees import FileTree
from livseg_lib.datasets.files import listed
from livseg_lib.errors import InputError

SAME_DIRECTION = 1e-3
"""Largest difference of direction cosines and, relative, of pixel spacing within a series."""
SAME_POSITION_MM = 0.01
UNEVEN_STEPS = 0.25  # a slice may lie this share of a step away from its place in an even stack
JITTER = 0.05  # from this share of a step on, it is said
LARGEST_TILT_DEGREES = 1.0
"""Between the way from slice to slice and the normal of the slices; more is gantry tilt."""
FEWEST_ROUNDED = 3  # steps of each of two lengths that make rounding more likely than a lost slice


def same_grid(one: SliceHeader, other: SliceHeader) -> bool:
    """Whether two slices may lie in one stack by size, direction and pixel spacing."""
    return (
        one.shape == other.shape
        and np.allclose(one.directions, other.directions, rtol=0, atol=SAME_DIRECTION)
        and np.allclose(one.pixel_spacing_mm, other.pixel_spacing_mm, rtol=SAME_DIRECTION, atol=0)
    )


def slices_at_one_place(slices: Sequence[SliceHeader], source: object) -> list[list[SliceHeader]]:
    """The slices along their normal, those at one place together, each place in order of name. Raises
    InputError if they differ in grid or study, or lie beside each other at one height."""
    first = slices[0]
    for named in zip(*(header.study for header in slices), strict=True):  # studies, and frames of reference
        if 1 < len({*named} - {""}) < len(slices):  # one a slice: an anonymiser gave them
            problem = "Slices of several studies or frames of reference share a SeriesInstanceUID."
            raise InputError(source, problem, "Keep one scan a series.")
    for header in slices[1:]:
        if not same_grid(header, first):
            problem = f"Slices {first} and {header} differ in size, spacing or direction."
            raise InputError(source, problem, "Keep one scan a series.")
    groups: list[list[SliceHeader]] = []
    below = -np.inf
    pairs = zip(_heights(slices), slices, strict=True)
    for height, header in sorted(pairs, key=lambda pair: (pair[0], pair[1].name, pair[1].frame)):
        if height - below > SAME_POSITION_MM:
            groups.append([header])
            below = height
        elif np.abs(header.position_mm - groups[-1][0].position_mm).max() <= SAME_POSITION_MM:
            groups[-1].append(header)
        else:
            problem = f"Slices {groups[-1][0]} and {header} lie beside each other at one height."
            raise InputError(source, problem, "Keep one reconstruction a series.")
    return groups


class Stack(NamedTuple):
    """A series in space."""

    slices: list[SliceHeader]  # one a place, sorted along the normal
    affine: np.ndarray  # 4x4 from (column, row, slice) indices to RAS+ mm
    note: str  # what is to be said of slices that lie next to their places in an even stack; else empty


def stack_slices(slices: Sequence[SliceHeader], source: object) -> Stack:
    """The slices of a series as one even stack. Raises InputError if they differ in grid, are missing, uneven
    or tilted, saying where. DICOM speaks LPS, NIfTI RAS: x and y change sign (DICOM PS3.3 C.7.6.2.1.1)."""
    ordered, note = [group[0] for group in slices_at_one_place(slices, source)], ""
    first = ordered[0]
    if len(ordered) > 1:
        step, note = _step_mm(ordered, source)
    elif first.thickness_mm is not None:
        step = np.cross(*first.directions) * first.thickness_mm
    else:
        problem = "A single slice without a thickness has no volume."
        raise InputError(source, problem, "Give the whole series.")
    affine = np.eye(4)
    sides = first.directions * np.array(first.pixel_spacing_mm)[::-1, np.newaxis]
    affine[:3] = np.column_stack([*sides, step, first.position_mm])
    return Stack(ordered, np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine, note)


def _step_mm(ordered: Sequence[SliceHeader], source: object) -> tuple[np.ndarray, str]:
    """Vector from each slice to the next, and the note."""
    heights, positions = _heights(ordered), np.array([header.position_mm for header in ordered])
    rounded_mm = _rounded_step_mm(ordered, heights)
    if rounded_mm is None:
        _require_all(ordered, heights, source)
    step = (positions[-1] - positions[0]) / (len(ordered) - 1)
    length_mm = np.linalg.norm(step)
    cosine = step @ np.cross(*ordered[0].directions) / length_mm
    tilt = np.degrees(np.arccos(np.clip(cosine, -1.0, 1.0)))
    if tilt > LARGEST_TILT_DEGREES:
        problem = f"The slices are tilted by {tilt:.1f} degrees against the table (gantry tilt)."
        raise InputError(source, problem, "Convert the series with dcm2niix, which straightens it.")
    even = np.linspace(positions[0], positions[-1], len(ordered))
    far_mm = float(np.linalg.norm(positions - even, axis=1).max())
    note = f"Slices lie up to {far_mm:.2f} mm from an even stack: read as even."
    if rounded_mm is not None:
        step = step / length_mm * rounded_mm
        note = f"Positions are rounded to whole mm: read as slices every {rounded_mm:.4g} mm."
    elif far_mm > UNEVEN_STEPS * length_mm:
        far = np.argsort(-np.abs(np.diff(heights) - length_mm), kind="stable")
        raise _uneven(ordered, heights, np.sort(far[:3]), source)
    return step, note if len(ordered) > 2 and far_mm > JITTER * length_mm else ""


def _require_all(ordered: Sequence[SliceHeader], heights: np.ndarray, source: object) -> None:
    """Raise InputError where slices are missing, or lie elsewhere."""
    steps, usual = np.diff(heights), _usual(heights)
    relative, remedy = steps / usual, "Export or copy the whole series again."
    if not len(odd := np.flatnonzero(np.abs(relative - 1) > UNEVEN_STEPS)):
        return
    if relative.max() > len(ordered) + 1:
        k = int(relative.argmax())
        problem = f"{ordered[k]} and {ordered[k + 1]} lie {steps[k]:.6g} mm apart, other slices"
        problem += f" {usual:.4g} mm: a position is wrong, or most are missing."
        raise InputError(source, problem, remedy, code="missing-slices")
    counts = np.rint(relative).astype(int)
    in_rows = np.count_nonzero(np.diff(odd) == 1) >= FEWEST_ROUNDED
    if counts.min() < 1 or np.abs(relative - counts).max() > UNEVEN_STEPS or in_rows:
        raise _uneven(ordered, heights, odd, source)
    lost = int(counts.sum()) - len(counts)
    missing = [f"{heights[k] + usual * n:.1f}" for k in odd[:4] for n in range(1, counts[k])]
    problem = f"{lost} of {len(ordered) + lost} slices are missing, at {listed(missing)} mm."
    raise InputError(source, problem, remedy, code="missing-slices")


def _rounded_step_mm(ordered: Sequence[SliceHeader], heights: np.ndarray) -> float | None:
    """The even step whose places, rounded to whole mm, are those of the slices; None where there is none.

    The step that the header declares counts alone, without one the thickness first; rounding must show in it:
    next to 1 mm a longer step is rather a lost slice. Where nothing is declared and the thickness does not
    fit, both lengths of step must be frequent: one longer step is a lost slice.
    """
    whole = np.rint(heights)
    steps = np.diff(whole)
    if len(steps) < 2 or np.abs(heights - whole).max() > SAME_POSITION_MM or np.ptp(steps) != 1:
        return None
    indices = np.arange(len(whole))
    frequent = np.unique(steps, return_counts=True)[1].min() >= FEWEST_ROUNDED
    declared = ordered[0].declared_step_mm
    if step := declared or ordered[0].thickness_mm:
        shows = step >= 2 or len(steps) * abs(step - np.rint(step)) >= 1
        spread = 1 + (1e-6 if frequent else -1e-6)  # halves may go up and down: to the even number
        if shows and np.ptp(whole - step * indices) < spread:
            return step
        if declared or np.isclose(step, steps.min()):
            return None
    step, start = np.polyfit(indices, whole, 1)
    fits = np.abs(whole - (start + step * indices)).max() <= 0.5 + JITTER
    return float(step) if frequent and fits else None


def _uneven(ordered: list[SliceHeader], heights: np.ndarray, odd: np.ndarray, source: object) -> InputError:
    steps = np.diff(heights)
    gaps = listed([f"{steps[k]:.4g} mm between {ordered[k]} and {ordered[k + 1]}" for k in odd], "; ")
    problem = f"The slices are not evenly spaced: {_usual(heights):.4g} mm apart, but {gaps}."
    return InputError(source, problem, "Reconstruct or resample them evenly, or remove what is of another.")


def _usual(heights: np.ndarray) -> float:
    """The lower median of the steps, which is taken for the true one."""
    return float(np.percentile(np.diff(heights), 50, method="lower"))


def _heights(slices: Sequence[SliceHeader]) -> np.ndarray:
    """Places along the normal of the first slice, mm."""
    return np.array([header.position_mm for header in slices]) @ np.cross(*slices[0].directions)


_DESCRIBING = (
    *("Rows", "Columns", "SamplesPerPixel", "PhotometricInterpretation", "BitsAllocated"),
    *("BitsStored", "HighBit", "PixelRepresentation"),
)
_PIXELS = (
    *(*_DESCRIBING, "NumberOfFrames", "PixelData", "PlanarConfiguration"),
    *("ExtendedOffsetTable", "ExtendedOffsetTableLengths", "PixelPaddingValue"),
)
_DECODERS = {
    **dict.fromkeys((uids.JPEGLossless, uids.JPEGLosslessSV1), "gdcm"),
    **dict.fromkeys((uids.JPEGBaseline8Bit, uids.JPEGExtended12Bit), "pillow"),
    **dict.fromkeys((uids.JPEG2000Lossless, uids.JPEG2000), "pillow"),
    **dict.fromkeys((uids.JPEGLSLossless, uids.JPEGLSNearLossless), "pyjpegls"),
}
"""GDCM only where nobody else reads it, in a process of its own: damaged pixels end that (so do those of
libjpeg-turbo and liblj92)."""
_APART = "gdcm"
_FRAME_MARKERS = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}
_INT16 = np.iinfo(np.int16)
AIR_HU, HIGHEST_HU = -1024, 20_000  # what is read where nothing was measured; metal, on an extended scale


def slice_reader(tree: FileTree, source: object, apart: Executor) -> Callable[[SliceHeader], np.ndarray]:
    """What reads a slice of `tree`: slope * stored + intercept, rounded, (rows, columns), within int16.

    Padding is read as air where its value would be no HU; else it is far below air anyway, or a pixel may
    well have it.

    It raises InputError where the pixels are damaged, are not those of the header, or are no HU. `apart`: a
    process for a decoder that damage ends.
    """
    whole = lru_cache(1)(partial(read_whole, tree, keywords=list(_PIXELS)))  # a file may hold many slices

    def read(header: SliceHeader) -> np.ndarray:
        where = f"{source}/{header.name}"
        with damage_named(where):
            stored = _decoded(whole(header.name), header.frame, where, apart)
            if header.slope == 1 and header.intercept.is_integer() and stored.dtype.itemsize <= 2:
                values = stored.astype(np.int64) + int(header.intercept)
            else:
                values = np.rint(stored * header.slope + header.intercept)
        if values.shape != header.shape:
            raise InputError(where, "The pixels have another size than the header says.", "Export it again.")
        low, high = values.min(), values.max()
        padding = whole(header.name).get("PixelPaddingValue")
        may_be_measured = header.modality != "ct" or (_INT16.min <= low and high <= HIGHEST_HU)
        if isinstance(padding, int) and not may_be_measured:
            values[(stored.astype(np.int64) - padding) % 2**16 == 0] = AIR_HU  # its sign is often mistaken
            low, high = values.min(), values.max()
        if not (_INT16.min <= low and high <= _INT16.max):
            problem = f"By RescaleSlope and RescaleIntercept values run from {low:g} to {high:g}: no HU."
            raise InputError(where, problem, "Export the series again.")
        return values

    return read


def _decoded(dataset: pydicom.Dataset, frame: int, where: str, executor: Executor) -> np.ndarray:
    """The stored values of a frame, (rows, columns). Raises InputError where it is not described in full."""
    for keyword in (*_DESCRIBING, "PixelData"):
        if dataset.get(keyword) in (None, "", b"") and keyword != "HighBit":  # which decoders do not ask for
            raise InputError(where, f"The slice has no {keyword}.", AGAIN)
    if dataset.get("HighBit") not in (None, "", int(dataset.BitsStored) - 1):
        raise InputError(where, "HighBit is not BitsStored - 1: values are not where decoders look.", AGAIN)
    syntax = dataset.file_meta.TransferSyntaxUID
    if not syntax.is_compressed:
        more = len(dataset.PixelData) - get_expected_length(dataset)
        if more >= int(dataset.Columns) * int(dataset.BitsAllocated) / 8:  # less than a row is padding
            problem = f"There are {more:,} bytes of pixels more than Rows, Columns and NumberOfFrames say."
            raise InputError(where, problem, "Export the series again.")
    if not syntax.is_compressed or syntax == uids.RLELossless:
        return pixel_array(dataset, index=frame)
    decoder = _DECODERS.get(syntax, "")
    if not decoder or decoder not in get_decoder(syntax).available_plugins:
        name = syntax.name if syntax.name != syntax else "a syntax unknown here"
        remedy = 'Run: pip install "livseg[dicom]", or decompress the series (gdcmconv --raw).'
        raise InputError(where, f"No decoder is installed for pixels stored as {name}.", remedy)
    frames = int(dataset.get("NumberOfFrames") or 1)
    if frames == 1:
        _, *fragments = generate_fragments(dataset.PixelData)  # the first is the table of offsets
        encoded = b"".join(fragments)
    else:
        encoded = get_frame(dataset.PixelData, frame, number_of_frames=frames)
    if _encoded_shape(encoded) != (dataset.Rows, dataset.Columns):
        raise InputError(where, "The compressed pixels have another size than the header says.", AGAIN)
    if decoder != _APART:
        return pixel_array(dataset, index=frame, decoding_plugin=decoder)
    elements = {keyword: dataset.get(keyword) for keyword in _DESCRIBING}
    return executor.submit(_decode_apart, str(syntax), elements, encoded).result()


def _decode_apart(syntax: str, elements: dict, encoded: bytes) -> np.ndarray:
    """The stored values of one encoded frame."""
    dataset = pydicom.Dataset()
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = uids.UID(syntax)
    dataset.update(elements)
    dataset.PixelData = encapsulate([encoded])
    dataset["PixelData"].VR = "OB"
    return pixel_array(dataset, index=0, decoding_plugin=_APART)


def _encoded_shape(encoded: bytes) -> tuple[int, int] | None:
    """Rows and columns that a JPEG, JPEG-LS or JPEG 2000 stream claims; None where it claims none. Decoders
    take the claim's word: a damaged one would cost minutes and gigabytes."""
    if (start := encoded.find(b"\xff\x4f\xff\x51", 0, 200)) >= 0:  # the SIZ segment of JPEG 2000
        width, height, left, top = struct.unpack_from(">4I", encoded, start + 8)
        return height - top, width - left
    offset = 2
    while offset + 9 <= len(encoded) and encoded[offset] == 0xFF:
        marker, length = encoded[offset + 1], int.from_bytes(encoded[offset + 2 : offset + 4], "big")
        if marker in _FRAME_MARKERS:
            return struct.unpack_from(">2H", encoded, offset + 5)
        offset += 2 + length if marker != 0xFF else 1
    return None
