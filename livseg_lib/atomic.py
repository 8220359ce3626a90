"""Nothing half-written looks finished: write aside, then rename. Who reads and rewrites takes turns."""

from __future__ import annotations

import fcntl
import json
import math
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def written_aside(path: Path | str) -> Iterator[Path]:
    """Gives the hidden `.name.partial.suffix` beside `path`; renames it when the block ends well.

    Makes the folder if it is missing. If the block fails, the old file stays and the partial one goes;
    a process killed inside the block leaves the partial file, which the next writer overwrites.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    stem, dot, suffix = path.name.partition(".")
    partial = path.with_name(f".{stem}.partial{dot}{suffix}")
    try:
        yield partial
        os.replace(partial, path)
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
    return write_atomically(path, f"{text}\n".encode())


def _finite(value: object) -> object:
    """`value` with every float in it that is no finite number replaced by None."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


@contextmanager
def folder_written_aside(folder: Path | str) -> Iterator[Path]:
    """As `written_aside` for a folder: gives the empty, hidden `.name.partial` beside `folder`, and puts it
    in its place when the block ends well. Whatever `folder` held before is gone then.
    """
    folder = Path(folder)
    partial, old = (folder.with_name(f".{folder.name}.{state}") for state in ("partial", "old"))
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
        shutil.rmtree(old, ignore_errors=True)
        if folder.exists():
            folder.rename(old)
        partial.rename(folder)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


@contextmanager
def locked(path: Path | str) -> Iterator[None]:
    """One process at a time reads and rewrites `path`; others wait. A process that dies lets go."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(f".{path.name}.lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
