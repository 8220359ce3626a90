from __future__ import annotations

import nibabel
import numpy as np
import pydicom
import pytest
from dicom_files import ORIGIN_MM, SPACING_MM, STORED, ct_slice, write_series, zip_folder
from pydicom.uid import (
    MPEG2MPML,
    DeflatedExplicitVRLittleEndian,
    RLELossless,
    SegmentationStorage,
    generate_uid,
)

from livseg_lib.datasets.dicom import list_series, read_mask_series, read_series, survey
from livseg_lib.errors import InputError
from livseg_lib.volumes import load_segmentation, load_volume, save_segmentation


def one_file(folder):
    return sorted(folder.iterdir())[0]


@pytest.mark.parametrize("as_zip", [False, True])
def test_an_axial_series_becomes_an_lps_volume(tmp_path, as_zip):
    folder = write_series(tmp_path / "PATIENT_DICOM")
    volume = read_series(zip_folder(folder) if as_zip else folder)
    np.testing.assert_array_equal(volume.voxels, STORED - 1024)
    assert volume.voxels.dtype == np.int16 and volume.voxels.flags.c_contiguous
    assert volume.spacing_mm == SPACING_MM
    x, y, z = ORIGIN_MM
    np.testing.assert_array_equal((volume.native.affine @ [0, 0, 0, 1])[:3], (-x, -y, z))
    assert nibabel.aff2axcodes(volume.native.affine) == ("L", "P", "S")


@pytest.mark.parametrize(
    ("cosines", "lps_of_slice_row_column"),
    [
        ([1, 0, 0, 0, 0, -1], (1, 0, 2)),  # coronal: rows from head to feet, slices from front to back
        ([0, 1, 0, 0, 0, -1], (2, 0, 1)),  # sagittal
        ([-1, 0, 0, 0, -1, 0], (0, 1, 2)),  # upside-down axial
    ],
)
def test_other_planes_come_to_lps_too(tmp_path, cosines, lps_of_slice_row_column):
    row, column = np.array(cosines[:3]), np.array(cosines[3:])
    normal = np.cross(row, column)
    for k, pixels in enumerate(STORED):
        ct_slice(pixels, 2.5 * k * normal, ImageOrientationPatient=cosines).save_as(
            tmp_path / f"{k}.dcm", enforce_file_format=True
        )
    volume = read_series(tmp_path)
    expected = np.zeros_like(volume.voxels)
    directions = (normal, column, row)  # of slice, row and column indices, in LPS
    for index in np.ndindex(STORED.shape):
        where = [0, 0, 0]
        for n, lps_axis in enumerate(lps_of_slice_row_column):
            world = (2, 1, 0)[lps_axis]
            where[lps_axis] = index[n] if directions[n][world] > 0 else STORED.shape[n] - 1 - index[n]
        expected[tuple(where)] = STORED[index] - 1024
    np.testing.assert_array_equal(volume.voxels, expected)


def test_what_is_segmented_can_be_saved_and_lies_on_the_scan(tmp_path):
    volume = read_series(write_series(tmp_path / "ct"))
    labels = (volume.voxels > 0).astype(np.uint8) * 2
    saved = save_segmentation(labels, volume, tmp_path / "s.nii.gz")
    np.testing.assert_array_equal(load_segmentation(saved, volume), labels)
    assert load_volume(saved).spacing_mm == volume.spacing_mm


def test_slope_and_intercept_of_each_slice_count(tmp_path):
    for k, (slope, intercept) in enumerate([(1, 0), (2, -10), (0.5, 100)]):
        pixels = np.full((4, 4), 100 + k, np.uint16)
        ct_slice(pixels, (0, 0, k), RescaleSlope=slope, RescaleIntercept=intercept).save_as(
            tmp_path / f"{k}", enforce_file_format=True
        )
    assert read_series(tmp_path).voxels[:, 0, 0].tolist() == [100, 192, 151]


@pytest.mark.parametrize("lost", [[2], [1, 3], [1, 2, 3]])
def test_missing_slices_are_an_error(tmp_path, lost):
    if lost == [1, 2, 3]:
        stored, kept = np.concatenate([STORED, STORED]), [0, 4, 5, 6]
    else:
        stored, kept = np.concatenate([STORED, STORED]), [k for k in range(10) if k not in lost]
    folder = write_series(tmp_path / "ct", stored, kept)
    with pytest.raises(InputError, match=f"{len(lost)} of {len(kept) + len(lost)} slices are missing"):
        read_series(folder)


