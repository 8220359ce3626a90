"""What the app keeps of its visitors: one private folder, in it one a browser tab, for an hour at most."""

from __future__ import annotations

import atexit
import fcntl
import os
import shutil
import signal
import stat
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import time

FORGET_AFTER_SECONDS = 3600.0
LOOK_EVERY_SECONDS = 60.0
STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
PREFIX = "livseg-app-"
ALIVE = "alive.lock"
"""In each root, locked by its app. The system lets go of the lock with the process, however that ends."""


@contextmanager
def kept_until_stopped() -> Iterator[Visits]:
    """The visits of this process, which puts all its temporary files there; they end with the block.

    Ctrl-C, SIGTERM and a closed terminal end the block, too, by SystemExit.
    """
    for number in STOPPING:
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # as nohup wants it
            signal.signal(number, _stop)
    visits = Visits()
    atexit.register(visits.close)  # once more, when the last thread that may write has ended
    os.environ["GRADIO_TEMP_DIR"] = str(visits.uploads)
    before, tempfile.tempdir = tempfile.tempdir, str(visits.scratch)
    os.environ["TMPDIR"] = str(visits.scratch)
    try:
        yield visits
    finally:
        visits.close()
        tempfile.tempdir = before


def _stop(number: int, frame: object) -> None:
    for each in STOPPING:
        signal.signal(each, signal.SIG_IGN)  # what follows is to be done in any case
    raise SystemExit(128 + number)


class Visits:
    """Folders by visit (Gradio's session hash), below one folder that nobody else can read.

    A visitor's new result replaces the former one. Everything goes when a tab is closed, within the hour
    without anyone's doing, and with `close`. What an app that was killed left is deleted at the next start.
    """

    def __init__(self) -> None:
        _delete_left()
        starting = Path(tempfile.mkdtemp(prefix=f".{PREFIX}"))  # mode 700, a name that cannot be guessed
        self._alive = (starting / ALIVE).open("w")
        fcntl.flock(self._alive, fcntl.LOCK_EX)
        self.root = starting.rename(starting.with_name(starting.name[1:]))  # seen by others once it is locked
        self.uploads, self.scratch = self.root / "uploads", self.root / "tmp"
        self.results = self.scratch / "results"  # Gradio gives out files of the temporary folder only
        for folder in (self.uploads, self.scratch, self.results):
            folder.mkdir(mode=0o700)
        self._folders: dict[str, Path] = {}
        self._lock = threading.Lock()
        self._closed = threading.Event()
        threading.Thread(target=self._forget_in_time, daemon=True).start()

    def begin(self, visit: str) -> Path:
        """An empty folder for a visit's next result; what it held before is deleted."""
        self.forget(visit)
        folder = Path(tempfile.mkdtemp(dir=self.results))
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

    def forget_old(self) -> None:
        """Delete what will have lain for FORGET_AFTER_SECONDS when it is looked at next."""
        before = time() - FORGET_AFTER_SECONDS + LOOK_EVERY_SECONDS
        for folder in self.results.iterdir():
            if _changed(folder) <= before:
                shutil.rmtree(folder, ignore_errors=True)
        for path in self.root.glob("*/**/*"):
            if (path.is_symlink() or not path.is_dir()) and _changed(path) <= before:
                path.unlink(missing_ok=True)

    def close(self) -> None:
        """Delete everything."""
        self._closed.set()
        shutil.rmtree(self.root, ignore_errors=True)
        self._alive.close()

    def _forget_in_time(self) -> None:
        while not self._closed.wait(LOOK_EVERY_SECONDS):
            self.forget_old()


def _changed(path: Path) -> float:
    """When it got its content or its place: unlike its date, no copying keeps that."""
    try:
        return path.lstat().st_ctime
    except FileNotFoundError:  # gone meanwhile
        return float("inf")


def _delete_left() -> None:
    """Delete the roots of apps of this user that are no more; a link is not followed."""
    for root in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        found = root.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
            continue
        try:
            with (root / ALIVE).open("r+") as alive:
                fcntl.flock(alive, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(root, ignore_errors=True)
        except OSError:  # its app lives, or another start deletes it just now
            continue
