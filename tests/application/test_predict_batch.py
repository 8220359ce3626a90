"""Case after case: what fails is listed, what is done stays done, a full disk stops."""

import errno
import os
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from toy_system import toy_part, toy_predictor, toy_voxels, write_toy_nifti

from livseg_lib.application import results
from livseg_lib.application.inputs import find_inputs
from livseg_lib.application.results import predict_batch
from livseg_lib.errors import InputError, reason_of


@pytest.fixture(autouse=True)
def quick_pictures(monkeypatch):
    """Pages and pictures are tested with single cases."""
    for name in ("_write_overlay", "_write_page"):
        monkeypatch.setattr(results, name, lambda result, folder: None)


@pytest.fixture
def scans(tmp_path):
    folder = tmp_path / "scans"
    folder.mkdir()
    for name in ("a", "b", "c"):
        write_toy_nifti(folder / f"{name}.nii.gz", toy_voxels(tumor=name != "b"))
    return folder


def run(scans, predictor, out) -> dict[str, str]:
    """Case -> state, as printed rows and cases.csv both say."""
    rows = []
    predict_batch(find_inputs(scans), predictor, out, rows.append)
    table = pd.read_csv(out / "cases.csv", keep_default_na=False)
    states = dict(zip(table.case, table.state, strict=True))
    assert {row["case"]: row["state"] for row in rows} == states
    return states


def test_every_case_becomes_a_folder_and_a_row(scans, tmp_path):
    out = tmp_path / "out"
    assert run(scans, toy_predictor(), out) == {"a": "done", "b": "done", "c": "done"}
    table = pd.read_csv(out / "cases.csv").set_index("case")
    assert table.tumor_suspected.tolist() == [True, False, True] and table.n_tumors.tolist() == [1, 0, 1]
    assert {path.name for path in out.iterdir()} == {"a", "b", "c", "cases.csv"}


def test_a_bad_file_is_listed_with_its_reason_and_ends_nothing(scans, tmp_path):
    content = (scans / "b.nii.gz").read_bytes()
    (scans / "b.nii.gz").write_bytes(content[: len(content) // 2])
    out = tmp_path / "out"
    assert run(scans, toy_predictor(), out) == {"a": "done", "b": "failed", "c": "done"}
    reason = pd.read_csv(out / "cases.csv").set_index("case").reason["b"]
    assert "truncated" in reason and str(tmp_path) not in reason
    assert not (out / "b").exists()


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (MemoryError(), "too little memory"),
        (PermissionError(errno.EACCES, "Permission denied", "/home/doe/scan"), "Check that it is there"),
        (ZeroDivisionError("DOE^JOHN"), "ZeroDivisionError in"),
    ],
)
def test_whatever_goes_wrong_is_named_without_what_it_quotes(scans, tmp_path, error, words):
    predictor = toy_predictor()
    toy_part(predictor).error = error
    assert set(run(scans, predictor, tmp_path / "out").values()) == {"failed"}
    (reason,) = pd.read_csv(tmp_path / "out" / "cases.csv").reason.unique()
    assert words in reason and "doe" not in reason.lower()


def test_it_goes_on_where_it_stopped(scans, tmp_path):
    out, predictor = tmp_path / "out", toy_predictor()
    toy_part(predictor).error = KeyboardInterrupt()
    predict_batch(find_inputs(scans / "a.nii.gz"), toy_predictor(), out)
    with pytest.raises(KeyboardInterrupt):
        predict_batch(find_inputs(scans), predictor, out)
    toy_part(predictor).error = None
    for _ in range(2):
        assert set(run(scans, predictor, out).values()) == {"done"}
        records = {path: path.read_bytes() for path in out.glob("*/record.json")}
        assert toy_part(predictor).calls == 3  # the interrupted one, and two that were missing
    run(scans, predictor, out)
    assert records == {path: path.read_bytes() for path in out.glob("*/record.json")}


def test_another_model_another_file_or_another_way_of_reading_is_another_question(scans, tmp_path):
    out, first, second = tmp_path / "out", toy_predictor("1"), toy_predictor("2")
    run(scans, first, out)
    run(scans, second, out)
    assert toy_part(second).calls == 3
    write_toy_nifti(scans / "b.nii.gz", toy_voxels())
    run(scans, second, out)
    assert toy_part(second).calls == 4
    assert pd.read_csv(out / "cases.csv").n_tumors.tolist() == [1, 1, 1]


def test_a_result_without_one_of_its_files_is_none(scans, tmp_path):
    out, predictor = tmp_path / "out", toy_predictor()
    run(scans, predictor, out)
    whole = {path: path.read_bytes() for name in ("*.nii.gz", "tumors.csv") for path in out.rglob(name)}
    (out / "a" / "mask.nii.gz").unlink()
    (out / "b" / "tumors.csv").write_text("cut")
    (out / "c" / "my notes.txt").write_text("mine")
    run(scans, predictor, out)
    assert toy_part(predictor).calls == 5 and (out / "c" / "my notes.txt").exists()
    assert all(path.read_bytes() == content for path, content in whole.items())


