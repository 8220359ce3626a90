"""Slices are extracted once, whole, and as they stand; slices.csv is read so, or refused."""

import contextlib
import errno
import io
import json
import os
import signal
import subprocess
import sys
import weakref
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from livseg_lib.datasets import case as case_module
from livseg_lib.errors import InputError
from livseg_lib.preprocessing import extraction, geometry, windows
from livseg_lib.preprocessing.recipe import Recipe, prepare_labels, prepare_slices
from livseg_lib.volumes import Volume

SHAPE, SPACING_MM = (4, 60, 73), (2.5, 0.5, 0.8)
RECIPE = Recipe(size=128)


def read_volume(seed, spacing_mm=SPACING_MM):
    voxels = np.random.default_rng(seed).integers(-1024, 1500, SHAPE).astype(np.int16)
    return Volume(voxels, spacing_mm, native=None)


def read_labels(volume):
    labels = np.zeros(volume.voxels.shape, np.uint8)
    labels[1:3, 10:40, 20:50] = 1
    labels[2, 15:25, 22:32] = 2
    return labels


def fail_to_read(problem):
    raise InputError("ct.nii.gz", problem)


def end_the_process():
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.fixture
def make_case(tmp_path):
    def make(number, **changes):
        source = tmp_path / f"ct-{number}.nii"
        source.touch()
        readers = {"read_volume": partial(read_volume, number), "read_labels": read_labels}
        return case_module.Case(f"ct-{number}", f"00{number}", (source,), **(readers | changes))

    return make


def test_arrays_are_what_prepare_makes_and_rows_state_place_spacing_and_native_areas(make_case, tmp_path):
    rows = extraction.extract_dataset([make_case(1)], RECIPE, tmp_path)
    images, masks = (np.load(tmp_path / f"ct-1/{name}.npy", mmap_mode="r") for name in ("images", "masks"))
    volume = read_volume(1)
    assert np.array_equal(images, list(prepare_slices(volume, RECIPE)))
    assert np.array_equal(masks, prepare_labels(read_labels(volume), SPACING_MM, RECIPE))
    assert list(rows.columns) == list(extraction.SLICE_COLUMNS)
    assert rows["slice"].tolist() == rows["array_index"].tolist() == [0, 1, 2, 3]
    assert set(rows["patient"]) == {"001"} and set(rows["case"]) == set(rows["array"]) == {"ct-1"}
    assert rows["liver_pixels"].tolist() == [0, 900, 900, 0]  # 30 x 30, tumour included
    assert rows["tumor_pixels"].tolist() == [0, 0, 100, 0]
    assert rows["liver_area_mm2"].tolist() == pytest.approx([0, 360, 360, 0])  # 0.4 mm2 a pixel
    assert rows["tumor_area_mm2"].tolist() == pytest.approx([0, 0, 40, 0])
    assert rows.loc[0, ["spacing_z_mm", "spacing_y_mm", "spacing_x_mm"]].tolist() == list(SPACING_MM)