def test_several_series_must_be_told_apart(tmp_path):
    write_series(tmp_path / "a", series_uid="1.2.3.1")
    write_series(tmp_path / "b", STORED[:3], series_uid="1.2.3.2", SeriesNumber=8)
    assert [(one.uid, one.number, len(one.slices)) for one in list_series(tmp_path)] == [
        ("1.2.3.1", 3, 5),
        ("1.2.3.2", 8, 3),
    ]
    with pytest.raises(InputError, match=r"series 3 of 5 slices \(1\.2\.3\.1\), series 8 of 3") as caught:
        read_series(tmp_path)
    assert "DOE" not in str(caught.value)
    assert read_series(tmp_path, series_uid="1.2.3.2").voxels.shape == (3, 6, 7)
    with pytest.raises(InputError, match=r"no series 9\.9"):
        read_series(tmp_path, series_uid="9.9")


def test_what_is_no_ct_slice_is_passed_over_and_listed(tmp_path):
    folder = write_series(tmp_path / "ct")
    ct_slice(STORED[0], (0, 0, 0), ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]).save_as(
        folder / "scout", enforce_file_format=True
    )
    ct_slice(STORED[0], (0, 0, 0), SOPClassUID=SegmentationStorage).save_as(
        folder / "seg", enforce_file_format=True
    )
    ct_slice(STORED[0], (0, 0, 0), PhotometricInterpretation="RGB").save_as(
        folder / "colours", enforce_file_format=True
    )
    (folder / "readme.txt").write_text("hello")
    (folder / ".DS_Store").write_text("hidden")
    found = survey(folder)
    assert dict(found.skipped) == {
        "scout": "a localizer",
        "seg": "not a CT slice but Segmentation Storage",
        "colours": "no HU: its pixels are colours",
        "readme.txt": "not a DICOM file",
    }
    np.testing.assert_array_equal(read_series(folder).voxels, STORED - 1024)


def test_a_folder_without_ct_says_what_it_found(tmp_path):
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(InputError, match=r"no CT series here \(1 files: not a DICOM file"):
        read_series(tmp_path)


@pytest.mark.parametrize("share", [0.0, 0.25, 0.6, 0.98])
@pytest.mark.parametrize("as_zip", [False, True])
def test_a_truncated_slice_is_an_error_that_names_it(tmp_path, share, as_zip):
    folder = write_series(tmp_path / "ct", np.zeros((3, 64, 64), np.int16))
    victim = one_file(folder)
    victim.write_bytes(victim.read_bytes()[: int(victim.stat().st_size * share)])
    with pytest.raises(InputError, match=f"{victim.name}: .*(damaged|empty|DICOM)"):
        read_series(zip_folder(folder) if as_zip else folder)


@pytest.mark.parametrize("elements", [{"Rows": 2}, {"Rows": 5}, {"Columns": 6}, {"Rows": 3, "Columns": 7}])
def test_more_pixels_than_the_header_speaks_of_are_an_error(tmp_path, elements):
    """STORED has 6 x 7 pixels a slice: the first rows alone would be a picture too, and a wrong one."""
    with pytest.raises(InputError, match="bytes of pixels more than Rows, Columns"):
        read_series(write_series(tmp_path, **elements))


@pytest.mark.parametrize("padding", [1, 2, 11])
def test_less_than_a_row_behind_the_pixels_is_padding(tmp_path, padding):
    for k, plane in enumerate(STORED):
        one = ct_slice(plane, (0, 0, 2.5 * k), PixelData=plane.tobytes() + bytes(padding))
        one.save_as(tmp_path / f"{k}", enforce_file_format=True)
    np.testing.assert_array_equal(read_series(tmp_path).voxels, STORED - 1024)


