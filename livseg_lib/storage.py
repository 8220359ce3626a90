"""Folders in object storage (s3://, gs://): a scan comes when it is read, results go there when done."""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from livseg_lib.errors import InputError, require_extra
from livseg_lib.files import locked, text_checksum

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

MIRRORS = "LIVSEG_MIRRORS"
"""Variable of the environment, for processes started by this one, too: local folder -> URL, as JSON."""
SCANS = (".nii", ".nii.gz")
"""What comes when it is read. Other files tell by their content what they are, and all come first."""
MOST_HERE = 2  # scans that a thread keeps: a volume and its labels
_here = threading.local()
_results: dict[Path, tuple[AbstractFileSystem, str, dict[Path, tuple[int, int]]]] = {}


class Url(str):
    """Such as s3://bucket/folder; what fsspec understands, zip://::s3://bucket/scans.zip too."""


def place(text: str) -> Path | Url:
    """A path, or the URL that `text` is."""
    return Url(text) if "://" in text else Path(text)


@contextmanager
def mirrored(url: Url) -> Iterator[Path]:
    """The folder (or file) `url` as a local one in the block; scans are holes of their size until `fetch`.

    In the user's cache, under the same path each time: what was extracted from it is known again. Raises
    InputError where nothing is there, or nothing can be reached.
    """
    with _cached(url, "in") as (folder, system, root):
        with _explained(url):
            files = system.find(root, detail=True)
        if not files:
            raise InputError(url, "There is no such file or folder.", "Check the address.")
        is_file = [*files] == [root]
        base = system._parent(root) if is_file else root
        for name, details in files.items():
            path = _below(folder, name.removeprefix(base), url)
            if name.endswith(SCANS):
                _empty(path, details["size"], _modified(details))
            else:
                with _explained(url):
                    system.get_file(name, str(path))
        before = os.environ.get(MIRRORS, "{}")
        os.environ[MIRRORS] = json.dumps(json.loads(before) | {str(folder): [url, base]})
        try:
            yield folder / Path(root).name if is_file else folder
        finally:
            os.environ[MIRRORS] = before


def fetch(path: Path) -> None:
    """Where `path` stands for a scan in storage: get it, and delete the one before the last."""
    mirrors, here = json.loads(os.environ.get(MIRRORS, "{}")), _here.__dict__.setdefault("paths", [])
    for folder, (url, base) in mirrors.items():
        if path in here or not path.is_relative_to(folder) or not path.name.endswith(SCANS):
            continue
        status, partial = path.stat(), path.with_name(f".{path.name}.{os.getpid()}")
        with _explained(url):
            _system(url)[0].get_file(f"{base}/{path.relative_to(folder).as_posix()}", str(partial))
        os.utime(partial, ns=(status.st_mtime_ns, status.st_mtime_ns))
        os.replace(partial, path)
        here.append(path)
        for other in here[:-MOST_HERE]:
            here.remove(other)
            if other.exists():  # not where its folder is gone
                status = other.stat()
                _empty(other, status.st_size, status.st_mtime_ns)


@contextmanager
def sent(url: Url, is_file: bool = False) -> Iterator[Path]:
    """A local folder (or file) for results that are to lie at `url`, with those that lie there already. What
    was written is sent by `send`, and at the end of the block, however it ends."""
    head, _, name = url.rpartition("/") if is_file else (url, "", "")
    with _cached(Url(head), "out") as (folder, system, root):
        _results[folder] = system, root, {}
        with _explained(url):
            for remote in system.find(f"{root}/{name}" if is_file else root):
                system.get_file(remote, str(_below(folder, remote.removeprefix(root), url)))
        _results[folder][2].update((path, _stamp(path)) for path in _files(folder))
        try:
            yield folder / name
        finally:
            try:
                send(folder)
            finally:
                del _results[folder]
    print(f"results are in {url}")


def send(folder: Path) -> None:
    """Put what is new or changed below `folder`, if it belongs to results that are `sent`, in the order in
    which it was written: the record of a case is last there as here. What is gone here is removed there."""
    for root, (system, base, known) in _results.items():
        if not folder.is_relative_to(root):
            continue
        for path in _files(folder):
            if known.get(path) == (stamp := _stamp(path)):
                continue
            remote = f"{base}/{path.relative_to(root).as_posix()}"
            with _explained(base):
                system.makedirs(system._parent(remote), exist_ok=True)
                system.put_file(str(path), remote)
            known[path] = stamp
        for path in [path for path in known if path.is_relative_to(folder) and not path.exists()]:
            del known[path]
            system.rm_file(f"{base}/{path.relative_to(root).as_posix()}")


@contextmanager
def _cached(url: Url, kind: str) -> Iterator[tuple[Path, AbstractFileSystem, str]]:
    """A folder of this user for `url`, empty and gone afterwards; the file system and the path in it."""
    require_extra("cloud", "fsspec")
    with _explained(url):
        system, root = _system(url)
    folder = (Path.home() / ".cache" / "livseg" / f"{kind}-{text_checksum(url)[:16]}").resolve()
    with locked(folder, url):
        shutil.rmtree(folder, ignore_errors=True)  # of a run that was killed
        folder.mkdir(mode=0o700)
        try:
            yield folder, system, root
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _system(url: str) -> tuple[AbstractFileSystem, str]:
    from fsspec.core import url_to_fs

    system, root = url_to_fs(url)
    return system, root.rstrip("/")


@contextmanager
def _explained(url: str) -> Iterator[None]:
    """Whatever a service answers, as one error: each has its own."""
    try:
        yield
    except Exception as error:
        problem = f"It cannot be reached ({type(error).__name__}: {error})."
        raise InputError(url, problem, "Check address, rights, network, and its Python package.") from error


def _below(folder: Path, name: str, url: Url) -> Path:
    path = (folder / name.lstrip("/")).resolve()
    if not path.is_relative_to(folder):
        raise InputError(url, f"The name {name!r} leads out of its folder.", "Rename it.")
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _modified(details: dict) -> int:
    """Nanoseconds since 1970 from what a service says about a file; 0 where it gives no time."""
    moment = details.get("LastModified") or details.get("mtime") or details.get("created") or 0
    return int(moment.timestamp() * 1e9) if hasattr(moment, "timestamp") else int(moment * 1e9)


def _empty(path: Path, size: int, modified_ns: int) -> None:
    """A file of holes: it takes no room and is as large, and as old, as the one that it stands for."""
    with path.open("wb") as file:
        file.truncate(size)
    os.utime(path, ns=(modified_ns, modified_ns))


def _files(folder: Path) -> list[Path]:
    """Below `folder`, the oldest first; no locks and none half written, whose names are hidden."""
    inside = (path for path in folder.rglob("*") if path.is_file())
    visible = [path for path in inside if not any(part[0] == "." for part in path.relative_to(folder).parts)]
    return sorted(visible, key=lambda path: (path.stat().st_mtime_ns, path))


def _stamp(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns
