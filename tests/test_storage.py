"""A folder in object storage gives what the same folder on a disk gives, and takes the results."""

from __future__ import annotations

import os

import pytest

from livseg_lib import storage
from livseg_lib.cli import main
from livseg_lib.errors import InputError
from livseg_lib.storage import Url, fetch, mirrored, sent

fsspec = pytest.importorskip("fsspec", reason="fsspec is missing: pip install livseg[cloud]")


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(storage, "_here", [])


@pytest.fixture
def bucket():
    """A folder in memory, which only this process has."""
    system = fsspec.filesystem("memory")
    yield system
    system.store.clear()
    system.pseudo_dirs[:] = [""]


def test_scans_come_when_they_are_read_and_two_stay(bucket):
    for number in range(4):
        bucket.pipe(f"/scans/{number}.nii", bytes([number]) * 100)
    bucket.pipe("/scans/labels.json", b"{}")
    with mirrored(Url("memory://scans")) as folder:
        paths = [folder / f"{number}.nii" for number in range(4)]
        assert (folder / "labels.json").read_bytes() == b"{}"
        assert all(path.read_bytes() == bytes(100) for path in paths)
        before = [path.stat().st_mtime_ns for path in paths]
        for path in paths[1:]:
            fetch(path)
        kept = [path.read_bytes() == bytes([number]) * 100 for number, path in enumerate(paths)]
        assert kept == [False, False, True, True] or kept == [True, False, True, True]
        assert [path.stat().st_mtime_ns for path in paths] == before
    assert not folder.exists() and os.environ[storage.MIRRORS] == "{}"


def test_a_name_that_leads_out_is_refused(bucket):
    bucket.store["/scans/../../evil.json"] = fsspec.implementations.memory.MemoryFile(
        bucket, "/scans/../../evil.json", b"x"
    )
    with pytest.raises(InputError, match="leads out"), mirrored(Url("memory://scans")):
        pass


def test_what_is_not_there_is_told(bucket, capsys, tmp_path):
    assert main(["check", "memory://nowhere", "--out", str(tmp_path / "out")]) == 2
    assert "memory://nowhere" in capsys.readouterr().err


def test_results_are_sent_as_they_were_written_and_what_is_gone_is_removed(bucket, monkeypatch):
    bucket.pipe("/out/a/old.json", b"1")
    names = []
    put = type(bucket).put_file
    monkeypatch.setattr(
        type(bucket), "put_file", lambda self, here, there: [names.append(there), put(self, here, there)]
    )
    with sent(Url("memory://out")) as folder:
        (folder / "a" / "old.json").unlink()
        for moment, name in enumerate(("z.txt", "b.txt", "record.json")):
            (folder / "a" / name).write_text(name)
            os.utime(folder / "a" / name, (moment, moment))
        (folder / ".lock").touch()
        storage.send(folder / "a")
        assert [name.split("/")[-1] for name in names] == ["z.txt", "b.txt", "record.json"]
        (folder / "cases.csv").write_text("c")
    assert sorted(bucket.find("/out")) == [
        f"/out/{name}" for name in ("a/b.txt", "a/record.json", "a/z.txt", "cases.csv")
    ]