@pytest.mark.parametrize("windows", [("liver",), ("liver", "bone"), ("liver", "mr", "bone")], ids=len)
def test_png_shows_three_windows_as_red_green_blue_or_the_first_and_masks_for_the_eye(
    make_case, tmp_path, windows
):
    rows = extraction.extract_dataset([make_case(1)], Recipe(windows, size=128), tmp_path)
    images = np.load(tmp_path / "ct-1/images.npy")
    assert rows["image"][2] == "ct-1/png/slice_002.png"
    picture = cv2.imread(str(tmp_path / rows["image"][2]), cv2.IMREAD_UNCHANGED)
    expected = images[2, ..., ::-1] if len(windows) == 3 else images[2, ..., 0]  # OpenCV reads BGR
    assert np.array_equal(picture, expected)
    mask = cv2.imread(str(tmp_path / rows["mask"][2]), cv2.IMREAD_UNCHANGED)
    assert np.array_equal(mask, np.load(tmp_path / "ct-1/masks.npy")[2] * 127.5 // 1)


def test_pictures_keep_their_slice_numbers_and_have_no_areas(make_case, tmp_path):
    unknown = partial(read_volume, 1, (np.nan,) * 3)
    case = make_case(1, read_volume=unknown, slice_numbers=(7, 8, 31, 340))
    rows = extraction.extract_dataset([case], Recipe(("stored",), size=128), tmp_path)
    assert rows["slice"].tolist() == [7, 8, 31, 340] and rows["array_index"].tolist() == [0, 1, 2, 3]
    assert rows["image"].iloc[-1] == "ct-1/png/slice_340.png"
    assert rows["liver_pixels"].tolist() == [0, 900, 900, 0]
    assert rows[["liver_area_mm2", "spacing_z_mm"]].isna().all().all()
    record = json.loads((tmp_path / "ct-1/case.json").read_text())
    assert record["native_spacing_mm"] == [None] * 3 and record["native_shape"] == list(SHAPE)


def test_resampled_cases_have_rows_of_the_resampled_grid(make_case, tmp_path):
    rows = extraction.extract_dataset([make_case(1)], Recipe(voxel_size_mm=(5, 1, 1), size=128), tmp_path)
    assert len(rows) == 2 and rows["spacing_z_mm"][0] == 5
    assert rows["spacing_x_mm"][0] == pytest.approx(73 * 0.8 / 58)
    assert rows["liver_area_mm2"].sum() == pytest.approx(360 * 2, rel=0.15)


@pytest.mark.parametrize("at_once", [1, 2])
def test_what_is_not_there_is_empty_and_slices_csv_reads_back_as_it_was(
    make_case, tmp_path, monkeypatch, at_once
):
    monkeypatch.setattr(extraction, "TABLES_AT_ONCE", at_once)
    cases = [make_case(2), make_case(1, read_labels=None)]
    rows = extraction.extract_dataset(cases, RECIPE, tmp_path, workers=1, write_png=False)
    pd.testing.assert_frame_equal(extraction.read_slices(tmp_path / "slices.csv"), rows)
    assert rows["case"].unique().tolist() == ["ct-2", "ct-1"]
    assert rows[["image", "mask"]].isna().all().all() and not (tmp_path / "ct-2/png").exists()
    assert rows[["liver_pixels", "tumor_area_mm2"]][rows["case"] == "ct-1"].isna().all().all()
    assert (tmp_path / "ct-2/masks.npy").exists() and not (tmp_path / "ct-1/masks.npy").exists()


@pytest.mark.parametrize("enough_bytes", [0, case_module.WORTH_PROCESSES_BYTES])
def test_workers_give_the_same_files_as_one_process(make_case, tmp_path, monkeypatch, enough_bytes):
    monkeypatch.setattr(case_module, "WORTH_PROCESSES_BYTES", enough_bytes)
    cases = [make_case(number) for number in range(2)]
    alone = extraction.extract_dataset(cases, RECIPE, tmp_path / "one", workers=1)
    together = extraction.extract_dataset(cases, RECIPE, tmp_path / "two", workers=2)
    pd.testing.assert_frame_equal(alone, together)
    for case in cases:
        for name in ("images.npy", "masks.npy", "png/slice_001.png"):
            first, second = (tmp_path / run / case.case_id / name for run in ("one", "two"))
            assert first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize("change", ["nothing", "recipe", "source", "png", "damage", "lost"])
def test_only_what_changed_is_extracted_again(make_case, tmp_path, change):
    case, out = make_case(1), tmp_path / "out"
    extraction.extract_dataset([case], RECIPE, out, workers=1)
    before = (out / "ct-1/images.npy").stat().st_ino
    if change == "source":
        case.files[0].write_bytes(b"other")
    if change == "damage":
        (out / "ct-1/case.json").write_text('{"request":')
    if change == "lost":
        next((out / "ct-1/png").iterdir()).unlink()
    recipe = Recipe(size=130) if change == "recipe" else RECIPE
    extraction.extract_dataset([case], recipe, out, workers=1, write_png=change != "png")
    assert ((out / "ct-1/images.npy").stat().st_ino == before) == (change == "nothing")
    assert np.load(out / "ct-1/images.npy").shape[1] == recipe.size
    assert sorted(path.name for path in out.glob("[!.]*")) == ["ct-1", "slices.csv"]


CHANGES = {
    "recipe windows": lambda patch: patch.setitem(windows.WINDOWS, "liver", windows.Window.between(-40, 200)),
    "the extraction": lambda patch: patch.setattr(geometry, "fit_picture", lambda picture, size: picture),
    "the reading": lambda patch: patch.setitem(globals(), "SHAPE", (5, 60, 73)),
}


@pytest.mark.parametrize("part", CHANGES)
def test_what_a_name_stands_for_counts_and_the_reason_is_said(make_case, tmp_path, monkeypatch, capsys, part):
    case, out = make_case(1), tmp_path / "out"
    extraction.extract_dataset([case], Recipe(), out, workers=1)
    extraction.extract_dataset([case], Recipe(), out, workers=1)
    assert "1 of 1 cases are kept" in capsys.readouterr().out
    CHANGES[part](monkeypatch)
    with contextlib.suppress(InputError):
        extraction.extract_dataset([case], Recipe(), out, workers=1)
    assert f"1 of 1 cases are extracted again, changed since: {part}" in capsys.readouterr().out


def test_a_killed_run_goes_on_where_it_was(make_case, tmp_path):
    out = tmp_path / "out"
    script = (
        f"import sys; from pathlib import Path; from functools import partial; import {__name__} as t\n"
        "from livseg_lib.datasets.case import Case\n"
        "files = [(Path(f),) for f in sys.argv[2:]]\n"
        "readers = [partial(t.read_volume, 1), t.end_the_process]\n"
        "cases = [Case(f'ct-{i}', f'00{i}', files[i - 1], readers[i - 1], t.read_labels) for i in (1, 2)]\n"
        "t.extraction.extract_dataset(cases, t.RECIPE, Path(sys.argv[1]), workers=1)\n"
    )
    cases = [make_case(1), make_case(2)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), *sys.path])}
    command = [sys.executable, "-c", script, str(out), *(str(case.files[0]) for case in cases)]
    assert subprocess.run(command, env=environment).returncode == -signal.SIGKILL
    assert sorted(path.name for path in out.glob("[!.]*")) == ["ct-1"]
    kept = (out / "ct-1/images.npy").stat().st_ino
    rows = extraction.extract_dataset(cases, RECIPE, out, workers=1)
    assert (out / "ct-1/images.npy").stat().st_ino == kept and rows["case"].nunique() == 2


