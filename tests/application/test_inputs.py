"""What a user points to becomes a list of cases: files, pictures in grey or HU, one of several series."""

import contextlib
import os
import shutil
import unicodedata
from pathlib import Path

import numpy as np
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
from layouts import small_ct, write_lits_case, write_msd, write_nifti
from PIL import Image
from pydicom.uid import EnhancedCTImageStorage, MRImageStorage
from toy_system import toy_predictor, toy_voxels, write_toy_nifti

from livseg_lib.application import inputs
from livseg_lib.application import scan as module
from livseg_lib.application.predictor import Predictor, identify_request, predict_case
from livseg_lib.errors import InputError, reason_of


def picture(path, level: int = 100):
    Image.fromarray(np.full((8, 9), level, np.uint8)).save(path)
    return path


def names_and_kinds(patients) -> dict:
    return {one.case_id: one.kind for one in patients}


def test_one_file_of_each_kind_is_one_case(tmp_path):
    nifti = write_toy_nifti(tmp_path / "scan.nii.gz", toy_voxels())
    assert names_and_kinds(inputs.find_inputs(nifti)) == {"scan": "NIfTI"}
    assert names_and_kinds(inputs.find_inputs(picture(tmp_path / "slice.JPG"))) == {"slice": "picture"}
    series = write_series(tmp_path / "series")
    assert names_and_kinds(inputs.find_inputs(series)) == {"series": "DICOM"}
    assert names_and_kinds(inputs.find_inputs(zip_folder(series))) == {"series": "DICOM"}
    assert len(inputs.find_inputs(series)[0].files) == len(STORED)
    unnamed = zip_folder(series).rename(tmp_path / "1.2.840.7")
    assert names_and_kinds(inputs.find_inputs(unnamed)) == {"1.2.840": "DICOM"}


def test_a_folder_may_hold_all_kinds_and_what_is_no_scan_is_told(tmp_path):
    write_toy_nifti(tmp_path / "liver_10.nii.gz", toy_voxels())
    write_toy_nifti(tmp_path / "liver_2.nii", toy_voxels())
    picture(tmp_path / "slice.png")
    write_series(tmp_path / "anna", StudyInstanceUID="1.2.3")
    write_series(tmp_path / "bert", StudyInstanceUID="1.2.4")
    zip_folder(write_series(tmp_path / "carl")).rename(tmp_path / "dora")  # a zip whose suffix was lost
    zip_folder(tmp_path / "carl")
    (tmp_path / "notes.txt").write_text("not a scan")
    (tmp_path / ".hidden.nii").write_text("not a scan")
    patients = inputs.find_inputs(tmp_path)
    series, volumes = ("anna", "bert", "carl", "carl-2", "dora"), ("liver_2", "liver_10")
    kinds = {"DICOM": series, "NIfTI": volumes, "picture": ("slice",)}
    assert [(one.kind, one.case_id) for one in patients] == [(kind, n) for kind in kinds for n in kinds[kind]]
    assert inputs.passed_over(tmp_path, patients) == ["notes.txt"]


def test_masks_passed_over_by_the_hundred_do_not_hide_a_scan_among_them():
    masks, others = [f"m/{n:03d}_mask.png" for n in range(500)], ["scan.mha", "v-1.nii: a link to nothing"]
    told = inputs.briefly([*masks, *others, "v-2.nii: a link to nothing"])
    assert told == ["m/000_mask.png, and 499 more like it", *others, "v-2.nii: a link to nothing"]
    assert inputs.briefly(masks[:3]) == masks[:3]


