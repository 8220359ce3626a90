"""The app over HTTP: records, archives, refusals in words, visitors apart from each other, nothing kept."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from application.test_shelf import make_run
from application.toy_system import toy_predictor, toy_voxels, write_toy_nifti
from PIL import Image

gradio_client = pytest.importorskip("gradio_client")
pytest.importorskip("gradio")

from livseg_lib.application import answering, web_app  # noqa: E402
from livseg_lib.application.answer_texts import verdict  # noqa: E402
from livseg_lib.application.visits import Visits  # noqa: E402


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """(address, visits) of an app whose only system is the toy."""
    patch = pytest.MonkeyPatch()
    patch.setattr(answering, "loaded", lambda model: toy_predictor())
    reports = tmp_path_factory.mktemp("reports")
    make_run(reports, "run", 0, [("toy", "liver", "patient", 0.9), ("toy", "tumor", "patient", 0.5)], ["toy"])
    visits = Visits()
    page = web_app.build_app(reports, visits)
    _, address, _ = page.launch(prevent_thread_lock=True, quiet=True, max_file_size="1mb")
    yield address, visits
    page.close()
    visits.close()
    patch.undo()


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


def test_a_scan_without_tumour_is_not_suspected(client, tmp_path):
    record, _ = ask(client, write_toy_nifti(tmp_path / "scan.nii.gz", toy_voxels(tumor=False)), system="")
    assert record["tumor_presence"]["suspected"] is False


def test_several_slices_are_taken_and_the_first_is_answered(client, tmp_path):
    for name in ("a", "b"):
        Image.fromarray(np.full((32, 32), 90, np.uint8)).save(tmp_path / f"{name}.png")
    record, _ = ask(client, tmp_path / "a.png", tmp_path / "b.png")
    assert record["input"]["kind"] == "picture"


def refusal(client, *files: Path, **options) -> str:
    with pytest.raises(Exception) as refused:
        ask(client, *files, **options)
    return str(refused.value)


def test_a_wrong_file_is_refused_in_words_without_a_path(client, served, tmp_path):
    (tmp_path / "letter.nii.gz").write_text("dear doctor")
    (tmp_path / "letter.zip").write_text("dear doctor")
    before = sorted(served[1].root.iterdir())
    for name in ("letter.nii.gz", "letter.zip"):
        message = refusal(client, tmp_path / name)
        assert message.strip() and "/" not in message.replace("and/or", "")
    assert sorted(served[1].root.iterdir()) == before


def test_an_unknown_system_or_a_path_is_refused(client, tmp_path):
    scan = write_toy_nifti(tmp_path / "scan.nii.gz", toy_voxels())
    for name in ("run/other", "../../etc", "/etc/passwd"):
        assert "Known: run/toy" in refusal(client, scan, system=name)


def test_a_file_beyond_the_limit_is_refused(client, tmp_path):
    big = tmp_path / "big.nii.gz"
    big.write_bytes(b"0" * 2**21)
    assert "size" in refusal(client, big).lower()


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
    given = answering.answer([tmp_path / "scan.nii.gz"], Path("toy"), visits.begin("other"))
    _, start = web_app.keep_scan(given.result, visits.folder("other") / "shown")
    assert start in (2, 3)
    picture = web_app._picture(visits, "other", start, "liver")
    assert picture.dtype == np.uint8 and picture.shape[2] == 3
    assert "suspected" in verdict(given)
    visits.forget("other")
    assert not isinstance(web_app._picture(visits, "other", start, "liver"), np.ndarray)
    assert folder.exists()


def test_a_training_ends_with_a_system_to_use(tmp_path, monkeypatch):
    def train():
        yield "epoch 1 of 5"
        make_run(tmp_path, "run", 0, [("toy", "liver", "patient", 0.9)], ["toy"])
        yield "Trained."

    monkeypatch.setattr(web_app, "train_quickly", train)
    *told, (_, model, go, phantom, untrained) = web_app._train(tmp_path)
    assert [log["value"] for log, *_ in told] == ["epoch 1 of 5", "Trained."]
    assert model["value"] == "run/toy" and go["visible"] and phantom["visible"]
    assert not untrained["visible"]
