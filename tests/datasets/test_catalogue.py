"""The right adapter is found by looking, and what cannot be used is told."""

from __future__ import annotations

import os
import pickle
import shutil

import numpy as np
import pytest
from layouts import (
    SPACING_MM,
    replace_by_zip,
    small_ct,
    write_dicom_series,
    write_ircadb_case,
    write_kaggle_case,
    write_lits_case,
    write_msd,
    write_nifti,
    write_picture,
)

from livseg_lib.datasets.catalogue import ADAPTERS, find_cases
from livseg_lib.errors import InputError

WRITERS = {
    "lits": lambda folder: write_lits_case(folder, 1),
    "msd": lambda folder: write_msd(folder, (1,)),
    "kaggle": lambda folder: write_kaggle_case(folder, 1),
    "ircadb": write_ircadb_case,
    "dicom": lambda folder: write_dicom_series(folder, small_ct()[0]),
    "nifti": lambda folder: write_nifti(folder / "scan.nii.gz", small_ct()[0]),
}


@pytest.mark.parametrize("name", WRITERS)
def test_every_layout_is_recognised(tmp_path, name):
    WRITERS[name](tmp_path)
    assert find_cases(tmp_path).name == name
    assert find_cases(str(tmp_path), dataset=name).name == name
    assert name != "lits" or find_cases(tmp_path, dataset="nifti").name == "nifti", "a name forces it"
    assert set(ADAPTERS) == set(WRITERS)


LABELLED = {
    # writes a case, its id, its patient, its scan, its labels
    "lits": (write_lits_case, "volume-{}", "{}", "volume-{}.nii.gz", "segmentation-{}.nii.gz"),
    "msd": (
        lambda folder, number: write_msd(folder, (number,)),
        *("liver_{}", "liver_{}", "imagesTr/liver_{}.nii.gz", "labelsTr/liver_{}.nii.gz"),
    ),
    "ircadb": (
        lambda folder, number: write_ircadb_case(folder / f"3Dircadb1.{number}", seed=number),
        *("3Dircadb1.{}", "3Dircadb1.{}", "3Dircadb1.{}/PATIENT_DICOM", "3Dircadb1.{}/MASKS_DICOM"),
    ),
}


@pytest.mark.parametrize("name", LABELLED)
@pytest.mark.parametrize("nested", ["", "below"])
def test_cases_come_in_natural_order_and_read_what_was_written(tmp_path, name, nested):
    write, case_id, patient, *_ = LABELLED[name]
    for number in (10, 2):
        write(tmp_path / nested, number)
    dataset = find_cases(tmp_path)
    assert dataset.name == name
    for number, case in zip((2, 10), dataset.cases, strict=True):
        assert (case.case_id, case.patient) == (case_id.format(number), patient.format(number))
        case = pickle.loads(pickle.dumps(case))  # cases travel to worker processes
        volume, (voxels, labels) = case.read_volume(), small_ct(number)
        np.testing.assert_array_equal(volume.voxels, voxels)
        np.testing.assert_allclose(volume.spacing_mm, SPACING_MM, rtol=1e-6)
        np.testing.assert_array_equal(case.read_labels(volume), labels)


@pytest.mark.parametrize("name", LABELLED)
def test_missing_partners_are_kept_and_told(tmp_path, name):
    write, case_id, _, scan, labels = LABELLED[name]
    for number, lost in ((1, labels), (2, scan)):
        write(tmp_path, number)
        path = tmp_path / lost.format(number)
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    dataset = find_cases(tmp_path)
    (case,) = dataset.cases
    assert (case.case_id, case.read_labels) == (case_id.format(1), None)
    assert dataset.unpaired == (tmp_path / labels.format(2),)


def test_a_label_map_alone_is_no_scan_and_what_lies_beside_is_told(tmp_path):
    write_dicom_series(tmp_path / "dicom", small_ct()[0])
    write_nifti(tmp_path / "example_seg.nii.gz", small_ct()[1])
    for k in range(5):
        write_picture(tmp_path / "masks" / f"{k}.png", np.zeros((9, 9), np.uint8))
    (tmp_path / "notes.txt").write_text("no data")
    dataset = find_cases(tmp_path)
    assert dataset.name == "dicom"
    (case,) = dataset.cases
    np.testing.assert_array_equal(case.read_volume().voxels, small_ct()[0])
    (note,) = dataset.notes
    assert (note.code, note.severity) == ("passed-over", "warning")
    assert "7 file(s) passed over: not a DICOM file (example_seg.nii.gz" in note.message


