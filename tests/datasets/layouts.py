"""Small data sets in every layout that is read."""

import shutil
from pathlib import Path

import nibabel
import numpy as np
from dicom_files import write_slice, zip_folder
from PIL import Image
from pydicom.uid import generate_uid

SPACING_MM = (2.5, 0.8, 0.7)  # along D, H, W; three different values, so that a swapped axis shows


def small_ct(seed: int = 0, shape: tuple[int, int, int] = (6, 24, 32)) -> tuple[np.ndarray, np.ndarray]:
    """HU int16 and labels 0/1/2 uint8, both (D, H, W): air, a body, a liver, a tumour inside it."""
    rng = np.random.default_rng(seed)
    depth, height, width = shape
    voxels, labels = np.full(shape, -1000, np.int16), np.zeros(shape, np.uint8)
    voxels[:, 3 : height - 3, 3 : width - 3] = rng.integers(20, 60, (depth, height - 6, width - 6))
    labels[1:-1, 6:16, 5:17] = 1
    labels[2:4, 8:12, 8:12] = 2
    voxels[labels == 1], voxels[labels == 2] = 110, 60
    return voxels, labels


def lps_affine(spacing_mm: tuple[float, float, float] = SPACING_MM) -> np.ndarray:
    """Affine to RAS+ of an array stored as (W, H, D) in LPS."""
    depth_mm, height_mm, width_mm = spacing_mm
    return np.diag([-width_mm, -height_mm, depth_mm, 1.0])


def write_nifti(path: Path, array: np.ndarray, affine: np.ndarray | None = None) -> Path:
    """Write a (D, H, W) LPS array as it stands, in its own data type."""
    path.parent.mkdir(parents=True, exist_ok=True)
    stored = array.transpose(2, 1, 0) if array.ndim == 3 else array
    nibabel.save(nibabel.Nifti1Image(stored, lps_affine() if affine is None else affine), path)
    return path


def write_lits_case(folder: Path, number: int, seed: int | None = None) -> tuple[Path, Path]:
    """volume-N.nii.gz and segmentation-N.nii.gz."""
    voxels, labels = small_ct(number if seed is None else seed)
    return (
        write_nifti(folder / f"volume-{number}.nii.gz", voxels),
        write_nifti(folder / f"segmentation-{number}.nii.gz", labels),
    )


def write_msd(folder: Path, numbers: tuple[int, ...]) -> None:
    """imagesTr and labelsTr of Task03."""
    for number in numbers:
        voxels, labels = small_ct(number)
        write_nifti(folder / "imagesTr" / f"liver_{number}.nii.gz", voxels)
        write_nifti(folder / "labelsTr" / f"liver_{number}.nii.gz", labels)


def write_picture(path: Path, grey: np.ndarray) -> Path:
    """PNG, or JPEG at quality 75, by the suffix of `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(grey).save(path)
    return path


def stretched(labels: np.ndarray) -> np.ndarray:
    """Labels 0/1/2 of one slice as an export writes them: its own levels stretched over 0-255."""
    highest = max(int(labels.max()), 1)
    return (labels.astype(np.uint16) * 255 // highest).astype(np.uint8)


def write_kaggle_case(folder: Path, volume: int, suffix: str = ".jpg") -> tuple[np.ndarray, np.ndarray]:
    """train_images and train_masks of one volume; returns its grey levels and labels, (D, H, W)."""
    voxels, labels = small_ct(volume, shape=(6, 48, 64))
    grey = np.clip(voxels, 0, 255).astype(np.uint8)
    for k, (picture, mask) in enumerate(zip(grey, labels, strict=True)):
        name = f"volume-{volume}_slice_{k}"
        write_picture(folder / "train_images" / f"{name}{suffix}", picture)
        write_picture(folder / "train_masks" / f"{name}_mask{suffix}", stretched(mask))
    return grey, labels


def write_dicom_series(folder: Path, voxels: np.ndarray, intercept: int = -1024) -> Path:
    """One axial CT series of a (D, H, W) LPS volume in HU; names do not sort like the slices."""
    series_uid, geometry = (
        generate_uid(),
        {"PixelSpacing": list(SPACING_MM[1:]), "SliceThickness": SPACING_MM[0]},
    )
    for k, plane in enumerate(voxels):
        stored, place = (plane.astype(np.int32) - intercept).astype(np.int16), (0.0, 0.0, k * SPACING_MM[0])
        path = folder / f"image_{len(voxels) - 1 - k}"
        write_slice(path, stored, place, series_uid, RescaleIntercept=intercept, **geometry)
    return folder


def write_ircadb_case(folder: Path, seed: int = 0, tumors: tuple[str, ...] = ("livertumor",)) -> np.ndarray:
    """PATIENT_DICOM and MASKS_DICOM; the tumour is cut along D into as many masks as there are names."""
    voxels, labels = small_ct(seed)
    write_dicom_series(folder / "PATIENT_DICOM", voxels)
    masks = {"liver": labels >= 1, "bone": labels == 3}
    planes = np.array_split(np.flatnonzero((labels == 2).any(axis=(1, 2))), len(tumors))
    for name, part in zip(tumors, planes, strict=True):
        masks[name] = np.zeros(labels.shape, bool)
        masks[name][part] = labels[part] == 2
    for name, mask in masks.items():
        write_dicom_series(folder / "MASKS_DICOM" / name, mask.astype(np.int16) * 255, intercept=0)
    return labels


def replace_by_zip(folder: Path) -> Path:
    """Zip `folder` and remove it."""
    archive = zip_folder(folder)
    shutil.rmtree(folder)
    return archive
