"""DICOM as it comes from scanners, discs, archives and anonymisers, and DICOM that no tool should believe."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
from dicom_files import (
    ORIGIN_MM,
    SPACING_MM,
    STORED,
    ct_slice,
    multi_frame,
    write_series,
    write_slice,
    zip_folder,
)
from layouts import replace_by_zip, small_ct, write_ircadb_case
from pydicom import uid as uids
from pydicom.encaps import encapsulate, get_frame

from livseg_lib.application.scan import read_dicom
from livseg_lib.datasets.catalogue import check_dataset, find_cases
from livseg_lib.datasets.dicom import read_mask_series, read_series, series_notes, survey
from livseg_lib.errors import InputError
from livseg_lib.volumes import load_segmentation, load_volume, save_segmentation

gdcm = pytest.importorskip("gdcm")
HU = STORED - 1024
SYNTAXES = {
    uids.JPEGLosslessSV1: gdcm.TransferSyntax.JPEGLosslessProcess14_1,
    uids.JPEG2000Lossless: gdcm.TransferSyntax.JPEG2000Lossless,
    uids.JPEGLSLossless: gdcm.TransferSyntax.JPEGLSLossless,
    uids.RLELossless: gdcm.TransferSyntax.RLELossless,
}


@pytest.fixture
def series(tmp_path) -> Path:
    """The folder of one sound series, to be damaged."""
    return write_series(tmp_path / "ct")


def first_file(folder: Path) -> Path:
    return sorted(folder.iterdir())[0]


def change(folder: Path, each) -> Path:
    """Read every file, let `each(dataset, k)` spoil it, in the order of space, and write it back."""
    paths = sorted(folder.iterdir(), key=lambda path: path.name.rpartition("_")[2])
    for k, path in enumerate(paths):
        dataset = pydicom.dcmread(path)
        each(dataset, k)
        dataset.save_as(path, enforce_file_format=True)
    return folder


def codes(folder: Path) -> set[str]:
    (series,) = survey(folder).series
    return {note.code for note in series_notes(series, folder)}


def compress(folder: Path, syntax: str) -> Path:
    """Have the pixels of every file encoded by GDCM."""
    for path in folder.iterdir():
        reader = gdcm.ImageReader()
        reader.SetFileName(str(path))
        assert reader.Read()
        changed = gdcm.ImageChangeTransferSyntax()
        changed.SetTransferSyntax(gdcm.TransferSyntax(SYNTAXES[syntax]))
        changed.SetInput(reader.GetImage())
        assert changed.Change()
        writer = gdcm.ImageWriter()
        writer.SetFileName(str(path))
        writer.SetFile(reader.GetFile())
        writer.SetImage(changed.GetOutput())
        assert writer.Write()
        assert pydicom.dcmread(path).file_meta.TransferSyntaxUID == syntax
    return folder


# --- where the voxels go


@pytest.mark.parametrize("as_zip", [False, True])
def test_an_axial_series_becomes_an_lps_volume(tmp_path, series, as_zip):
    volume = read_series(zip_folder(series) if as_zip else series)
    np.testing.assert_array_equal(volume.voxels, HU)
    assert volume.voxels.dtype == np.int16 and volume.voxels.flags.c_contiguous
    assert volume.spacing_mm == SPACING_MM
    x, y, z = ORIGIN_MM
    np.testing.assert_array_equal((volume.native.affine @ [0, 0, 0, 1])[:3], (-x, -y, z))
    assert nibabel.aff2axcodes(volume.native.affine) == ("L", "P", "S")
    saved = save_segmentation((volume.voxels > 0) * 2, volume, tmp_path / "s.nii.gz")
    np.testing.assert_array_equal(load_segmentation(saved, volume), (volume.voxels > 0) * 2)


@pytest.mark.parametrize(
    ("cosines", "to_lps"),
    [
        ([1, 0, 0, 0, 0, -1], lambda hu: hu.transpose(1, 0, 2)[::-1]),  # coronal: rows go down, slices back
        ([0, 1, 0, 0, 0, -1], lambda hu: hu.transpose(1, 2, 0)[::-1, :, ::-1]),  # sagittal: slices go right
        ([-1, 0, 0, 0, -1, 0], lambda hu: hu[:, ::-1, ::-1]),  # axial, turned by half
    ],
)
def test_other_planes_come_to_lps_too(tmp_path, cosines, to_lps):
    normal = np.cross(cosines[:3], cosines[3:])
    for k, pixels in enumerate(STORED):
        write_slice(tmp_path / f"{k}.dcm", pixels, 2.5 * k * normal, ImageOrientationPatient=cosines)
    np.testing.assert_array_equal(read_series(tmp_path).voxels, to_lps(HU))


def test_masks_of_0_and_255_become_bool_and_others_are_refused(tmp_path, series):
    volume = read_series(series)
    mask = (STORED > 1000).astype(np.uint8) * 255
    write_series(tmp_path / "MASKS" / "liver", mask, series_uid=uids.generate_uid(), RescaleIntercept=0)
    write_series(tmp_path / "MASKS" / "bone", 255 - mask, series_uid=uids.generate_uid(), RescaleIntercept=0)
    inside_zip = zip_folder(tmp_path / "MASKS") / "MASKS" / "liver"
    for source in (tmp_path / "MASKS" / "liver", inside_zip):
        read = read_mask_series(source, volume)
        assert read.dtype == bool
        np.testing.assert_array_equal(read, mask > 0)
    with pytest.raises(InputError, match="no mask"):
        read_mask_series(series, volume)
    with pytest.raises(InputError, match="does not lie on the grid"):
        read_mask_series(write_series(tmp_path / "mask", mask[:4], RescaleIntercept=0), volume)


def test_real_dicom_equals_the_nifti_of_the_same_scan(real_ct):
    nifti = load_volume(real_ct / "ircadb17" / "ct.nii.gz")
    dicom = read_series(real_ct / "ircadb17" / "PATIENT_DICOM.zip")
    np.testing.assert_array_equal(dicom.voxels, nifti.voxels)
    assert dicom.spacing_mm == pytest.approx(nifti.spacing_mm, rel=1e-9)
    found = survey(real_ct / "dcmqi_ct3")
    assert ("liver.dcm", "not a CT slice but Segmentation Storage") in found.skipped


# --- what identifies slices and series


def test_several_series_must_be_told_apart(tmp_path):
    write_series(tmp_path / "a", series_uid="1.2.3.1")
    write_series(tmp_path / "b", STORED[:3], series_uid="1.2.3.2", SeriesNumber=8)
    listed = [(one.uid, one.number, len(one.slices)) for one in survey(tmp_path).series]
    assert listed == [("1.2.3.1", 3, 5), ("1.2.3.2", 8, 3)]
    with pytest.raises(InputError, match=r"series 3 of 5 slices \(1\.2\.3\.1\), series 8 of 3") as caught:
        read_series(tmp_path)
    assert "DOE" not in str(caught.value)
    assert read_series(tmp_path, series_uid="1.2.3.2").voxels.shape == (3, 6, 7)
    with pytest.raises(InputError, match=r"no series 9\.9"):
        read_series(tmp_path, series_uid="9.9")


@pytest.mark.parametrize("uid", ["1.2.3.4", ""])
def test_slices_that_share_or_lack_an_instance_uid_are_all_kept(series, uid):
    change(series, lambda dataset, _: setattr(dataset, "SOPInstanceUID", uid))
    np.testing.assert_array_equal(read_series(series).voxels, HU)
    assert codes(series) == {"shared-uid"}
    assert len({header.SOPInstanceUID for header in read_dicom(series).headers}) == len(STORED)


@pytest.mark.parametrize("uid", [{}, {"SOPInstanceUID": "1.2.3.4"}])
def test_slices_sent_twice_are_read_once_unless_they_show_different_things(tmp_path, uid):
    folder = write_series(tmp_path / "ct" / "a", **uid).parent
    write_series(folder / "b", **uid)
    np.testing.assert_array_equal(read_series(folder).voxels, HU)
    assert "sent-twice" in codes(folder)
    other = STORED.copy()
    other[3, 2, 2] += 1
    write_series(folder / "b", other, **uid)
    with pytest.raises(InputError, match="lie at one place, but show different things"):
        read_series(folder)


@pytest.mark.parametrize("levels", [("Series",), ("Series", "Study", "FrameOfReference")])
def test_a_series_uid_a_slice_is_one_scan(series, levels):
    def own_uids(dataset, k):
        for level in levels:
            keyword = f"{level}UID" if level == "FrameOfReference" else f"{level}InstanceUID"
            setattr(dataset, keyword, f"1.2.3.{k}.{len(level)}")

    (case,) = find_cases(change(series, own_uids)).cases
    np.testing.assert_array_equal(case.read_volume().voxels, HU)
    assert [note.code for note in case.notes] == ["merged-series"]
    assert "5 series of one slice each" in case.notes[0].message
    np.testing.assert_array_equal(read_dicom(series).volume.voxels, HU)


def test_slices_on_both_sides_of_a_rounding_edge_are_one_scan(series):
    def own_uids(dataset, k):
        dataset.SeriesInstanceUID = f"1.2.3.{k}"
        dataset.PixelSpacing = [0.7449 + k % 2 * 0.0002, 0.745]
        dataset.ImageOrientationPatient = [1, 0.0049 + k % 2 * 0.0002, 0, -0.005, 1, 0]

    (found,) = survey(change(series, own_uids)).series
    assert found.merged_from == 5


def test_a_series_uid_a_slice_in_two_studies_is_two_scans(tmp_path):
    for study in ("1.2.7", "1.2.8"):
        folder = write_series(tmp_path / study, StudyInstanceUID=study, FrameOfReferenceUID=study + ".1")
        change(folder, lambda dataset, k, study=study: setattr(dataset, "SeriesInstanceUID", f"{study}.{k}"))
    assert [len(one.slices) for one in survey(tmp_path).series] == [5, 5]


@pytest.mark.parametrize("keyword", ["StudyInstanceUID", "FrameOfReferenceUID"])
def test_slices_of_two_studies_under_one_series_uid_are_never_one_scan(keyword, series):
    change(series, lambda dataset, k: setattr(dataset, keyword, f"1.2.{7 + k // 3}"))
    with pytest.raises(InputError, match="several studies"):
        read_series(series)
    change(series, lambda dataset, k: setattr(dataset, keyword, f"1.2.{k}"))  # an anonymiser's
    np.testing.assert_array_equal(read_series(series).voxels, HU)


def test_slices_of_their_own_that_form_no_stack_are_not_merged_and_told(series):
    def scatter(dataset, k):
        dataset.SeriesInstanceUID = f"1.2.3.{k}"
        dataset.ImagePositionPatient = [0, 0, k * k * 7]

    cases = find_cases(change(series, scatter)).cases
    assert len(cases) == 5 and all("series of one slice" in case.notes[0].message for case in cases)


def test_emptied_uids_of_two_series_are_told_apart_by_folder_and_number(tmp_path):
    write_series(tmp_path / "a", series_uid="", StudyInstanceUID="", SeriesNumber=1)
    write_series(tmp_path / "b", STORED + 5, series_uid="", SeriesNumber=2, StudyInstanceUID="")
    series = survey(tmp_path).series
    assert sorted(one.number for one in series) == [1, 2] and len({one.uid for one in series}) == 2
    for one in series:
        np.testing.assert_array_equal(read_series(tmp_path, one.uid).voxels, HU + 5 * (one.number == 2))


def test_a_word_in_place_of_the_series_number_is_none(series):
    for path in series.iterdir():
        path.write_bytes(path.read_bytes().replace(b"IS\x02\x003 ", b"IS\x02\x00X7"))
    assert survey(series).series[0].number is None
    np.testing.assert_array_equal(read_series(series).voxels, HU)


# --- what stands beside the slices


def test_what_is_no_slice_is_passed_over_and_listed(tmp_path, series):
    write_slice(series / "scout", ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    write_slice(series / "seg", SOPClassUID=uids.SegmentationStorage)
    write_slice(series / "dose", SOPClassUID=uids.SecondaryCaptureImageStorage)
    write_slice(series / "colours", PhotometricInterpretation="RGB")
    places = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing")
    write_slice(series / "protocol", STORED[0], (0, 0, 0), "1.2.3.9", **dict.fromkeys(places))
    (series / "readme.txt").write_text("hello")
    (series / "empty.txt").touch()
    (series / "zeros.log").write_bytes(bytes(500))
    (series / ".DS_Store").write_text("hidden")
    (series / "nothing").symlink_to(tmp_path / "absent")
    directory = ct_slice(STORED[0], (0, 0, 0))
    directory.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.1.3.10"
    for keyword in ("SOPClassUID", "SOPInstanceUID", "PixelData", "Rows", "Columns", "Modality"):
        delattr(directory, keyword)
    directory.save_as(series / "DICOMDIR")
    skipped = dict(survey(series).skipped)
    assert "link leads to nothing" in skipped.pop("nothing")
    assert "no ImagePositionPatient" in skipped.pop("protocol")
    assert "empty" in skipped.pop("empty.txt") and "damaged" in skipped.pop("zeros.log")
    assert skipped == {
        "DICOMDIR": "not a CT slice but Media Storage Directory Storage",
        "scout": "a localizer",
        "seg": "not a CT slice but Segmentation Storage",
        "dose": "not a CT slice but Secondary Capture Image Storage",
        "colours": "no HU: its pixels are colours",
        "readme.txt": "not a DICOM file",
    }
    report = check_dataset(find_cases(series), progress=False)
    assert report.cases["usable"].tolist() == [True]
    assert (report.findings["code"] == "passed-over").sum() == 10
    assert "Secondary Capture" in " ".join(read_dicom(series).notes)
    np.testing.assert_array_equal(read_series(series).voxels, HU)
    write_slice(tmp_path / "alone" / "dose", SOPClassUID=uids.SecondaryCaptureImageStorage)
    for read in (read_series, read_dicom, lambda path: find_cases(path).cases[0].read_volume()):
        with pytest.raises(InputError, match=r"1 file: not a CT slice but Secondary Capture Image Storage"):
            read(tmp_path / "alone")


def test_a_folder_a_patient_and_zips_in_zips(tmp_path):
    for name in "cba":
        write_series(tmp_path / "set" / name, StudyInstanceUID=f"1.2.{ord(name)}")
    zip_folder(tmp_path / "set" / "c")
    for path in (tmp_path / "set" / "c").iterdir():
        path.unlink()
    cases = find_cases(tmp_path / "set").cases
    assert [(case.case_id, case.patient) for case in cases] == [("a", "a"), ("b", "b"), ("c", "c")]
    for case in cases:
        np.testing.assert_array_equal(case.read_volume().voxels, HU)
        assert all(path.is_file() for path in case.files)
    (tmp_path / "inner").mkdir()
    (tmp_path / "set" / "c.zip").rename(tmp_path / "inner" / "c.zip")
    outer = zip_folder(tmp_path / "inner")
    (case,) = find_cases(outer).cases
    np.testing.assert_array_equal(case.read_volume().voxels, HU)
    assert case.files == (outer,)


def test_mr_is_read_and_said_and_ct_comes_first(tmp_path):
    mr = {"SOPClassUID": uids.MRImageStorage, "Modality": "MR"}
    mr |= {"RescaleSlope": None, "RescaleIntercept": None}
    write_series(tmp_path / "mr", series_uid="1.2.3.2", **mr)
    (case,) = find_cases(tmp_path / "mr").cases
    np.testing.assert_array_equal(case.read_volume().voxels, STORED)
    assert [note.code for note in case.notes] == ["mr-series"]
    write_series(tmp_path / "ct")
    found = find_cases(tmp_path)
    np.testing.assert_array_equal(found.cases[0].read_volume().voxels, HU)
    assert len(found.cases) == 1 and "An MR series of 5 slices" in found.notes[0].message
    np.testing.assert_array_equal(read_dicom(tmp_path).volume.voxels, HU)


# --- how a file is written


@pytest.mark.parametrize("meta", [True, False])
@pytest.mark.parametrize("implicit", [True, False])
def test_files_without_a_preamble_are_read(series, meta, implicit):
    for path in series.iterdir():
        dataset = pydicom.dcmread(path)
        if implicit:
            dataset.file_meta.TransferSyntaxUID = uids.ImplicitVRLittleEndian
            dataset = pydicom.Dataset(dataset)
        if meta and not implicit:
            path.write_bytes(path.read_bytes()[128 + 4 :])
        else:
            bare = dataset if meta else pydicom.Dataset(dataset)
            pydicom.dcmwrite(path, bare, implicit_vr=implicit, little_endian=True)
    (series / "readme").write_text("no DICOM" * 40)
    assert find_cases(series).name == "dicom"
    np.testing.assert_array_equal(read_series(series).voxels, HU)


@pytest.mark.parametrize(
    ("syntax", "signed", "bits"),
    [
        (uids.JPEGLosslessSV1, 1, 12),
        *((syntax, 0, 16) for syntax in (uids.JPEG2000Lossless, uids.JPEGLSLossless, uids.RLELossless)),
        *((syntax, 1, 12) for syntax in (uids.JPEG2000Lossless, uids.JPEGLSLossless)),
    ],
)
def test_compressed_series_equal_their_originals(tmp_path, syntax, signed, bits):
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1)) if signed else (0, 2**bits)
    values = np.random.default_rng(bits).integers(low // 2, high // 2, (3, 24, 32))
    values = values.astype(np.int16 if signed else np.uint16)
    values[:, 0, 0], values[:, 0, 1] = low // 2, high // 2 - 1
    depth = {"BitsStored": bits, "HighBit": bits - 1, "RescaleIntercept": 0}
    folder = compress(write_series(tmp_path / "ct", values, **depth), syntax)
    np.testing.assert_array_equal(read_series(folder).voxels, values)
    for path in folder.iterdir():  # with the table of offsets, which may be left out
        dataset = pydicom.dcmread(path)
        encoded = get_frame(dataset.PixelData, 0, number_of_frames=1)
        dataset.PixelData = encapsulate([encoded], has_bot=True)
        dataset.save_as(path)
    np.testing.assert_array_equal(read_series(folder).voxels, values)


@pytest.mark.parametrize(
    ("dtype", "stored", "said", "hu"),
    [
        (np.uint16, 63536, 63536, -1024),
        (np.int16, -32768, -32768, -1024),
        (np.int16, 32767, 32767, -1024),
        (np.int16, -2000, -2000, -3024),
        (np.int16, 1024, 1024, 0),  # as water has
    ],
)
def test_padding_is_air_and_nothing_else_is(tmp_path, dtype, stored, said, hu):
    values = STORED[:3].astype(dtype)
    values[:, 0] = stored
    voxels = read_series(write_series(tmp_path, values, PixelPaddingValue=said)).voxels
    assert (voxels[:, 0] == hu).all()
    np.testing.assert_array_equal(voxels[:, 1:], STORED[:3, 1:] - 1024)


@pytest.mark.parametrize(
    ("kind", "shared"),
    [(uids.EnhancedCTImageStorage, True), (uids.LegacyConvertedEnhancedCTImageStorage, False)],
)
def test_a_multi_frame_ct_equals_its_single_frames(tmp_path, series, kind, shared):
    single, folder = read_series(series), multi_frame(tmp_path / "multi", kind, shared)
    for source in (folder, folder / "frames", zip_folder(folder)):
        volume = read_series(source)
        np.testing.assert_array_equal(volume.voxels, single.voxels)
        np.testing.assert_array_equal(volume.native.affine, single.native.affine)
    declared = {header.declared_step_mm for header in survey(folder).series[0].slices}
    assert declared == {SPACING_MM[0]}  # tells rounded positions from lost frames
    assert codes(folder) == set()
    assert len({header.SOPInstanceUID for header in read_dicom(folder).headers}) == 5


def test_frames_have_their_own_rescale_and_must_be_described(tmp_path):
    intercepts = [-1000, -900, -800, -700, -600]
    folder = multi_frame(tmp_path, uids.EnhancedCTImageStorage, True, intercepts=intercepts)
    expected = STORED + np.array(intercepts, np.int16)[:, None, None]
    np.testing.assert_array_equal(read_series(folder).voxels, expected)
    assert codes(folder) == {"rescale-differs"}
    change(folder, lambda dataset, _: setattr(dataset, "NumberOfFrames", 4))
    with pytest.raises(InputError, match="NumberOfFrames is not the number of frames"):
        read_series(folder)
    change(folder, lambda dataset, _: delattr(dataset, "PerFrameFunctionalGroupsSequence"))
    with pytest.raises(InputError, match="PerFrameFunctionalGroupsSequence is missing"):
        read_series(folder)


# --- what the header says of values and places


def test_slope_and_intercept_of_each_slice_count(tmp_path):
    for k, (slope, intercept) in enumerate([(1, 0), (2, -10), (0.5, 100)]):
        rescale = {"RescaleSlope": slope, "RescaleIntercept": intercept}
        write_slice(tmp_path / f"{k}", np.full((4, 4), 100 + k, np.uint16), (0, 0, k), **rescale)
    assert read_series(tmp_path).voxels[:, 0, 0].tolist() == [100, 192, 151]


@pytest.mark.parametrize("slope", [1, None, ""])
@pytest.mark.parametrize("intercept", [-1024, None, ""])
def test_missing_and_emptied_rescale_tags_are_1_and_0_and_it_is_said(tmp_path, slope, intercept):
    folder = write_series(tmp_path / "ct", RescaleSlope=slope, RescaleIntercept=intercept)
    np.testing.assert_array_equal(read_series(folder).voxels, STORED + (intercept or 0))
    assert codes(folder) == (set() if slope and intercept else {"no-rescale"})
    inverted = write_series(tmp_path / "shown inverted", PhotometricInterpretation="MONOCHROME1")
    np.testing.assert_array_equal(read_series(inverted).voxels, HU)
    assert codes(inverted) == {"monochrome1"}


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        *(("RescaleSlope", value) for value in ("NaN", "inf", "0", "-0.0", "-1", "1000")),
        *(("RescaleIntercept", value) for value in ("NaN", "-inf")),
        *(("PixelSpacing", v) for v in (["-1", "1"], ["0", "1"], ["NaN", "1"], ["1", "inf"], ["1"], "")),
        *(("ImageOrientationPatient", value) for value in (
            [2, 0, 0, 0, 1, 0], [1, 0, 0, 1, 0, 0], [1, 0, 0, 0.2, 0.98, 0],
            [0, 0, 0, 0, 1, 0], ["NaN", 0, 0, 0, 1, 0], [1, 0, 0, 0, 0.9, 0], "",
        )),
        *(("ImagePositionPatient", v) for v in (["NaN", 0, 0], [0, "inf", 0], [0, 0, 1e12], [0, 0], "")),
        *(("RescaleIntercept", "1,5"), ("PixelSpacing", ["1,5"] * 2), ("ImagePositionPatient", ["1,5"] * 3)),
    ],
)  # fmt: skip
def test_impossible_values_are_refused_by_the_name_of_the_tag(series, keyword, value):
    texts = [str(each) for each in (value if isinstance(value, list) else [value])]
    text = "\\".join(texts).encode()

    def spoil(dataset, k):
        if k == 2:  # raw, as pydicom itself writes no such thing
            tag = dataset[keyword].tag
            dataset[tag] = pydicom.dataelem.RawDataElement(tag, "DS", len(text), text, 0, False, True)

    change(series, spoil)
    plain = f" is not {len(texts)} plain number" if "1,5" in texts else ""
    with pytest.raises(InputError, match=keyword + plain):
        read_series(series)
    report = check_dataset(find_cases(series), progress=False)
    assert not report.cases["usable"].any()
    assert keyword in " ".join(report.findings["message"])


DESCRIBING = "BitsStored SamplesPerPixel PhotometricInterpretation PixelRepresentation PixelData"


@pytest.mark.parametrize("value", [None, ""])
@pytest.mark.parametrize("keyword", DESCRIBING.split())
def test_what_describes_the_pixels_and_was_left_out_is_named(tmp_path, keyword, value):
    with pytest.raises(InputError, match=f"The slice has no {keyword}"):
        read_series(write_series(tmp_path / "ct", **{keyword: value}))


def test_values_that_lie_higher_than_decoders_look_are_refused(tmp_path):
    write_slice(tmp_path / "CT" / "a", STORED[0].astype(np.uint16) << 4, BitsStored=12, HighBit=15)
    with pytest.raises(InputError, match="a: HighBit is not BitsStored - 1"):
        read_series(tmp_path / "CT")


def test_the_place_of_the_highest_bit_may_be_left_out(tmp_path):
    np.testing.assert_array_equal(read_series(write_series(tmp_path / "ct", HighBit=None)).voxels, HU)


def test_a_link_to_nothing_that_is_named_like_a_slice_may_have_been_one(series):
    (series / "image_9_9").symlink_to("nowhere")
    with pytest.raises(InputError, match="image_9_9: The link leads to nothing"):
        read_series(series)
    (series / "image_9_9").rename(series / "image_9_9.txt")
    np.testing.assert_array_equal(read_series(series).voxels, HU)


def test_slices_without_the_rescale_tags_of_the_others_are_not_read_as_if_they_had_none(series):
    change(series, lambda dataset, k: setattr(dataset, "RescaleSlope", None) if k == 1 else None)
    np.testing.assert_array_equal(read_series(series).voxels, HU)  # it is 1 in the others
    change(series, lambda dataset, k: setattr(dataset, "RescaleIntercept", None) if k == 2 else None)
    with pytest.raises(InputError, match="lacks RescaleSlope or RescaleIntercept, which other slices have"):
        read_series(series)


@pytest.mark.parametrize("elements", [{"Rows": 2}, {"Rows": 5}, {"Columns": 6}, {"Rows": 3, "Columns": 7}])
def test_more_pixels_than_the_header_speaks_of_are_an_error(tmp_path, elements):
    """STORED has 6 x 7 pixels a slice: the first rows alone would be a picture too, and a wrong one."""
    with pytest.raises(InputError, match="bytes of pixels more than Rows, Columns"):
        read_series(write_series(tmp_path, **elements))


@pytest.mark.parametrize("padding", [1, 11])
def test_less_than_a_row_behind_the_pixels_is_padding(tmp_path, padding):
    for k, plane in enumerate(STORED):
        write_slice(tmp_path / f"{k}", plane, (0, 0, 2.5 * k), PixelData=plane.tobytes() + bytes(padding))
    np.testing.assert_array_equal(read_series(tmp_path).voxels, HU)


# --- damage: nothing odd ends a run, nothing of a header is repeated


@pytest.mark.parametrize(("share", "as_zip"), [(0.0, False), (0.25, False), (0.6, True), (0.98, False)])
def test_a_truncated_slice_is_an_error_that_names_it(tmp_path, share, as_zip):
    folder = write_series(tmp_path / "ct", np.zeros((3, 64, 64), np.int16))
    victim = first_file(folder)
    victim.write_bytes(victim.read_bytes()[: int(victim.stat().st_size * share)])
    with pytest.raises(InputError, match=r"damaged|empty|DICOM") as caught:
        read_series(zip_folder(folder) if as_zip else folder)
    assert victim.name in caught.value.problem  # who reads it in a list of cases sees no path


def test_compressions_that_are_not_read_are_named(tmp_path, series):
    dataset = ct_slice(STORED[0], (0, 0, 0))
    dataset.file_meta.TransferSyntaxUID = uids.MPEG2MPML
    dataset.PixelData = pydicom.encaps.encapsulate([bytes(100)])
    dataset.save_as(tmp_path / "slice", enforce_file_format=True)
    with pytest.raises(InputError, match="MPEG2") as caught:
        read_series(tmp_path / "slice")
    assert "gdcm" in caught.value.remedy
    dataset = pydicom.dcmread(first_file(series))
    dataset.file_meta.TransferSyntaxUID = uids.DeflatedExplicitVRLittleEndian
    dataset.save_as(first_file(series), enforce_file_format=True)
    with pytest.raises(InputError, match="Deflated"):  # unexpanded
        read_series(series)


@pytest.mark.parametrize(
    ("syntax", "marker", "offset", "claim", "said"),
    [
        (uids.JPEGLosslessSV1, b"\xff\xc3", 5, (40000).to_bytes(2, "big") * 2, "another size than"),
        (uids.JPEGLSLossless, b"\xff\xf7", 5, (40000).to_bytes(2, "big") * 2, "another size than"),
        (uids.JPEG2000Lossless, b"\xff\x51", 6, (30000).to_bytes(4, "big") * 2, "another size than"),
        (uids.JPEGLosslessSV1, b"\xff\xc3", 4, b"\x93", "damaged"),  # bits a value: GDCM ends its process
    ],
)  # fmt: skip
def test_streams_that_claim_a_huge_size_or_end_their_decoder(tmp_path, syntax, marker, offset, claim, said):
    folder = compress(write_series(tmp_path / "ct", np.tile(STORED[:2], (1, 5, 5))), syntax)
    content = bytearray(first_file(folder).read_bytes())
    place = content.index(marker) + offset
    content[place : place + len(claim)] = claim
    first_file(folder).write_bytes(content)
    with pytest.raises(InputError, match=said) as caught:
        read_series(folder)
    assert first_file(folder).name in caught.value.problem


@pytest.mark.parametrize(
    "keyword",
    [
        *("SOPClassUID", "SeriesInstanceUID", "StudyInstanceUID", "SOPInstanceUID", "Rows", "SeriesNumber"),
        *("PhotometricInterpretation", "PixelSpacing", "RescaleSlope", "RescaleType", "ImageType"),
        *("ImagePositionPatient", "SliceThickness", "Modality"),
    ],
)
def test_no_value_of_a_header_reaches_a_message_or_a_warning(tmp_path, recwarn, keyword):
    secret = "ZEBRA"
    for path in write_series(tmp_path, STORED[:3]).iterdir():
        dataset = pydicom.dcmread(path)
        described = ("StudyDescription", "SeriesDescription", "StudyDate")
        for text in (keyword, "PatientName", "PatientID", *described):
            dataset[text] = pydicom.DataElement(text, "LO", secret, validation_mode=0)
        dataset.save_as(path, enforce_file_format=False)
    recwarn.clear()
    report = check_dataset(find_cases(tmp_path, "dicom"), progress=False)
    said = [report.findings.to_csv(), report.cases.to_csv(), str(survey(tmp_path).skipped)]
    said += [str(warning.message) for warning in recwarn]
    try:
        said += read_dicom(tmp_path).notes
    except InputError as error:
        said.append(str(error))
    assert secret not in " ".join(said)


def test_sequences_in_sequences_without_end_end_no_run(series):
    content = first_file(series).read_bytes()
    item, sequence = b"\xfe\xff\x00\xe0\xff\xff\xff\xff", b"\x00\x52\x29\x92SQ\x00\x00\xff\xff\xff\xff"
    place = content.index(b"\xe0\x7f\x10\x00")
    first_file(series).write_bytes(content[:place] + (sequence + item) * 3000)
    with pytest.raises(InputError, match="damaged"):
        read_series(series)


def test_a_file_far_larger_than_its_voxels_is_never_read(series, monkeypatch):
    monkeypatch.setattr("livseg_lib.datasets.dicom_headers.NEVER_TOO_LARGE_BYTES", 1000)
    first_file(series).write_bytes(first_file(series).read_bytes() + bytes(5000))
    with pytest.raises(InputError, match="far more than its voxels take"):
        read_series(zip_folder(series))


@pytest.mark.parametrize("study", ["", "1.2.9"])
def test_damaged_files_do_not_stop_a_series_in_another_folder(tmp_path, study):
    write_series(tmp_path / "good", StudyInstanceUID=study)
    for path in write_series(tmp_path / "bad", series_uid="1.2.3.2", StudyInstanceUID=study).iterdir():
        path.write_bytes(path.read_bytes()[:150])
    report = check_dataset(find_cases(tmp_path), progress=False)
    assert report.cases["usable"].sum() == 1
    assert "SOPClassUID names no kind" in " ".join(report.findings["message"])


# --- 3D-IRCADb-01: DICOM with masks in DICOM


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
