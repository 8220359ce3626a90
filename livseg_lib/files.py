"""Files that are whole or not there: written aside and renamed, locked, known by their SHA-256."""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import platform
import re
import secrets
import shutil
import sys
import zlib
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from livseg_lib.errors import InputError


def file_checksum(path: Path) -> str:
    """SHA-256 of the content of `path`, as 64 hexadecimal digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def read_file(path: Path) -> bytes:
    """The content of `path`. Raises OSError for a pipe or a device, too: they have no end."""
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise OSError(errno.EINVAL, "no file but a pipe, a socket or a device")
    return path.read_bytes()


def files_checksum(paths: Iterable[Path]) -> str:
    """One SHA-256 for the contents of all `paths`, whatever these are called and in whichever order."""
    return text_checksum("\n".join(sorted(map(file_checksum, paths))))


def text_checksum(text: str) -> str:
    """SHA-256 of `text` in UTF-8."""
    return hashlib.sha256(text.encode()).hexdigest()


def folder_checksums(folder: Path) -> dict[str, str]:
    """SHA-256 of every file below `folder`, by its path in there, in order of name."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): file_checksum(path) for path in files}


def holds_files(folder: Path, checksums: dict[str, str]) -> bool:
    """Whether `folder` has every file of `checksums`, unchanged; others may lie beside them."""
    paths = {folder / name: checksum for name, checksum in checksums.items()}
    return bool(paths) and all(path.is_file() and file_checksum(path) == paths[path] for path in paths)


GZIP_LEVEL = 3
"""Of isal, where equal data must give equal bytes: its levels 1 and 2 (of 0 to 3) hash an address in memory
where they mean the data: rarely, a process packs equal data otherwise."""
MOST_NAME_BYTES = 120
"""Of a name that others are made from: file systems take 255, and a hidden name beside it needs some."""
PATIENCE_SECONDS = 1.0  # to wait for another process before saying so
_HERE = f"{zlib.crc32(platform.node().encode()):08x}"


@contextmanager
def written_aside(path: Path | str) -> Iterator[Path]:
    """Gives a hidden `.name.partial-...suffix` beside `path`, this writer's alone; renames it at a good end.

    Makes the folder if it is missing. If the block fails, the old file stays and the partial one goes;
    what a killed process left is swept by the next writer of that file. An OSError that names no file, as
    that of a full disk, names `path`.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    suffix = "".join(path.suffixes[-2:])[-20:]
    stem = path.name.removesuffix(suffix)
    for left in _left_behind(path.with_name(stem), "partial"):
        left.unlink(missing_ok=True)
    partial = _beside(path.with_name(stem), "partial", suffix)
    try:
        yield partial
        os.replace(partial, path)
    except OSError as error:
        error.filename = error.filename or str(path)
        raise
    finally:
        partial.unlink(missing_ok=True)


def write_atomically(path: Path | str, content: bytes) -> Path:
    """Write `content` as the file `path`, whole or not at all."""
    with written_aside(path) as partial:
        partial.write_bytes(content)
    return Path(path)


def write_json(path: Path | str, content: dict) -> Path:
    """Write `content` as JSON, whole or not at all. NaN becomes null: JSON has none."""
    text = json.dumps(_finite(content), indent=2, allow_nan=False, ensure_ascii=False)
    return write_atomically(path, f"{text}\n".encode(errors="backslashreplace"))


def _finite(value: object) -> object:
    """`value` with every float in it that is no finite number replaced by None."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


@contextmanager
def folder_written_aside(folder: Path | str) -> Iterator[Path]:
    """As `written_aside` for a folder: gives an empty, hidden folder beside `folder`, and puts it in its
    place when the block ends well. Whatever `folder` held before is gone then, and not a moment earlier:
    killed between the two renames, the old one is put back by the next writer.
    """
    folder = Path(os.path.realpath(folder))  # a link stays, and what it points to is replaced
    if folder.is_file():
        raise NotADirectoryError(20, "A file is in the way", str(folder))
    recover_folder(folder)
    partial, old = _beside(folder, "partial"), _beside(folder, "old")
    partial.mkdir(parents=True)
    try:
        yield partial
        while partial.exists():  # again where another writer's folder came in between: the last one stays
            shutil.rmtree(old, ignore_errors=True)
            with suppress(FileNotFoundError):
                folder.rename(old)
            _rename_unless_taken(partial, folder)
    finally:
        if old.exists() and not folder.exists():
            _rename_unless_taken(old, folder)
        for leftover in (partial, old):
            shutil.rmtree(leftover, ignore_errors=True)


def require_replaceable(folder: Path, *own: str) -> None:
    """Raises InputError where `folder` holds anything, but none of the files `own`: it would be lost."""
    is_empty = folder.is_dir() and not any(folder.iterdir())
    if folder.exists() and not is_empty and not any((folder / name).is_file() for name in own):
        problem = "is there already, and livseg did not make it."
        raise InputError(folder, problem, "Choose another --out: nothing of yours is overwritten.")


