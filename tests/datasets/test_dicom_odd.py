"""DICOM as it comes from discs, archives and anonymisers, and DICOM that no tool should believe."""

from __future__ import annotations

import random
import warnings
from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicom_files import STORED, ct_slice, multi_frame, write_series, zip_folder
from pydicom.uid import (
    EnhancedCTImageStorage,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    LegacyConvertedEnhancedCTImageStorage,
    MRImageStorage,
    RLELossless,
    SecondaryCaptureImageStorage,
)

from livseg_lib.application.scan import read_dicom
from livseg_lib.datasets import dicom_series
from livseg_lib.datasets.catalogue import find_cases
from livseg_lib.datasets.check import check_dataset
from livseg_lib.datasets.dicom import list_series, read_series, series_notes, survey
from livseg_lib.errors import InputError

gdcm = pytest.importorskip("gdcm")

HU = STORED - 1024
SYNTAXES = {
    JPEGLosslessSV1: gdcm.TransferSyntax.JPEGLosslessProcess14_1,
    JPEG2000Lossless: gdcm.TransferSyntax.JPEG2000Lossless,
    JPEGLSLossless: gdcm.TransferSyntax.JPEGLSLossless,
    RLELossless: gdcm.TransferSyntax.RLELossless,
}


def change(folder: Path, each) -> Path:
    """Read every file, let `each(dataset, k)` spoil it, in the order of space, and write it back."""
    paths = sorted(folder.iterdir(), key=lambda path: path.name.rpartition("_")[2])
    for k, path in enumerate(paths):
        dataset = pydicom.dcmread(path)
        each(dataset, k)
        dataset.save_as(path, enforce_file_format=True)
    return folder


def codes(folder: Path) -> set[str]:
    (series,) = list_series(folder)
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


# --- what identifies slices


@pytest.mark.parametrize("uid", ["1.2.3.4", ""])
def test_slices_that_share_or_lack_an_instance_uid_are_all_kept(tmp_path, uid):
    folder = write_series(tmp_path / "ct", SOPInstanceUID=uid or "1.1")
    change(folder, lambda dataset, _: setattr(dataset, "SOPInstanceUID", uid))
    np.testing.assert_array_equal(read_series(folder).voxels, HU)
    assert codes(folder) == {"shared-uid"}
    headers = read_dicom(folder).headers
    assert len({header.SOPInstanceUID for header in headers}) == len(STORED)


@pytest.mark.parametrize("new_uids", [False, True])
def test_slices_sent_twice_are_read_once_where_their_pixels_are_equal(tmp_path, new_uids):
    write_series(tmp_path / "ct" / "a")
    write_series(tmp_path / "ct" / "b")
    if not new_uids:
        for path in (tmp_path / "ct" / "a").iterdir():
            (tmp_path / "ct" / "b" / path.name).write_bytes(path.read_bytes())
    np.testing.assert_array_equal(read_series(tmp_path / "ct").voxels, HU)
    assert "sent-twice" in codes(tmp_path / "ct")


@pytest.mark.parametrize("same_uid", [False, True])
def test_two_phases_at_one_place_are_refused(tmp_path, same_uid):
    uid = {"SOPInstanceUID": "1.2.3.4"} if same_uid else {}
    write_series(tmp_path / "ct" / "a", **uid)
    other = STORED.copy()
    other[3, 2, 2] += 1
    write_series(tmp_path / "ct" / "b", other, **uid)
    with pytest.raises(InputError, match="lie at the same place, and show different things"):
        read_series(tmp_path / "ct")


@pytest.mark.parametrize(
    "levels", [("Series",), ("Series", "Study"), ("Series", "Study", "FrameOfReference")]
)
def test_a_series_uid_a_slice_is_one_scan(tmp_path, levels):
    def own_uids(dataset, k):
        for level in levels:
            keyword = f"{level}UID" if level == "FrameOfReference" else f"{level}InstanceUID"
            setattr(dataset, keyword, f"1.2.3.{k}.{len(level)}")

    folder = change(write_series(tmp_path / "ct"), own_uids)
    (case,) = find_cases(folder).cases
    np.testing.assert_array_equal(case.read_volume().voxels, HU)
    assert [note.code for note in case.notes] == ["merged-series"]
    assert "5 series of one slice each" in case.notes[0].message
    np.testing.assert_array_equal(read_dicom(folder).volume.voxels, HU)


