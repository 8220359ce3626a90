"""Files are whole or not there, writers take turns, and checksums tell what changed."""

import errno
import hashlib
import os
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import suppress
from fnmatch import fnmatch
from importlib import import_module
from multiprocessing import get_context
from pathlib import Path

import pytest

from livseg_lib import files
from livseg_lib.application.predictor import model_checksum
from livseg_lib.errors import InputError


def _count(path: str) -> None:
    for _ in range(50):
        with files.locked(path):
            number = int(Path(path).read_text())
            with files.written_aside(path) as partial:
                partial.write_text(str(number + 1))


def test_processes_that_rewrite_one_file_lose_nothing(tmp_path):
    path = tmp_path / "count.txt"
    path.write_text("0")
    with ProcessPoolExecutor(3, get_context("spawn")) as pool:
        list(pool.map(_count, [str(path)] * 3))
    assert path.read_text() == "150"


def test_a_block_that_fails_leaves_the_old_file_and_lets_go(tmp_path):
    path = tmp_path / "new" / "table.csv"
    with files.written_aside(path) as partial:
        partial.write_text("old")
        assert not path.exists() and ".partial" in partial.name
    with pytest.raises(ZeroDivisionError), files.locked(path), files.written_aside(path) as partial:
        partial.write_text("half")
        raise ZeroDivisionError
    assert path.read_text() == "old" and not list(path.parent.glob("*partial*"))
    with files.locked(path):
        pass
    with pytest.raises(OSError, match="No space left") as caught, files.written_aside(path):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert caught.value.filename == str(path)


def test_a_folder_appears_whole_in_the_place_of_the_old_one(tmp_path):
    folder = tmp_path / "results" / "case"
    for content in ("first", "second"):
        with files.folder_written_aside(folder) as partial:
            (partial / content).write_text(content)
            assert partial.parent == folder.parent and partial.name.startswith(".")
        assert [path.name for path in folder.iterdir()] == [content]
    with pytest.raises(ZeroDivisionError), files.folder_written_aside(folder) as partial:
        (partial / "half").write_text("half")
        raise ZeroDivisionError
    found = [str(path.relative_to(tmp_path)) for path in sorted(tmp_path.rglob("*"))]
    assert found == ["results", "results/case", "results/case/second"]


DEAD = 2**22 + 1  # no process of Linux has a greater number than 2**22


def _write_for_ever(path: str, started: str) -> None:
    writer = files.folder_written_aside if path.endswith("case") else files.written_aside
    with writer(path) as partial:
        if partial.is_dir():
            (partial / "half").write_text("half")
        else:
            partial.write_text("half")
        Path(started).touch()
        time.sleep(60)


@pytest.mark.parametrize("name", ["case", "table.csv", "x" * 240 + ".nii.gz", "Mr. Doe 1.2.840.csv"])
def test_what_a_killed_process_left_is_swept_by_the_next_writer(tmp_path, name):
    places = (str(tmp_path / name), str(tmp_path / "started"))
    process = get_context("spawn").Process(target=_write_for_ever, args=places)
    process.start()
    while process.is_alive() and not (tmp_path / "started").exists():
        time.sleep(0.01)
    (tmp_path / "started").unlink()
    writer = files.folder_written_aside if name == "case" else files.written_aside
    with writer(tmp_path / name) as partial:
        partial.touch()
        assert len(list(tmp_path.iterdir())) == 2  # another's work is no leftover while it lives
    process.kill()
    process.join()
    with writer(tmp_path / name) as partial:
        partial.touch()
        assert [path for path in tmp_path.iterdir() if path.name != name] == [partial]
        assert fnmatch(partial.name, "*.partial*")
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_result_moved_aside_by_a_killed_process_is_put_back(tmp_path, monkeypatch):
    folder = tmp_path / "case"
    monkeypatch.setattr(files.os, "getpid", lambda: DEAD)
    aside = files._beside(folder, "old")
    monkeypatch.undo()
    aside.mkdir()
    (aside / "mask").write_text("whole")
    with pytest.raises(ZeroDivisionError), files.folder_written_aside(folder):
        raise ZeroDivisionError
    assert (folder / "mask").read_text() == "whole" and list(tmp_path.iterdir()) == [folder]


@pytest.mark.parametrize("renames", [0, 1, 2])
def test_an_interrupt_between_the_renames_loses_nothing(tmp_path, monkeypatch, renames):
    folder, rename, count = tmp_path / "case", Path.rename, iter(range(9))
    with files.folder_written_aside(folder) as partial:
        (partial / "old").touch()

    def interrupted(self, target):
        if next(count) == renames:
            raise KeyboardInterrupt
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", interrupted)
    with suppress(KeyboardInterrupt), files.folder_written_aside(folder) as partial:
        (partial / "new").touch()
    assert [path.name for path in folder.iterdir()] == ["new" if renames == 2 else "old"]
    assert list(tmp_path.iterdir()) == [folder]


