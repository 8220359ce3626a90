"""Writing aside, and taking turns."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest

from livseg_lib.atomic import locked, written_aside


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
