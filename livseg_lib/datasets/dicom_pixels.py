"""The pixels of one slice in DICOM as HU, by decoders that damage cannot end this process with."""

from __future__ import annotations

import struct
from collections.abc import Callable
from concurrent.futures import Executor
from functools import lru_cache, partial

import numpy as np
import pydicom
from pydicom import uid as uids
from pydicom.encaps import encapsulate, generate_fragments, get_frame
from pydicom.pixels import get_decoder, pixel_array
from pydicom.pixels.utils import get_expected_length

from livseg_lib.datasets.dicom_headers import AGAIN, SliceHeader, damage_named, read_whole
from livseg_lib.datasets.file_trees import FileTree
from livseg_lib.errors import InputError

_DESCRIBING = (
    *("Rows", "Columns", "SamplesPerPixel", "PhotometricInterpretation", "BitsAllocated"),
    *("BitsStored", "HighBit", "PixelRepresentation"),
)
_PIXELS = (
    *(*_DESCRIBING, "NumberOfFrames", "PixelData", "PlanarConfiguration"),
    *("ExtendedOffsetTable", "ExtendedOffsetTableLengths", "FloatPixelData", "DoubleFloatPixelData"),
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


def slice_reader(tree: FileTree, source: object, apart: Executor) -> Callable[[SliceHeader], np.ndarray]:
    """What reads a slice of `tree`: slope * stored + intercept, rounded, (rows, columns), within int16.

    It raises InputError where the pixels are damaged, are not those of the header, or are no HU. `apart`: a
    process for a decoder that damage ends.
    """
    whole = lru_cache(1)(partial(read_whole, tree, keywords=list(_PIXELS)))  # a file may hold many slices

    def read(one: SliceHeader) -> np.ndarray:
        where = f"{source}/{one.name}"
        with damage_named(where):
            stored = _decoded(whole(one.name), one.frame, where, apart)
            if one.slope == 1 and one.intercept.is_integer() and stored.dtype.itemsize <= 2:
                values = stored.astype(np.int64) + int(one.intercept)
            else:
                values = np.rint(stored * one.slope + one.intercept)
        if values.shape != one.shape:
            raise InputError(where, "The pixels have another size than the header says.", "Export it again.")
        low, high = values.min(), values.max()
        if not (_INT16.min <= low and high <= _INT16.max):
            problem = f"By RescaleSlope and RescaleIntercept values run from {low:g} to {high:g}: no HU."
            raise InputError(where, problem, "Export the series again.")
        return values

    return read


def _decoded(dataset: pydicom.Dataset, frame: int, where: str, apart: Executor) -> np.ndarray:
    """The stored values of a frame, (rows, columns)."""
    syntax = dataset.file_meta.TransferSyntaxUID
    if not syntax.is_compressed:
        more = len(dataset.PixelData) - get_expected_length(dataset)
        if more >= int(dataset.Columns) * int(dataset.BitsAllocated) / 8:  # less than a row is padding
            problem = (
                f"There are {more:,} bytes of pixels more than Rows, Columns and NumberOfFrames speak of."
            )
            raise InputError(where, problem, "Export the series again.")
    if not syntax.is_compressed or syntax == uids.RLELossless:
        return pixel_array(dataset, index=frame)
    decoder = _DECODERS.get(syntax, "")
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
    elements = {keyword: dataset.get(keyword) for keyword in _DESCRIBING if keyword in dataset}
    return apart.submit(_decode_apart, str(syntax), elements, encoded).result()


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
    """Rows and columns that a JPEG, JPEG-LS or JPEG 2000 stream claims; None where it claims none.

    Decoders take the claim's word: a damaged one would cost minutes and gigabytes.
    """
    if (start := encoded.find(b"\xff\x4f\xff\x51", 0, 200)) >= 0:  # the SIZ segment of JPEG 2000
        width, height, left, top = struct.unpack_from(">4I", encoded, start + 8)
        return height - top, width - left
    place = 2
    while place + 9 <= len(encoded) and encoded[place] == 0xFF:
        marker, length = encoded[place + 1], int.from_bytes(encoded[place + 2 : place + 4], "big")
        if marker in _FRAME_MARKERS:
            return struct.unpack_from(">2H", encoded, place + 5)
        place += 2 + length if marker != 0xFF else 1
    return None
