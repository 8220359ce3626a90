"""A DICOM-SEG lies where its scan lies, by the words of its own headers."""

import numpy as np
import pydicom
import pytest
from dicom_files import STORED, ct_slice, write_series

from livseg_lib.application.dicom_seg import write_dicom_seg
from livseg_lib.application.scan import read_dicom
from livseg_lib.volumes import save_segmentation

STRUCTURES = ("liver", "tumor")


def labels_for(shape) -> np.ndarray:
    labels = np.random.default_rng(1).integers(0, 3, shape, np.uint8)
    labels[0] = 0  # an empty slice
    return labels


def write(source, folder, keep_identity: bool = False, structures=STRUCTURES, empty: bool = False):
    """(scan, labels, what was written) for a series."""
    scan = read_dicom(source, keep_identity=keep_identity)
    labels = labels_for(scan.volume.voxels.shape) * (not empty)
    path = write_dicom_seg(labels, scan.volume, scan.headers, structures, ("toy", "1.0"), folder / "mask.dcm")
    return scan, labels, pydicom.dcmread(path)


def test_the_same_outlines_of_the_same_scan_are_the_same_file_but_for_times(tmp_path):
    source = write_series(tmp_path / "series")

    def written(empty=False):
        _, _, file = write(source, tmp_path, empty=empty)
        file.walk(lambda _, one: setattr(one, "value", "") if one.VR in ("DA", "TM", "DT") else None)
        return file

    first, again, other = written(), written(), written(empty=True)
    assert first.to_json() == again.to_json() and first.file_meta == again.file_meta
    assert first.SOPInstanceUID != other.SOPInstanceUID != first.SeriesInstanceUID


def points_mm(segmentation: pydicom.Dataset) -> dict[int, set]:
    """Segment -> places (LPS, mm, rounded) of its voxels, by PS3.3 C.7.6.2.1.1 and nothing of ours."""
    shared = segmentation.SharedFunctionalGroupsSequence[0]
    frames = segmentation.pixel_array.reshape(-1, segmentation.Rows, segmentation.Columns)
    found: dict[int, set] = {}
    for frame, own in zip(frames, segmentation.PerFrameFunctionalGroupsSequence, strict=True):

        def functional(name, own=own):
            return (own if name in own else shared)[name].value[0]

        place = functional("PlanePositionSequence").ImagePositionPatient
        directions = np.reshape(functional("PlaneOrientationSequence").ImageOrientationPatient, (2, 3))
        between_rows, between_columns = functional("PixelMeasuresSequence").PixelSpacing
        rows, columns = np.nonzero(frame)
        places = np.array(place, float) + np.outer(columns * between_columns, directions[0].astype(float))
        places += np.outer(rows * between_rows, directions[1].astype(float))
        number = functional("SegmentIdentificationSequence").ReferencedSegmentNumber
        found.setdefault(number, set()).update(map(tuple, places.round(3).tolist()))
    return found


def expected_mm(scan, mask: np.ndarray) -> set:
    """Places of the voxels of `mask` (D, H, W) by the grid's affine."""
    native = scan.volume.native
    stored = np.argwhere(native.to_stored(mask))
    ras = stored @ native.affine[:3, :3].T + native.affine[:3, 3]
    return set(map(tuple, (ras * [-1, -1, 1]).round(3).tolist()))


def write_turned_series(folder):
    """Slices whose rows run to the front and columns to the right, from head to feet by number."""
    folder.mkdir()
    directions = [0.0, -1.0, 0.0, -1.0, 0.0, 0.0]
    for k, pixels in enumerate(STORED):
        slice_ = ct_slice(pixels, (50.0, 40.0, 300.0 - 2.5 * k), ImageOrientationPatient=directions)
        slice_.save_as(folder / f"{k}.dcm", enforce_file_format=True)
    return folder


@pytest.mark.parametrize("make", [write_series, write_turned_series])
def test_each_segment_lies_on_its_voxels(make, tmp_path):
    scan, labels, segmentation = write(make(tmp_path / "a"), tmp_path)
    found = points_mm(segmentation)
    assert found[1] == expected_mm(scan, labels >= 1)  # the liver holds its tumours
    assert found[2] == expected_mm(scan, labels == 2)


def test_it_refers_to_the_slices_study_and_frame_of_the_scan(tmp_path):
    uids = {"StudyInstanceUID": "1.5", "FrameOfReferenceUID": "1.6"}
    source = write_series(tmp_path / "a", **uids)
    _, _, segmentation = write(source, tmp_path)
    slices = {pydicom.dcmread(path).SOPInstanceUID for path in source.iterdir()}
    (series,) = segmentation.ReferencedSeriesSequence
    assert {one.ReferencedSOPInstanceUID for one in series.ReferencedInstanceSequence} == slices
    assert series.SeriesInstanceUID == "1.2.3.1" != segmentation.SeriesInstanceUID
    assert {name: segmentation.get(name) for name in uids} == uids


def test_segments_name_what_they_are_and_what_made_them(tmp_path):
    _, _, segmentation = write(write_series(tmp_path / "a"), tmp_path)
    liver, tumor = segmentation.SegmentSequence
    assert liver.SegmentedPropertyTypeCodeSequence[0].CodeValue == "10200004"
    assert tumor.SegmentedPropertyTypeCodeSequence[0].CodeValue == "108369006"
    assert tumor.AnatomicRegionSequence[0].CodeValue == "10200004"
    for segment in (liver, tumor):
        (algorithm,) = segment.SegmentationAlgorithmIdentificationSequence
        assert (algorithm.AlgorithmName, algorithm.AlgorithmVersion) == ("livseg toy", "1.0")


def test_only_what_was_looked_for_is_a_segment_and_an_empty_mask_can_be_written(tmp_path):
    _, _, livers = write(write_series(tmp_path / "a"), tmp_path, structures=("liver",))
    assert [segment.SegmentLabel for segment in livers.SegmentSequence] == ["Liver with its tumours"]
    _, _, nothing = write(tmp_path / "a", tmp_path, empty=True)
    assert not nothing.pixel_array.any() and len(nothing.SegmentSequence) == 2


def test_nobody_is_named_unless_asked_for(tmp_path):
    source = write_series(tmp_path / "a", PatientID="4711", InstitutionName="ST. ELSEWHERE")
    _, _, anonymous = write(source, tmp_path)
    assert (str(anonymous.PatientName), anonymous.PatientID) == ("ANONYMOUS^", "ANONYMOUS")
    assert anonymous.PatientIdentityRemoved == "YES"
    _, _, named = write(source, tmp_path, keep_identity=True)
    assert (str(named.PatientName), named.PatientID) == ("DOE^JOHN", "4711")
    assert "PatientIdentityRemoved" not in named and "InstitutionName" not in named


def test_an_independent_reader_lays_it_where_the_nifti_mask_lies(tmp_path):
    sitk = pytest.importorskip("SimpleITK")
    scan, labels, segmentation = write(write_series(tmp_path / "a"), tmp_path)
    reference = sitk.ReadImage(save_segmentation(labels, scan.volume, tmp_path / "mask.nii.gz"))
    array = sitk.GetArrayFromImage(reference)
    for segment, mask in ((1, array >= 1), (2, array == 2)):
        places = points_mm(segmentation)[segment]
        indices = {reference.TransformPhysicalPointToIndex(place) for place in places}
        assert indices == {tuple(index[::-1]) for index in np.argwhere(mask).tolist()}
