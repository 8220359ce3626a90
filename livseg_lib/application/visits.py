"""What the app keeps of each visitor: a private folder a browser tab, for an hour at most."""

from __future__ import annotations

import shutil
import tempfile
import threading
import time
from pathlib import Path

FORGET_AFTER_SECONDS = 3600.0


class Visits:
    """Folders by visit (Gradio's session hash), below one private folder that nobody else can read.

    A visitor's new result replaces the former one. Everything goes when a tab is closed, after an hour, and
    with `close`.
    """

    def __init__(self) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="livseg-app-"))  # mode 700
        self._folders: dict[str, Path] = {}
        self._lock = threading.Lock()

    def begin(self, visit: str) -> Path:
        """An empty folder for a visit's next result; what it held before is deleted."""
        self.forget(visit)
        self.forget_old()
        folder = Path(tempfile.mkdtemp(dir=self.root))  # a name that cannot be guessed
        with self._lock:
            self._folders[visit] = folder
        return folder

    def folder(self, visit: str) -> Path | None:
        """The folder of a visit's last result; None where there is none, or none any more."""
        with self._lock:
            folder = self._folders.get(visit)
        return folder if folder is not None and folder.exists() else None

    def forget(self, visit: str) -> None:
        """Delete what a visit left."""
        with self._lock:
            folder = self._folders.pop(visit, None)
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)

    def forget_old(self, seconds: float = FORGET_AFTER_SECONDS) -> None:
        """Delete what was begun longer ago than `seconds`."""
        before = time.time() - seconds
        with self._lock:
            old = [visit for visit, path in self._folders.items() if _begun(path) <= before]
        for visit in old:
            self.forget(visit)

    def close(self) -> None:
        """Delete everything."""
        shutil.rmtree(self.root, ignore_errors=True)


def _begun(folder: Path) -> float:
    return folder.stat().st_mtime if folder.exists() else 0.0
