"""Small DICOM series for tests."""

from __future__ import annotations

import zipfile
from copy import deepcopy
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

STORED = np.random.default_rng(0).integers(0, 2000, (5, 6, 7), dtype=np.int16)
"""(slice, row, column); HU are 1024 less."""
ORIGIN_MM, SPACING_MM = (-120.0, -90.0, 300.0), (2.5, 0.5, 0.75)


def ct_slice(pixels: np.ndarray, position_mm, series_uid="1.2.3.1", **elements) -> pydicom.Dataset:
    """One CT slice, axial unless `elements` say otherwise; they overwrite by keyword, None deletes."""
    dataset = pydicom.Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID, dataset.SOPInstanceUID = CTImageStorage, generate_uid()
    dataset.PatientName, dataset.Modality = "DOE^JOHN", "CT"
    dataset.SeriesInstanceUID, dataset.SeriesNumber = series_uid, 3
    dataset.ImageType = ["ORIGINAL", "PRIMARY"]
    dataset.ImagePositionPatient, dataset.ImageOrientationPatient = list(position_mm), [1, 0, 0, 0, 1, 0]
    dataset.PixelSpacing, dataset.SliceThickness = list(SPACING_MM[1:]), SPACING_MM[0]
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = pixels.itemsize * 8
    dataset.HighBit, dataset.PixelRepresentation = pixels.itemsize * 8 - 1, int(pixels.dtype.kind == "i")
    dataset.RescaleSlope, dataset.RescaleIntercept = 1, -1024
    dataset.PixelData = pixels.tobytes()
    for keyword, value in elements.items():
        if value is None:
            delattr(dataset, keyword)
        else:
            setattr(dataset, keyword, value)
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    return dataset


def write_slice(path: Path, pixels: np.ndarray = STORED[0], position_mm=(0, 0, 0), *series_uid, **elements):
    """A file of one `ct_slice`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    ct_slice(pixels, position_mm, *series_uid, **elements).save_as(path, enforce_file_format=True)


def write_series(folder: Path, stored: np.ndarray = STORED, keep=None, **elements) -> Path:
    """Axial slices with rising z, named in an order that is not that of z; `keep`: indices to write."""
    for k in range(len(stored)) if keep is None else keep:
        position = (*ORIGIN_MM[:2], ORIGIN_MM[2] + k * SPACING_MM[0])
        name = f"image_{(k * 7 + 3) % 11}_{k}"
        write_slice(folder / name, stored[k], position, **elements)
    return folder


def multi_frame(folder: Path, kind: str, shared: bool, order=(3, 0, 4, 1, 2), intercepts=None) -> Path:
    """The series of `write_series` as one object, its frames in `order`."""
    dataset = ct_slice(STORED[0], (0, 0, 0), SOPClassUID=kind)
    for keyword in (
        *("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness"),
        *("RescaleSlope", "RescaleIntercept"),
    ):
        delattr(dataset, keyword)
    for_all = pydicom.Dataset()
    for_all.PlaneOrientationSequence = [pydicom.Dataset()]
    for_all.PlaneOrientationSequence[0].ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    for_all.PixelMeasuresSequence = [pydicom.Dataset()]
    for_all.PixelMeasuresSequence[0].PixelSpacing = list(SPACING_MM[1:])
    for_all.PixelMeasuresSequence[0].SliceThickness = SPACING_MM[0]
    frames = []
    for k in order:
        frame = pydicom.Dataset() if shared else deepcopy(for_all)
        frame.PlanePositionSequence = [pydicom.Dataset()]
        frame.PlanePositionSequence[0].ImagePositionPatient = [-120.0, -90.0, 300.0 + k * SPACING_MM[0]]
        frame.PixelValueTransformationSequence = [pydicom.Dataset()]
        frame.PixelValueTransformationSequence[0].RescaleSlope = 1
        frame.PixelValueTransformationSequence[0].RescaleIntercept = (intercepts or [-1024] * 5)[k]
        frames.append(frame)
    dataset.SharedFunctionalGroupsSequence = [for_all if shared else pydicom.Dataset()]
    dataset.PerFrameFunctionalGroupsSequence = frames
    dataset.NumberOfFrames = len(order)
    dataset.PixelData = STORED[list(order)].tobytes()
    folder.mkdir(parents=True, exist_ok=True)
    dataset.save_as(folder / "frames", enforce_file_format=True)
    return folder


def zip_folder(folder: Path) -> Path:
    """The folder as a .zip beside it, its own name as the top folder inside."""
    archive_path = folder.with_suffix(".zip")
    with zipfile.ZipFile(archive_path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(path for path in folder.rglob("*") if path.is_file()):
            archive.write(file, file.relative_to(folder.parent))
    return archive_path
