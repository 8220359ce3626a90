"""What the app keeps: a private folder a visitor for an hour, the scan that is shown, a training."""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from time import time

import cv2
import numpy as np
from filelock import FileLock

from livseg_lib.application.predictor import PatientResult
from livseg_lib.errors import STOPPING
from livseg_lib.preprocessing.windows import WINDOWS, as_hu
from livseg_lib.processes import end_family
from livseg_lib.reporting.screen import VIEW_WINDOWS, screen_slice, slice_to_show
from livseg_lib.runs import project_root

FORGET_AFTER_SECONDS = 3600.0
LOOK_EVERY_SECONDS = 60.0
PREFIX = "livseg-app-"
ALIVE, UPLOADS = "alive.lock", "uploads"
"""In each root, locked by its app: the system lets go with the process, however that ends. Then, uploads."""


@contextmanager
def kept_until_stopped() -> Iterator[Visits]:
    """The visits of this process, which puts all its temporary files there; they end with the block. Ctrl-C,
    SIGTERM and a closed terminal end the block, too, by SystemExit."""
    for number in STOPPING:
        if number in (signal.SIGINT, signal.SIGTERM) or signal.getsignal(number) != signal.SIG_IGN:  # nohup
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
        self.root = Path(tempfile.mkdtemp(prefix=PREFIX))  # mode 700, a name that cannot be guessed
        self._alive = FileLock(self.root / ALIVE, thread_local=False)
        self._alive.acquire()
        self.uploads, self.scratch = self.root / UPLOADS, self.root / "tmp"
        self.results = self.scratch / "results"  # Gradio gives out files of the temporary folder only
        for folder in (self.uploads, self.scratch, self.results):
            folder.mkdir(mode=0o700)
        self._folders: dict[str, Path] = {}
        self._closed = threading.Event()
        threading.Thread(target=self._forget_in_time, daemon=True).start()

    def begin(self, visit: str) -> Path:
        """An empty folder for a visit's next result; what it held before is deleted."""
        self.forget(visit)
        self._folders[visit] = Path(tempfile.mkdtemp(dir=self.results))
        return self._folders[visit]

    def folder(self, visit: str) -> Path | None:
        """The folder of a visit's last result; None where there is none, or none any more."""
        folder = self._folders.get(visit)
        return folder if folder is not None and folder.exists() else None

    def forget(self, visit: str) -> None:
        """Delete what a visit left."""
        if (folder := self._folders.pop(visit, None)) is not None:
            shutil.rmtree(folder, ignore_errors=True)

    def forget_old(self) -> None:
        """Delete what will have lain for FORGET_AFTER_SECONDS when it is looked at next."""
        before = time() - FORGET_AFTER_SECONDS + LOOK_EVERY_SECONDS
        with suppress(FileNotFoundError):  # `close` deletes all of it meanwhile
            for folder in self.results.iterdir():
                if _changed(folder) <= before:
                    shutil.rmtree(folder, ignore_errors=True)
            for path in self.root.glob("*/**/*"):
                if (path.is_symlink() or not path.is_dir()) and _changed(path) <= before:
                    path.unlink(missing_ok=True)

    def close(self) -> None:
        """Delete everything."""
        self._closed.set()
        self._alive.release()  # before: Windows deletes no open file
        shutil.rmtree(self.root, ignore_errors=True)

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
    user = getattr(os, "getuid", int)()  # on Windows 0, as the owner of every file
    for uploads in Path(tempfile.gettempdir()).glob(f"{PREFIX}*/{UPLOADS}"):
        with suppress(OSError):  # its app lives, or another start deletes it just now
            root, found = uploads.parent, uploads.parent.lstat()
            if stat.S_ISDIR(found.st_mode) and found.st_uid == user:
                FileLock(root / ALIVE).acquire(timeout=0).lock.release()
                shutil.rmtree(root, ignore_errors=True)


FOUND = "found"  # what the app calls the outline; there is no truth beside it


@dataclass(frozen=True)
class ShownScan:
    """A scan and its outlines on disk."""

    folder: Path

    @property
    def voxels(self) -> np.ndarray:
        """int16 HU (D, H, W), an MR scan stretched like HU; read where it is looked at."""
        return np.load(self.folder / "voxels.npy", mmap_mode="r", allow_pickle=False)

    @property
    def labels(self) -> np.ndarray:
        """uint8 0/1/2 (D, H, W)."""
        return np.load(self.folder / "labels.npy", mmap_mode="r", allow_pickle=False)

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """(D, H, W); NaN for pictures."""
        return tuple(np.load(self.folder / "spacing_mm.npy", allow_pickle=False).tolist())

    def picture(self, index: int, window: str) -> np.ndarray:
        """RGB uint8 of one slice in a window of `VIEW_WINDOWS`, in the body's proportions. Pictures that were
        windowed before are shown as they are."""
        index = int(np.clip(index, 0, len(self.labels) - 1))
        _, row_mm, column_mm = self.spacing_mm
        shown = VIEW_WINDOWS[window] if np.isfinite(row_mm) else WINDOWS["stored"]
        rgb = screen_slice(self.voxels[index], shown, {FOUND: self.labels[index]})
        if not np.isfinite(row_mm) or np.isclose(row_mm, column_mm):
            return rgb
        height = round(rgb.shape[0] * row_mm / column_mm)
        return cv2.resize(rgb, (rgb.shape[1], height), interpolation=cv2.INTER_LINEAR)


def keep_scan(result: PatientResult, folder: Path) -> int:
    """Put a result's scan and labels into `folder`, for a ShownScan; returns the slice to begin at."""
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "voxels.npy", as_hu(result.scan.volume, result.predictor.modality).voxels)
    np.save(folder / "labels.npy", result.labels)
    np.save(folder / "spacing_mm.npy", np.asarray(result.scan.volume.spacing_mm, float))
    return slice_to_show([result.labels], len(result.labels))[1]


LINES_SHOWN = 12
COMMAND = (sys.executable, "-u", "-m", "livseg_lib", "train", "--system", "unet")


class QuickTraining:
    """`livseg train`, at most once at a time."""

    def __init__(self, command: Sequence[str] = COMMAND) -> None:
        self._command = command
        self._running = threading.Lock()
        self._process: subprocess.Popen | None = None

    def run(self) -> Iterator[str]:
        """The last lines that it printed, again and again until it ends; it ends with its listener, too. The
        last text says how it ended. A training that is stopped goes on where it was the next time."""
        if not self._running.acquire(blocking=False):
            yield "Another visitor's training is running. Load this page again when it has ended."
            return
        lines: deque[str] = deque(maxlen=LINES_SHOWN)
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "errors": "replace"}
        try:
            self._process = subprocess.Popen(self._command, cwd=project_root(), **streams)
            for line in self._process.stdout:  # text mode makes a line of every progress update, too
                lines.append(line.rstrip())
                yield "\n".join(lines)
            failed = self._process.wait() != 0
        finally:
            self.stop()
            self._running.release()
        lines.append("It did not work; see the lines above." if failed else "Trained.")
        yield "\n".join(lines)

    def stop(self) -> None:
        """End the training with all processes that it started."""
        if self._process is not None and self._process.poll() is None:
            end_family(self._process.pid)
            self._process.wait()
