"""Names planted in every text field of a header are found nowhere: in no output, no log, no error."""

import gzip
import shutil
import warnings
import zipfile

import nibabel
import numpy as np
import pydicom
import pytest
from dicom_files import write_series
from nifti_files import write_nifti
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from pydicom.datadict import DicomDictionary
from pydicom.uid import generate_uid
from toy_system import toy_labels, toy_predictor, toy_voxels

from livseg_lib.application.inputs import find_inputs
from livseg_lib.application.results import describe_case, predict_batch
from livseg_lib.application.scan import Reading
from livseg_lib.cli import main

NAME, BIRTH_DATE = "ZQXPLANTED", "19331122"  # in no file of the world but those of this test
TEXT_KINDS = ("PN", "LO", "SH", "ST", "LT", "UT", "UC", "AE", "CS")
NEEDED = {"ImageType", "PhotometricInterpretation", "SpecificCharacterSet", "Modality"}
"""Codes by which a slice is known to be one."""


def plant(dataset: pydicom.Dataset) -> pydicom.Dataset:
    """The name in every text tag of the standard, in a private one and in a sequence; a date of birth."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for tag, (kind, _, _, retired, keyword) in DicomDictionary.items():
            if kind in TEXT_KINDS and not retired and keyword not in NEEDED and tag >> 16 not in (0, 2):
                setattr(dataset, keyword, NAME)
    dataset.private_block(0x0033, NAME, create=True).add_new(1, "LO", NAME)
    dataset.PatientBirthDate = dataset.StudyDate = dataset.SeriesDate = BIRTH_DATE
    request = pydicom.Dataset()
    request.RequestedProcedureDescription = NAME
    dataset.RequestAttributesSequence = [request]
    return dataset


@pytest.fixture(scope="module")
def planted_series(tmp_path_factory):
    folder = tmp_path_factory.mktemp("planted") / "series"
    stored = (toy_voxels() + 1024).astype(np.int16)
    write_series(folder, stored, StudyInstanceUID=generate_uid(), FrameOfReferenceUID=generate_uid())
    for path in folder.iterdir():
        plant(pydicom.dcmread(path)).save_as(path)
    assert sum(path.read_bytes().count(NAME.encode()) for path in folder.iterdir()) > 6 * 200
    return folder


def write_planted_nifti(path, labels=False):
    voxels = toy_labels(toy_voxels()) if labels else toy_voxels()
    fields = {"descrip": NAME, "db_name": NAME, "aux_file": NAME, "intent_name": NAME}
    write_nifti(path, voxels.transpose(2, 1, 0), **fields)
    image = nibabel.load(path)
    image.header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", NAME.encode()))
    nibabel.save(image, path)
    assert gzip.decompress(path.read_bytes()).count(NAME.encode()) == 5


def write_planted_picture(path):
    information = PngInfo()
    information.add_text("PatientName", NAME)
    exif = Image.Exif()
    exif[0x010E] = NAME  # its description
    Image.fromarray(np.full((20, 16), 110, np.uint8)).save(path, pnginfo=information, exif=exif)
    assert path.read_bytes().count(NAME.encode()) == 2


def places_of(words, folder) -> list[str]:
    """Files below `folder` that hold one of `words`, packed or not, in whatever letters; and their names."""
    found = []
    for path in sorted(folder.rglob("*")):
        content = path.read_bytes() if path.is_file() else b""
        if path.suffix == ".gz":
            content += gzip.decompress(content)
        texts = content.lower(), content.replace(b"\0", b"").lower(), path.name.encode().lower()
        if any(word.lower().encode() in text for word in words for text in texts):
            found.append(path.name)
    return found


def predict_and_print(inputs, out, reading=None) -> None:
    cases = find_inputs(inputs, reading=reading)
    predict_batch(cases, toy_predictor(), out, lambda row: print(describe_case(row)))


def test_no_name_leaves_the_headers(planted_series, tmp_path, capfd, caplog):
    scans = tmp_path / "scans"
    scans.mkdir()
    (scans / "dicom").symlink_to(planted_series)
    write_planted_nifti(scans / "nifti.nii.gz")
    write_planted_picture(scans / "picture.png")
    predict_and_print(scans, tmp_path / "out")
    printed = capfd.readouterr()
    assert printed.out.count("tumour suspected") == 2 and printed.out.count("not suspected") == 1
    assert {path.name for path in (tmp_path / "out" / "dicom").iterdir()} >= {"mask.dcm", "mask.nii.gz"}
    assert places_of([NAME, BIRTH_DATE], tmp_path / "out") == []
    assert NAME not in printed.out + printed.err + caplog.text


def test_an_error_names_nobody(planted_series, tmp_path, capfd, caplog):
    scans = tmp_path / "scans"
    for name, change in (("several", "SeriesInstanceUID"), ("damaged", "PixelSpacing"), ("cut", "")):
        (scans / name).mkdir(parents=True)
        for number, path in enumerate(sorted(planted_series.iterdir())):
            dataset = pydicom.dcmread(path)
            dataset.StudyInstanceUID = f"1.2.{len(name)}"
            if change == "SeriesInstanceUID" and number < 3:
                dataset.SeriesInstanceUID = "1.2.3.99"
            target = scans / name / path.name
            dataset.save_as(target)
            if change == "PixelSpacing":  # a name where a number should be
                target.write_bytes(target.read_bytes().replace(b"0.5\\0.75", b"ZQXP\\ZQX"))
            elif not change:
                target.write_bytes(target.read_bytes()[:-20])
    predict_and_print(scans, tmp_path / "out")
    printed = capfd.readouterr()
    assert printed.out.count("failed") == 3 and "--series" in printed.out
    assert places_of([NAME[:4]], tmp_path / "out") == []
    assert NAME[:4] not in printed.out + printed.err + caplog.text


def test_a_kept_identity_is_in_the_dicom_seg_alone(planted_series, tmp_path, capfd):
    predict_and_print(planted_series, tmp_path / "out", Reading(keep_identity=True))
    assert places_of([NAME, BIRTH_DATE], tmp_path / "out") == ["mask.dcm"]
    printed = capfd.readouterr()
    assert NAME not in printed.out + printed.err
    written = pydicom.dcmread(tmp_path / "out" / "series" / "mask.dcm")
    named = {element.keyword for element in written.iterall() if NAME in str(element.value)}
    assert named - {""} == {
        *("PatientName", "PatientID", "PatientSex"),
        *("StudyID", "AccessionNumber", "ReferringPhysicianName"),
    }


def test_check_extract_and_evaluate_name_nobody(planted_series, tmp_path, capfd, caplog):
    """A good case, a damaged one, pictures and a series; a zip with a comment."""
    labels, rooms = tmp_path / "labels", {name: tmp_path / name for name in ("lits", "pictures", "dicom")}
    for folder in (labels, *rooms.values()):
        folder.mkdir()
    for number in (0, 1):
        for kind in ("volume", "segmentation"):
            write_planted_nifti(rooms["lits"] / f"{kind}-{number}.nii.gz", labels=kind == "segmentation")
        shutil.copy(rooms["lits"] / f"segmentation-{number}.nii.gz", labels / f"case-{number}.nii.gz")
    cut = rooms["lits"] / "volume-1.nii.gz"
    cut.write_bytes(cut.read_bytes()[:-30])
    for folder, name in (("train_images", "1.png"), ("train_masks", "1.png")):
        (rooms["pictures"] / folder).mkdir()
        write_planted_picture(rooms["pictures"] / folder / name)
    with zipfile.ZipFile(rooms["dicom"] / "series.zip", "w") as archive:
        archive.comment = NAME.encode()
        for path in planted_series.iterdir():
            archive.write(path, path.name)
    for name, folder in rooms.items():
        main(["check", str(folder), "--out", str(tmp_path / "out" / f"check-{name}")])
        main(["extract", str(folder), "--out", str(tmp_path / "out" / f"slices-{name}"), "--workers", "1"])
    scores = tmp_path / "out" / "scores.json"
    main(["evaluate", "--reference", str(labels), "--prediction", str(labels), "--out", str(scores)])
    printed = capfd.readouterr()
    assert scores.exists() and (tmp_path / "out" / "check-lits" / "findings.csv").exists()
    assert places_of([NAME, BIRTH_DATE], tmp_path / "out") == []
    assert NAME not in printed.out + printed.err + caplog.text
