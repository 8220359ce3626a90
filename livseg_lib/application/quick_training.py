"""The quick system trained on phantoms, in a process of its own, told line by line."""

from __future__ import annotations

import subprocess
import sys
from collections import deque
from collections.abc import Iterator

from livseg_lib.paths import project_root

LINES_SHOWN = 12
COMMAND = [sys.executable, "-u", "-m", "livseg_lib", "train", "--system", "unet"]


def train_quickly(command: list[str] | None = None) -> Iterator[str]:
    """Run `livseg train`; gives the last lines that it printed, again and again until it ends.

    The last text says how it ended. A training that is stopped goes on where it was the next time.
    """
    lines: deque[str] = deque(maxlen=LINES_SHOWN)
    process = subprocess.Popen(
        command or COMMAND,
        cwd=project_root(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    try:
        for line in process.stdout:  # text mode makes a line of every progress update, too
            lines.append(line.rstrip())
            yield "\n".join(lines)
        failed = process.wait() != 0
    finally:
        process.kill()
    lines.append("It did not work; see the lines above." if failed else "Trained.")
    yield "\n".join(lines)