def test_subfolders_of_one_study_are_one_case_and_names_may_be_numbers(tmp_path):
    for name in ("arterial", "portal"):
        series = {"StudyInstanceUID": "1.2.3", "SeriesInstanceUID": f"1.{len(name)}"}
        write_series(tmp_path / "patient" / name, **series)
    assert names_and_kinds(inputs.find_inputs(tmp_path / "patient")) == {"patient": "DICOM"}
    write_series(tmp_path / "patient" / "other", StudyInstanceUID="1.2.4")
    found = names_and_kinds(inputs.find_inputs(tmp_path / "patient"))
    assert found == dict.fromkeys(("arterial", "other", "portal"), "DICOM")
    shutil.rmtree(tmp_path / "patient" / "other")
    write_toy_nifti(tmp_path / "Doe_John.nii.gz", toy_voxels())
    patients = inputs.find_inputs(tmp_path, numbered=True)
    assert [one.case_id for one in patients] == ["case-001", "case-002"]
    assert patients[0].files[0].name == "Doe_John.nii.gz"
    (tmp_path / "moved" / "doe").mkdir(parents=True)
    (tmp_path / "moved" / "doe" / "CT").symlink_to(tmp_path / "patient")
    assert names_and_kinds(inputs.find_inputs(tmp_path / "moved")) == {"moved": "DICOM"}


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("damage", ["cut", "other size", "none"])
def test_numbered_cases_are_read_without_a_word_of_a_name(tmp_path, monkeypatch, packed, damage):
    monkeypatch.chdir(tmp_path)
    path = write_series(Path("doe") / "doe_1") / "image_doe"
    path.with_name("notes").write_text("no DICOM")
    if damage != "none":
        shape = (3, 3) if damage == "other size" else (6, 7)
        write_slice(path, np.zeros(shape, np.int16), (*ORIGIN_MM[:2], 900.0), StudyInstanceUID="1.2")
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-9])
    for each in list(path.parent.iterdir()):
        each.rename(each.with_name(f"doe_{each.name}"))
    source = zip_folder(Path("doe")) if packed else Path("doe")
    (patient,) = inputs.find_inputs(source, numbered=True)
    (by_name,) = inputs.find_inputs(source)
    try:
        said = " ".join(patient.read().notes)
    except InputError as error:
        said = reason_of(error)
    assert ("file-0000" in said) and "doe" not in said.lower()
    with contextlib.suppress(InputError):
        assert "doe_notes" in " ".join(by_name.read().notes)


def test_known_layouts_are_read_without_their_segmentations(tmp_path):
    (tmp_path / "lits").mkdir()
    write_lits_case(tmp_path / "lits", 3)
    write_nifti(tmp_path / "lits" / "volume-3.nii", small_ct(3)[0])  # once more
    write_nifti(
        tmp_path / "lits" / "segmentation-3.nii", small_ct(3)[1][::-1]
    )  # others, which count for less
    (case,) = inputs.find_inputs(tmp_path / "lits")
    assert (case.case_id, case.kind, len(case.files)) == ("volume-3", "NIfTI", 1)
    assert case.read().volume.voxels.shape == small_ct()[0].shape


def test_the_scans_of_a_decathlon_may_be_given_alone(tmp_path):
    write_msd(tmp_path, (1, 2))
    scans = inputs.find_inputs(tmp_path / "imagesTr")
    assert names_and_kinds(scans) == {"liver_1": "NIfTI", "liver_2": "NIfTI"}
    write_nifti(tmp_path / "imagesTs" / "liver_9.nii.gz", small_ct(9)[0])
    assert [each.case_id for each in inputs.find_inputs(tmp_path)] == ["liver_1", "liver_2", "liver_9"]


def test_pictures_named_as_slices_of_a_volume_are_one_stack(tmp_path):
    for number in (4, 11, 30):
        picture(tmp_path / f"volume-7_slice_{number}.png", number)
    (case,) = inputs.find_inputs(tmp_path, reading=module.Reading(picture_hu=(0.0, 510.0)))
    scan = case.read()
    assert scan.slice_numbers == (4, 11, 30) and scan.is_picture
    assert scan.volume.voxels[:, 0, 0].tolist() == [8, 22, 60]


