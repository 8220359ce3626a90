"""Scans: NIfTI files with their labels, DICOM series, slice pictures with masks, zips."""

from __future__ import annotations

import contextlib
import gzip
import io
import shutil
import zipfile
from pathlib import Path

import cv2
import nibabel
import numpy as np
import pydicom
from dicom_files import ct_slice
from faulty_inputs import (
    damage,
    flip_bits,
    must_be_read,
    read_too_by,
    require,
    require_helpful,
    run_command,
)
from layouts import small_ct
from PIL import Image
from pydicom.uid import RLELossless

from livseg_lib.datasets.case import Case, Dataset
from livseg_lib.datasets.catalogue import check_dataset, find_cases
from livseg_lib.errors import InputError

SHAPE = (6, 16, 20)
COMMANDS = 0.01  # share of the inputs that `livseg check` or `livseg extract` meets too
FIELD_VALUES = (0, -1, 1, 2, 127, 1e9, np.nan, np.inf, 1e-30, -32768, 65536, 0.1, 4, 16, 512)
HEADERS = {348: nibabel.Nifti1Image, 540: nibabel.Nifti2Image}


def read_all(
    rng: np.random.Generator, folder: Path, harmless: bool = False
) -> tuple[Dataset, list[tuple[Case, object, object]]]:
    """Every case of `folder` through the door that all commands use: what was found, and what was read. Some
    go through a command first, which may refuse, and may not break down."""
    if rng.random() < COMMANDS:
        out = ["--workers=1", "--out", str(folder.with_name("out"))]
        with contextlib.suppress(InputError):
            run_command([str(rng.choice(["check", "extract"])), str(folder), *out])
        shutil.rmtree(out[-1], ignore_errors=True)
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


# NIfTI


