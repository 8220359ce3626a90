"""Damaged inputs, drawn by a seed, and what may come of each: a refusal that helps, or what an oracle reads.

A door is a function of a random generator and an empty folder: it writes one input with some damage, lets
livseg read it, and compares. `attempt` runs it and says how it ended; the same seed gives the same input.
"""

from __future__ import annotations

import contextlib
import io
import re
import shutil
import signal
import time
import traceback
import warnings
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from livseg_lib.cli import main
from livseg_lib.errors import InputError

MOST_SECONDS, MOST_BYTES = 30, 2 * 1024**3
HEADROOM_BYTES = 6 * 1024**3
"""Of address space, so that what asks for more fails here and does not end the machine."""


class Fault(Exception):
    """Something was read silently wrong, or a message does not help."""


class TooLong(BaseException):
    """It hangs; no `except Exception` on the way may swallow this."""


class Outcome(NamedTuple):
    """How one input ended."""

    door: str
    seed: int
    kind: str  # "refused", "right", or a fault: "traceback", "wrong", "slow", "memory"
    story: str = ""  # of a fault: what happened

    @property
    def is_fault(self) -> bool:
        return self.kind not in ("refused", "right")


Door = Callable[[np.random.Generator, Path], None]


def attempt(name: str, door: Door, seed: int, folder: Path) -> Outcome:
    """One input through one door, in `folder`, which is empty before and after."""
    rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
    folder.mkdir()
    try:
        with _limits() as spent, warnings.catch_warnings(action="ignore"):
            kind, story = _result(door, rng, folder)
        if spent()[0] > MOST_SECONDS:
            kind, story = "slow", f"{spent()[0]:.0f} s"
        elif spent()[1] > MOST_BYTES:
            kind, story = "memory", f"{spent()[1] / 1024**3:.1f} GB"
        return Outcome(name, seed, kind, story)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _result(door: Door, rng: np.random.Generator, folder: Path) -> tuple[str, str]:
    try:
        door(rng, folder)
        return "right", ""
    except InputError as error:
        lacking = [name for name in ("where", "problem", "remedy") if not getattr(error, name).strip()]
        return ("wrong", f"no {' and no '.join(lacking)} in: {error}") if lacking else ("refused", "")
    except Fault as fault:
        return "wrong", str(fault)
    except (TooLong, Exception) as error:
        kind = {TooLong: "slow", MemoryError: "memory"}.get(type(error), "traceback")
        return kind, "".join(traceback.format_exc().splitlines(True)[-12:])


def require_helpful(findings) -> None:
    """Raise Fault where a finding of `check_dataset` is an exception that nobody thought of."""
    for row in findings.itertuples():
        unhelpful = not row.message.strip() or re.match(r"\w*(Error|Exception)\b", row.message)
        if row.severity == "error" and unhelpful:
            raise Fault(f"finding {row.code}: {row.message}")


@contextlib.contextmanager
def must_be_read(harmless: bool) -> Iterator[None]:
    """Nothing that matters was damaged: then a refusal is a fault."""
    try:
        yield
    except InputError as error:
        if harmless:
            raise Fault(f"usable, but refused: {error}") from error
        raise


@contextlib.contextmanager
def read_too_by(oracle: str) -> Iterator[None]:
    """What livseg has read must be readable in the block, to another program."""
    try:
        yield
    except Exception as error:
        if isinstance(error, Fault):
            raise
        raise Fault(f"read, though {oracle} refuses it: {type(error).__name__}: {error}") from error


def require(truth: bool, what: str) -> None:
    """Raise Fault unless it is true."""
    if not truth:
        raise Fault(what)


@contextlib.contextmanager
def _limits() -> Iterator[Callable[[], tuple[float, int]]]:
    """Gives what says the block's own seconds and the bytes that it added at most; stops one that hangs."""
    import resource

    def too_long(*_) -> None:
        raise TooLong

    before = signal.signal(signal.SIGALRM, too_long)
    signal.setitimer(signal.ITIMER_REAL, 4 * MOST_SECONDS)  # by the clock: the machine may be busy
    old = resource.getrlimit(resource.RLIMIT_AS)
    began, resident = time.process_time(), _memory("VmRSS", reset=True)
    resource.setrlimit(resource.RLIMIT_AS, (_memory("VmSize") + HEADROOM_BYTES, old[1]))
    try:
        yield lambda: (time.process_time() - began, _memory("VmHWM") - resident)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        resource.setrlimit(resource.RLIMIT_AS, old)


def _memory(field: str, reset: bool = False) -> int:
    """Bytes of this process as Linux counts them; `reset` begins the peak, VmHWM, anew."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    return int(re.search(rf"{field}:\s+(\d+)", Path("/proc/self/status").read_text())[1]) * 1024


def run_command(argv: list[str]) -> str:
    """What `livseg` prints; raises InputError where it refuses (exit code 2), Fault where it breaks down."""
    out, err = io.StringIO(), io.StringIO()
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main(argv)
    except SystemExit as error:
        code = error.code
    require(code in (0, 1, 2), f"exit code {code}")
    said = err.getvalue()
    require("Traceback" not in said and "log" not in said.lower().split(), said[-800:])
    if code == 2:
        raise InputError(argv[0], said, "as printed")
    return out.getvalue()


# Damage


def flip_bits(rng: np.random.Generator, content: bytes, start: int = 0, stop: int | None = None) -> bytes:
    """1 to 8 bits turned over between `start` and `stop`."""
    array = bytearray(content)
    stop = min(stop or len(array), len(array))
    for place in rng.integers(start, max(stop, start + 1), rng.integers(1, 9)):
        if place < len(array):
            array[place] ^= 1 << int(rng.integers(8))
    return bytes(array)


def damage(rng: np.random.Generator, content: bytes) -> bytes:
    """Bits turned over, an end cut off, a stretch of zeros, of noise, doubled or left out, bytes behind."""
    a, b = sorted(rng.integers(0, len(content) + 1, 2))
    b = min(b, a + int(rng.integers(1, 200)))
    middle = {"zeros": bytes(b - a), "noise": rng.bytes(b - a), "doubled": content[a:b] * 2, "out": b""}
    how = rng.choice(["flip", "flip", "flip", "cut", "behind", "empty", *middle])
    if how == "flip":
        return flip_bits(rng, content)
    if how in middle:
        return content[:a] + middle[how] + content[b:]
    return {"cut": content[:a], "behind": content + rng.bytes(int(rng.integers(1, 64))), "empty": b""}[how]


HOSTILE = (
    *(None, True, -1, 0, 1, 3, 0.5, 1e9, 10**400, 1e308, float("nan"), float("inf")),
    *("", "x" * 3000, "../../x"),
    *("0", "liver", "\u0000", "Äö", [], {}, [[]], [None], ["liver"], {"": 0}, [0] * 50, "__import__('os')"),
)


def change_tree(rng: np.random.Generator, tree: dict | list) -> None:
    """In a tree as JSON holds it, something is left out, renamed, or replaced by a hostile value."""
    holders = [tree]
    for one in holders:
        items = one.values() if isinstance(one, dict) else one
        holders += [item for item in items if item and isinstance(item, dict | list)]
    holder = holders[rng.integers(len(holders))]
    keys = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
    key, how = keys[rng.integers(len(keys))], rng.choice(["value", "value", "value", "out", "name"])
    if how == "value":
        holder[key] = HOSTILE[rng.integers(len(HOSTILE))]
    else:
        value = holder.pop(key)
        if how == "name" and isinstance(holder, dict):
            holder[f"{key}{rng.choice(['_', ' ', 'x'])}"] = value
