"""Damaged inputs at every door: refused with help, or read as an oracle reads them. Nothing else happens.

`LIVSEG_FAULTS=20000 pytest -m slow tests/faults` draws that many; `LIVSEG_FAULT=dicom:61` repeats one.
"""

from __future__ import annotations

import io
import os
from collections import Counter
from pathlib import Path

import cv2
import nibabel
import numpy as np
import pydicom
import pytest
from dicom_files import ct_slice
from faulty_inputs import Fault, attempt, damage, must_be_read, require, require_helpful
from layouts import small_ct
from PIL import Image
from pydicom.uid import RLELossless

from livseg_lib.datasets.case import Case, Dataset
from livseg_lib.datasets.catalogue import check_dataset, find_cases

SHAPE = (6, 16, 20)


def read_all(folder: Path, harmless: bool = False) -> tuple[Dataset, list[tuple[Case, object, object]]]:
    """Every case of `folder` through the door that all commands use: what was found, and what was read."""
    with must_be_read(harmless):
        found = find_cases(folder)
        require_helpful(check_dataset(found, workers=1, progress=False).findings)
        read = []
        for case in found.cases:
            volume = case.read_volume()
            read.append((case, volume, case.read_labels(volume) if case.read_labels else None))
    return found, read


def require_voxels(volume, expected: np.ndarray, what: str) -> None:
    """`expected` float64 (D, H, W): each voxel is the whole number beside it, within int16."""
    expected = np.clip(expected, -32768, 32767)
    found = volume.voxels
    require(found.shape == expected.shape, f"{what} has {expected.shape}, read were {found.shape}")
    off = np.abs(found - expected).max()
    require(off <= 0.5 + 1e-4 * max(1.0, np.abs(expected).max()), f"{what}: voxels up to {off} apart")


# DICOM

