"""Nothing half-written looks finished: write aside, then rename. Who reads and rewrites takes turns."""

from __future__ import annotations

import fcntl
import os
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


@contextmanager
def locked(path: Path | str) -> Iterator[None]:
    """One process at a time reads and rewrites `path`; others wait. A process that dies lets go."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(f".{path.name}.lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
