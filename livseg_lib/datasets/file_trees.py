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
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from livseg_lib.datasets.files import is_visible, regular_files
from livseg_lib.errors import InputError

MOST_FILES = 20_000
MOST_BYTES_IN_ZIP = 8 * 1024**3  # of all files of a zip together, unpacked, those of zips in it included
DEEPEST_ZIP = 3  # a zip in a zip in a zip
MOST_BYTES_OF_INNER_ZIPS = 256 * 1024**2  # zips in a zip are held in memory
NAMELESS = ContextVar("NAMELESS", default=False)
"""Whether files go by numbers, where their names may tell who the patient is."""
DAMAGED = (EOFError, OSError, ValueError, zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError)
"""What `zipfile` raises for damaged, encrypted and oddly compressed members."""


@dataclass
class FileTree:
    """Files below a folder."""

    inside: str = ""
    """The folder of a zip that is meant, with a slash behind; what lies elsewhere in it is left out."""
    sizes: dict[str, int] = field(default_factory=dict)
    """Bytes by name: relative to the folder, with forward slashes."""
    passed_over: list[tuple[str, str]] = field(default_factory=list)
    """Name and reason, of what is no file or cannot be opened."""
    openers: dict[str, Callable[[], BinaryIO]] = field(default_factory=dict)
    archives: ExitStack = field(default_factory=ExitStack)  # the zips that are open
    inner_bytes: int = 0  # of zips in zips, held in memory

    @property
    def names(self) -> tuple[str, ...]:
        """In order."""
        return tuple(sorted(self.sizes))

    def open_file(self, name: str) -> BinaryIO:
        """The file `name`, to be closed by the caller."""
        return self.openers[name]()

    def add(self, name: str, size: int, opener: Callable[[], BinaryIO]) -> None:
        """Take a file in. A second member of one name in a zip gets a name of its own."""
        if name.startswith(self.inside):
            name = name.removeprefix(self.inside)
            while name in self.sizes:
                name += "~"
            self.sizes[name], self.openers[name] = size, opener

    def add_path(self, name: str, path: Path) -> None:
        """Take in a file on disk, or what it holds if it is a zip; with the name "" it is one."""
        if not name or path.suffix.lower() == ".zip":
            self.add_zip(name, path, depth=1)
        else:
            self.add(name, path.stat().st_size, partial(path.open, "rb"))

    def add_zip(self, name: str, file: Path | BinaryIO, depth: int) -> None:
        """Take in what a zip holds, as if it were the folder `name`; with `depth` 1 it lies in no other."""
        archive = self.archives.enter_context(zipfile.ZipFile(file))
        for member in archive.infolist():
            parts = PurePosixPath(member.filename.lstrip("/")).parts
            leads_out = ".." in parts or member.filename.startswith("/")
            if member.is_dir() or not parts or not (leads_out or all(map(is_visible, parts))):
                continue
            if len(self.sizes) > MOST_FILES:
                return  # `open_tree` says so
            inner = "/".join([name, *parts] if name else parts)
            is_zip = inner.lower().endswith(".zip")
            if leads_out:
                self.pass_over(inner, "its name leads out of the zip: pack the folder again")
            elif member.flag_bits & 1:
                self.pass_over(inner, "it is encrypted: unpack the zip with its password")
            elif stat.S_ISLNK(member.external_attr >> 16):
                self.pass_over(inner, "it is a link in a zip")
            elif not is_zip:
                self.add(inner, member.file_size, partial(archive.open, member))
            elif depth == DEEPEST_ZIP or self.inner_bytes + member.file_size > MOST_BYTES_OF_INNER_ZIPS:
                self.pass_over(inner, "it is a zip too deep or too large in another: unpack that")
            else:
                self.inner_bytes += member.file_size
                with self.passing_over(inner):
                    self.add_zip(inner, io.BytesIO(archive.read(member)), depth + 1)

    def pass_over(self, name: str, reason: str) -> None:
        """Note what is left out."""
        if name.startswith(self.inside):
            self.passed_over.append((name.removeprefix(self.inside), reason))

    def number(self) -> None:
        """Call each file by a number, in order of name; what lies in one folder stays in one."""
        names = sorted({*self.sizes, *(name for name, _ in self.passed_over)})
        folders = sorted({name.rpartition("/")[0] for name in names})
        order = {name: folders.index(name.rpartition("/")[0]) for name in names}
        new_names = {name: f"folder-{order[name] + 1}/file-{n:05}" for n, name in enumerate(names, start=1)}
        self.sizes = {new_names[name]: size for name, size in self.sizes.items()}
        self.openers = {new_names[name]: opener for name, opener in self.openers.items()}
        self.passed_over = [(new_names[name], reason) for name, reason in self.passed_over]

    @contextmanager
    def passing_over(self, name: str) -> Iterator[None]:
        """Where the file `name` turns out to be damaged, that is noted."""
        try:
            yield
        except DAMAGED as error:
            self.pass_over(name, f"it cannot be read ({type(error).__name__})")