def _put_folder(folder: str) -> None:
    for number in range(40):
        with files.folder_written_aside(folder) as partial:
            for name in "ab":
                (partial / name).write_text(f"{os.getpid()} {number}")


def test_writers_of_one_folder_leave_a_whole_one(tmp_path):
    with ProcessPoolExecutor(3, get_context("spawn")) as pool:
        list(pool.map(_put_folder, [str(tmp_path / "case")] * 3))
    assert list(tmp_path.iterdir()) == [tmp_path / "case"]
    assert len({(tmp_path / "case" / name).read_text() for name in "ab"}) == 1


def test_names_that_are_too_long_are_cut_and_stay_apart():
    short = [files.short_name(name) for name in ("é" * 100 + "a", "é" * 100 + "b", "case")]
    assert short[2] == "case" and len(set(short)) == 3
    assert all(len(name.encode()) <= files.MOST_NAME_BYTES for name in short)


def test_who_must_wait_says_so(tmp_path, capfd, monkeypatch):
    monkeypatch.setattr(files, "PATIENCE_SECONDS", 0.05)
    path = tmp_path / "count.txt"
    path.write_text("0")
    with ThreadPoolExecutor(1) as pool:
        with files.locked(path):
            waiting = pool.submit(_count, str(path))
            while not waiting.done() and "waiting for another process" not in capfd.readouterr().err:
                time.sleep(0.01)
            assert path.read_text() == "0"
        waiting.result()
    assert path.read_text() == "50"


def test_sums_are_of_contents_however_long_and_know_neither_names_nor_order(tmp_path):
    a, b, c, d = (tmp_path / name for name in "abcd")
    content = bytes(range(256)) * 10_000
    for path, each in ((a, content), (b, b"2"), (c, content), (d, b"3")):
        path.write_bytes(each)
    assert files.file_checksum(a) == hashlib.sha256(content).hexdigest()
    assert files.text_checksum("ü") == hashlib.sha256("ü".encode()).hexdigest()
    assert files.files_checksum([a, b]) == files.files_checksum([b, c])
    assert len({files.files_checksum(some) for some in ([a], [a, b], [a, d], [a, c], [])}) == 5


def test_a_folder_is_whole_where_none_of_its_files_is_lost_or_changed(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a").write_text("1")
    (tmp_path / "b").write_text("2")
    known = files.folder_checksums(tmp_path)
    assert list(known) == ["b", "sub/a"] and files.holds_files(tmp_path, known)
    (tmp_path / "mine").write_text("beside")
    assert files.holds_files(tmp_path, known) and not files.holds_files(tmp_path, {})
    (tmp_path / "b").write_text("3")
    assert not files.holds_files(tmp_path, known)
    (tmp_path / "b").unlink()
    assert not files.holds_files(tmp_path, known)


@pytest.mark.parametrize(("out", "is_file"), [("a/b", False), ("a/scores.json", True), ("scores.json", True)])
def test_a_refusal_before_any_work_leaves_nothing_and_a_later_one_all_results(tmp_path, out, is_file):
    with pytest.raises(InputError), files.sole_writer(tmp_path / out, is_file):
        raise InputError("scan", "is none.")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(InputError), files.sole_writer(tmp_path / "out"):
        (tmp_path / "out" / "case.csv").touch()
        raise InputError("disk", "is full.")
    assert (tmp_path / "out" / "case.csv").exists()


READERS = {
    "scores": ("livseg_lib.commands", "_read_scores"),
    "slices.csv": ("livseg_lib.preprocessing.extraction", "read_slices"),
    "a profile": ("livseg_lib.notebooks", "_read_yaml"),
}


@pytest.mark.parametrize("name", READERS)
def test_pipes_are_never_waited_for(tmp_path, name):
    os.mkfifo(tmp_path / "pipe")
    module, function = READERS[name]
    with pytest.raises(InputError):
        getattr(import_module(module), function)(tmp_path / "pipe")


def test_a_pipe_in_a_models_folder_is_no_part_of_it(tmp_path):
    (tmp_path / "weights.safetensors").write_bytes(b"w")
    (tmp_path / "model.json").write_text("{}")
    whole = model_checksum(tmp_path)
    os.mkfifo(tmp_path / "network.onnx")
    assert model_checksum(tmp_path) == whole and list(whole["weights_sha256"]) == ["weights.safetensors"]


def test_what_stands_where_a_lock_belongs_is_named(tmp_path):
    os.mkfifo(tmp_path / ".table.csv.lock")
    refusal = pytest.raises(InputError, match=r"\.table\.csv\.lock.*Delete it")
    with refusal, files.locked(tmp_path / "table.csv"):
        pass
