"""SHA-256 of files: what says that two are the same, and that a folder is whole."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

BLOCK_BYTES = 1024**2


def file_checksum(path: Path) -> str:
    """SHA-256 of the content of `path`, as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


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
