"""What is found below a folder and told by its name, and what labels.json says that values mean."""

import os
import pickle
import socket

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from layouts import small_ct, write_kaggle_case, write_lits_case, write_msd, write_nifti

from livseg_lib.datasets.catalogue import check_dataset, find_cases
from livseg_lib.datasets.files import (
    LabelMap,
    find_label_map,
    natural_key,
    nifti_stem,
    persons,
    regular_files,
)
from livseg_lib.errors import InputError
from livseg_lib.preprocessing.extraction import common_request, extraction_request
from livseg_lib.preprocessing.recipe import Recipe


@pytest.mark.parametrize("target", ["nowhere", "itself", "/nowhere/at/all"])
def test_a_link_to_nothing_is_an_error_of_its_own(tmp_path, target):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "itself").symlink_to(target)
    (tmp_path / "b.nii").write_bytes(b"x")
    found = regular_files(tmp_path)
    assert found.files == (tmp_path / "b.nii",)
    (note,) = found.notes
    assert (note.where, note.severity) == (tmp_path / "sub" / "itself", "error")
    assert found.named == [tmp_path / "b.nii", tmp_path / "sub" / "itself"]


def test_what_is_no_file_is_passed_over_and_told_and_never_opened(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "volume-1.nii.gz")
    (tmp_path / "volume-2.nii").symlink_to("/dev/zero")
    (tmp_path / "volume-3.nii").symlink_to("volume-1.nii.gz")
    monkeypatch.chdir(tmp_path)  # names of sockets are short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("volume-4.nii")
        found = regular_files(tmp_path)
    assert found.files == () == found.dangling
    names = ["volume-1.nii.gz", "volume-2.nii", "volume-3.nii", "volume-4.nii"]
    assert [(note.where.name, note.severity) for note in found.notes] == [(n, "warning") for n in names]


def test_hidden_names_are_left_out_and_links_to_folders_followed_once(tmp_path):
    data = tmp_path / "data"
    made_here = ["slices/ct/case.json", "slices/ct/images.npy", "slices/ct/png/1.png"]
    made_here += ["out/ct/record.json", "out/ct/measures.json", "out/ct/overlay.png"]
    made_here += ["out/ct/mask.nii", "out/ct/patients/1.jpg"]
    made_here += ["seen/findings.csv", "seen/cases.csv", "seen/contact_sheet.png"]
    for name in ("b/x.nii", ".git/y.nii", "__MACOSX/z.nii", "b/._x.nii", "b/Thumbs.db", *made_here):
        (data / name).parent.mkdir(parents=True, exist_ok=True)
        (data / name).write_bytes(b"x")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "w.nii").write_bytes(b"x")
    for name, target in (("a", "b"), ("c", elsewhere), ("up", ".."), ("b/me", "."), ("root", "/")):
        (data / name).symlink_to(target)
    (data / "b" / "link.nii").symlink_to(elsewhere / "w.nii")
    names = [path.relative_to(data).as_posix() for path in regular_files(data).files]
    assert names == ["b/link.nii", "b/x.nii", "c/w.nii"]
    assert {data / name for name in made_here} < {*regular_files(data, with_results=True).files}
    assert regular_files(data / "b" / "x.nii").files == (data / "b" / "x.nii",)
    assert regular_files(data / "none.nii").dangling == (data / "none.nii",)


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        *(("a.nii", "a"), ("a.NII.GZ", "a"), ("a.b.nii.gz", "a.b")),
        *(("._a.nii", None), (".nii", None), ("a.gz", None)),
    ],
)
def test_names_of_nifti_files(tmp_path, name, stem):
    assert nifti_stem(tmp_path / name) == stem


@pytest.mark.parametrize("folder", ["predictions", "nnUNet_pred/fold_0", "PredictionsTr", "unet_results"])
@pytest.mark.parametrize("label", ["segmentation-2.nii.gz", "volume-2_slice_3_mask.jpg"])
def test_predictions_are_no_truth_and_that_is_told(tmp_path, folder, label):
    if label.endswith("gz"):
        write_lits_case(tmp_path, 2)
    else:
        write_kaggle_case(tmp_path, 2)
    (tmp_path / folder).mkdir(parents=True)
    (path,) = tmp_path.rglob(label)
    path.rename(tmp_path / folder / label)
    dataset = find_cases(tmp_path)
    (case,) = dataset.cases
    assert case.read_labels is None or (case.unmasked and not case.notes)
    assert [note.code for note in dataset.notes] == ["passed-over"]
    assert tmp_path / folder / label in regular_files(tmp_path, with_results=True).files


