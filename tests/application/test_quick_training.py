"""A training in a process of its own, told line by line."""

from __future__ import annotations

import sys

from livseg_lib.application.quick_training import LINES_SHOWN, train_quickly


def test_the_last_lines_are_told_and_how_it_ended():
    told = list(train_quickly([sys.executable, "-c", "for n in range(30): print('epoch', n)"]))
    assert told[-1].splitlines()[-2:] == ["epoch 29", "Trained."]
    assert all(len(text.splitlines()) <= LINES_SHOWN for text in told)


def test_a_failure_is_said():
    *_, last = train_quickly([sys.executable, "-c", "raise SystemExit('no room on disk')"])
    assert "no room on disk" in last and last.splitlines()[-1].startswith("It did not work")


def test_a_training_ends_with_its_listener(tmp_path):
    mark = tmp_path / "still running"
    code = f"import time; print('on', flush=True); time.sleep(3); open({str(mark)!r}, 'w')"
    lines = train_quickly([sys.executable, "-c", code])
    assert next(lines) == "on"
    lines.close()
    assert not mark.exists()
