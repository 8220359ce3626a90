"""A training in a process of its own, told line by line."""

from __future__ import annotations

import sys

import psutil
import pytest

from livseg_lib.application.visits import LINES_SHOWN, QuickTraining


@pytest.mark.parametrize(
    ("code", "end"),
    [
        ("for n in range(30): print('epoch', n)", ["epoch 29", "Trained."]),
        ("raise SystemExit('no room on disk')", ["no room on disk", "It did not work; see the lines above."]),
    ],
)
def test_the_last_lines_are_told_and_how_it_ended(code, end):
    told = list(QuickTraining([sys.executable, "-c", code]).run())
    assert told[-1].splitlines()[-2:] == end
    assert all(len(text.splitlines()) <= LINES_SHOWN for text in told)


def test_only_one_runs_at_a_time():
    training = QuickTraining([sys.executable, "-c", "print('on', flush=True); input()"])
    first = training.run()
    assert next(first) == "on"
    (told,) = training.run()
    assert "Another visitor's training is running" in told
    first.close()
    assert next(training.run()) == "on"


def test_a_training_and_what_it_started_end_with_its_listener():
    child = "import time; print('on', flush=True); time.sleep(600)"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    training = QuickTraining([sys.executable, "-c", parent])
    lines = training.run()
    assert next(lines) == "on"
    family = psutil.Process(training._process.pid)
    family = [family, *family.children()]
    lines.close()
    assert len(family) == 2 and psutil.wait_procs(family, timeout=20)[1] == []
