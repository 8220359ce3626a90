"""The files of a folder or of a zip, read where they lie: nothing is ever unpacked to disk.

A path may lead into a zip as if it were a folder: `MASKS_DICOM.zip/MASKS_DICOM/liver`. So may a path into
a zip that lies in a zip.
"""

from __future__ import annotations

import io
import stat
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from livseg_lib.datasets.files import is_visible, regular_files
from livseg_lib.errors import InputError

MOST_FILES = 20_000
MOST_BYTES_IN_ZIP = 8 * 1024**3
"""Of all files of a zip together, unpacked, those of zips in it included."""
DEEPEST_ZIP = 3
"""A zip in a zip in a zip."""
MOST_BYTES_OF_INNER_ZIPS = 256 * 1024**2
"""Zips in a zip are held in memory."""
DAMAGED = (EOFError, OSError, ValueError, zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError)
"""What `zipfile` raises for damaged, encrypted and oddly compressed members."""


@dataclass
class FileTree:
    """Files below a folder."""

    sizes: dict[str, int] = field(default_factory=dict)
    """Bytes by name: relative to the folder, with forward slashes."""
    passed_over: list[tuple[str, str]] = field(default_factory=list)
    """Name and reason, of what is no file or cannot be opened."""
    openers: dict[str, Callable[[], BinaryIO]] = field(default_factory=dict)
    archives: ExitStack = field(default_factory=ExitStack)
    """The zips that are open."""
    inner_bytes: int = 0
    """Of zips in zips, held in memory."""

    @property
    def names(self) -> tuple[str, ...]:
        """In order."""
        return tuple(sorted(self.sizes))

    def open_file(self, name: str) -> BinaryIO:
        """The file `name`, to be closed by the caller."""
        return self.openers[name]()

    def add(self, name: str, size: int, opener: Callable[[], BinaryIO]) -> None:
        """Take a file in. A second member of one name in a zip gets a name of its own."""
        while name in self.sizes:
            name += "~"
        self.sizes[name], self.openers[name] = size, opener

    def add_zip(self, name: str, file: Path | BinaryIO, depth: int) -> None:
        """Take in what a zip holds, as if it were the folder `name`; with `depth` 1 it lies in no other."""
        archive = self.archives.enter_context(zipfile.ZipFile(file))
        for member in archive.infolist():
            parts = PurePosixPath(member.filename).parts
            if member.is_dir() or not parts or not all(map(is_visible, parts)) or parts[0] == "/":
                continue  # "." also begins "..", which leads out of a zip
            if len(self.sizes) > MOST_FILES:
                return  # `_check_limits` says so
            inner = "/".join([name, *parts] if name else parts)
            is_zip = inner.lower().endswith(".zip")
            if member.flag_bits & 1:
                self.passed_over.append((inner, "it is encrypted: unpack the zip with its password"))
            elif stat.S_ISLNK(member.external_attr >> 16):
                self.passed_over.append((inner, "it is a link in a zip"))
            elif not is_zip:
                self.add(inner, member.file_size, partial(archive.open, member))
            elif depth == DEEPEST_ZIP or self.inner_bytes + member.file_size > MOST_BYTES_OF_INNER_ZIPS:
                self.passed_over.append((inner, "it is a zip too deep or too large in another: unpack that"))
            else:
                self.inner_bytes += member.file_size
                with self.passing_over(inner):
                    self.add_zip(inner, io.BytesIO(archive.read(member)), depth + 1)

    @contextmanager
    def passing_over(self, name: str) -> Iterator[None]:
        """Where the file `name` turns out to be damaged, that is noted."""
        try:
            yield
        except DAMAGED as error:
            self.passed_over.append((name, f"it cannot be read ({type(error).__name__})"))


@contextmanager
def open_tree(source: Path | str) -> Iterator[FileTree]:
    """All files below `source`, a folder, a zip, a folder in a zip, or one file; zips are folders too.

    Hidden files and those that systems leave behind (`__MACOSX`, `Thumbs.db`) do not count. Pipes, devices,
    links to nothing, encrypted members and zips that cannot be read are passed over, with the reason.
    Raises InputError if there is no such place, if it is too large, or if `source` is a zip and damaged.
    """
    source, tree = Path(source), FileTree()
    with tree.archives:
        if source.is_dir():
            found = regular_files(source)
            for note in found.notes:
                tree.passed_over.append((Path(note.where).relative_to(source).as_posix(), note.message))
            for path in found.files:
                name = path.relative_to(source).as_posix()
                with tree.passing_over(name):
                    _add_file(tree, name, path)
        else:
            outer, inside = _split_at_zip(source)
            try:
                _add_file(tree, "" if zipfile.is_zipfile(outer) else outer.name, outer)
            except DAMAGED as error:
                problem = f"The zip cannot be read ({type(error).__name__})."
                raise InputError(outer, problem, "Copy or download it again.") from error
            tree = _below(tree, inside)
        _check_limits(tree, source)
        yield tree


def list_folders(source: Path | str) -> list[Path]:
    """Every folder at or below `source` that holds files itself, zips included, in order of name."""
    with open_tree(source) as tree:
        return sorted({Path(source) / PurePosixPath(name).parent for name in tree.names})


def file_on_disk(path: Path) -> Path:
    """`path` itself, or the zip that it leads into."""
    return next((place for place in (path, *path.parents) if place.is_file()), path)


def _add_file(tree: FileTree, name: str, path: Path) -> None:
    if not name or path.suffix.lower() == ".zip":
        tree.add_zip(name, path, depth=1)
    else:
        tree.add(name, path.stat().st_size, partial(path.open, "rb"))


def _split_at_zip(source: Path) -> tuple[Path, str]:
    """The file that `source` leads to or into, and the way on inside it."""
    for path in (source, *source.parents):
        if path.is_file() and (path == source or zipfile.is_zipfile(path)):
            inside = source.relative_to(path).as_posix()
            return path, "" if inside == "." else inside + "/"
    problem = "This is neither a folder nor a zip." if source.exists() else "No such folder or zip."
    raise InputError(source, problem, "Give a folder or a .zip of DICOM files.")


def _below(tree: FileTree, inside: str) -> FileTree:
    """What lies in the folder `inside` of a zip."""
    kept = {name: name.removeprefix(inside) for name in tree.sizes if name.startswith(inside)}
    return FileTree(
        {short: tree.sizes[name] for name, short in kept.items()},
        [(name.removeprefix(inside), why) for name, why in tree.passed_over if name.startswith(inside)],
        {short: tree.openers[name] for name, short in kept.items()},
    )


def _check_limits(tree: FileTree, source: Path) -> None:
    if not source.is_dir() and not tree.sizes:
        reasons = "; ".join(sorted({reason for _, reason in tree.passed_over}))
        problem = "There are no files here" + (f" that can be read: {reasons}." if reasons else ".")
        raise InputError(source, problem, "Check the path inside the zip.")
    if len(tree.sizes) > MOST_FILES:
        problem = f"There are {len(tree.sizes):,} files, more than {MOST_FILES:,}."
        raise InputError(source, problem, "Give one patient.")
    zipped = sum(size for name, size in tree.sizes.items() if not source.is_dir() or ".zip/" in name.lower())
    if zipped > MOST_BYTES_IN_ZIP:
        problem = f"The zip unpacks to more than {MOST_BYTES_IN_ZIP:,} bytes."
        raise InputError(source, problem, "Split it by patient.")
