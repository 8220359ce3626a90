"""Which of several DICOM series is the scan, and what of its headers goes on."""

from __future__ import annotations

import numpy as np
import pytest
from dicom_files import ORIGIN_MM, SPACING_MM, STORED, ct_slice, multi_frame, write_series
from pydicom.uid import EnhancedCTImageStorage, MRImageStorage
from toy_system import toy_predictor

from livseg_lib.application.inputs import find_inputs
from livseg_lib.application.patient import predict_case
from livseg_lib.application.scan import ENOUGH_SLICES, read_dicom
from livseg_lib.errors import InputError

MANY = np.repeat(STORED, 5, axis=0)
"""As many slices as a scan of a liver has."""


def test_the_only_series_is_taken_however_few_slices_it_has(tmp_path):
    scan = read_dicom(write_series(tmp_path / "series"))
    assert scan.notes == ()
    np.testing.assert_array_equal(scan.volume.voxels, STORED - 1024)


def test_the_only_whole_axial_series_is_taken_and_that_is_said(tmp_path):
    assert len(MANY) >= ENOUGH_SLICES
    write_series(tmp_path / "few", series_uid="1.1", SeriesNumber=1)
    write_series(tmp_path / "many", MANY, series_uid="1.2", SeriesNumber=2)
    for k in range(ENOUGH_SLICES):  # a coronal reconstruction
        coronal = {"ImageOrientationPatient": [1, 0, 0, 0, 0, -1], "SeriesNumber": 7}
        position = (ORIGIN_MM[0], ORIGIN_MM[1] + k, ORIGIN_MM[2])
        slice_ = ct_slice(STORED[0], position, series_uid="1.3", **coronal)
        slice_.save_as(tmp_path / f"coronal_{k}", enforce_file_format=True)
    scan = read_dicom(tmp_path)
    assert len(scan.volume.voxels) == len(MANY)
    assert "Of 3 series" in scan.notes[0] and "series 2: 25 slices" in scan.notes[0]


def test_where_it_is_not_clear_the_series_are_listed_by_size_without_their_descriptions(tmp_path):
    described = {"SeriesDescription": "DOE JOHN LIVER"}
    write_series(tmp_path / "arterial", MANY, series_uid="1.1", SeriesNumber=1, **described)
    write_series(tmp_path / "portal", MANY - 5, series_uid="1.2", SeriesNumber=2, **described)
    with pytest.raises(InputError, match="--series") as caught:
        read_dicom(tmp_path)
    message = str(caught.value)
    assert "series 1: 25 slices of 6 x 7, 0.50 mm, 2.50 mm thick, axial" in message
    assert "series 2" in message and "DOE" not in message
    for wanted, less in (("2", 5), ("1.1", 0)):
        np.testing.assert_array_equal(read_dicom(tmp_path, wanted).volume.voxels, MANY - 1024 - less)
    with pytest.raises(InputError, match=r"There is no series 4\. Found: series 1"):
        read_dicom(tmp_path, "4")


def test_series_without_a_number_are_told_by_uid(tmp_path):
    for uid in ("1.1", "1.2"):
        write_series(tmp_path / uid, series_uid=uid, SeriesNumber=5)
    with pytest.raises(InputError, match=r"series 1\.1: .*series 1\.2: "):
        read_dicom(tmp_path)
    with pytest.raises(InputError, match="more than one series 5"):
        read_dicom(tmp_path, "5")


def test_headers_lie_in_the_order_of_space_and_hold_an_identity_only_where_asked(tmp_path):
    uids = {"StudyInstanceUID": "1.5", "FrameOfReferenceUID": "1.6"}
    source = write_series(tmp_path / "series", PatientID="4711", StudyDate="20200101", **uids)
    headers = read_dicom(source).headers
    heights = [float(header.ImagePositionPatient[2]) for header in headers]
    assert heights == [ORIGIN_MM[2] + k * SPACING_MM[0] for k in range(len(STORED))]
    assert {header.StudyInstanceUID for header in headers} == {"1.5"}
    assert all("PatientName" not in header and "PatientID" not in header for header in headers)
    named = read_dicom(source, keep_identity=True).headers
    assert {(str(one.PatientName), one.PatientID, one.StudyDate) for one in named} == {
        ("DOE^JOHN", "4711", "20200101")
    }


def test_a_multi_frame_object_is_a_scan_by_itself(tmp_path):
    (patient,) = find_inputs(multi_frame(tmp_path, EnhancedCTImageStorage, True) / "frames")
    assert (patient.case_id, patient.kind) == ("frames", "DICOM")
    np.testing.assert_array_equal(patient.read().volume.voxels, STORED - 1024)


def test_a_series_of_another_modality_than_the_system_is_refused(tmp_path):
    mr = {"SOPClassUID": MRImageStorage, "Modality": "MR", "RescaleIntercept": None}
    (patient,) = find_inputs(write_series(tmp_path / "mr", **mr))
    with pytest.raises(InputError, match="a series of MR; the system was made for CT"):
        predict_case(patient, toy_predictor())