@pytest.mark.parametrize(
    ("names", "found", "sure"),
    [
        (["pat1_pre", "flip_pat1_pre", "pat2_pre"], ["pat1", "pat1", "pat2"], True),
        (["sub-01_ses-1", "sub-01_ses-2", "sub-02_ses-1"], ["sub-01", "sub-01", "sub-02"], True),
        (["FLARE22_7", "FLARE22_8", "flip-FLARE22-8"], ["FLARE22-7", "FLARE22-8", "FLARE22-8"], True),
        (["site1_3", "site1_4", "site2_5"], ["site1", "site1", "site2"], False),
        (["liver_1", "spleen_1", "liver_2"], ["liver-1", "spleen-1", "liver-2"], True),
        (["anna", "bela_2"], ["anna", "bela_2"], True),
        (["jones_before", "jones_after", "smith_before"], ["jones", "jones", "smith"], True),
        (["a_rot90", "a_flip", "b_flip"], ["a", "a", "b"], False),
        (["mueller_ida", "mueller_jan", "smith_tom"], ["mueller", "mueller", "smith"], False),
        ([], [], True),
    ],
)
def test_names_that_share_their_first_number_are_of_one_person(names, found, sure):
    assert persons(names) == (found, sure)


def test_natural_order_bears_any_name():
    assert sorted(["liver_10", "liver_2", "1²3"], key=natural_key) == ["1²3", "liver_2", "liver_10"]


values = st.sets(st.integers(1, 30), max_size=5)


@settings(deadline=None)
@given(st.lists(st.integers(0, 40), min_size=1), values.filter(bool), values)
def test_every_value_is_what_the_map_says(stored, liver, tumor):
    labels = LabelMap(tuple(liver), tuple(tumor))(np.array(stored, np.int16))
    assert labels.dtype == np.uint8
    assert labels.tolist() == [2 if v in tumor else 1 if v in liver else 0 for v in stored]


def described(folder, text: str):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "labels.json").write_text(text)
    return find_label_map(folder)


def test_one_value_or_a_list_of_them(tmp_path):
    found = described(tmp_path, '{"liver": [5, 7], "tumor": 7}')
    assert (found.liver, found.tumor) == ((5, 7), (7,))
    assert described(tmp_path, '{"liver": 3}').tumor == ()
    (tmp_path / "labels.json").unlink()
    assert find_label_map(tmp_path) is None


@pytest.mark.parametrize(
    "text",
    [
        *("{", "[]", "{}", "3", '{"tumor": 2}', '{"liver": 1, "spleen": 3}'),
        *('{"liver": "1"}', '{"liver": 0}', '{"liver": true}', '{"liver": 1.5}'),
        *("[1]", '{"liver": []}', '{"liver": 5, "tumor": 5}', '{"liver": [1, 2], "tumor": [2, 1]}'),
    ],
)
def test_what_is_no_map_is_told(tmp_path, text):
    with pytest.raises(InputError, match=r"labels\.json"):
        described(tmp_path, text)


def test_a_labels_json_that_is_not_where_it_is_looked_for_is_an_error(tmp_path):
    write_lits_case(tmp_path / "set", 2)
    (tmp_path / "set" / "labels.json").write_text('{"liver": 2, "tumor": 1}')
    (note,) = find_cases(tmp_path).notes
    assert (note.where, note.severity) == (tmp_path / "set" / "labels.json", "error")
    assert not find_cases(tmp_path / "set").notes
    write_msd(tmp_path / "msd", (1, 2))
    (tmp_path / "labels.json").write_text('{"liver": 2, "tumor": 1}')
    notes = [note for note in find_cases(tmp_path, "msd").notes if note.where.name == "labels.json"]
    assert [note.severity for note in notes] == ["error"] * 2, "it is looked for beside imagesTr"


def test_a_lits_folder_with_other_values_reads_as_the_usual_one(tmp_path):
    write_lits_case(tmp_path, 4)
    truth = small_ct(4)[1]
    write_nifti(tmp_path / "segmentation-4.nii.gz", np.array([11, 30, 20], np.int16)[truth])
    (tmp_path / "labels.json").write_text('{"liver": 30, "tumor": 20}')
    dataset = find_cases(tmp_path)
    (case,) = dataset.cases
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(case.read_labels))(case.read_volume()), truth)
    assert check_dataset(dataset, progress=False).exit_code == 0
    common = common_request(Recipe(), write_png=False)
    before = extraction_request(case, common)
    (tmp_path / "labels.json").write_text('{"liver": [11, 30]}')
    assert extraction_request(case, common) != before, "extracted anew"