def test_a_series_uid_a_slice_in_two_studies_is_two_scans(tmp_path):
    for study in ("1.2.7", "1.2.8"):
        folder = write_series(tmp_path / study, StudyInstanceUID=study, FrameOfReferenceUID=study + ".1")
        change(folder, lambda dataset, k, study=study: setattr(dataset, "SeriesInstanceUID", f"{study}.{k}"))
    assert [len(one.slices) for one in list_series(tmp_path)] == [5, 5]


def test_slices_of_their_own_that_form_no_stack_are_not_merged_and_told(tmp_path):
    folder = write_series(tmp_path / "ct")

    def scatter(dataset, k):
        dataset.SeriesInstanceUID = f"1.2.3.{k}"
        dataset.ImagePositionPatient = [0, 0, k * k * 7]

    cases = find_cases(change(folder, scatter)).cases
    assert len(cases) == 5 and all("series of one slice" in case.notes[0].message for case in cases)


def test_emptied_uids_of_two_series_are_told_apart_by_folder_and_number(tmp_path):
    write_series(tmp_path / "a", series_uid="", StudyInstanceUID="", SeriesNumber=1)
    write_series(tmp_path / "b", STORED + 5, series_uid="", SeriesNumber=2, StudyInstanceUID="")
    series = list_series(tmp_path)
    assert sorted(one.number for one in series) == [1, 2] and len({one.uid for one in series}) == 2
    for one in series:
        np.testing.assert_array_equal(read_series(tmp_path, one.uid).voxels, HU + 5 * (one.number == 2))


# --- what stands beside the slices


def test_what_lies_on_a_disc_beside_a_series_is_passed_over_and_listed(tmp_path):
    folder = write_series(tmp_path / "disc" / "IMAGES")
    page = ct_slice(STORED[0], (0, 0, 0), series_uid="1.2.3.9")
    for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"):
        delattr(page, keyword)
    page.save_as(folder / "protocol", enforce_file_format=True)
    ct_slice(STORED[0], (0, 0, 0), "1.2.3.8", SOPClassUID=SecondaryCaptureImageStorage).save_as(
        folder / "dose", enforce_file_format=True
    )
    directory = ct_slice(STORED[0], (0, 0, 0))
    directory.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.1.3.10"
    for keyword in ("SOPClassUID", "SOPInstanceUID", "PixelData", "Rows", "Columns", "Modality"):
        delattr(directory, keyword)
    directory.save_as(tmp_path / "disc" / "DICOMDIR")
    (tmp_path / "disc" / "nothing").symlink_to(tmp_path / "absent")
    found = find_cases(tmp_path / "disc")
    np.testing.assert_array_equal(found.cases[0].read_volume().voxels, HU)
    said = " ".join(note.message for note in found.notes)
    for words in ("Media Storage Directory", "Secondary Capture", "no ImagePositionPatient", "link leads"):
        assert words in said
    report = check_dataset(found, progress=False)
    assert report.cases["usable"].tolist() == [True]
    assert (report.findings["code"] == "passed-over").sum() == 4
    assert "Secondary Capture" in " ".join(read_dicom(tmp_path / "disc").notes)


@pytest.mark.parametrize("reader", [read_series, read_dicom])
def test_the_reason_that_a_survey_knows_is_said(tmp_path, reader):
    ct_slice(STORED[0], (0, 0, 0), SOPClassUID=SecondaryCaptureImageStorage).save_as(
        tmp_path / "a", enforce_file_format=True
    )
    with pytest.raises(InputError, match=r"1 files: not a CT slice but Secondary Capture Image Storage"):
        reader(tmp_path)
    (case,) = find_cases(tmp_path).cases
    with pytest.raises(InputError, match="Secondary Capture"):
        case.read_volume()