def require_own_file(path: Path, *columns: str, words: bytes = b"") -> None:
    """Raises InputError for a file that is no table which begins with `columns`, or does not hold `words`."""
    if path.is_file():
        with path.open("rb") as file:
            start = file.read(4096)
        if not start.startswith(",".join(columns).encode()) or words not in start:
            problem = "is there already, and is something else."
            raise InputError(path, problem, "Choose another --out: nothing of yours is overwritten.")


def require_there(path: Path) -> None:
    """Raises InputError for a file that is missing, or a link to nothing."""
    if path.is_symlink() and not path.exists():
        remedy = "Fetch its content (git annex get, datalad get) or mend the link."
        raise InputError(path, "The link leads to nothing.", remedy)
    if not path.exists():
        raise InputError(path, "No such file.", "Check the path.")


def _rename_unless_taken(folder: Path, target: Path) -> None:
    """Rename, unless another writer's folder has come to `target` in this very moment."""
    try:
        folder.rename(target)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise


def recover_folder(folder: Path) -> None:
    """Put back what a process had moved aside when it was killed; sweep what it left beside `folder`."""
    for old in _left_behind(folder, "old"):
        with suppress(OSError):  # another process was quicker
            if not folder.exists():
                old.rename(folder)
        shutil.rmtree(old, ignore_errors=True)
    for partial in _left_behind(folder, "partial"):
        shutil.rmtree(partial, ignore_errors=True)


def _beside(path: Path, state: str, suffix: str = "") -> Path:
    """A hidden name beside `path` that names its owner: this computer, this process, a random number."""
    owner = f"{_HERE}-{os.getpid()}-{secrets.token_hex(4)}"
    return path.with_name(f".{short_name(path.name)}.{state}-{owner}{suffix}")


def _left_behind(path: Path, state: str) -> list[Path]:
    """What stands beside `path` in that state and belongs to a process of this computer that is gone."""
    name = re.compile(re.escape(f".{short_name(path.name)}.{state}-{_HERE}-") + r"(\d+)-[0-9a-f]{8}")
    try:
        found = [name.match(other) for other in os.listdir(path.parent)]
    except FileNotFoundError:
        return []
    return [path.with_name(each.string) for each in found if each and not _is_running(int(each[1]))]


def _is_running(process: int) -> bool:
    import psutil  # only where something was left behind

    try:
        return psutil.Process(process).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True


def short_name(name: str) -> str:
    """`name`, cut to MOST_NAME_BYTES where it is longer, with a checksum that keeps different ones apart."""
    if len(os.fsencode(name)) <= MOST_NAME_BYTES:
        return name
    digest = hashlib.sha256(os.fsencode(name)).hexdigest()[:12]
    kept = os.fsencode(name)[: MOST_NAME_BYTES - 13].decode(errors="ignore")
    return f"{kept}-{digest}"


@contextmanager
def locked(path: Path | str, within: Path | str = "") -> Iterator[Path]:
    """One process at a time reads and rewrites `path`; others wait, and say so. One that dies lets go.

    Gives the file that stands for this.

    `within`: what is said to be waited for, where `path` only stands for it.
    """
    from filelock import FileLock, Timeout

    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.with_name(f".{short_name(path.name)}.lock")
    if file.exists() and not file.is_file():  # a pipe would be waited for, too
        raise InputError(file, "is no file, and stands where livseg keeps its lock.", "Delete it.")
    file.open("a").close()  # raises where nothing can be written: the lock itself would wait for ever
    lock = FileLock(file)
    try:
        lock.acquire(timeout=PATIENCE_SECONDS)
    except Timeout:
        message = f"livseg: waiting for another process to be done with {within or path}"
        print(message, file=sys.stderr, flush=True)
        lock.acquire()
    try:
        yield file
    finally:
        lock.release()


@contextmanager
def sole_writer(out: Path, is_file: bool = False) -> Iterator[None]:
    """Keeps the results `out` (a folder, made here, or a file) to this process; others wait. A block that is
    refused before it wrote anything leaves nothing. Raises InputError where `out` cannot be written."""
    if is_file and out.exists() and not out.is_file():
        problem = "is a folder." if out.is_dir() else "is a pipe or device."
        raise InputError(out, problem, "Give --out the name of a file.", "unwritable")
    lock_place = out if is_file else out / "livseg"
    made_here = [folder for folder in lock_place.parents if not folder.exists()]
    with ExitStack() as stack:
        try:
            lock = stack.enter_context(locked(lock_place, out))
        except OSError as error:
            problem = f"cannot be written ({error.strerror or type(error).__name__})."
            remedy = "Make room there, or choose another --out."
            raise InputError(out, problem, remedy, "unwritable") from error
        try:
            yield
        except InputError:
            with suppress(OSError):  # not empty: results lie there
                lock.unlink()
                for folder in made_here:
                    folder.rmdir()
            raise
