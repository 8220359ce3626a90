"""What the app keeps for a visitor, and a training in a process of its own, told line by line."""

import os
import stat
import sys
import tempfile
import time
from contextlib import closing

import psutil
import pytest

from livseg_lib.application import visits as module
from livseg_lib.application.visits import LINES_SHOWN, QuickTraining, Visits


@pytest.fixture(autouse=True)
def temporary(tmp_path, monkeypatch):
    """A temporary folder of its own: what a test leaves is the next one's crash."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


@pytest.fixture
def visits():
    with closing(Visits()) as opened:
        yield opened


def test_each_visit_has_a_folder_of_its_own_that_others_cannot_read(visits):
    anna, bela = visits.begin("anna"), visits.begin("bela")
    assert anna != bela
    assert visits.folder("anna") == anna and visits.folder("carl") is None
    for folder in (visits.root, visits.uploads, visits.scratch, anna):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    (anna / "scan.npy").write_bytes(b"1")
    next_one = visits.begin("anna")
    assert not anna.exists() and list(next_one.iterdir()) == []


def test_what_is_left_is_deleted(visits, temporary):
    left = visits.begin("left")
    visits.forget("left")
    visits.forget("left")  # a tab may be closed twice
    assert not left.exists() and visits.folder("left") is None
    visits.close()
    visits.close()  # at the end of the process once more
    visits.forget_old()  # its thread may still be at it
    assert list(temporary.iterdir()) == []


def test_results_and_uploads_go_within_the_hour_and_not_before(visits, monkeypatch):
    result = visits.begin("anna")
    upload = visits.uploads / "0a1b" / "scan.nii.gz"
    upload.parent.mkdir()
    upload.write_bytes(b"1")
    os.utime(upload, (0, 0))  # a copy may keep the date of a file
    now = time.time()
    monkeypatch.setattr(module, "time", lambda: now + 3600 - 2 * module.LOOK_EVERY_SECONDS)
    visits.forget_old()
    assert result.exists() and upload.exists()
    monkeypatch.setattr(module, "time", lambda: now + 3600 - module.LOOK_EVERY_SECONDS + 5)
    visits.forget_old()
    assert not result.exists() and not upload.exists() and visits.folder("anna") is None


def test_they_go_without_a_next_visitor(temporary, monkeypatch):
    monkeypatch.setattr(module, "LOOK_EVERY_SECONDS", 0.01)
    monkeypatch.setattr(module, "FORGET_AFTER_SECONDS", 0.0)
    with closing(Visits()) as visits:
        result = visits.begin("anna")
        for _ in range(1000):
            if not result.exists():
                return
            time.sleep(0.01)
    raise AssertionError("the result is still there")


def test_a_start_deletes_what_an_app_that_is_no_more_left_and_nothing_else(visits, temporary):
    left, elsewhere = Visits(), temporary / "precious"
    (elsewhere / "below").mkdir(parents=True)
    (left.results / "link").symlink_to(elsewhere)
    left._alive.release()  # as the system does where a process is killed
    (temporary / "livseg-app-link").symlink_to(elsewhere)
    (temporary / "livseg-app-unlocked").mkdir()  # of something else, or of an app that is just starting
    (temporary / "livseg-app-file").write_text("")
    with closing(Visits()) as new:
        assert not left.root.exists()
        assert visits.root.exists() and new.root.exists()
    assert (elsewhere / "below").exists() and (temporary / "livseg-app-link").is_symlink()
    assert (temporary / "livseg-app-unlocked").exists() and (temporary / "livseg-app-file").exists()


def test_a_folder_of_another_user_is_left_alone(visits, monkeypatch):
    left = Visits()
    left._alive.release()
    monkeypatch.setattr(os, "getuid", lambda: left.root.stat().st_uid + 1)
    Visits().close()
    assert left.root.exists()


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
