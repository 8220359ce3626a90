"""The app over HTTP: records, archives, refusals in words, visitors apart from each other, nothing kept."""

from __future__ import annotations

import itertools
import json
import socket
import tempfile
import time
import zipfile
from contextlib import closing
from multiprocessing.context import SpawnProcess
from pathlib import Path
from types import SimpleNamespace

import httpx
import numpy as np
import pytest
from application.toy_loading import load_toy
from application.toy_system import toy_voxels, write_toy_nifti
from PIL import Image
from test_shelf import make_run

gradio_client = pytest.importorskip("gradio_client")
pytest.importorskip("gradio")

from livseg_lib.application import answering  # noqa: E402
from livseg_lib.application.answering import Refused, Workers, answer, verdict_html  # noqa: E402
from livseg_lib.application.visits import Visits  # noqa: E402
from livseg_lib.application.web_app import Desk, launch, open_page  # noqa: E402
from livseg_lib.errors import InputError  # noqa: E402


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """(address, visits) of an app whose systems are the toy and one that never answers."""
    reports = tmp_path_factory.mktemp("reports")
    rows = [("toy", "liver", "patient", 0.9), ("toy", "tumor", "patient", 0.5)]
    rows += [("slow", "liver", "patient", 0.1)]
    make_run(reports, "run", 0, rows, ["toy", "slow"])
    visits = Visits()
    with (
        pytest.MonkeyPatch.context() as patch,
        closing(Desk(reports, visits, Workers(visits.root, 1, load_toy))) as desk,
    ):
        patch.setenv("GRADIO_TEMP_DIR", str(visits.uploads))
        patch.setenv("http_proxy", "http://127.0.0.1:9")  # a proxy, as clinics have, that knows no localhost
        patch.setenv("no_proxy", "example.com")
        patch.setattr(tempfile, "tempdir", str(visits.scratch))
        page = open_page(desk, quiet=True, max_file_size="1mb")
        yield page.local_url, visits
        page.close()


def ask(client, *files: Path, system: str = "run/toy"):
    return client.predict([gradio_client.handle_file(f) for f in files], system, "", api_name="/predict")


@pytest.fixture
def client(served, tmp_path):
    return gradio_client.Client(served[0], verbose=False, download_files=str(tmp_path / "downloads"))


def test_a_scan_is_answered_with_its_record_and_an_archive(client, tmp_path):
    record, archive = ask(client, write_toy_nifti(tmp_path / "MustermannMax.nii.gz", toy_voxels()))
    assert record["tumor_presence"]["suspected"] is True
    assert record["measures"]["n_tumors"] == 1
    with zipfile.ZipFile(archive) as files:
        assert {"mask.nii.gz", "measures.json", "tumors.csv", "record.json"} <= set(files.namelist())
        assert json.loads(files.read("record.json")) == record
        assert not any(b"MustermannMax" in files.read(name) for name in files.namelist())


def test_a_scan_without_tumour_and_the_first_of_several_slices_are_answered(client, tmp_path):
    record, _ = ask(client, write_toy_nifti(tmp_path / "scan.nii.gz", toy_voxels(tumor=False)), system="")
    assert record["tumor_presence"]["suspected"] is False
    for name in ("a", "b"):
        Image.fromarray(np.full((32, 32), 90, np.uint8)).save(tmp_path / f"{name}.png")
    record, _ = ask(client, tmp_path / "a.png", tmp_path / "b.png")
    assert record["input"]["kind"] == "picture"


def test_a_name_that_is_too_long_for_the_page_ends_in_a_scan_all_the_same(client, tmp_path):
    record, _ = ask(client, write_toy_nifti(tmp_path / f"{'x' * 240}.nii.gz", toy_voxels()))
    assert record["measures"]["n_tumors"] == 1


def test_of_several_scans_the_first_is_answered_and_that_is_said(tmp_path):
    scans = [write_toy_nifti(tmp_path / f"{name}.nii.gz", toy_voxels(tumor=name == "a")) for name in "ab"]
    labels = write_toy_nifti(tmp_path / "labels.nii.gz", (toy_voxels() > 0).astype("int16"))  # no scan
    given = answer([labels, *scans], Path("toy"), tmp_path, load=load_toy)
    assert given.record["tumor_presence"]["suspected"] and "holds 3 cases" in given.record["notes"][0]


def refusal(client, *files: Path, **options) -> str:
    with pytest.raises(Exception) as refused:
        ask(client, *files, **options)
    return str(refused.value)


