"""3D-IRCADb-01: DICOM with masks in DICOM."""

from __future__ import annotations

import numpy as np
import pytest
from layouts import SPACING_MM, replace_by_zip, small_ct, write_ircadb_case

from livseg_lib.datasets import ircadb
from livseg_lib.datasets.catalogue import find_cases


@pytest.mark.parametrize("zipped", [False, True])
def test_case_reads_what_was_written(tmp_path, zipped):
    labels = write_ircadb_case(tmp_path, seed=4)
    if zipped:
        replace_by_zip(tmp_path / "PATIENT_DICOM")
        replace_by_zip(tmp_path / "MASKS_DICOM")
    assert ircadb.recognises(tmp_path)
    dataset = find_cases(tmp_path)
    (case,) = dataset.cases
    assert (dataset.name, case.case_id) == ("ircadb", tmp_path.name)
    volume = case.read_volume()
    np.testing.assert_array_equal(volume.voxels, small_ct(4)[0])
    np.testing.assert_allclose(volume.spacing_mm, SPACING_MM, rtol=1e-6)
    np.testing.assert_array_equal(case.read_labels(volume), labels)


@pytest.mark.parametrize(
    ("tumors", "highest"),
    [
        *((("livertumor1", "livertumor2"), 2), (("livertumors",), 2), (("LiverTumor",), 2)),
        *((("livertumour01", "livertumour02"), 2), (("livercyst",), 1)),  # a look-alike
    ],
)
def test_spellings_of_tumor_are_one_label(tmp_path, tumors, highest):
    labels = write_ircadb_case(tmp_path, tumors=tumors)
    (case,) = find_cases(tmp_path).cases
    np.testing.assert_array_equal(case.read_labels(case.read_volume()), labels.clip(max=highest))


@pytest.mark.parametrize("nested", ["", "3Dircadb1"])
def test_parent_folder_of_cases_in_natural_order(tmp_path, nested):
    for number in (10, 2):
        write_ircadb_case(tmp_path / nested / f"3Dircadb1.{number}", seed=number)
    (tmp_path / "readme.txt").write_text("not a case")
    cases = find_cases(tmp_path).cases
    assert [case.case_id for case in cases] == ["3Dircadb1.2", "3Dircadb1.10"]
    assert [case.patient for case in cases] == ["3Dircadb1.2", "3Dircadb1.10"]
    np.testing.assert_array_equal(cases[1].read_volume().voxels, small_ct(10)[0])


def test_missing_parts_are_kept_and_told(tmp_path):
    write_ircadb_case(tmp_path / "one")
    write_ircadb_case(tmp_path / "two")
    (tmp_path / "one" / "MASKS_DICOM").rename(tmp_path / "one" / "elsewhere")
    (tmp_path / "two" / "PATIENT_DICOM").rename(tmp_path / "two" / "elsewhere")
    dataset = find_cases(tmp_path)
    assert [case.case_id for case in dataset.cases] == ["one"]
    assert dataset.cases[0].read_labels is None
    assert dataset.unpaired == (tmp_path / "two" / "MASKS_DICOM",)


def test_real_case_has_the_published_voxel_counts(real_ct):
    (case,) = find_cases(real_ct / "ircadb17").cases
    volume = case.read_volume()
    labels = case.read_labels(volume)
    assert len(labels) == 119
    assert int((labels >= 1).sum()) == 2_106_497
    assert int((labels == 2).sum()) == 185_990