def test_failures_are_all_named_after_the_others_are_done(make_case, tmp_path):
    out = tmp_path / "out"
    cases = [make_case(number) for number in range(4)]
    extraction.extract_dataset(cases[:1], RECIPE, out, workers=1)
    cases[0] = make_case(0, read_volume=partial(fail_to_read, "It is cut short."))
    cases[0].files[0].write_bytes(b"changed")
    cases[1].files[0].unlink()
    with pytest.raises(InputError) as failure:
        extraction.extract_dataset(cases, RECIPE, out, workers=1)
    message = str(failure.value)
    assert "2 of 4 cases" in message and "cut short" in message and "ct-0" in message and "ct-1" in message
    assert (out / "ct-2/case.json").exists() and (out / "ct-3/case.json").exists()
    assert not (out / "slices.csv").exists()


def fill_the_disk():
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize(
    ("reader", "workers", "said"),
    [
        (fill_the_disk, 1, r"No space left on device.*Make room"),
        (fill_the_disk, 2, r"No space left on device.*Make room"),
        (end_the_process, 2, "fewer workers"),
    ],
)
def test_what_is_not_the_fault_of_a_case_names_none(make_case, tmp_path, monkeypatch, reader, workers, said):
    if reader is end_the_process:
        monkeypatch.setattr(case_module, "WORTH_PROCESSES_BYTES", 0)
    cases = [make_case(1, read_volume=reader), make_case(2)]
    with pytest.raises(InputError, match=said) as failure:
        extraction.extract_dataset(cases, RECIPE, tmp_path / "out", workers=workers)
    assert "ct-1" not in str(failure.value) and not (tmp_path / "out/slices.csv").exists()