def test_what_cannot_be_answered_is_refused_in_words_without_a_path(client, served, tmp_path):
    (tmp_path / "letter.nii.gz").write_text("dear doctor")
    (tmp_path / "letter.zip").write_text("dear doctor")
    (tmp_path / "big.nii.gz").write_bytes(b"0" * 2**21)
    before = set(served[1].results.iterdir())
    for name in ("letter.nii.gz", "letter.zip"):
        message = refusal(client, tmp_path / name)
        assert message.strip() and "/" not in message.replace("and/or", "")
    assert set(served[1].results.iterdir()) <= before  # those of earlier visitors may go meanwhile
    assert "size" in refusal(client, tmp_path / "big.nii.gz").lower()
    for name in ("run/other", "../../etc", "/etc/passwd"):
        assert "Known: liver-ct, run/toy" in refusal(client, tmp_path / "letter.zip", system=name)


def test_visitors_have_folders_of_their_own_and_the_next_result_replaces_the_last(served, tmp_path):
    address, visits = served
    scan = write_toy_nifti(tmp_path / "scan.nii.gz", toy_voxels())
    anna, bela = (gradio_client.Client(address, verbose=False, download_files=str(tmp_path)) for _ in "ab")
    ask(anna, scan), ask(bela, scan)
    folders = {visits.folder(one.session_hash) for one in (anna, bela)}
    assert len(folders) == 2 and None not in folders
    former = visits.folder(anna.session_hash)
    ask(anna, scan)
    assert not former.exists() and visits.folder(bela.session_hash).exists()
    assert visits.folder("somebody else") is None


def test_a_slice_of_a_visit_is_drawn_and_of_no_other(served, tmp_path):
    address, visits = served
    client = gradio_client.Client(address, verbose=False, download_files=str(tmp_path))
    ask(client, write_toy_nifti(tmp_path / "scan.nii.gz", toy_voxels()))
    folder = visits.folder(client.session_hash)
    other = visits.begin("other")
    given = answer([tmp_path / "scan.nii.gz"], Path("toy"), other, load=load_toy)
    assert given.start in (2, 3) and given.depth == 6
    desk, who = Desk(Path(), visits, None), SimpleNamespace(session_hash="other")
    picture = desk.picture(given.start, "liver", who)
    assert picture.dtype == np.uint8 and picture.shape[2] == 3
    assert "suspected" in verdict_html(given)
    visits.forget("other")
    assert not isinstance(desk.picture(given.start, "liver", who), np.ndarray)
    assert folder.exists()


def test_the_work_of_a_visitor_who_leaves_is_stopped_and_the_next_one_is_served(served, client, tmp_path):
    address, visits = served
    scan = write_toy_nifti(tmp_path / "scan.nii.gz", toy_voxels())
    leaving = gradio_client.Client(address, verbose=False, download_files=str(tmp_path))
    job = leaving.submit([gradio_client.handle_file(scan)], "run/slow", "", api_name="/predict")
    while not job.outputs():  # before its first step gradio cannot cancel it
        time.sleep(0.05)
    job.cancel()
    (tmp_path / "letter.zip").write_text("dear doctor")
    assert "zip" in refusal(client, tmp_path / "letter.zip")  # in the same line, so after the other
    assert visits.folder(leaving.session_hash) is None


def test_work_has_a_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(answering, "LONGEST_SECONDS", 0.5)
    with closing(Workers(tmp_path / "root", 1, load_toy)) as workers:
        asked = workers.ask([write_toy_nifti(tmp_path / "a.nii.gz", toy_voxels())], Path("slow"), tmp_path)
        with pytest.raises(Refused, match="was stopped"):
            list(asked)


def test_a_process_that_ends_all_at_once_is_a_sentence_and_the_next_one_answers(tmp_path):
    scan = write_toy_nifti(tmp_path / "a.nii.gz", toy_voxels())
    with closing(Workers(tmp_path / "root", 1, load_toy)) as workers:
        asked = workers.ask([scan], Path("slow"), tmp_path)
        next(asked)
        workers.processes[0].kill()  # as the system does where memory runs out
        with pytest.raises(Refused, match="too little memory"):
            list(asked)
        assert workers.processes[1].is_alive()


def test_where_no_process_can_be_started_it_is_said_and_the_place_is_not_lost(tmp_path, monkeypatch):
    def start(self):
        raise BlockingIOError("no room for a process")

    scan = write_toy_nifti(tmp_path / "a.nii.gz", toy_voxels())
    with closing(Workers(tmp_path / "root", 1, load_toy)) as workers:
        asked = workers.ask([scan], Path("slow"), tmp_path)
        next(asked)
        monkeypatch.setattr(SpawnProcess, "start", start)
        asked.close()
        for _ in range(2):
            with pytest.raises(Refused):
                list(workers.ask([scan], Path("toy"), tmp_path))
        assert workers.counts()["busy"] == 0


