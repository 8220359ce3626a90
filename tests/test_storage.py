"""A folder in object storage gives what the same folder on a disk gives, and takes the results."""

import json
import os
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from application.toy_system import toy_voxels, write_toy_nifti
from datasets.layouts import write_lits_case

from livseg_lib import storage
from livseg_lib.cli import main
from livseg_lib.errors import InputError
from livseg_lib.files import folder_checksums
from livseg_lib.storage import Url, fetch, mirrored, sent

fsspec = pytest.importorskip("fsspec", reason="fsspec is missing: pip install livseg[cloud]")


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(storage, "_here", threading.local())


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
        with ThreadPoolExecutor(1) as pool:  # which takes nothing away from this one
            pool.submit(fetch, paths[0]).result()
        assert [path.read_bytes()[:1] for path in (paths[0], *paths[2:])] == [b"\0", b"\2", b"\3"]
    assert not folder.exists() and os.environ[storage.MIRRORS] == "{}"


def test_a_name_that_leads_out_is_refused(bucket):
    evil = "/scans/../../evil.json"
    bucket.store[evil] = fsspec.implementations.memory.MemoryFile(bucket, evil, b"x")
    with pytest.raises(InputError, match="leads out"), mirrored(Url("memory://scans")):
        pass


def test_what_is_not_there_is_told(bucket, capsys, tmp_path):
    assert main(["check", "memory://nowhere", "--out", str(tmp_path / "out")]) == 2
    assert "memory://nowhere" in capsys.readouterr().err


def test_results_are_sent_as_they_were_written_and_what_is_gone_is_removed(bucket, monkeypatch):
    bucket.pipe("/out/a/old.json", b"1")
    names, kind, put = [], type(bucket), type(bucket).put_file
    monkeypatch.setattr(kind, "put_file", lambda self, *ways: [names.append(ways[1]), put(self, *ways)])
    with sent(Url("memory://out")) as folder:
        (folder / "a" / "old.json").unlink()
        for moment, name in enumerate(("z.txt", "b.txt", "record.json")):
            (folder / "a" / name).write_text(name)
            os.utime(folder / "a" / name, (moment, moment))
        (folder / ".lock").touch()
        storage.send(folder / "a")
        assert [name.split("/")[-1] for name in names] == ["z.txt", "b.txt", "record.json"]
        (folder / "cases.csv").write_text("c")
    expected = ("a/b.txt", "a/record.json", "a/z.txt", "cases.csv")
    assert sorted(bucket.find("/out")) == [f"/out/{name}" for name in expected]


@pytest.fixture
def s3(monkeypatch):
    """moto's server, which speaks S3 on this machine."""
    server = pytest.importorskip("moto.server", reason="moto is missing: pip install moto[server]")
    pytest.importorskip("s3fs", reason="s3fs is missing")
    service = server.ThreadedMotoServer(port=0)
    service.start()
    host, port = service.get_host_and_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    for name, value in (("ACCESS_KEY_ID", "x"), ("SECRET_ACCESS_KEY", "x"), ("DEFAULT_REGION", "us-east-1")):
        monkeypatch.setenv(f"AWS_{name}", value)
    fsspec.filesystem("s3").clear_instance_cache()
    system = fsspec.filesystem("s3")
    system.mkdir("bucket")
    yield system
    service.stop()


@pytest.mark.slow
def test_the_commands_work_on_s3_as_on_a_disk(s3, tmp_path, capsys):
    data, scans, labels = (tmp_path / name for name in ("data", "scans", "labels"))
    for number in range(3):
        write_lits_case(data, number)
        labels.mkdir(exist_ok=True)
        shutil.copy(data / f"segmentation-{number}.nii.gz", labels)
    scans.mkdir()
    for number in range(2):
        write_toy_nifti(scans / f"scan-{number}.nii.gz", toy_voxels(tumor=number > 0))
    for folder in (data, scans, labels):
        s3.put(str(folder), f"bucket/{folder.name}", recursive=True)
    words = {
        "check": "check {}/data --out {}/checked --workers 2",
        "extract": "extract {}/data --out {}/extracted --size 64 --workers 2",
        "evaluate": "evaluate --reference {}/labels --prediction {}/labels --out {}/scores/s.json",
        "predict": "predict {}/scans --out {}/predicted --workers 2",
    }
    for command in words.values():
        for place in (tmp_path, "s3://bucket"):
            assert main(command.replace("{}", str(place)).split()) == 0
    fetched = tmp_path / "fetched"
    s3.get("bucket", str(fetched), recursive=True)
    for name in ("checked", "extracted", "scores", "predicted"):
        here, there = (folder_checksums(root / name) for root in (tmp_path, fetched))
        here = {path: digest for path, digest in here.items() if not path.endswith(".lock")}
        told = ("record.json", "case.json", "s.json", "cases.csv", "findings.csv", "_cases.csv")
        assert here.keys() == there.keys()
        assert {path for path in here if here[path] != there[path]} <= {p for p in here if p.endswith(told)}
    scores = [json.loads((root / "scores" / "s.json").read_bytes()) for root in (tmp_path, fetched)]
    assert scores[0]["summary"] == scores[1]["summary"]
    capsys.readouterr()
    assert main(["predict", "s3://bucket/scans", "--out", "s3://bucket/predicted"]) == 0
    assert capsys.readouterr().out.count("done before") == 2
    assert not any((tmp_path / "home" / ".cache" / "livseg").glob("[!.]*"))


def test_scores_do_not_take_the_place_of_anything_else_at_their_url(tmp_path):
    _, labels = write_lits_case(tmp_path, 0)
    before = labels.read_bytes()
    given = ["--reference", str(labels), "--prediction", str(labels), "--workers", "1"]
    assert main(["evaluate", *given, "--out", f"file://{labels}"]) == 2 and labels.read_bytes() == before
    for _ in range(2):  # scores of before are replaced
        assert main(["evaluate", *given, "--out", f"file://{tmp_path}/s.json"]) == 0