@pytest.mark.parametrize(
    "record", ["[]", "{}", "7", "", '{"request_sha256": ', '{"request_sha256": 3}', "\x00"]
)
def test_a_record_of_anything_else_is_none(scans, tmp_path, record):
    out, predictor = tmp_path / "out", toy_predictor()
    run(scans / "a.nii.gz", predictor, out)
    (out / "a" / "record.json").write_text(record)
    assert run(scans / "a.nii.gz", predictor, out) == {"a": "done"} and toy_part(predictor).calls == 2


def test_labels_beside_scans_are_passed_over_and_listed(scans, tmp_path):
    write_toy_nifti(scans / "a_seg.nii.gz", (toy_voxels() > 0) * np.int16(1))
    states = run(scans, toy_predictor(), tmp_path / "out")
    assert states == {"a": "done", "a_seg": "passed over", "b": "done", "c": "done"}
    assert "labels, no scan" in pd.read_csv(tmp_path / "out" / "cases.csv").set_index("case").reason["a_seg"]


@pytest.mark.parametrize("failing", ["write_masks", "_write_measures", "files.write_json"])
def test_a_full_disk_stops_with_a_clear_word_and_leaves_nothing_half_written(
    scans, tmp_path, monkeypatch, failing
):
    out = tmp_path / "out"
    predict_batch(find_inputs(scans / "a.nii.gz"), toy_predictor(), out)
    before = {path: path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()}

    def full(*arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/somewhere/secret")

    monkeypatch.setattr(f"livseg_lib.application.results.{failing}", full)
    with pytest.raises(InputError, match=r"No space left on device.*run it again"):
        predict_batch(find_inputs(scans), toy_predictor(), out)
    after = {path: path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()}
    assert after.pop(out / "cases.csv") and before.pop(out / "cases.csv")
    assert after == before


def test_the_table_of_thousands_takes_a_small_share_of_the_time(tmp_path, monkeypatch):
    """Each case takes a second here, and so does a row that is written."""
    now, sizes = [0.0], []

    def treat(*given, **options):
        now[0] += 1
        return {"state": "failed", "reason": "none"}

    def write(table, path):
        now[0] += len(table)
        sizes.append(len(table))

    for number in range(2000):
        (tmp_path / f"{number}.nii.gz").touch()
    monkeypatch.setattr(results, "_treat", treat)
    monkeypatch.setattr(results, "write_table", write)
    monkeypatch.setattr(results, "time", SimpleNamespace(monotonic=lambda: now[0]))
    predict_batch(find_inputs(tmp_path), None, tmp_path / "out")
    assert sizes[0] == 1 and sizes[-1] == 2000 and len(sizes) > 3
    assert sum(sizes[:-1]) < 2000 / 2


def test_a_table_that_cannot_be_written_stops_too(scans, tmp_path):
    (tmp_path / "out" / "cases.csv").mkdir(parents=True)  # no rights to write look the same
    with pytest.raises(InputError, match="Results cannot be written"):
        predict_batch(find_inputs(scans), toy_predictor(), tmp_path / "out")


def test_nothing_of_the_user_is_overwritten(scans, tmp_path):
    out, predictor = tmp_path / "out", toy_predictor()
    (out / "b").mkdir(parents=True)
    (out / "b" / "scan.dcm").write_text("mine")
    with pytest.raises(InputError, match="livseg did not make it"):
        predict_batch(find_inputs(scans), predictor, out)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "cases.csv").write_text("case,age\n")
    with pytest.raises(InputError, match=r"cases\.csv: is there already, and is something else"):
        predict_batch(find_inputs(scans), predictor, tmp_path / "mine")
    assert toy_part(predictor).calls == 0 and (out / "b" / "scan.dcm").read_text() == "mine"
    assert (tmp_path / "mine" / "cases.csv").read_text() == "case,age\n"


def test_a_reason_keeps_its_subject_and_loses_what_another_library_quoted():
    about = InputError("pictures", "have no spacing.", "Give whole scans.")
    assert reason_of(about) == "pictures have no spacing. Give whole scans."
    try:
        try:
            raise ValueError("could not convert 'DOE^JOHN'")
        except ValueError as error:
            raise InputError("/a/b.dcm", f"It is damaged (ValueError: {error}).", "Copy it.") from error
    except InputError as error:
        assert reason_of(error) == "It is damaged (ValueError). Copy it."


def test_a_printed_line_says_how_many_cautions_a_page_holds(scans, tmp_path):
    rows = []
    predict_batch(find_inputs(scans / "a.nii.gz"), toy_predictor(), tmp_path / "out", rows.append)
    assert rows[0]["cautions"] > 0
    assert f"; cautions on its page: {rows[0]['cautions']}" in results.describe_case(rows[0])
    assert "caution" not in results.describe_case(rows[0] | {"cautions": 0})