def test_of_two_workers_one_answers_while_the_other_is_busy(tmp_path):
    scan = write_toy_nifti(tmp_path / "a.nii.gz", toy_voxels())
    with closing(Workers(tmp_path / "root", 2, load_toy)) as workers:
        for name in ("long", "short", "again"):
            (tmp_path / name).mkdir()
        with closing(workers.ask([scan], Path("slow"), tmp_path / "long")) as slow:
            next(slow)
            *_, given = workers.ask([scan], Path("toy"), tmp_path / "short")
            assert given.depth == 6
            counts = workers.counts()
            assert (counts["busy"], counts["answered"], counts["left"]) == (1, 1, 0)
        with pytest.raises(Refused):
            list(workers.ask([tmp_path / "none.zip"], Path("toy"), tmp_path / "again"))
        counts = workers.counts()
        assert counts.pop("seconds") > 0
        assert counts == {"waiting": 0, "busy": 0, "answered": 1, "refused": 1, "left": 1}


def test_whether_it_is_up_and_what_it_has_done_can_be_asked(served):
    told = httpx.get(served[0] + "health", headers={"host": "10.0.0.3:7860"})  # as a probe asks
    assert (told.status_code, told.text) == (200, "up\n")
    lines = httpx.get(served[0] + "metrics").text.splitlines()
    assert {line.split()[0] for line in lines} >= {"livseg_uploads_answered", "livseg_uploads_busy"}
    assert all(float(line.split()[1]) >= 0 for line in lines)
    refused = httpx.get(served[0] + "metrics", headers={"host": "evil.example"})
    assert refused.status_code == 403 and "livseg" not in refused.text


def test_the_page_is_guarded(served):
    for path in ("https://example.org/scan.png", "/etc/passwd"):
        data = [[{"path": path, "meta": {"_type": "gradio.FileData"}}], "", ""]
        told = httpx.post(f"{served[0]}gradio_api/call/predict", json={"data": data})
        assert (told.status_code, told.text) == (400, "Upload the file first.")
    assert httpx.get(served[0] + "monitoring").status_code == 404
    told = httpx.get(served[0])
    assert told.status_code == 200 and "connect-src 'self'" in told.headers["content-security-policy"]
    assert httpx.get(f"{served[0]}gradio_api/file={Path(__file__)}").status_code == 403


def test_what_goes_wrong_within_names_no_path(served):
    """A slider far off, a window that there is none of: whatever a visitor may send."""
    functions = httpx.get(f"{served[0]}config").json()["dependencies"]
    sent = ([], [None] * 3, ["x", {}, -1], [1e300, "liver"])
    for number, data in itertools.product(range(len(functions)), sent):
        question = {"fn_index": number, "session_hash": "stranger", "data": data}
        told = httpx.post(f"{served[0]}gradio_api/queue/join", json=question)
        assert str(served[1].root.parent) not in told.text
    told = httpx.post(f"{served[0]}gradio_api/queue/join", json=question | {"fn_index": 999})
    assert told.status_code == 500 and "connect-src 'self'" in told.headers["content-security-policy"]
    with httpx.stream("GET", f"{served[0]}gradio_api/queue/data?session_hash=stranger", timeout=60) as told:
        events = "".join(told.iter_text())
    assert str(served[1].root.parent) not in events and "livseg_lib" not in events


def test_a_training_ends_with_a_system_to_use(tmp_path):
    class Training:
        def run(self):
            yield "epoch 1 of 5"
            make_run(tmp_path, "run", 0, [("toy", "liver", "patient", 0.9)], ["toy"])
            yield "Trained."

    desk = Desk(tmp_path, None, None, Training())
    *told, (_, model, untrained) = desk.train()
    assert [log["value"] for log, *_ in told] == ["epoch 1 of 5", "Trained."]
    assert ("toy: liver 0.90 (run)", "run/toy") in model["choices"]
    assert not untrained["visible"]
    (only,) = desk.train()  # whoever asks without the button
    assert only[1] == model


def test_a_port_that_is_taken_is_told(tmp_path):
    told = pytest.raises(InputError, match=r"--port: .* is in use")
    with socket.create_server(("127.0.0.1", 0)) as taken, closing(Visits()) as visits, told:
        launch(tmp_path, visits, taken.getsockname()[1])