def test_a_folder_a_patient(tmp_path):
    for name in ("b", "a"):
        write_series(tmp_path / "set" / name, StudyInstanceUID=f"1.2.{ord(name)}")
    zip_folder(write_series(tmp_path / "set" / "c", StudyInstanceUID="1.2.7"))
    for path in (tmp_path / "set" / "c").iterdir():
        path.unlink()
    cases = find_cases(tmp_path / "set").cases
    assert [(case.case_id, case.patient) for case in cases] == [("a", "a"), ("b", "b"), ("c", "c")]
    for case in cases:
        np.testing.assert_array_equal(case.read_volume().voxels, HU)
        assert all(path.is_file() for path in case.files)


def test_a_zip_of_a_series_in_a_zip_is_read(tmp_path):
    inner = zip_folder(write_series(tmp_path / "inner" / "ct"))
    for path in (tmp_path / "inner" / "ct").iterdir():
        path.unlink()
    (tmp_path / "inner" / "ct").rmdir()
    outer = zip_folder(tmp_path / "inner")
    inner.unlink()
    (case,) = find_cases(outer).cases
    np.testing.assert_array_equal(case.read_volume().voxels, HU)
    assert case.files == (outer,)


# --- how a file is written


@pytest.mark.parametrize("meta", [True, False])
@pytest.mark.parametrize("implicit", [True, False])
def test_files_without_a_preamble_are_read(tmp_path, meta, implicit):
    folder = write_series(tmp_path / "ct")
    for path in folder.iterdir():
        dataset = pydicom.dcmread(path)
        if implicit:
            dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
            dataset = pydicom.Dataset(dataset)
        if meta:
            path.write_bytes(path.read_bytes()[128 + 4 :]) if not implicit else pydicom.dcmwrite(
                path, dataset, implicit_vr=True, little_endian=True
            )
        else:
            pydicom.dcmwrite(path, pydicom.Dataset(dataset), implicit_vr=implicit, little_endian=True)
    (folder / "readme").write_text("no DICOM" * 40)
    assert find_cases(folder).name == "dicom"
    np.testing.assert_array_equal(read_series(folder).voxels, HU)


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize("stored", [(0, 16), (1, 12)])
def test_compressed_series_equal_their_originals(tmp_path, syntax, stored):
    signed, bits = stored
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1)) if signed else (0, 2**bits)
    dtype = np.int16 if signed else np.uint16
    values = np.random.default_rng(bits).integers(low // 2, high // 2, (3, 24, 32)).astype(dtype)
    values[:, 0, 0], values[:, 0, 1] = low // 2, high // 2 - 1
    depth = {"BitsStored": bits, "HighBit": bits - 1, "RescaleIntercept": 0}
    folder = write_series(tmp_path / "ct", values, **depth)
    expected = read_series(folder).voxels
    np.testing.assert_array_equal(expected, values)
    compress(folder, syntax)
    np.testing.assert_array_equal(read_series(folder).voxels, expected)


@pytest.mark.parametrize("syntax", [JPEGLosslessSV1, JPEG2000Lossless, JPEGLSLossless])
def test_a_stream_that_claims_a_huge_size_costs_nothing(tmp_path, syntax):
    folder = compress(write_series(tmp_path / "ct", np.tile(STORED[:2], (1, 5, 5))), syntax)
    victim = sorted(folder.iterdir())[0]
    content = bytearray(victim.read_bytes())
    if syntax == JPEG2000Lossless:
        place = content.index(b"\xff\x51") + 6
        content[place : place + 8] = (30000).to_bytes(4, "big") * 2
    else:
        place = content.index(b"\xff\xc3" if syntax == JPEGLosslessSV1 else b"\xff\xf7") + 5
        content[place : place + 4] = (40000).to_bytes(2, "big") * 2
    victim.write_bytes(content)
    with pytest.raises(InputError, match="another size than the header says"):
        read_series(folder)


def test_pixels_that_end_their_decoder_end_no_more_than_that(tmp_path):
    folder = compress(write_series(tmp_path / "ct", STORED[:2]), JPEGLosslessSV1)
    victim = sorted(folder.iterdir())[0]
    content = bytearray(victim.read_bytes())
    content[content.index(b"\xff\xc3") + 4] = 0x93  # bits a value: GDCM ends its process
    victim.write_bytes(content)
    with pytest.raises(InputError, match="damaged"):
        read_series(folder)


@pytest.mark.parametrize("signed", [False, True])
def test_overlays_in_the_high_bits_are_no_part_of_the_values(tmp_path, signed):
    values = np.arange(-20 if signed else 0, 100, dtype=np.int16)[:100].reshape(1, 10, 10)
    stored = (values & 0x0FFF).astype(np.uint16) | 0x5000
    depth = {"BitsStored": 12, "HighBit": 11, "PixelRepresentation": int(signed), "RescaleIntercept": 0}
    folder = write_series(tmp_path / "ct", stored, **depth)
    np.testing.assert_array_equal(read_series(folder).voxels, values)


def test_inverted_display_leaves_the_values(tmp_path):
    folder = write_series(tmp_path / "ct", PhotometricInterpretation="MONOCHROME1")
    np.testing.assert_array_equal(read_series(folder).voxels, HU)
    assert codes(folder) == {"monochrome1"}


# --- rescale tags


@pytest.mark.parametrize("slope", [1, None, ""])
@pytest.mark.parametrize("intercept", [-1024, None, ""])
def test_missing_and_emptied_rescale_tags_are_1_and_0_and_it_is_said(tmp_path, slope, intercept):
    folder = write_series(tmp_path / "ct", RescaleSlope=slope, RescaleIntercept=intercept)
    np.testing.assert_array_equal(read_series(folder).voxels, STORED + (intercept or 0))
    assert codes(folder) == (set() if slope and intercept else {"no-rescale"})


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        *(("RescaleSlope", value) for value in ("NaN", "inf", "0", "-0.0")),
        *(("RescaleIntercept", value) for value in ("NaN", "-inf")),
        *(("PixelSpacing", value) for value in (["-1", "1"], ["0", "1"], ["NaN", "1"], ["1", "inf"], ["1"])),
        *(("ImageOrientationPatient", value) for value in (
            [2, 0, 0, 0, 1, 0], [1, 0, 0, 1, 0, 0], [1, 0, 0, 0.2, 0.98, 0],
            [0, 0, 0, 0, 1, 0], ["NaN", 0, 0, 0, 1, 0], [1, 0, 0, 0, 0.9, 0],
        )),
        *(("ImagePositionPatient", value) for value in (["NaN", 0, 0], [0, "inf", 0], [0, 0, 1e12], [0, 0])),
    ],
)  # fmt: skip
@pytest.mark.parametrize("slices", ["one", "all"])
def test_impossible_values_are_refused_by_the_name_of_the_tag(tmp_path, keyword, value, slices):
    folder = write_series(tmp_path / "ct")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for path in folder.iterdir():
            if slices == "all" or path.name.endswith("_2"):
                dataset = pydicom.dcmread(path)
                dataset[keyword] = pydicom.DataElement(keyword, "DS", value, validation_mode=0)
                dataset.save_as(path, enforce_file_format=True)
    with pytest.raises(InputError, match=keyword):
        read_series(folder)
    report = check_dataset(find_cases(folder), progress=False)
    assert not report.cases["usable"].any()
    assert keyword in " ".join(report.findings["message"])