def nibabel_reads(content: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Scaled values float64 (D, H, W) in LPS, and the sides of a voxel in mm along them."""
    with read_too_by("nibabel"):
        if content[:2] == b"\x1f\x8b":
            content = gzip.decompress(content)
        length = int.from_bytes(content[:4], "little"), int.from_bytes(content[:4], "big")
        kind = next(HEADERS[n] for n in length if n in HEADERS)
        header = _header(content)
        if header["vox_offset"] == 0:  # nibabel would take the header for voxels
            header["vox_offset"] = header.single_vox_offset
            content = header.binaryblock + content[len(header.binaryblock) :]
        image = nibabel.as_closest_canonical(kind.from_bytes(content))
        array = np.asarray(image.get_fdata(dtype=np.float64))
        while array.ndim > 3:
            array = array[..., 0]
        return array[::-1, ::-1].transpose(2, 1, 0), np.array(image.header.get_zooms()[:3])[::-1]


def nifti_pair(rng: np.random.Generator) -> tuple[bytes, bytes]:
    """A volume and its labels as .nii, in one of many kinds of header, type, order of axes and scaling."""
    hu, labels = small_ct(int(rng.integers(3)), SHAPE)
    axes, signs = rng.permutation(3), rng.choice([-1, 1], 3)
    affine = np.eye(4)
    affine[:3, :3] = np.diag([-0.7, -0.8, 2.5]) if rng.random() < 0.5 else 0
    if not affine[0, 0]:
        for n, axis in enumerate(axes):
            affine[axis, n] = signs[n] * (0.7, 0.8, 2.5)[n]
    if rng.random() < 0.2:
        turn = np.radians(rng.uniform(-20, 20))
        cos, sin = np.cos(turn), np.sin(turn)
        affine[:3, :3] = [[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]] @ affine[:3, :3]
    affine[:3, 3] = rng.uniform(-200, 200, 3)
    slope, intercept = ((1, 0), (1, -1024), (0.5, -1000), (2, 0))[rng.integers(4)]
    kind = HEADERS[rng.choice(list(HEADERS))]
    order = rng.choice(["<", ">"])
    types = [rng.choice(["i2", "i4", "f4", "f8"]), rng.choice(["u1", "i2", "f4"])]
    contents = []
    for array, dtype, scaling in zip((hu, labels), types, ((slope, intercept), (1, 0)), strict=True):
        stored = np.rint((array.T - scaling[1]) / scaling[0]).astype(order + dtype)
        image = kind(stored, affine, kind.header_class(endianness=order))
        image.set_data_dtype(stored.dtype)
        image.set_sform(affine, code=int(rng.integers(1, 3)))
        image.set_qform(affine, code=int(rng.integers(0, 3)))
        image.header.set_xyzt_units("mm")
        image.header.set_slope_inter(*scaling)
        contents.append(_with_scaling(image.to_bytes(), scaling))
    return contents[0], contents[1]


def _with_scaling(content: bytes, scaling: tuple[float, float]) -> bytes:
    header = _header(content)
    header["scl_slope"], header["scl_inter"] = scaling
    return header.binaryblock + content[len(header.binaryblock) :]


def _header(content: bytes):
    little = int.from_bytes(content[:4], "little") in HEADERS
    length = int.from_bytes(content[:4], "little" if little else "big")
    return HEADERS[length].header_class(content[:length], endianness="<" if little else ">", check=False)


def damaged_nifti(rng: np.random.Generator, plain: bytes) -> tuple[str, bytes, bool]:
    """Suffix and content of a damaged file, and whether the damage is none."""
    zipped = rng.random() < 0.5
    how = rng.choice(["bytes", "bytes", "header bits", "field", "field", "text", "level"])
    if how == "header bits":
        plain = flip_bits(rng, plain, 0, 352)
    if how in ("field", "text"):
        header = _header(plain)
        texts = ("descrip", "aux_file", "intent_name", "cal_max", "slice_duration", "toffset", "intent_p1")
        fields = texts if how == "text" else header.structarr.dtype.names
        name = fields[rng.integers(len(fields))]
        flat = header.structarr[name].reshape(-1) if header.structarr[name].ndim else None
        value = FIELD_VALUES[rng.integers(len(FIELD_VALUES))]
        kind = header.structarr[name].dtype
        if kind.kind == "S":
            new = rng.bytes(kind.itemsize)
        else:
            new = kind.type(value) if kind.kind == "f" else np.int64(np.nan_to_num(value)).astype(kind)
        if flat is None:
            header.structarr[name] = new
        else:
            flat[rng.integers(len(flat))] = new
        plain = header.binaryblock + plain[len(header.binaryblock) :]
    content = plain
    if zipped:
        content = gzip.compress(plain, int(rng.integers(0, 10)), mtime=int(rng.integers(2**31)))
        if how == "level" and rng.random() < 0.5:  # two members, as bgzip and pigz write
            cut = int(rng.integers(1, len(plain)))
            content = gzip.compress(plain[:cut]) + gzip.compress(plain[cut:])
    if how == "bytes":
        content = damage(rng, content)
    return (".nii.gz" if zipped else ".nii"), content, how in ("text", "level")


def nifti(rng: np.random.Generator, folder: Path) -> None:
    """A volume and its labels, one of which is damaged."""
    pair = nifti_pair(rng)
    hit = int(rng.random() < 0.4)
    ends, contents, harmless = [".nii", ".nii"], list(pair), False
    ends[hit], contents[hit], harmless = damaged_nifti(rng, pair[hit])
    for name, end, content in zip(("volume-0", "segmentation-0"), ends, contents, strict=True):
        (folder / f"{name}{end}").write_bytes(content)
    ((_, volume, labels),) = read_all(rng, folder, harmless)[1]
    expected, sides_mm = nibabel_reads(contents[0])
    require_voxels(volume, expected, "the volume")
    require(np.allclose(volume.spacing_mm, sides_mm, rtol=0.011), f"sides {sides_mm}: {volume.spacing_mm}")
    require(labels is not None, "labels lost")
    expected, _ = nibabel_reads(contents[1])
    require(expected.shape == labels.shape and (np.abs(expected - labels) < 0.01).all(), "other labels")


# DICOM

WORDS = ("", "nan", "inf", "-1", "0", "1e308", "1e-320", "abc", "1\\2", "-0.5", "2.0", "5", "9" * 16)
WORDS += ("MONOCHROME1",)
NUMBERS = (0, 1, 2, 3, 12, 15, 16, 255, 65535)
TAGS = (
    *("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "SeriesNumber", "ImageType", "Modality"),
    *("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness"),
    *("Rows", "Columns", "SamplesPerPixel"),
    *("PhotometricInterpretation", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation"),
    *("RescaleSlope", "RescaleIntercept", "PatientName", "PixelData"),
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
    with read_too_by("pydicom"):
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


def dicom(rng: np.random.Generator, folder: Path) -> None:
    """A series in a folder; what is read of it is named, or told to be passed over."""
    files, harmless = damaged_dicom(rng)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    found, read = read_all(rng, folder, harmless)
    for case, volume, _ in read:
        require_voxels(volume, pydicom_reads([path.read_bytes() for path in case.files]), case.case_id)
    used = {path.name for case in found.cases for path in case.files}
    told = " ".join(f"{note.where} {note.message}" for one in (found, *found.cases) for note in one.notes)
    silent = [name for name in files if name not in used and name not in told]
    silent = [name for name in silent if not name.startswith((".", "Thumbs"))]
    require(not silent, f"passed over, and nobody says so: {silent}")


def zipped(rng: np.random.Generator, folder: Path) -> None:
    """A series in a zip that is damaged, in a member or in the archive itself."""
    files = {name: _dicom_bytes(one) for name, one in zip("abcdef", dicom_series(rng), strict=True)}
    how = rng.choice(["archive", "archive", "member", "path", "nested", "method"])
    if how == "member":
        files, _ = damaged_dicom(rng)
    prefix = str(rng.choice(["", "series/", "../", "/", "a/../", "C:\\"])) if how == "path" else "series/"
    buffer = io.BytesIO()
    method = int(rng.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]))
    with zipfile.ZipFile(buffer, "w", method if how == "method" else zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(prefix + name, content)
    content = buffer.getvalue()
    if how == "archive":
        content = damage(rng, content)
    if how == "nested":
        outer = io.BytesIO()
        with zipfile.ZipFile(outer, "w") as archive:
            archive.writestr("inner.zip", content)
        content = outer.getvalue()
    path = folder / "scan.zip"
    path.write_bytes(content)
    _, read = read_all(rng, path, how == "method")
    members = _members(content)
    require(len(read) == 1, f"{len(read)} cases")
    require_voxels(read[0][1], pydicom_reads(members), "the zip")


def _members(content: bytes) -> list[bytes]:
    """What Python's zipfile reads of it, checksums and all; inner zips are opened."""
    with read_too_by("zipfile"), zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist() if not info.is_dir()}
    inner = [_members(one) for name, one in members.items() if name.endswith(".zip")]
    whole = [one for one in members.values() if len(one) > 300]
    return [one for several in inner for one in several] or whole


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
    ((case, volume, labels),) = read_all(rng, folder)[1]
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


DOORS = {"nifti": nifti, "dicom": dicom, "zip": zipped, "pictures": pictures}