def test_labels_on_another_grid_and_repeated_names_are_refused(make_case, tmp_path):
    flat = make_case(1, read_labels=lambda volume: np.zeros((1, 2, 3), np.uint8))
    with pytest.raises(InputError, match=r"labels are \(1, 2, 3\)"):
        extraction.extract_dataset([flat], RECIPE, tmp_path)
    with pytest.raises(InputError, match="ct-1"):
        extraction.extract_dataset([make_case(1), make_case(1)], RECIPE, tmp_path)
    with pytest.raises(InputError, match="no case"):
        extraction.extract_dataset([], RECIPE, tmp_path)


def test_a_folder_of_the_user_is_never_replaced(make_case, tmp_path):
    (tmp_path / "ct-1").mkdir()
    (tmp_path / "ct-1" / "slice.dcm").write_text("mine")
    with pytest.raises(InputError, match="livseg did not make it"):
        extraction.extract_dataset([make_case(2), make_case(1)], RECIPE, tmp_path)
    assert (tmp_path / "ct-1" / "slice.dcm").read_text() == "mine" and not (tmp_path / "ct-2").exists()
    (tmp_path / "slices.csv").write_text("case,tier\n1,A\n")
    with pytest.raises(InputError, match=r"slices\.csv: is there already, and is something else"):
        extraction.extract_dataset([make_case(2)], RECIPE, tmp_path)
    assert (tmp_path / "slices.csv").read_text() == "case,tier\n1,A\n"


def test_only_one_volume_is_alive_at_a_time(make_case, tmp_path):
    earlier = []

    def read_alone(seed):
        assert not any(reference() is not None for reference in earlier)
        volume = read_volume(seed)
        earlier.append(weakref.ref(volume))
        return volume

    def bad_labels(volume):
        raise InputError("labels", "They are bad.")

    cases = [make_case(number, read_volume=partial(read_alone, number)) for number in range(3)]
    cases[1] = make_case(1, read_volume=partial(read_alone, 1), read_labels=bad_labels)
    with pytest.raises(InputError, match="1 of 3"):
        extraction.extract_dataset(cases, RECIPE, tmp_path / "out", workers=1)


SLICES = f"""{",".join(extraction.SLICE_COLUMNS)}
000,ct 0,10,0,ct 0/png/0.png,ct 0/m.png,ct 0,2.5,0.5,0.5,0,0,0.0,0.0
000,ct 0,11,1,ct 0/png/1.png,ct 0/m.png,ct 0,2.5,0.5,0.5,8,1,2.0,0.25
001,ct 1,10,0,ct 1/png/0.png,,ct 1,,,,,,,
001,ct 1,11,1,ct 1/png/1.png,,ct 1,,,,,,,
"""
"""Two slices a case; of the second case nothing is known but its pictures."""


def table() -> pd.DataFrame:
    return pd.read_csv(io.StringIO(SLICES), dtype=extraction.SLICE_COLUMNS)


def classified() -> pd.DataFrame:
    added = {"class": [0, 2, 0, 0], "split": ["train", "train", "test", "test"], "fold": [1, 1, -1, -1]}
    return table().assign(**added).astype({"class": "Int64", "split": "string", "fold": "Int64"})