@contextmanager
def open_tree(source: Path | str) -> Iterator[FileTree]:
    """All files below `source`, a folder, a zip, a folder in a zip, or one file; zips are folders too.

    Hidden files and those that systems leave behind (`__MACOSX`, `Thumbs.db`) do not count. Pipes, devices,
    links to nothing, encrypted members and zips that cannot be read are passed over, with the reason.
    Raises InputError if there is no such place, if it is too large, or if `source` is a zip and damaged.
    """
    source, tree = Path(source), FileTree()
    in_folder, on_disk = source.is_dir(), file_on_disk(source)
    zipped = not in_folder and on_disk.is_file() and zipfile.is_zipfile(on_disk)
    if not in_folder and not zipped and not source.is_file():
        problem = "This is neither a folder nor a zip." if source.exists() else "No such folder or zip."
        raise InputError(source, problem, "Give a folder or a .zip of DICOM files.")
    with tree.archives:
        if in_folder:
            found = regular_files(source)
            for note in found.notes:
                tree.pass_over(Path(note.where).relative_to(source).as_posix(), note.message)
            for path in found.files:
                name = path.relative_to(source).as_posix()
                with tree.passing_over(name):
                    tree.add_path(name, path)
        else:
            tree.inside = "" if on_disk == source else f"{source.relative_to(on_disk).as_posix()}/"
            try:
                tree.add_path("" if zipped else source.name, on_disk)
            except DAMAGED as error:
                problem = f"The zip cannot be read ({type(error).__name__})."
                raise InputError(on_disk, problem, "Copy or download it again.") from error
            if not tree.sizes:
                reasons = "; ".join(sorted({reason for _, reason in tree.passed_over}))
                problem = "There are no files here" + (f" that can be read: {reasons}." if reasons else ".")
                raise InputError(source, problem, "Check the path inside the zip.")
        if len(tree.sizes) > MOST_FILES:
            problem = f"There are {len(tree.sizes):,} files, more than {MOST_FILES:,}."
            raise InputError(source, problem, "Give one patient.")
        sizes = [size for name, size in tree.sizes.items() if not in_folder or ".zip/" in name.lower()]
        if sum(sizes) > MOST_BYTES_IN_ZIP:
            problem = f"The zip unpacks to more than {MOST_BYTES_IN_ZIP:,} bytes."
            raise InputError(source, problem, "Split it by patient.")
        if NAMELESS.get():
            tree.number()
        yield tree


def is_zip(path: Path) -> bool:
    """Whether `path` is a file called .zip, or a zip whose name has no suffix, or but a number for one."""
    unnamed = not path.suffix or path.suffix[1:].isdecimal()
    return path.is_file() and (path.suffix.lower() == ".zip" or (unnamed and zipfile.is_zipfile(path)))


def list_folders(source: Path | str) -> list[Path]:
    """Every folder at or below `source` that holds files itself, zips included, in order of name."""
    with open_tree(source) as tree:
        return sorted({Path(source) / PurePosixPath(name).parent for name in tree.names})


def file_on_disk(path: Path) -> Path:
    """`path` itself, or the zip that it leads into."""
    return next((candidate for candidate in (path, *path.parents) if candidate.is_file()), path)