def test_pictures_in_folders_of_their_own_are_a_stack_a_folder(tmp_path):
    for name in ("anna/png/slice_3", "anna/png/slice_4", "bert/slice_1"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        picture(tmp_path / f"{name}.png")
    cases = {one.case_id: one.read().slice_numbers for one in inputs.find_inputs(tmp_path)}
    assert cases == {"anna": (3, 4), "bert": (1,)}


ODD = ["..scan", "a. ", "x" * 240, "é" * 120, "1²3", "cases.csv", "a:b*?", "con", "-x", "%41#", "日本 1"]


def test_odd_names_are_read_and_give_names_for_folders(tmp_path):
    names = [f"{name}.nii.gz" for name in ODD] + ["Scan.nii.gz", "scan.nii.gz", "e\u0301.nii", "\u00e9.nii"]
    for name in [*names, os.fsdecode(b"\xff\xfe.nii.gz")]:
        write_toy_nifti(tmp_path / name, toy_voxels())
    cases = [one.case_id for one in inputs.find_inputs(tmp_path)]
    assert len({unicodedata.normalize("NFC", case).casefold() for case in cases}) == len(ODD) - 1 + 5
    for case in cases:
        assert len(case.encode()) < 130 and case == Path(case).name and case not in ("con", "cases.csv")
        assert case[0] != "." and case[-1] not in ". "
        (tmp_path / "out" / case).mkdir(parents=True)


def test_names_that_cannot_be_told_apart_everywhere_are_numbered(tmp_path):
    for name in ("scan.nii.gz", "SCAN.nii", "cases.csv.nii.gz", "Cases.CSV.nii"):
        write_toy_nifti(tmp_path / name, toy_voxels())
    found = {one.files[0].name: one.case_id for one in inputs.find_inputs(tmp_path)}
    assert sorted(found.values()) == ["Cases.CSV-2", "SCAN", "cases.csv-3", "scan-2"]


@pytest.mark.parametrize(
    ("voxels", "is_scan"),
    [
        (lambda noise: toy_voxels(), True),
        (lambda noise: (toy_voxels() > 0) * 2, False),
        (lambda noise: np.zeros((4, 20, 20)), False),
        (lambda noise: np.arange(4 * 400).reshape(4, 20, 20) // 40, False),  # 40 labels
        (lambda noise: noise, True),  # grey levels 0 to 255, as of MR
        (lambda noise: noise * 4, True),  # unsigned, with air at 0
        (lambda noise: (noise > 128) * 1000, False),
    ],
    ids=["CT", "labels", "nothing", "many labels", "grey", "offset", "mask"],
)
def test_labels_are_no_scan(tmp_path, voxels, is_scan):
    noise = np.random.default_rng(0).integers(0, 256, (4, 20, 20))
    (case,) = inputs.find_inputs(write_toy_nifti(tmp_path / "a_seg.nii", voxels(noise).astype(np.int16)))
    if is_scan:
        assert case.read().volume.voxels.shape == voxels(noise).shape
    else:
        with pytest.raises(InputError, match=r"labels, no scan.*scaled") as refused:
            case.read()
        assert refused.value.code == "label-map"


def test_all_that_is_not_read_is_told(tmp_path):
    (tmp_path / "lits").mkdir()
    write_lits_case(tmp_path, 3)
    write_toy_nifti(tmp_path / "other.nii", toy_voxels())
    write_series(tmp_path / "series")
    picture(tmp_path / "slice.png")
    (tmp_path / "series" / "read_me").symlink_to(tmp_path / "nowhere")
    (tmp_path / "above").symlink_to(tmp_path)
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "deep" / "er" / "notes.txt").write_text("not a scan")
    os.mkfifo(tmp_path / "pipe.nii")
    patients = inputs.find_inputs(tmp_path)
    assert names_and_kinds(patients) == {"volume-3": "NIfTI", "other": "NIfTI", "series": "DICOM"}
    told = [line.split(":")[0] for line in inputs.passed_over(tmp_path, patients)]
    assert told == ["deep", "pipe.nii", "segmentation-3.nii.gz", "series/read_me", "slice.png"]


def test_a_link_to_nothing_that_is_named_like_a_scan_fails_and_is_not_lost(tmp_path):
    write_toy_nifti(tmp_path / "a.nii", toy_voxels())
    (tmp_path / "b.nii.gz").symlink_to("nowhere")
    good, lost = inputs.find_inputs(tmp_path)
    assert (good.case_id, lost.case_id) == ("a", "b") and inputs.passed_over(tmp_path, [good, lost]) == []
    with pytest.raises(InputError, match="The link leads to nothing"):
        identify_request(lost, Predictor(None))


def test_a_stray_slice_in_a_folder_ends_nothing_and_is_told(tmp_path):
    write_toy_nifti(tmp_path / "scan.nii", toy_voxels())
    single = next(write_series(tmp_path / "series", keep=[0]).iterdir())
    shutil.copytree(write_series(tmp_path / "b" / "series"), tmp_path / "results" / "case")
    (tmp_path / "results" / "cases.csv").touch()
    single.rename(tmp_path / "b" / "z.nii.dcm")
    assert names_and_kinds(inputs.find_inputs(tmp_path, "dicom")) == {"b": "DICOM"}
    patients = inputs.find_inputs(tmp_path)
    assert names_and_kinds(patients) == {"b": "DICOM", "scan": "NIfTI"}
    assert inputs.passed_over(tmp_path, patients) == ["results"]


def test_volumes_beside_the_slices_of_a_series_are_cases_too(tmp_path):
    write_toy_nifti(write_series(tmp_path / "anna") / "scan.nii", toy_voxels())
    (tmp_path / "anna" / "bela").mkdir()
    write_nifti(tmp_path / "anna" / "bela" / "ct.nii.gz", small_ct()[0])
    series, *volumes = inputs.find_inputs(tmp_path / "anna")
    assert names_and_kinds([series]) == {"anna": "DICOM"} and len(series.files) == len(STORED)
    assert names_and_kinds(volumes) == {"scan": "NIfTI", "bela": "NIfTI"}


def test_a_folder_a_patient_of_nifti_files_is_read_without_its_label_maps(tmp_path):
    for patient in ("anna", "bela"):
        (tmp_path / patient).mkdir()
        write_nifti(tmp_path / patient / "ct.nii.gz", small_ct()[0])
        write_nifti(tmp_path / patient / "seg.nii.gz", small_ct()[1])
    patients = inputs.find_inputs(tmp_path)
    assert names_and_kinds(patients) == {"anna": "NIfTI", "bela": "NIfTI"}
    assert [path.name for one in patients for path in one.files] == ["ct.nii.gz"] * 2
    assert inputs.passed_over(tmp_path, patients) == ["anna/seg.nii.gz", "bela/seg.nii.gz"]


@pytest.mark.parametrize("stray", ["preview.png", "code.zip", "atlas.nii.gz", "series"])
def test_what_lies_beside_folders_of_patients_does_not_cost_them(tmp_path, stray):
    for patient in ("anna", "bela"):
        (tmp_path / patient).mkdir()
        write_nifti(tmp_path / patient / "ct.nii.gz", small_ct()[0])
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "cases.csv").touch()
    write_nifti(tmp_path / "results" / "aligned.nii.gz", small_ct()[0])
    if stray == "series":
        write_series(tmp_path / stray)
    elif stray == "atlas.nii.gz":
        write_nifti(tmp_path / stray, small_ct()[0])
    else:
        (tmp_path / stray).touch()
    patients = inputs.find_inputs(tmp_path)
    assert names_and_kinds(patients).items() >= {"anna": "NIfTI", "bela": "NIfTI"}.items()
    assert len(patients) == 3 and inputs.passed_over(tmp_path, patients) == ["results"]