WORDS = (
    *("", "nan", "inf", "-1", "0", "1e308", "1e-320", "abc", "1\\2", "-0.5", "2.0", "5", "9" * 16),
    "MONOCHROME1",
)
NUMBERS = (0, 1, 2, 3, 12, 15, 16, 255, 65535)
TAGS = (
    *("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "SeriesNumber", "ImageType", "Modality"),
    *("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness", "PatientName"),
    *("Rows", "Columns", "SamplesPerPixel", "RescaleSlope", "RescaleIntercept", "PixelData"),
    *("PhotometricInterpretation", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation"),
)


def dicom_series(rng: np.random.Generator) -> list[pydicom.Dataset]:
    """A CT of 6 slices as datasets, axial or turned."""
    hu, _ = small_ct(int(rng.integers(3)), SHAPE)
    turned = rng.random() < 0.3
    across = [0, 1, 0, 0, 0, -1] if turned else [1, 0, 0, 0, 1, 0]
    step = np.cross(across[:3], across[3:]) * 2.5
    slope = int(rng.choice([1, 1, 2]))
    series, pixel_type = [], rng.choice(["i2", "u2"])
    for k, plane in enumerate(hu):
        stored = ((plane.astype(np.int32) + 1024) // slope).astype(pixel_type)
        one = ct_slice(stored, step * k, "1.2.3", RescaleSlope=slope, InstanceNumber=k + 1)
        one["PixelData"].VR = "OW"
        one.ImageOrientationPatient, one.PixelSpacing, one.SliceThickness = across, [0.8, 0.7], 2.5
        series.append(one)
    return series


def damaged_dicom(rng: np.random.Generator) -> tuple[dict[str, bytes], bool]:
    """Files of a series by name, of which some are damaged, and whether the damage is none."""
    series = dicom_series(rng)
    names = [f"im{n:02d}" for n in rng.permutation(len(series))]
    how = rng.choice(["bytes", "bytes", "tag", "tag", "tags", "lost", "twice", "beside", "rle", "bare"])
    hits = range(len(series)) if how in ("tags", "rle") else [int(rng.integers(len(series)))]
    tag, drop = str(rng.choice(TAGS)), rng.random() < 0.4
    word, number = str(rng.choice(WORDS)), int(rng.choice(NUMBERS))
    for k in hits:
        if how in ("tag", "tags") and tag in series[k]:
            _spoil(series[k], tag, None if drop else (word, number))
        if how == "rle":
            series[k].compress(RLELossless, generate_instance_uid=False)
    files = {name: _dicom_bytes(one) for name, one in zip(names, series, strict=True)}
    hit = names[hits[0]]
    if how == "bytes":
        files[hit] = damage(rng, files[hit])
    elif how == "lost":
        del files[hit]
    elif how == "twice":
        files["again"] = files[hit]
    elif how == "beside":
        files[str(rng.choice(["notes.txt", "DICOMDIR", ".hidden", "Thumbs.db"]))] = rng.bytes(200)
    elif how == "bare":
        files[hit] = files[hit][132:]
    return files, how in ("rle", "bare", "twice", "beside")


def _spoil(dataset: pydicom.Dataset, keyword: str, value: tuple[str, int] | None) -> None:
    element = dataset[keyword]
    del dataset[keyword]
    if value is None:
        return
    kinds = {"US": value[1], "OW": bytes(value[1] % 1000), "OB or OW": bytes(value[1] % 1000)}
    for vr, new in ((element.VR, kinds.get(element.VR, value[0])), ("LO", value[0])):
        try:
            dataset.add(pydicom.DataElement(element.tag, vr, new, validation_mode=pydicom.config.IGNORE))
            return
        except (ValueError, TypeError, OverflowError):
            continue


def _dicom_bytes(dataset: pydicom.Dataset) -> bytes:
    buffer, dataset.preamble = io.BytesIO(), bytes(128)
    with pydicom.config.disable_value_validation():
        dataset.save_as(buffer, enforce_file_format=False)
    return buffer.getvalue()


def pydicom_reads(files: list[bytes]) -> np.ndarray:
    """HU float64 (D, H, W) in LPS of slices, ordered along their normal; equal copies count once."""
    try:
        slices = {}
        for content in files:
            one = pydicom.dcmread(io.BytesIO(content), force=True)
            if "TransferSyntaxUID" not in one.file_meta:
                one.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
            across = np.array(one.ImageOrientationPatient, float).reshape(2, 3)
            place = np.array(one.ImagePositionPatient, float)
            slope = 1 if one.get("RescaleSlope") in (None, "") else float(one.RescaleSlope)
            intercept = 0 if one.get("RescaleIntercept") in (None, "") else float(one.RescaleIntercept)
            hu = one.pixel_array * slope + intercept
            height = round(float(place @ np.cross(*across)), 2)
            require(height not in slices or (slices[height][0] == hu).all(), "two slices at one place")
            slices[height] = (hu, across, place, np.array(one.PixelSpacing, float))
        ordered = [slices[height] for height in sorted(slices)]
        _, across, place, sides = ordered[0]
        step = (ordered[-1][2] - place) / max(len(ordered) - 1, 1) if len(ordered) > 1 else np.cross(*across)
        affine = np.eye(4)
        affine[:3] = np.column_stack([across[0] * sides[1], across[1] * sides[0], step, place])
        affine = np.diag([-1, -1, 1, 1]) @ affine
        stack = np.stack([one[0] for one in ordered]).transpose(2, 1, 0)
        image = nibabel.as_closest_canonical(nibabel.Nifti1Image(stack.astype(np.float64), affine))
        return np.asarray(image.dataobj)[::-1, ::-1].transpose(2, 1, 0)
    except Fault:
        raise
    except Exception as error:
        raise Fault(f"read, though pydicom refuses it: {type(error).__name__}: {error}") from error


def dicom(rng: np.random.Generator, folder: Path) -> None:
    """A series in a folder; what is read of it is named, or told to be passed over."""
    files, harmless = damaged_dicom(rng)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    found, read = read_all(folder, harmless)
    for case, volume, _ in read:
        require_voxels(volume, pydicom_reads([path.read_bytes() for path in case.files]), case.case_id)
    used = {path.name for case in found.cases for path in case.files}
    told = " ".join(f"{note.where} {note.message}" for one in (found, *found.cases) for note in one.notes)
    silent = [name for name in files if name not in used and name not in told]
    silent = [name for name in silent if not name.startswith((".", "Thumbs"))]
    require(not silent, f"passed over, and nobody says so: {silent}")


# Pictures

LEVELS = ((0, 127, 255), (0, 100, 200), (0, 85, 170), (0, 50, 100), (0, 1, 2), (0, 128, 255), (255, 127, 0))


def picture_bytes(rng: np.random.Generator, grey: np.ndarray, end: str) -> bytes:
    """Encoded as it may come: grey, colour, with alpha, by a palette, turned by EXIF, 16 bits."""
    picture, options = Image.fromarray(grey), {}
    how = rng.choice(["plain", "RGB", "RGBA", "P", "LA", "exif", "I;16", "CMYK", "plain"])
    if how == "exif":
        options["exif"] = Image.Exif()
        options["exif"][274] = int(rng.integers(1, 9))
    elif how == "I;16" and end == "png":
        picture = Image.fromarray(grey.astype(np.uint16) * 257)
    elif how in {"png": ("RGB", "RGBA", "P", "LA"), "jpg": ("RGB", "CMYK")}[end]:
        picture = picture.convert(how)
    buffer = io.BytesIO()
    picture.save(buffer, {"png": "PNG", "jpg": "JPEG"}[end], **options)
    return buffer.getvalue()


def opencv_reads(content: bytes) -> np.ndarray | None:
    """Grey levels uint8 (H, W), turned as EXIF asks; None where it cannot."""
    return cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_GRAYSCALE) if content else None


def _encoded(grey: np.ndarray, end: str) -> bytes:
    return cv2.imencode(f".{end}", grey, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()


def pictures(rng: np.random.Generator, folder: Path) -> None:
    """Slices of a volume as PNG or JPEG with masks: a picture or a mask is damaged, or encoded otherwise."""
    hu, truth = small_ct(int(rng.integers(3)), (5, 40, 48))
    end, usual = str(rng.choice(["png", "jpg"])), rng.random() >= 0.4
    levels = np.array(LEVELS[0 if usual else rng.integers(len(LEVELS))], np.uint8)
    greys, masks = np.clip(hu, 0, 255).astype(np.uint8), levels[truth]
    contents = [[_encoded(one, end) for one in each] for each in (greys, masks)]
    part, k = int(rng.random() < 0.5), int(rng.integers(5))
    if rng.random() < 0.6:
        contents[part][k] = damage(rng, contents[part][k])
    else:
        contents[part][k] = picture_bytes(rng, (greys, masks)[part][k], end)
    for n in range(5):
        for name, each in (("", contents[0]), ("_mask", contents[1])):
            (folder / f"volume-0_slice_{n}{name}.{end}").write_bytes(each[n])
    ((case, volume, labels),) = read_all(folder)[1]
    require(case.slice_numbers == tuple(range(5)), f"slices {case.slice_numbers}")
    require(labels is not None, "labels lost")
    blur, wrong = (0, 0) if end == "png" else (40, 0.03)  # of JPEG
    for n, seen in enumerate(map(opencv_reads, contents[0])):
        alike = seen is not None and seen.shape == volume.voxels[n].shape
        require(alike, f"OpenCV reads slice {n} otherwise")
        require((np.abs(volume.voxels[n] - seen.astype(int)) <= 2).all(), f"slice {n} has other greys")
    for n, seen in enumerate(map(opencv_reads, contents[1])):
        require(seen is not None and seen.shape == labels[n].shape, f"OpenCV reads mask {n} otherwise")
        apart = np.abs(seen[..., None].astype(int) - levels.astype(int))
        if apart.min(-1).max() <= blur:  # else what the picture means is anyone's guess
            share = (labels[n] != apart.argmin(-1)).mean()
            require(share <= wrong, f"mask {n}: {share:.0%} of the labels differ")


DOORS = {"dicom": dicom, "pictures": pictures}
SHARES = {"dicom": 0.4, "pictures": 0.6}
"""Of all inputs."""
FEW, MANY = 50, int(os.environ.get("LIVSEG_FAULTS", "2000"))
AGAIN, _, SEED = os.environ.get("LIVSEG_FAULT", "").partition(":")


@pytest.mark.parametrize("name", DOORS)
def test_a_few_damaged_inputs(name, tmp_path):
    draw(name, FEW, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", DOORS)
def test_many_damaged_inputs(name, tmp_path):
    draw(name, MANY, tmp_path)


def draw(name, inputs, folder):
    """This door's share of `inputs`; the first seeds of a longer draw are those of a shorter one."""
    seeds = range(max(3, round(inputs * SHARES[name]))) if not AGAIN else [int(SEED)] if name == AGAIN else []
    outcomes = [attempt(name, DOORS[name], seed, folder / "input") for seed in seeds]
    print(name, len(outcomes), dict(Counter(outcome.kind for outcome in outcomes)))
    faults = [outcome for outcome in outcomes if outcome.is_fault]
    stories = [f"LIVSEG_FAULT={one.door}:{one.seed} {one.kind}: {one.story}" for one in faults[:10]]
    assert not faults, "\n".join([f"{len(faults)} faults of {len(outcomes)}", *stories])