def test_values_that_are_no_hu_are_refused(tmp_path):
    folder = write_series(tmp_path / "ct", RescaleSlope=1000)
    with pytest.raises(InputError, match=r"RescaleSlope.* values run from .* no HU"):
        read_series(folder)


@pytest.mark.parametrize("far", [1e8, -1e8])
def test_a_position_far_away_is_told_in_a_line(tmp_path, far):
    folder = write_series(tmp_path / "ct")
    change(folder, lambda dataset, k: k == 4 and setattr(dataset, "ImagePositionPatient", [-120, -90, far]))
    with pytest.raises(InputError, match="a position is wrong") as caught:
        read_series(folder)
    assert len(str(caught.value)) < 400


# --- other modalities and multi-frame objects


def test_mr_is_read_and_said_and_ct_comes_first(tmp_path):
    mr = {"SOPClassUID": MRImageStorage, "Modality": "MR", "RescaleSlope": None, "RescaleIntercept": None}
    write_series(tmp_path / "mr", series_uid="1.2.3.2", **mr)
    (case,) = find_cases(tmp_path / "mr").cases
    np.testing.assert_array_equal(case.read_volume().voxels, STORED)
    assert [note.code for note in case.notes] == ["mr-series"]
    write_series(tmp_path / "ct")
    found = find_cases(tmp_path)
    np.testing.assert_array_equal(found.cases[0].read_volume().voxels, HU)
    assert len(found.cases) == 1 and "An MR series of 5 slices" in found.notes[0].message
    np.testing.assert_array_equal(read_dicom(tmp_path).volume.voxels, HU)


