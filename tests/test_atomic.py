"""Writing aside, and taking turns."""

from __future__ import annotations

import json
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest

from livseg_lib.atomic import folder_written_aside, locked, write_json, written_aside


def _count(path: str) -> None:
    for _ in range(50):
        with locked(path):
            number = int(Path(path).read_text())
            with written_aside(path) as partial:
                partial.write_text(str(number + 1))


def test_processes_that_rewrite_one_file_lose_nothing(tmp_path):
    path = tmp_path / "count.txt"
    path.write_text("0")
    with ProcessPoolExecutor(3, get_context("spawn")) as pool:
        list(pool.map(_count, [str(path)] * 3))
    assert path.read_text() == "150"


def test_a_block_that_fails_leaves_the_old_file_and_lets_go(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError), locked(path), written_aside(path) as partial:
        partial.write_text("half")
        raise ZeroDivisionError
    assert path.read_text() == "old" and not list(tmp_path.glob("*partial*"))
    with locked(path):
        pass


def test_a_folder_appears_whole_in_the_place_of_the_old_one(tmp_path):
    folder = tmp_path / "results" / "case"
    for content in ("first", "second"):
        with folder_written_aside(folder) as partial:
            (partial / content).write_text(content)
            assert partial.parent == folder.parent and partial.name.startswith(".")
        assert [path.name for path in folder.iterdir()] == [content]
    assert [path.name for path in folder.parent.iterdir()] == ["case"]


def test_a_folder_that_fails_leaves_the_old_one(tmp_path):
    (tmp_path / "case").mkdir()
    (tmp_path / "case" / "old").write_text("old")
    with pytest.raises(ZeroDivisionError), folder_written_aside(tmp_path / "case") as partial:
        (partial / "half").write_text("half")
        raise ZeroDivisionError
    assert [str(path.relative_to(tmp_path)) for path in sorted(tmp_path.rglob("*"))] == ["case", "case/old"]


def test_what_a_killed_process_left_is_cleared_away(tmp_path):
    for state in ("partial", "old"):
        (tmp_path / f".case.{state}").mkdir()
        (tmp_path / f".case.{state}" / "half").write_text("half")
    with folder_written_aside(tmp_path / "case") as partial:
        assert not any(partial.iterdir())
    assert [path.name for path in tmp_path.iterdir()] == ["case"]


def test_json_has_null_for_what_is_no_number(tmp_path):
    path = write_json(tmp_path / "a.json", {"a": float("nan"), "b": [1.5, float("inf")], "c": "ü"})
    assert json.loads(path.read_text()) == {"a": None, "b": [1.5, None], "c": "ü"}