def test_a_damaged_zip_is_an_error(tmp_path):
    noise = np.random.default_rng(0).integers(0, 2000, (3, 64, 64), dtype=np.int16)
    archive = zip_folder(write_series(tmp_path / "ct", noise))
    whole = archive.read_bytes()
    for place in np.linspace(200, len(whole) * 0.9, 12).astype(int):
        flipped = bytearray(whole)
        flipped[place] ^= 16
        archive.write_bytes(flipped)
        try:
            voxels = read_series(archive).voxels
        except InputError:
            continue
        np.testing.assert_array_equal(voxels, noise - 1024)
    archive.write_bytes(whole[:-100])
    with pytest.raises(InputError):
        read_series(archive)


@pytest.mark.parametrize("keyword", ["ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"])
def test_a_slice_without_its_place_is_an_error(tmp_path, keyword):
    with pytest.raises(InputError, match=f"no {keyword}"):
        read_series(write_series(tmp_path / "ct", **{keyword: None}))


def test_deflated_files_are_refused_unexpanded(tmp_path):
    folder = write_series(tmp_path / "ct")
    dataset = pydicom.dcmread(one_file(folder))
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    dataset.save_as(one_file(folder), enforce_file_format=True)
    with pytest.raises(InputError, match="Deflated"):
        read_series(folder)


def test_a_compressed_series_is_read_where_a_decoder_is_there(tmp_path):
    folder = write_series(tmp_path / "ct")
    for path in folder.iterdir():
        dataset = pydicom.dcmread(path)
        dataset.compress(RLELossless, generate_instance_uid=False)
        dataset.save_as(path)
    np.testing.assert_array_equal(read_series(folder).voxels, STORED - 1024)


def test_a_compression_without_decoder_is_named(tmp_path):
    dataset = ct_slice(STORED[0], (0, 0, 0))
    dataset.file_meta.TransferSyntaxUID = MPEG2MPML
    dataset.PixelData = pydicom.encaps.encapsulate([bytes(100)])
    dataset.save_as(tmp_path / "slice", enforce_file_format=True)
    with pytest.raises(InputError, match="MPEG2") as caught:
        read_series(tmp_path)
    assert "gdcm" in caught.value.remedy


def test_masks_of_0_and_255_become_bool(tmp_path):
    volume = read_series(write_series(tmp_path / "ct"))
    mask = (STORED > 1000).astype(np.uint8) * 255
    write_series(tmp_path / "MASKS" / "liver", mask, series_uid=generate_uid(), RescaleIntercept=0)
    write_series(tmp_path / "MASKS" / "bone", 255 - mask, series_uid=generate_uid(), RescaleIntercept=0)
    inside_zip = zip_folder(tmp_path / "MASKS") / "MASKS" / "liver"
    for source in (tmp_path / "MASKS" / "liver", inside_zip):
        read = read_mask_series(source, volume)
        assert read.dtype == bool
        np.testing.assert_array_equal(read, mask > 0)


def test_a_mask_of_other_values_or_another_grid_is_refused(tmp_path):
    volume = read_series(write_series(tmp_path / "ct"))
    with pytest.raises(InputError, match="no mask"):
        read_mask_series(tmp_path / "ct", volume)
    short = np.zeros((4, 6, 7), np.uint8)
    with pytest.raises(InputError, match="does not lie on the grid"):
        read_mask_series(write_series(tmp_path / "mask", short, RescaleIntercept=0), volume)


def test_real_dicom_equals_the_nifti_of_the_same_scan(real_ct):
    nifti = load_volume(real_ct / "ircadb17" / "ct.nii.gz")
    dicom = read_series(real_ct / "ircadb17" / "PATIENT_DICOM.zip")
    np.testing.assert_array_equal(dicom.voxels, nifti.voxels)
    assert dicom.spacing_mm == pytest.approx(nifti.spacing_mm, rel=1e-9)
    masks = real_ct / "ircadb17" / "MASKS_DICOM.zip" / "MASKS_DICOM"
    assert read_mask_series(masks / "livertumor1", nifti).sum() == 96_961
    assert read_mask_series(masks / "livertumor2", nifti).sum() == 89_029


def test_real_dicom_beside_a_segmentation_object(real_ct):
    found = survey(real_ct / "dcmqi_ct3")
    assert ("liver.dcm", "not a CT slice but Segmentation Storage") in found.skipped
    assert read_series(real_ct / "dcmqi_ct3").spacing_mm == pytest.approx((1.0, 0.810547, 0.810547))
