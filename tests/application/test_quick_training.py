"""A training in a process of its own, told line by line."""

from __future__ import annotations

import sys

import psutil

from livseg_lib.application.visits import LINES_SHOWN, QuickTraining


def test_the_last_lines_are_told_and_how_it_ended():
    told = list(QuickTraining([sys.executable, "-c", "for n in range(30): print('epoch', n)"]).run())
    assert told[-1].splitlines()[-2:] == ["epoch 29", "Trained."]
    assert all(len(text.splitlines()) <= LINES_SHOWN for text in told)


def test_a_failure_is_said():
    *_, last = QuickTraining([sys.executable, "-c", "raise SystemExit('no room on disk')"]).run()
    assert "no room on disk" in last and last.splitlines()[-1].startswith("It did not work")


def test_a_training_ends_with_its_listener():
    code = "import os, time; print(os.getpid(), flush=True); time.sleep(600)"
    lines = QuickTraining([sys.executable, "-c", code]).run()
    process = psutil.Process(int(next(lines)))
    lines.close()
    psutil.wait_procs([process], timeout=20)
    assert not process.is_running()


def test_only_one_runs_at_a_time():
    training = QuickTraining([sys.executable, "-c", "print('on', flush=True); input()"])
    first = training.run()
    assert next(first) == "on"
    (told,) = training.run()
    assert "Another visitor's training is running" in told
    first.close()
    assert next(training.run()) == "on"


def test_what_a_training_started_ends_with_it():
    child = "import time; print('on', flush=True); time.sleep(600)"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    training = QuickTraining([sys.executable, "-c", parent])
    lines = training.run()
    assert next(lines) == "on"
    (started,) = psutil.Process(training._process.pid).children()
    lines.close()
    started.wait(10)
