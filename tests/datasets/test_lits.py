"""LiTS volumes as the challenge and Kaggle ship them."""

import gzip

import numpy as np
import pytest
from layouts import small_ct, write_lits_case, write_nifti

from livseg_lib.datasets.catalogue import check_dataset, find_cases


def test_pairs_in_any_folders_in_natural_order(tmp_path):
    for number, folder in ((10, "volume_pt2"), (2, "Training Batch 1"), (0, "volume_pt1")):
        segmentation = write_lits_case(tmp_path / folder, number)[1]
        (tmp_path / "segmentations").mkdir(exist_ok=True)
        segmentation.rename(tmp_path / "segmentations" / segmentation.name)
    dataset = find_cases(tmp_path)
    assert [case.patient for case in dataset.cases] == ["0", "2", "10"]
    assert dataset.cases[2].files == (
        tmp_path / "volume_pt2" / "volume-10.nii.gz",
        tmp_path / "segmentations" / "segmentation-10.nii.gz",
    )


def test_other_names_are_no_volumes(tmp_path):
    volume, _ = write_lits_case(tmp_path, 3)
    for name in ("test-volume-3.nii.gz", "._volume-4.nii.gz", "volume-5.nii.gz.part", "my_volume-6.nii"):
        (tmp_path / name).write_bytes(volume.read_bytes())
    (tmp_path / "volume-8.nii").mkdir()
    assert [case.case_id for case in find_cases(tmp_path).cases] == ["volume-3"]


@pytest.mark.parametrize(("broken", "index"), [("volume-3.nii", 0), ("volume-3.nii.gz", 1)])
def test_a_good_copy_of_a_broken_file_is_read(tmp_path, broken, index):
    path = write_lits_case(tmp_path, 3)[index]
    path.with_suffix("").write_bytes(gzip.decompress(path.read_bytes()))
    worse = tmp_path / broken.replace("volume", ("volume", "segmentation")[index])
    worse.write_bytes(worse.read_bytes()[:-200])
    write_lits_case(tmp_path, 4)
    case, other = find_cases(tmp_path).cases
    np.testing.assert_array_equal(case.read_labels(case.read_volume()), small_ct(3)[1])
    (note,) = case.notes
    assert note.where == worse and "in its place" in note.message and other.notes == ()


def test_equal_copies_are_one_case_and_told_and_copies_that_differ_an_error_of_their_case_alone(tmp_path):
    for folder in "ab":
        write_lits_case(tmp_path / folder, 3)
    dataset = find_cases(tmp_path)
    (case,) = dataset.cases
    assert case.files == (tmp_path / "a" / "volume-3.nii.gz", tmp_path / "a" / "segmentation-3.nii.gz")
    assert [(note.where.parent.name, note.severity) for note in case.notes] == [("b", "warning")] * 2
    assert dataset.notes == ()  # told once
    write_lits_case(tmp_path / "b", 3, seed=9)
    write_lits_case(tmp_path, 4)
    report = check_dataset(find_cases(tmp_path), progress=False)
    assert report.cases["usable"].tolist() == [False, True]
    errors = report.findings[report.findings["severity"] == "error"]
    assert set(errors["case"]) == {"volume-3"} and errors["message"].str.contains("they differ").all()


def test_folders_named_like_files_and_names_in_capitals(tmp_path):
    for path in write_lits_case(tmp_path / "x", 1):
        inner = tmp_path / path.stem / path.stem
        inner.parent.mkdir()
        inner.write_bytes(gzip.decompress(path.read_bytes()))
        path.unlink()
    for path in write_lits_case(tmp_path / "x", 2):
        path.rename(path.with_name(path.name.upper()))
    cases = find_cases(tmp_path).cases
    assert [case.case_id for case in cases] == ["volume-1", "volume-2"]
    assert all(case.read_labels(case.read_volume()).max() == 2 for case in cases)


@pytest.mark.parametrize(
    ("scan", "label", "name"),
    [
        ("imagesTr/volume-3_0000", "labelsTr/volume-3", "msd"),  # nnU-Net
        ("images/volume-3", "labels/volume-3", "lits"),
        ("imagesTr/volume-3", "labelsTr/segmentation-3", "lits"),
        ("volume-3", "labels-3", "lits"),
    ],
)
def test_a_label_map_of_the_name_of_its_scan_is_no_scan(tmp_path, scan, label, name):
    for path, array in zip((scan, label), small_ct(), strict=True):
        write_nifti(tmp_path / f"{path}.nii.gz", array)
    dataset = find_cases(tmp_path)
    (case,) = dataset.cases
    np.testing.assert_array_equal(case.read_labels(case.read_volume()), small_ct()[1])
    assert (dataset.name, dataset.notes) == (name, ())
