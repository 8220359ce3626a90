"""Whatever ends a command is one line, with an exit code of its own."""

import errno
import os
import re
import signal
import stat
import sys
import tempfile
import time
from pathlib import Path

import pytest

from livseg_lib.cli import main
from livseg_lib.errors import InputError, exit_code_of


@pytest.fixture(autouse=True)
def logs(tmp_path, monkeypatch):
    """Where temporary files go."""
    folder = tmp_path / "logs"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def fails_with(error):
    def command():
        raise error

    return command


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (InputError("a.nii", "is empty.", "Copy it again."), 2, "a.nii: is empty. Copy it again."),
        (KeyboardInterrupt(), 130, "interrupted. What is finished is kept."),
        (ZeroDivisionError("DOE^JOHN"), 2, r"check: ZeroDivisionError in errors.py, line \d+. A fault"),
        (RecursionError(), 2, "check: RecursionError in"),
        (MemoryError(), 2, "check: MemoryError: there is too little memory for this case. Close"),
        (OSError(errno.ENOSPC, "No space left on device", "/o/t"), 2, "/o/t: OSError: No space left on"),
        (OSError(errno.EROFS, "Read-only file system", b"/o/\xff"), 2, r"/o/\\udcff: OSError: Read-only"),
        (UnicodeEncodeError("utf-8", "\udcff", 0, 1, "no"), 2, "check: UnicodeEncodeError in"),
    ],
)
def test_anything_that_ends_a_command_is_one_line(capsys, error, code, said):
    assert exit_code_of(fails_with(error), "check") == code
    (line,) = capsys.readouterr().err.splitlines()
    assert re.match(f"livseg: {said}", line) and "DOE" not in line


def test_the_traceback_of_a_fault_lies_in_a_file_that_only_its_user_reads(capsys, logs, monkeypatch):
    exit_code_of(fails_with(InputError("a", "is empty.")), "check")
    assert not any(logs.iterdir())
    exit_code_of(fails_with(ZeroDivisionError("by zero")), "check")
    (log,) = logs.iterdir()
    assert str(log) in capsys.readouterr().err
    assert stat.S_IMODE(log.stat().st_mode) == 0o600
    assert "Traceback" in log.read_text() and "by zero" in log.read_text()
    monkeypatch.setattr(tempfile, "mkstemp", lambda **named: fails_with(OSError(errno.ENOSPC, "full"))())
    assert exit_code_of(fails_with(ZeroDivisionError()), "check") == 2  # no room for a log: no second fault
    assert "not written" in capsys.readouterr().err


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_ends_a_command_as_an_error_would(capsys, number, code):
    signal.signal(number, signal.SIG_DFL)  # nohup would have it ignored, and that is respected
    cleared = []

    def command():
        try:
            os.kill(os.getpid(), number)
            time.sleep(10)
        finally:
            cleared.append(True)

    with pytest.raises(SystemExit) as ended:
        exit_code_of(command, "check")
    assert ended.value.code == code and cleared and signal.getsignal(number) == signal.SIG_DFL
    assert capsys.readouterr().err == "livseg: ended from outside. What is finished is kept.\n"


def test_names_that_are_no_text_can_be_printed(capsys):
    assert exit_code_of(lambda: print("\udcff.nii") or 0, "check") == 0
    assert capsys.readouterr().out == "\\udcff.nii\n"


@pytest.mark.parametrize("closed", [("stdout",), ("stderr",), ("stdout", "stderr")])
def test_who_started_it_may_have_closed_what_it_prints_to(monkeypatch, closed):
    for name in closed:
        monkeypatch.setattr(sys, name, None)
    assert exit_code_of(lambda: print("x", file=sys.stderr) or print("x") or 0, "check") == 0


def test_a_reader_that_is_gone_ends_it_without_a_word():
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        os.dup2(writing, 1)
        sys.stdout = open(1, "w")  # noqa: SIM115
        code = exit_code_of(lambda: print("x") or 0, "check")
        os._exit(code)
    os.close(writing)
    os.close(reading)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) in (0, 141)


@pytest.mark.parametrize(
    "command",
    [
        *("check data", "extract data", "predict data --model m", "sort data --model m", "export m"),
        *("follow-up a.nii b.nii", "evaluate --reference a --prediction b", "networks"),
    ],
)
def test_where_nothing_can_be_written_no_command_reads_anything(tmp_path, monkeypatch, capsys, command):
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    Path("folder").mkdir()
    ways = {"file": "cannot be written"}
    if command.split()[0] in ("evaluate", "networks"):  # they write a file; a device never ends
        ways = {"folder": "is a folder. Give --out the name", "/dev/zero": "is a pipe or device. Give --out"}
    for out, problem in (ways | dict.fromkeys(("file/below", "/proc/livseg"), "cannot be written")).items():
        assert main([*command.split(), "--out", out]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"livseg: {out}: {problem}") and "--out" in line
