"""What is said to the user: one error for every unusable input, one line for whatever ends a command."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

UNUSABLE, INTERRUPTED, UNHEARD = 2, 130, 141
"""Exit codes: of input that cannot be used and of faults; of Ctrl-C and of a closed pipe, as in shells."""
STOPPING = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
"""Signals that ask a process to end; Windows has no SIGHUP, that of a closed terminal."""


class InputError(ValueError):
    """A file, folder or setting that cannot be used: says which, what is wrong and what to do.

    The command line prints it as it stands and ends with exit code 2; `livseg check` lists it under
    `code`, a short name of the kind of problem such as "shape-mismatch".
    """

    def __init__(self, where: str | Path, problem: str, remedy: str = "", code: str = "unreadable") -> None:
        self.where, self.problem, self.remedy, self.code = str(where), problem, remedy, code
        super().__init__(f"{self.where}: {problem}" + (f" {remedy}" if remedy else ""))

    def __reduce__(self):  # exceptions cross process borders by their arguments
        return type(self), (self.where, self.problem, self.remedy, self.code)


def require_extra(extra: str, module: str) -> None:
    """Raises InputError where `module` is missing, which comes with that extra of the package."""
    if find_spec(module) is None:
        remedy = f'Run: pip install "livseg[{extra}]"'
        raise InputError(module, "is not installed, and this needs it.", remedy, "missing-package")


def reason_of(error: BaseException) -> str:
    """Why something failed, without paths and without what another library quotes from a file. What is no
    InputError is named by its type and the place in the code, for whoever mends it."""
    if isinstance(error, InputError):
        quoted = f": {error.__cause__}" if str(error.__cause__ or "") else ""
        first = Path(*Path(error.where).parts[:1])  # a path may lead into a zip, or to what is gone
        subject = "" if os.path.exists(first) else f"{error.where} "
        return f"{subject}{error.problem} {error.remedy}".strip().replace(quoted, "")
    if isinstance(error, MemoryError):
        return "MemoryError: there is too little memory for this case."
    if isinstance(error, OSError):
        remedy = "Check that it is there, that there is room, and that you may read and write it."
        return f"{type(error).__name__}: {error.strerror or 'a file cannot be read'}. {remedy}"
    frames = traceback.extract_tb(error.__traceback__)
    library = [frame for frame in frames if "livseg_lib" in Path(frame.filename).parts] or frames
    return f"{type(error).__name__} in {Path(library[-1].filename).name}, line {library[-1].lineno}."


def exit_code_of(command: Callable[[], int], name: str) -> int:
    """Runs `command`, called `name`, and gives its exit code; whatever ends it is one line on stderr.

    An InputError is printed as it is. Of anything else its kind and its file are named, and its
    traceback goes to a log file, readable by this user alone, that the line names.
    """
    if sys.stdout is None or sys.stderr is None:  # closed by who started the command
        nowhere = open(os.devnull, "w")  # noqa: SIM115
        sys.stdout, sys.stderr = sys.stdout or nowhere, sys.stderr or nowhere
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # names of files may be no text
    try:
        with _ended_by_signals():
            code = command()
            sys.stdout.flush()  # a pipe that was closed shows here, not after the last line
            return code
    except InputError as error:
        return _say(str(error), UNUSABLE)
    except KeyboardInterrupt:
        return _say("interrupted. What is finished is kept.", INTERRUPTED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # nothing is left to be flushed to who is gone
        return UNHEARD
    except Exception as error:
        return _say(_sentence(error, name), UNUSABLE)


def _sentence(error: Exception, name: str) -> str:
    where, remedy = name, ""  # that of an OSError stands in its reason
    if isinstance(error, MemoryError):
        remedy = " Close other programs, or take fewer workers or a smaller scan."
    elif not isinstance(error, OSError):
        remedy = " A fault of livseg, or a file of a kind that it does not know: leave that file out."
    elif isinstance(error.filename, str | bytes):
        where = os.fsdecode(error.filename)
    return f"{where}: {reason_of(error)}{remedy} Details, which may quote files: {_log(error)}"


def _log(error: Exception) -> str:
    """Where the traceback was written to: a file of its own, of mode 600."""
    try:
        handle, path = tempfile.mkstemp(prefix="livseg-", suffix=".log")
        with open(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
            traceback.print_exception(error, file=file)
        return path
    except OSError:
        return "not written, as there is no room for temporary files"


def _say(line: str, code: int) -> int:
    print(f"livseg: {line}", file=sys.stderr)
    return code


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """SIGTERM and a closed terminal end the block as an error would: what it began is cleared away."""

    def end(number: int, frame: object) -> None:
        print("livseg: ended from outside. What is finished is kept.", file=sys.stderr)
        sys.exit(128 + number)

    numbers = STOPPING if threading.current_thread() is threading.main_thread() else []
    changed = [number for number in numbers if signal.getsignal(number) == signal.SIG_DFL]
    for number in changed:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number in changed:
            signal.signal(number, signal.SIG_DFL)


def format_duration(seconds: float) -> str:
    """Such as "38 s", "5 min 12 s" or "2 h 05 min"."""
    if seconds < 60:
        return f"{seconds:.0f} s" if seconds >= 1 else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes_left = divmod(minutes, 60)
    return f"{hours} h {minutes_left:02d} min" if hours else f"{minutes} min {rest:02d} s"


def counted(number: int | str, noun: str) -> str:
    """Such as "1 case", "2 cases"; a range counts as several."""
    return f"{number} {noun}{'s' * (str(number) != '1')}"