@pytest.mark.parametrize("kind", [EnhancedCTImageStorage, LegacyConvertedEnhancedCTImageStorage])
@pytest.mark.parametrize("shared", [True, False])
def test_a_multi_frame_ct_equals_its_single_frames(tmp_path, kind, shared):
    single = read_series(write_series(tmp_path / "single"))
    folder = multi_frame(tmp_path / "multi", kind, shared)
    for source in (folder, folder / "frames", zip_folder(folder)):
        volume = read_series(source)
        np.testing.assert_array_equal(volume.voxels, single.voxels)
        np.testing.assert_array_equal(volume.native.affine, single.native.affine)
    assert codes(folder) == set()
    assert len({header.SOPInstanceUID for header in read_dicom(folder).headers}) == 5


def test_each_frame_has_its_own_rescale(tmp_path):
    intercepts = [-1000, -900, -800, -700, -600]
    voxels = read_series(multi_frame(tmp_path, EnhancedCTImageStorage, True, intercepts=intercepts)).voxels
    np.testing.assert_array_equal(voxels, STORED + np.array(intercepts, np.int16)[:, None, None])


def test_frames_without_a_place_or_of_another_number_are_refused(tmp_path):
    folder = multi_frame(tmp_path, EnhancedCTImageStorage, True)
    change(folder, lambda dataset, _: setattr(dataset, "NumberOfFrames", 4))
    with pytest.raises(InputError, match="NumberOfFrames is not the number of frames"):
        read_series(folder)
    change(folder, lambda dataset, _: delattr(dataset, "PerFrameFunctionalGroupsSequence"))
    with pytest.raises(InputError, match="PerFrameFunctionalGroupsSequence is missing"):
        read_series(folder)


# --- nothing of a header is repeated, nothing odd ends a run

SECRET = "ZEBRA"


def test_no_value_of_a_header_reaches_a_message_or_a_warning(tmp_path, recwarn):
    texts = ("PatientName", "PatientID", "StudyDescription", "SeriesDescription", "StudyDate", "Manufacturer")
    for keyword in ("SOPClassUID", "SeriesInstanceUID", "StudyInstanceUID", "PhotometricInterpretation",
                    "PixelSpacing", "RescaleSlope", "SeriesNumber", "ImageType", "RescaleType", "Rows",
                    "ImagePositionPatient", "Modality", "SOPInstanceUID", "SliceThickness"):  # fmt: skip
        folder = write_series(tmp_path / keyword, keep=[0, 1, 2], RescaleType="HU", Manufacturer="none")
        for path in folder.iterdir():
            dataset = pydicom.dcmread(path)
            for text in texts:
                setattr(dataset, text, pydicom.DataElement(text, "LO", SECRET, validation_mode=0).value)
            element = pydicom.DataElement(keyword, "LO", SECRET, validation_mode=0)
            dataset[keyword] = element
            dataset.save_as(path, enforce_file_format=False)
        recwarn.clear()
        report = check_dataset(find_cases(folder, "dicom"), progress=False)
        said = [report.findings.to_csv(), report.cases.to_csv(), str(survey(folder).skipped)]
        said += [str(warning.message) for warning in recwarn]
        try:
            said += read_dicom(folder).notes
        except InputError as error:
            said.append(str(error))
        assert SECRET not in " ".join(said), keyword


