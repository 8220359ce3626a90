"""Workers give what one process gives, and are gone as soon as the one that asked is."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from livseg_lib.errors import InputError
from livseg_lib.processes import _Worker, in_processes, in_threads

MANY_SECONDS = 600


def square(number: int) -> int:
    return number**2


def fail_at_once_or_sleep(number: int) -> None:
    if number == 0:
        raise InputError("case 0", "is damaged.")
    time.sleep(MANY_SECONDS)


def end_itself(number: int) -> None:
    psutil.Process().kill()


def tell_and_sleep(folder: Path) -> None:
    (folder / str(os.getpid())).touch()
    time.sleep(MANY_SECONDS)


def wait_until(true, seconds: float = 30.0) -> bool:
    end = time.monotonic() + seconds
    while not true() and time.monotonic() < end:
        time.sleep(0.05)
    return true()


@pytest.mark.parametrize("workers", [1, 9])
def test_results_come_in_the_order_of_the_items(workers):
    assert list(in_processes(square, range(5), workers)) == [0, 1, 4, 9, 16]
    assert list(in_processes(square, [], workers)) == []


def test_an_error_ends_the_work_of_the_others_too_without_a_word(monkeypatch):
    said = []
    monkeypatch.setattr("threading.excepthook", said.append)
    with pytest.raises(InputError, match="case 0: is damaged"):
        list(in_processes(fail_at_once_or_sleep, range(9), 2))
    assert wait_until(lambda: not workers_of(psutil.Process())) and not said


def test_threads_give_results_in_order_and_begin_nothing_more_after_an_error():
    assert list(in_threads(square, range(5), 2)) == [0, 1, 4, 9, 16]
    begun = []

    def fail_at_first(number: int) -> None:
        begun.append(number)
        time.sleep(0.05)
        if number == 0:
            raise InputError("case 0", "is damaged.")

    with pytest.raises(InputError, match="case 0: is damaged"):
        list(in_threads(fail_at_first, range(1000), 2))
    assert len(begun) < 1000


def test_a_worker_ended_from_outside_is_explained():
    with pytest.raises(InputError, match="fewer workers"):
        list(in_processes(end_itself, range(2), 2))


def test_a_script_that_would_start_itself_again_is_told_how_to_begin(tmp_path):
    script = tmp_path / "mine.py"
    script.write_text("from livseg_lib.processes import in_processes\nlist(in_processes(abs, [1, 2], 2))\n")
    done = subprocess.run([sys.executable, script], capture_output=True, text=True)
    assert done.returncode and "fewer workers" not in done.stderr
    # not always its last line: where one worker was ended before it could tidy up, Python says so behind it
    assert re.search(r'InputError: .*below `if __name__ == "__main__":`', done.stderr)


def test_a_worker_that_cannot_be_started_says_why(monkeypatch):
    def start(self):
        raise BlockingIOError("no room for a process")

    monkeypatch.setattr(_Worker, "start", start)
    with pytest.raises(BlockingIOError, match="no room"):
        list(in_processes(square, range(3), 2))


def workers_of(process: psutil.Process) -> list[psutil.Process]:
    """Those that work: multiprocessing keeps one more, which tidies up behind them and ends by itself."""
    return [child for child in process.children() if "spawn_main" in " ".join(child.cmdline())]


@pytest.fixture
def parent(tmp_path):
    """A process of its own group with two busy workers."""
    program = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # not so in a background
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from pathlib import Path\n"
        "from test_processes import in_processes, tell_and_sleep\n"
        "if __name__ == '__main__':\n"
        "    try:\n"
        f"        list(in_processes(tell_and_sleep, [Path({str(tmp_path)!r})] * 9, 2))\n"
        "    except KeyboardInterrupt:\n"
        "        print('stopped')\n"
    )
    script = tmp_path / "program.py"
    script.write_text(program)
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen([sys.executable, script], start_new_session=True, **streams)
    assert wait_until(lambda: len(list(tmp_path.iterdir())) == 3, 120)
    yield process
    process.kill()


@pytest.mark.parametrize("death", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_no_worker_survives_its_parent(parent, death):
    workers = workers_of(psutil.Process(parent.pid))
    assert len(workers) == 2
    parent.send_signal(death)
    parent.wait(30)
    assert wait_until(lambda: not any(worker.is_running() for worker in workers))


def test_an_interrupt_from_the_keyboard_has_one_speaker(parent):
    os.killpg(parent.pid, signal.SIGINT)  # as a terminal sends it: to all at once
    told, complaints = parent.communicate(timeout=30)
    assert (told, complaints) == ("stopped\n", "")
