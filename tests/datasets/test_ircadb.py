"""3D-IRCADb-01: DICOM with masks in DICOM."""

from __future__ import annotations

import numpy as np
import pytest
from layouts import replace_by_zip, small_ct, write_ircadb_case

from livseg_lib.datasets.catalogue import find_cases


def test_a_case_of_zips_reads_what_was_written(tmp_path):
    labels = write_ircadb_case(tmp_path, seed=4)
    replace_by_zip(tmp_path / "PATIENT_DICOM")
    replace_by_zip(tmp_path / "MASKS_DICOM")
    (case,) = find_cases(tmp_path).cases
    assert case.case_id == tmp_path.name
    np.testing.assert_array_equal(case.read_volume().voxels, small_ct(4)[0])
    np.testing.assert_array_equal(case.read_labels(case.read_volume()), labels)


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


def test_real_case_has_the_published_voxel_counts(real_ct):
    (case,) = find_cases(real_ct / "ircadb17").cases
    volume = case.read_volume()
    labels = case.read_labels(volume)
    assert len(labels) == 119
    assert int((labels >= 1).sum()) == 2_106_497
    assert int((labels == 2).sum()) == 185_990
