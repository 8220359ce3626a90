"""Data for a page that opens from disk: a script that hands over what it holds, packed to half its size.

Browsers refuse to fetch files beside a page that was opened from disk, but load scripts from there.
"""

from __future__ import annotations

import base64
import gzip
from pathlib import Path

from livseg_lib.files import write_atomically

FILE = 'livseg.take("{name}", "{packed}");\n'


def write_packed_script(path: Path, text: str) -> Path:
    """Write `path`, a .js file that calls livseg.take(its stem, base64 of gzip of UTF-8 `text`)."""
    packed = base64.b64encode(gzip.compress(text.encode(), mtime=0)).decode()
    return write_atomically(path, FILE.format(name=path.stem, packed=packed).encode())