@pytest.mark.parametrize("name", ["lits", "msd", "nifti", "kaggle"])
def test_dicom_that_another_layout_leaves_is_told_and_so_are_zips_and_pipes(tmp_path, name):
    WRITERS[name](tmp_path)
    assert find_cases(tmp_path).notes == ()
    write_dicom_series(tmp_path / "series", small_ct()[0])
    replace_by_zip(write_dicom_series(tmp_path / "other", small_ct()[0]))
    os.mkfifo(tmp_path / "pipe.nii")
    (tmp_path / "lost.nii.gz").symlink_to("nowhere")
    (tmp_path / "lost.txt").symlink_to("nowhere")
    (tmp_path / "._twin.nii.gz").write_bytes(b"Mac OS X")
    dataset = find_cases(tmp_path)
    assert dataset.name == name
    severities = {note.where.name: note.severity for note in dataset.notes}
    lost = {} if name == "nifti" else {"lost.nii.gz": "error"}  # there it is a case, and its reading fails
    expected = {"image_0": "warning", "other.zip": "warning", "pipe.nii": "warning", "lost.txt": "warning"}
    assert severities == expected | lost
    assert name != "nifti" or "lost" in [case.case_id for case in dataset.cases]


def test_label_maps_alone_are_no_data_set(tmp_path):
    write_nifti(tmp_path / "seg.nii.gz", small_ct()[1])
    for name, words in (("auto", "no data set in it"), ("nifti", "no case")):
        with pytest.raises(InputError, match=rf"{words}.*seg.nii.gz.*label map without its scan"):
            find_cases(tmp_path, name)


def test_single_files(tmp_path):
    voxels = small_ct()[0]
    nifti = write_nifti(tmp_path / "scan.nii.gz", voxels)
    archive = replace_by_zip(write_dicom_series(tmp_path / "series", voxels))
    for source, name, case_id in ((nifti, "nifti", "scan"), (archive, "dicom", "series")):
        dataset = find_cases(source)
        (case,) = dataset.cases
        found = (dataset.name, dataset.folder, case.case_id, case.files)
        assert found == (name, tmp_path, case_id, (source,))
        np.testing.assert_array_equal(case.read_volume().voxels, voxels)


def test_two_series_of_one_folder_share_a_patient(tmp_path):
    for name in ("arterial", "portal"):
        write_dicom_series(tmp_path / "scan" / name, small_ct()[0])
    cases = find_cases(tmp_path / "scan").cases
    assert [case.case_id for case in cases] == ["scan_series-1", "scan_series-2"]
    assert {case.patient for case in cases} == {"scan"}
    assert cases[0].read_volume().voxels.shape == (6, 24, 32)
    assert not set(cases[0].files) & set(cases[1].files)


def test_folder_without_any_layout_lists_what_was_looked_for_and_what_was_seen(tmp_path):
    (tmp_path / "notes.txt").write_text("nothing here")
    os.mkfifo(tmp_path / "pipe.nii")
    (tmp_path / "lost").symlink_to("nowhere")
    with pytest.raises(InputError, match=r"leads to nothing.*a pipe") as caught:
        find_cases(tmp_path)
    for name, adapter in ADAPTERS.items():
        assert f"{name}: {adapter.LOOKS_FOR}" in str(caught.value)


def test_unknown_names_and_empty_and_missing_folders_are_refused(tmp_path):
    for name in WRITERS:
        with pytest.raises(InputError):
            find_cases(tmp_path, dataset=name)
    with pytest.raises(InputError, match="Choose auto or one of kaggle, lits"):
        find_cases(tmp_path, dataset="brats")
    with pytest.raises(InputError, match="no such file or folder"):
        find_cases(tmp_path / "nowhere")
