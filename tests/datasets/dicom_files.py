"""Small DICOM series for tests."""

from __future__ import annotations

import zipfile
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
    dataset.SeriesInstanceUID, dataset.SeriesNumber, dataset.ImageType = (
        series_uid,
        3,
        ["ORIGINAL", "PRIMARY"],
    )
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


def write_series(folder: Path, stored: np.ndarray = STORED, keep=None, **elements) -> Path:
    """Axial slices with rising z, named in an order that is not that of z; `keep`: indices to write."""
    folder.mkdir(parents=True, exist_ok=True)
    for k in range(len(stored)) if keep is None else keep:
        position = (*ORIGIN_MM[:2], ORIGIN_MM[2] + k * SPACING_MM[0])
        name = f"image_{(k * 7 + 3) % 11}_{k}"
        ct_slice(stored[k], position, **elements).save_as(folder / name, enforce_file_format=True)
    return folder


def zip_folder(folder: Path) -> Path:
    """The folder as a .zip beside it, its own name as the top folder inside."""
    archive_path = folder.with_suffix(".zip")
    with zipfile.ZipFile(archive_path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(path for path in folder.rglob("*") if path.is_file()):
            archive.write(file, file.relative_to(folder.parent))
    return archive_path
