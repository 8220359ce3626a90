"""The files of a folder or of a zip, read where they lie: nothing is ever unpacked to disk.

A path may lead into a zip as if it were a folder: `MASKS_DICOM.zip/MASKS_DICOM/liver`.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from livseg_lib.errors import InputError

MOST_FILES = 20_000
MOST_BYTES_PER_FILE = 64 * 1024**2
"""A CT slice of 512 x 512 takes half a megabyte."""
MOST_BYTES_IN_ZIP = 8 * 1024**3
"""Of all its files together, unpacked."""
DAMAGED = (EOFError, OSError, zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError)
"""What `zipfile` raises for damaged, encrypted and oddly compressed members."""


@dataclass(frozen=True)
class FileTree:
    """Files below a folder, in order of name."""

    names: tuple[str, ...]
    """Relative to the folder, with forward slashes."""
    open_file: Callable[[str], BinaryIO]


@contextmanager
def open_tree(source: Path | str) -> Iterator[FileTree]:
    """All files below `source`, a folder, a zip or a folder in a zip.

    Hidden files and those that systems leave behind (`__MACOSX`, `Thumbs.db`) do not count.
    Raises InputError if there is no such place, if it is too large, or if the zip is damaged.
    """
    source = Path(source)
    if source.is_dir():
        yield _folder_tree(source)
        return
    archive_path, inside = _split_at_zip(source)
    try:
        archive = zipfile.ZipFile(archive_path)
    except DAMAGED as error:
        raise InputError(
            archive_path, f"The zip cannot be read ({error}).", "Copy or download it again."
        ) from error
    with archive:
        yield _zip_tree(archive, inside, source)


def list_folders(source: Path | str) -> list[Path]:
    """Every folder at or below `source` that holds files itself, zips included, in order of name."""
    with open_tree(source) as tree:
        return sorted({Path(source) / PurePosixPath(name).parent for name in tree.names})


def _folder_tree(folder: Path) -> FileTree:
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    sizes = {name: path.stat().st_size for name, path in files.items() if _counts(name)}
    _check_limits(folder, sizes)
    return FileTree(tuple(sorted(sizes)), lambda name: files[name].open("rb"))


def _split_at_zip(source: Path) -> tuple[Path, str]:
    for path in (source, *source.parents):
        if path.is_file() and zipfile.is_zipfile(path):
            inside = source.relative_to(path).as_posix()
            return path, "" if inside == "." else inside + "/"
    problem = "This is neither a folder nor a zip." if source.exists() else "No such folder or zip."
    raise InputError(source, problem, "Give a folder or a .zip of DICOM files.")


def _zip_tree(archive: zipfile.ZipFile, inside: str, source: Path) -> FileTree:
    members = [member for member in archive.infolist() if not member.is_dir()]
    by_name = {
        member.filename.removeprefix(inside): member
        for member in members
        if member.filename.startswith(inside) and _counts(member.filename)
    }
    if not by_name:
        raise InputError(source, "There are no files here.", "Check the path inside the zip.")
    _check_limits(source, {name: member.file_size for name, member in by_name.items()})
    if sum(member.file_size for member in by_name.values()) > MOST_BYTES_IN_ZIP:
        raise InputError(
            source, f"The zip unpacks to more than {MOST_BYTES_IN_ZIP:,} bytes.", "Split it by patient."
        )
    return FileTree(tuple(sorted(by_name)), lambda name: archive.open(by_name[name]))


def _counts(name: str) -> bool:
    parts = PurePosixPath(name).parts  # "." also begins "..", which leads out of a zip
    return not any(part.startswith(".") or part in ("__MACOSX", "Thumbs.db") for part in parts)


def _check_limits(source: Path, sizes: dict[str, int]) -> None:
    if len(sizes) > MOST_FILES:
        raise InputError(
            source, f"There are {len(sizes):,} files, more than {MOST_FILES:,}.", "Give one patient."
        )
    for name, size in sizes.items():
        if size > MOST_BYTES_PER_FILE:
            problem = (
                f"The file has {size:,} bytes, more than {MOST_BYTES_PER_FILE:,}: it is no single CT slice."
            )
            raise InputError(f"{source}/{name}", problem, "Remove it, or convert the scan to NIfTI.")
