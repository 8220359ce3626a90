"""Cases side by side: in processes, or by threads where there is little to read."""

import os

from livseg_lib.datasets import case as module
from livseg_lib.datasets.case import Case, side_by_side


def test_processes_begin_only_where_there_is_much_to_read(tmp_path, monkeypatch):
    begun, scan = [], tmp_path / "scan.nii"
    for name in ("in_processes", "in_threads"):
        begin = lambda job, cases, workers, name=name: begun.append((name, workers))  # noqa: E731
        monkeypatch.setattr(module, name, begin)
    cases = [Case("a", "1", (scan, tmp_path / "gone.nii"), None)]
    for mb, workers in ((127, 2), (129, 2), (1, 1), (1, "tcp://10.0.0.1:1")):
        with scan.open("wb") as file:
            os.truncate(file.fileno(), mb * 1024**2)
        side_by_side(None, cases, workers)
    several = [("in_threads", 2), ("in_processes", 2)]
    assert begun == [*several, ("in_processes", 1), ("in_processes", "tcp://10.0.0.1:1")]


def test_ids_of_cases_fit_for_file_names_and_stay_apart():
    ids = [Case(id_, "1", (), None).case_id for id_ in ("a", "a" * 300, "a" * 301)]
    assert ids[0] == "a" and len(set(ids)) == 3 and max(map(len, ids)) < 200