@pytest.mark.parametrize(
    "change",
    [str, lambda text: "\ufeff" + text, lambda text: text.replace("\n", "\r\n"), lambda text: text + "\n\n"],
)
def test_what_is_written_is_read_as_it_was_however_it_was_saved_since(tmp_path, change):
    extraction.write_slices(classified(), tmp_path / "slices.csv")
    text = (tmp_path / "slices.csv").read_text()
    (tmp_path / "slices.csv").write_text(change(text), newline="")
    pd.testing.assert_frame_equal(extraction.read_classified(tmp_path / "slices.csv"), classified())


CELLS = {
    **{"patient": [""], "case": [" ", "../other"], "slice": ["1.5", "-1", "x"]},
    **{"array_index": ["", "1e300", "9" * 30], "array": ["/etc", ".."], "image": ["a/../../b.png"]},
    **{"mask": ["/m.png"], "spacing_z_mm": ["0"], "spacing_x_mm": ["inf"], "spacing_y_mm": ["-1"]},
    **{"liver_pixels": ["nan"], "tumor_pixels": ["0.5"], "liver_area_mm2": ["-0.1"]},
    **{"class": ["3", ""], "split": ["tset", ""], "fold": ["-2", "a"]},
}


@pytest.mark.parametrize(("column", "text"), [(name, text) for name in CELLS for text in CELLS[name]])
def test_a_value_that_cannot_be_is_refused_with_its_line(tmp_path, column, text):
    rows = classified().astype(object)
    rows.loc[1, column] = text
    rows.to_csv(tmp_path / "slices.csv", index=False)
    with pytest.raises(InputError, match=rf"slices.csv: Line 3 has .* as {column}\. Mend"):
        extraction.read_classified(tmp_path / "slices.csv")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (lambda text: b"", "is empty"),
        (lambda text: b"\n\n", "is empty"),
        (lambda text: text.replace("ct 0", '"c"t 0', 1).encode(), "is no CSV"),
        (lambda text: text.splitlines()[0].encode(), "lists no slice"),
        (lambda text: text.replace("ct", "\u00e7t").encode("latin-1"), "Line 2 is no UTF-8"),
        (lambda text: text.encode("utf-16"), "Line 1 is no UTF-8"),
        (lambda text: text.replace("ct 0", "ct\0", 1).encode(), "zero byte in line 2"),
        (lambda text: text.replace("ct 0", '"ct 0', 1).encode(), "is no CSV"),
        (lambda text: text.replace(",", ";").encode(), "has the columns"),
        (lambda text: text.replace("mask", "image", 1).encode(), "has the columns"),
        (lambda text: text.replace("case,", "", 1).encode(), "has the columns"),
        (lambda text: text.replace("001,", "001,,", 1).encode(), "Line 4 has 15 fields, the first 14"),
        (lambda text: (text + text.splitlines()[1]).encode(), "Line 6 has the case and slice of another"),
        (lambda text: text.replace("11,1,", "11,0,", 1).encode(), "Line 3 has the array and array_index of"),
        (lambda text: text.replace("000,ct 0,11", "007,ct 0,11", 1).encode(), "case ct 0 has two of patient"),
        (lambda text: text.replace(",8,1,", ",8,9,", 1).encode(), "Line 3 has more tumor_pixels than liver"),
    ],
)
def test_a_file_that_is_no_such_table_is_refused(tmp_path, content, said):
    (tmp_path / "slices.csv").write_bytes(content(SLICES))
    with pytest.raises(InputError, match=said):
        extraction.read_slices(tmp_path / "slices.csv")


def test_a_patient_on_two_sides_and_a_missing_file_are_refused(tmp_path):
    rows = classified()
    rows.loc[2:, "patient"] = "000"
    extraction.write_slices(rows, tmp_path / "slices.csv")
    with pytest.raises(InputError, match="patient 000 lies in two splits"):
        extraction.read_classified(tmp_path / "slices.csv")
    with pytest.raises(InputError, match="cannot be read"):
        extraction.read_slices(tmp_path / "none.csv")