def test_what_cannot_be_used_is_said(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        inputs.find_inputs(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero")):  # never waited for
        with pytest.raises(InputError, match="a pipe, a socket or a device"):
            inputs.find_inputs(path)
    (tmp_path / "notes.txt").write_text("not a scan")
    with pytest.raises(InputError, match="no scan that livseg can read"):
        inputs.find_inputs(tmp_path)
    (tmp_path / "scan.tar.gz").touch()
    with pytest.raises(InputError, match=r"packed files \(1\)\. Unpack them"):
        inputs.find_inputs(tmp_path)
    single = next(write_series(tmp_path / "series", keep=[0]).iterdir())
    with pytest.raises(InputError, match="single DICOM file"):
        inputs.find_inputs(single)


def test_greys_are_hu_as_in_the_public_sets_or_between_the_two_that_are_given(tmp_path):
    path = tmp_path / "slice.png"
    Image.fromarray(np.array([[0, 51, 255]], np.uint8)).save(path)
    scan = module.read_one_picture(path)
    assert scan.volume.voxels.tolist() == [[[0, 51, 255]]]
    assert np.isnan(scan.volume.spacing_mm).all() and scan.is_picture
    assert "0 HU and white for 255 HU" in scan.notes[0]
    abdomen = module.read_one_picture(path, (-160.0, 240.0))
    assert abdomen.volume.voxels.tolist() == [[[-160, -80, 240]]]
    assert (abdomen.window.lower, abdomen.window.upper) == (-160, 240)
    assert "2 pictures" in module.read_pictures(lambda: scan.volume, left_out=2).notes[1]
    Image.fromarray(np.repeat(np.array([[0, 255]], np.uint8), 9, axis=1)).save(path)
    with pytest.raises(InputError, match="2 whole numbers from 0 to 255, in patches: labels, no scan"):
        module.read_one_picture(path)


def test_a_picture_with_colours_or_turned_by_exif_says_so(tmp_path):
    grey, exif = Image.effect_noise((40, 30), 60), Image.Exif()
    told = {}
    for mode in ("L", "RGB"):
        for exif[0x0112] in (1, 6):
            picture = grey.convert(mode)
            if mode == "RGB":
                picture.paste((255, 0, 0), (5, 5, 25, 8))  # a line that was drawn
            picture.save(tmp_path / "slice.png", exif=exif)
            told[mode, exif[0x0112]] = module.read_one_picture(tmp_path / "slice.png").notes[1:]
    turned, colored = (module.TURNED,), (module.COLORED,)
    expected = {("L", 1): (), ("L", 6): turned, ("RGB", 1): colored, ("RGB", 6): turned + colored}
    assert told == expected


def test_a_range_is_two_rising_numbers():
    assert module.parse_hu_range("-160,240") == (-160.0, 240.0)
    for wrong in ("", "abdomen", "5", "240,-160", "1,1", "nan,3", "-1e9,0", "1,2,3"):
        with pytest.raises(InputError, match="picture-hu"):
            module.parse_hu_range(wrong)


MANY = np.repeat(STORED, 5, axis=0)  # as many slices as a scan of a liver has


def test_the_only_whole_axial_series_is_taken_and_that_is_said(tmp_path):
    assert len(MANY) >= module.ENOUGH_SLICES
    write_series(tmp_path / "few", series_uid="1.1", SeriesNumber=1)
    write_series(tmp_path / "many", MANY, series_uid="1.2", SeriesNumber=2)
    for k in range(module.ENOUGH_SLICES):  # a coronal reconstruction
        coronal = {"ImageOrientationPatient": [1, 0, 0, 0, 0, -1], "SeriesNumber": 7}
        position = (ORIGIN_MM[0], ORIGIN_MM[1] + k, ORIGIN_MM[2])
        slice_ = ct_slice(STORED[0], position, series_uid="1.3", **coronal)
        slice_.save_as(tmp_path / f"coronal_{k}", enforce_file_format=True)
    scan = module.read_dicom(tmp_path)
    assert len(scan.volume.voxels) == len(MANY)
    assert "Of 3 series" in scan.notes[0] and "series 2: 25 slices" in scan.notes[0]


def test_where_it_is_not_clear_the_series_are_listed_by_size_without_their_descriptions(tmp_path):
    described = {"SeriesDescription": "DOE JOHN LIVER"}
    write_series(tmp_path / "arterial", MANY, series_uid="1.1", SeriesNumber=1, **described)
    write_series(tmp_path / "portal", MANY - 5, series_uid="1.2", SeriesNumber=2, **described)
    with pytest.raises(InputError, match="--series") as caught:
        module.read_dicom(tmp_path)
    message = str(caught.value)
    assert "series 1: 25 slices of 6 x 7, 0.50 mm, 2.50 mm thick, axial" in message
    assert "series 2" in message and "DOE" not in message
    for wanted, less in (("2", 5), ("1.1", 0)):
        np.testing.assert_array_equal(module.read_dicom(tmp_path, wanted).volume.voxels, MANY - 1024 - less)
    with pytest.raises(InputError, match=r"There is no series 4\. Found: series 1"):
        module.read_dicom(tmp_path, "4")


def test_series_without_a_number_are_told_by_uid(tmp_path):
    for uid in ("1.1", "1.2"):
        write_series(tmp_path / uid, series_uid=uid, SeriesNumber=5)
    with pytest.raises(InputError, match=r"series 1\.1: .*series 1\.2: "):
        module.read_dicom(tmp_path)
    with pytest.raises(InputError, match="more than one series 5"):
        module.read_dicom(tmp_path, "5")


def test_headers_lie_in_the_order_of_space_and_hold_an_identity_only_where_asked(tmp_path):
    uids = {"StudyInstanceUID": "1.5", "FrameOfReferenceUID": "1.6"}
    source = write_series(tmp_path / "series", PatientID="4711", StudyDate="20200101", **uids)
    headers = module.read_dicom(source).headers
    heights = [float(header.ImagePositionPatient[2]) for header in headers]
    assert heights == [ORIGIN_MM[2] + k * SPACING_MM[0] for k in range(len(STORED))]
    assert {header.StudyInstanceUID for header in headers} == {"1.5"}
    assert all("PatientName" not in header and "PatientID" not in header for header in headers)
    named = module.read_dicom(source, keep_identity=True).headers
    identities = {(str(one.PatientName), one.PatientID, one.StudyDate) for one in named}
    assert identities == {("DOE^JOHN", "4711", "20200101")}


def test_a_multi_frame_object_is_a_scan_by_itself(tmp_path):
    (patient,) = inputs.find_inputs(multi_frame(tmp_path, EnhancedCTImageStorage, True) / "frames")
    assert (patient.case_id, patient.kind) == ("frames", "DICOM")
    np.testing.assert_array_equal(patient.read().volume.voxels, STORED - 1024)


def test_a_series_of_another_modality_than_the_system_is_refused(tmp_path):
    mr = {"SOPClassUID": MRImageStorage, "Modality": "MR", "RescaleIntercept": None}
    (patient,) = inputs.find_inputs(write_series(tmp_path / "mr", **mr))
    with pytest.raises(InputError, match="a series of MR; the system was made for CT"):
        predict_case(patient, toy_predictor())
