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


def dataset_of(**elements) -> pydicom.Dataset:
    """Elements by keyword."""
    dataset = pydicom.Dataset()
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    return dataset


def ct_slice(pixels: np.ndarray, position_mm, series_uid="1.2.3.1", **elements) -> pydicom.Dataset:
    """One CT slice, axial unless `elements` say otherwise; they overwrite by keyword, None deletes."""
    bits = pixels.itemsize * 8
    usual = {
        **{"SOPClassUID": CTImageStorage, "SOPInstanceUID": generate_uid(), "Modality": "CT"},
        **{"PatientName": "DOE^JOHN", "SeriesInstanceUID": series_uid, "SeriesNumber": 3},
        **{"ImageType": ["ORIGINAL", "PRIMARY"], "ImagePositionPatient": list(position_mm)},
        **{"ImageOrientationPatient": [1, 0, 0, 0, 1, 0], "PixelSpacing": list(SPACING_MM[1:])},
        **{"SliceThickness": SPACING_MM[0], "Rows": pixels.shape[0], "Columns": pixels.shape[1]},
        **{"SamplesPerPixel": 1, "PhotometricInterpretation": "MONOCHROME2", "BitsAllocated": bits},
        **{"BitsStored": bits, "HighBit": bits - 1, "PixelRepresentation": int(pixels.dtype.kind == "i")},
        **{"RescaleSlope": 1, "RescaleIntercept": -1024, "PixelData": pixels.tobytes()},
    }
    given = (usual | elements).items()
    dataset = dataset_of(**{keyword: value for keyword, value in given if value is not None})
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
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
    placed = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness")
    without = dict.fromkeys((*placed, "RescaleSlope", "RescaleIntercept"))
    dataset = ct_slice(STORED[0], (0, 0, 0), SOPClassUID=kind, **without)
    step = dict.fromkeys(("SliceThickness", "SpacingBetweenSlices"), SPACING_MM[0])
    measures = dataset_of(PixelSpacing=list(SPACING_MM[1:]), **step)
    turned = dataset_of(ImageOrientationPatient=[1, 0, 0, 0, 1, 0])
    for_all = dataset_of(PlaneOrientationSequence=[turned], PixelMeasuresSequence=[measures])
    frames = []
    for k in order:
        frame = pydicom.Dataset() if shared else deepcopy(for_all)
        place = [*ORIGIN_MM[:2], ORIGIN_MM[2] + k * SPACING_MM[0]]
        frame.PlanePositionSequence = [dataset_of(ImagePositionPatient=place)]
        rescale = dataset_of(RescaleSlope=1, RescaleIntercept=(intercepts or [-1024] * 5)[k])
        frame.PixelValueTransformationSequence = [rescale]
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
