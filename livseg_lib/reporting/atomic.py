"""Nothing half-written looks finished: every file of a report goes through here."""

from __future__ import annotations

import os
from pathlib import Path


def write_atomically(path: Path | str, content: bytes) -> Path:
    """Write `content` to `<stem>.partial<suffix>` beside `path`, then move it into place.

    Makes the folder if it is missing. A run killed while writing leaves the old file as it was.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.stem}.partial{path.suffix}")
    partial.write_bytes(content)
    os.replace(partial, path)
    return path
