"""The quick system trained on phantoms, in a process of its own, told line by line."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterator, Sequence

import psutil

from livseg_lib.paths import project_root

LINES_SHOWN = 12
COMMAND = (sys.executable, "-u", "-m", "livseg_lib", "train", "--system", "unet")


class QuickTraining:
    """`livseg train`, at most once at a time."""

    def __init__(self, command: Sequence[str] = COMMAND) -> None:
        self._command = command
        self._running = threading.Lock()
        self._process: subprocess.Popen | None = None

    def run(self) -> Iterator[str]:
        """The last lines that it printed, again and again until it ends; it ends with its listener, too.

        The last text says how it ended. A training that is stopped goes on where it was the next time.
        """
        if not self._running.acquire(blocking=False):
            yield "Another visitor's training is running. Load this page again when it has ended."
            return
        lines: deque[str] = deque(maxlen=LINES_SHOWN)
        try:
            self._process = subprocess.Popen(
                self._command,
                cwd=project_root(),
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
            )
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
        if self._process is None or self._process.poll() is not None:
            return
        for process in [*psutil.Process(self._process.pid).children(recursive=True), self._process]:
            process.kill()
        self._process.wait()
