"""Reading a file, gzipped or not, in bounded pieces and to its end, so that its checksum is checked.

A gzip stream says only at its end whether all before it was right; whoever stops at the last voxel
never learns of a flipped bit.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
from isal import igzip, isal_zlib

from livseg_lib.errors import InputError

GZIP_MAGIC = b"\x1f\x8b"
MOST_GZIP_EXPANSION = 1032
"""Deflate cannot make more than this many bytes out of one."""
CHUNK_BYTES = 1024**2
TRAILING_BYTES_ALLOWED = CHUNK_BYTES
"""Padding that may follow the voxels; a stream that goes on for longer is refused."""


@contextmanager
def open_checked(path: Path) -> Iterator[BinaryIO]:
    """The bytes of `path`, decompressed where it is gzipped (told by its first bytes, not its name).

    Raises InputError for a missing, empty, truncated or corrupt file, also while the block reads.
    """
    again = "Copy or download it again."
    try:
        if not path.is_file():
            raise _no_file(path)
        if path.stat().st_size == 0:
            raise InputError(path, "The file is empty.", "Download or export it again.")
        with igzip.open(path, "rb") if is_gzip(path) else path.open("rb") as stream:
            yield stream
    except EOFError as error:
        raise InputError(path, "The file is truncated: it ends too early.", again) from error
    except (igzip.BadGzipFile, isal_zlib.error) as error:
        raise InputError(path, "The gzip data is corrupt.", again) from error
    except OSError as error:
        problem = f"The file cannot be read ({error.strerror or type(error).__name__})."
        raise InputError(path, problem, "Check disk and rights.") from error


def _no_file(path: Path) -> InputError:
    if path.is_symlink() and not path.exists():
        remedy = "Fetch its content (git annex get, datalad get) or mend the link."
        return InputError(path, "The link leads to nothing.", remedy)
    if path.exists():
        return InputError(path, "This is a folder, pipe or device, not a file.", "Give a file.")
    return InputError(path, "No such file.", "Check the path.")


def is_gzip(path: Path) -> bool:
    """Whether the file begins as gzip does."""
    with path.open("rb") as stream:
        return stream.read(2) == GZIP_MAGIC


def most_bytes_inside(path: Path) -> int:
    """No more bytes than these can come out of the file."""
    return path.stat().st_size * (MOST_GZIP_EXPANSION if is_gzip(path) else 1)


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
        arrived = len(stream.read(min(count, CHUNK_BYTES)))
        if not arrived:
            raise EOFError
        count -= arrived


def read_to_end(stream: BinaryIO, path: Path) -> None:
    """Reach the end, where gzip's checksum is. Raises InputError if it is far away (a gzip bomb)."""
    trailing = 0
    while arrived := len(stream.read(CHUNK_BYTES)):
        trailing += arrived
        if trailing > TRAILING_BYTES_ALLOWED:
            raise InputError(
                path,
                f"More than {TRAILING_BYTES_ALLOWED:,} bytes follow the voxels that the header speaks of.",
                "Do not trust this file; export it again from its source.",
            )