@pytest.mark.parametrize("kind", ["plain", "rle", "frames"])
def test_damaged_bytes_are_refused_or_read_as_pydicom_does(tmp_path, kind):
    if kind == "frames":
        folder = multi_frame(tmp_path / "ct", EnhancedCTImageStorage, True)
    else:
        folder = write_series(tmp_path / "ct", STORED[:3])
    if kind == "rle":
        change(folder, lambda dataset, _: dataset.compress(RLELossless, generate_instance_uid=False))
    victim = sorted(folder.iterdir())[0]
    whole, rng = victim.read_bytes(), random.Random(kind)
    whole_voxels = read_series(folder).voxels
    lengths = (b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f", b"\0\0\0\0")
    for _ in range(40):
        content, place = bytearray(whole), rng.randrange(128, len(whole))
        if rng.random() < 0.5:
            content[place] ^= 1 << rng.randrange(8)
        else:
            content[place : place + 4] = rng.choice(lengths)
        victim.write_bytes(content)
        for case in dicom_series.find(folder).cases:
            try:
                voxels = case.read_volume().voxels
            except InputError:
                continue
            if voxels.shape == whole_voxels.shape and kind == "plain":
                expected = sorted(
                    map(pydicom.dcmread, folder.iterdir()), key=lambda one: one.ImagePositionPatient[2]
                )
                hounsfield = [
                    one.pixel_array * one.get("RescaleSlope", 1) + one.get("RescaleIntercept", 0)
                    for one in expected
                ]
                np.testing.assert_array_equal(voxels, hounsfield)


def test_sequences_in_sequences_without_end_end_no_run(tmp_path):
    folder = write_series(tmp_path / "ct")
    item = b"\xfe\xff\x00\xe0\xff\xff\xff\xff"
    sequence = b"\x00\x52\x29\x92SQ\x00\x00\xff\xff\xff\xff"
    victim = sorted(folder.iterdir())[0]
    content = victim.read_bytes()
    place = content.index(b"\xe0\x7f\x10\x00")
    victim.write_bytes(content[:place] + (sequence + item) * 3000)
    with pytest.raises(InputError, match="damaged"):
        read_series(folder)


def test_a_file_far_larger_than_its_voxels_is_never_read(tmp_path, monkeypatch):
    monkeypatch.setattr("livseg_lib.datasets.dicom_headers.NEVER_TOO_LARGE_BYTES", 1000)
    folder = write_series(tmp_path / "ct")
    victim = sorted(folder.iterdir())[0]
    victim.write_bytes(victim.read_bytes() + bytes(5000))
    with pytest.raises(InputError, match="far more than its voxels take"):
        read_series(zip_folder(folder))


@pytest.mark.parametrize("study", ["", "1.2.9"])
def test_damaged_files_do_not_stop_a_series_in_another_folder(tmp_path, study):
    write_series(tmp_path / "good", StudyInstanceUID=study)
    for path in write_series(tmp_path / "bad", series_uid="1.2.3.2", StudyInstanceUID=study).iterdir():
        path.write_bytes(path.read_bytes()[:150])
    report = check_dataset(find_cases(tmp_path), progress=False)
    assert report.cases["usable"].sum() == 1
    assert "SOPClassUID names no kind" in " ".join(report.findings["message"])
