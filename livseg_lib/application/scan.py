"""A case as it is read, whatever it is: NIfTI, pictures, or one series of DICOM."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path

import numpy as np
import pydicom
from pydicom.uid import CTImageStorage, MRImageStorage, generate_uid

from livseg_lib.datasets.dicom import Series, read_chosen, read_series, series_notes, skipped_notes, survey
from livseg_lib.datasets.dicom_headers import SliceHeader, damage_named, digits_only, read_whole
from livseg_lib.datasets.dicom_slices import stack_slices
from livseg_lib.datasets.file_trees import FileTree, open_tree
from livseg_lib.datasets.pictures import read_picture
from livseg_lib.errors import InputError, require_extra
from livseg_lib.preprocessing.windows import Window
from livseg_lib.volumes import Volume, load_volume, require_scan

STORED_HU = (0.0, 255.0)
"""HU of black and white in the public sets of LiTS slices: grey level and HU are the same there."""
TURNED = "The picture, and with it its mask, was turned as its EXIF orientation says."
COLORED = "The picture has colours, as no CT slice: it is read as grey, with all that is drawn on it."


@dataclass(frozen=True, eq=False)
class Scan:
    """What was read of one case. Nothing in it names a patient, but `headers` where that was asked for."""

    volume: Volume
    window: Window | None = None  # of pictures: the HU of black and of white
    slice_numbers: tuple[int, ...] | None = None  # original numbers of the slices of a stack of pictures
    headers: tuple[pydicom.Dataset, ...] = ()
    """Of DICOM, a header a slice in the order of space: where it lies and by which UID it is known."""
    notes: tuple[str, ...] = ()  # what was decided in reading, for the reader: sentences

    @property
    def is_picture(self) -> bool:
        """Whether it is made of pictures: no spacing, no place in space, HU only by someone's word."""
        return self.window is not None


@dataclass(frozen=True)
class Reading:
    """How inputs are read."""

    series: str | None = None  # number or UID of the DICOM series, where there are several
    picture_hu: tuple[float, float] = STORED_HU  # HU of black and of white in pictures
    keep_identity: bool = False  # whether a DICOM-SEG shall carry the patient's name and identifiers


def read_nifti(path: Path) -> Scan:
    volume = load_volume(path)
    require_scan(volume.voxels, path)
    return Scan(volume)


def read_pictures(
    read_volume: Callable[[], Volume],
    slice_numbers: tuple[int, ...] | None = None,
    hu: tuple[float, float] = STORED_HU,
    left_out: int = 0,
) -> Scan:
    """The grey levels 0..255 that `read_volume` gives, as HU from `hu[0]` (black) to `hu[1]` (white). Raises
    InputError for black and white: a mask."""
    (low, high), greys = hu, read_volume()
    if max(np.count_nonzero(np.bincount(plane.ravel())) for plane in greys.voxels) == 2:
        require_scan(greys.voxels, "picture")  # a mask that no name tells from a slice
    voxels = np.rint(low + greys.voxels * ((high - low) / 255.0)).astype(np.int16)
    notes = [
        f"A picture has no HU and no spacing: black is taken for {low:g} HU and white for {high:g} HU "
        "(--picture-hu), and what is measured in mm or ml is undefined."
    ]
    if left_out:
        notes.append(f"{left_out} pictures without a mask, among others with one, were left out.")
    volume = Volume(voxels, greys.spacing_mm)
    return Scan(volume, Window.between(low, high), slice_numbers, notes=tuple(notes))


def read_one_picture(path: Path, hu: tuple[float, float] = STORED_HU) -> Scan:
    """`read_pictures` of one file, (1, H, W); nothing is known of the spacing."""
    picture = read_picture(path)
    greys = Volume(picture.grey[np.newaxis].astype(np.int16), (np.nan, np.nan, np.nan))
    scan = read_pictures(lambda: greys, hu=hu)
    notes = [TURNED] * (picture.orientation != 1) + [COLORED] * (picture.colors is not None)
    return replace(scan, notes=(*scan.notes, *notes))


def parse_hu_range(text: str) -> tuple[float, float]:
    """ "-160,240" -> (-160.0, 240.0). Raises InputError unless these are two rising numbers."""
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        low = high = 0.0
    if not (np.isfinite([low, high]).all() and -32768 <= low < high <= 32767):
        problem = f"is {text!r}, not the HU of black and of white."
        raise InputError("--picture-hu", problem, "Write two numbers such as --picture-hu=-160,240.")
    return low, high


ENOUGH_SLICES = 20
"""A series of fewer is no scan of a liver but a test, a localizer or a few slices for a needle."""
AXIAL_COSINE = 0.9  # between the normal of axial slices and the patient's long axis, at least

PLACE = ("StudyInstanceUID", "FrameOfReferenceUID")
"""UIDs that tie a segmentation to its scan: random numbers, no names."""
IDENTITY = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex"),
    *("StudyID", "StudyDate", "StudyTime", "AccessionNumber", "ReferringPhysicianName"),
)
"""Read only where the user wants the segmentation to carry the patient's name."""


def read_dicom(source: Path, wanted: str | None = None, keep_identity: bool = False) -> Scan:
    """The CT series in `source`, a folder or a zip. Of several, `wanted` (number or UID) says which. Raises
    InputError as `read_series` does, and where several series could be meant."""
    require_extra("dicom", "highdicom")  # to write what is found
    found = survey(source)
    if not found.series:
        read_series(source)  # says why there is none
    of_ct = [item for item in found.series if item.modality == "ct"]
    among = found.series if wanted is not None else of_ct or found.series
    chosen, note = choose_series(among, wanted, source)
    volume = read_chosen(source, chosen)
    require_scan(volume.voxels, source)
    headers = _headers(source, stack_slices(chosen.slices, source).slices, keep_identity)
    decided = [each.message for each in (*series_notes(chosen, source), *skipped_notes(found, source))]
    return Scan(volume, headers=headers, notes=tuple(filter(None, (note, *decided))))


def choose_series(series: Sequence[Series], wanted: str | None, source: Path) -> tuple[Series, str]:
    """The series `wanted` by number or UID, the only one, or the only axial one of ENOUGH_SLICES. The second
    value says so where it was a choice. Raises InputError, with a list, where it is not clear."""
    listing = "; ".join(describe_series(item, series) for item in series)
    if wanted is not None:
        matching = [item for item in series if wanted in (str(item.number), item.uid)]
        if len(matching) == 1:
            return matching[0], ""
        count = "no" if not matching else "more than one"
        problem = f"There is {count} series {wanted}. Found: {listing}."
        raise InputError(source, problem, "Name one with --series, by its number or its UID.")
    if len(series) == 1:
        return series[0], ""
    clear = [item for item in series if is_axial(item) and len(item.slices) >= ENOUGH_SLICES]
    if len(clear) != 1:
        problem = f"There are {len(series)} CT series: {listing}."
        raise InputError(source, problem, "Choose one with --series, by its number or its UID.")
    note = f"Of {len(series)} series this is the only axial one of at least {ENOUGH_SLICES} slices: "
    return clear[0], f"{note}{describe_series(clear[0], series)}."


def describe_series(one: Series, among: Sequence[Series] = ()) -> str:
    """What it is, without a word of its description: that may hold names."""
    first = one.slices[0]
    unclear = one.number is None or Counter(other.number for other in among)[one.number] > 1
    name = f"series {one.uid}" if unclear else f"series {one.number}"
    size = f"{len(one.slices)} slices of {first.shape[0]} x {first.shape[1]}"
    spacing = f"{first.pixel_spacing_mm[0]:.2f} mm"
    thickness = "" if first.thickness_mm is None else f", {first.thickness_mm:.2f} mm thick"
    return f"{name}: {size}, {spacing}{thickness}, {'axial' if is_axial(one) else 'not axial'}"


def is_axial(series: Series) -> bool:
    """Whether its slices lie across the patient's long axis."""
    return bool(abs(np.cross(*series.slices[0].directions)[2]) >= AXIAL_COSINE)


def _headers(source: Path, slices: Sequence[SliceHeader], keep_identity: bool) -> tuple[pydicom.Dataset, ...]:
    """One a slice: place, size and UIDs, and what all of them share."""
    tags = [*PLACE, *(IDENTITY if keep_identity else ())]
    where = f"{source}/{slices[0].name}"
    with damage_named(where), open_tree(source) as tree:
        first, digest = read_whole(tree, slices[0].name, tags), cache(partial(_digest, tree))
        shared = {
            keyword: digits_only(first.get(keyword))
            or generate_uid(entropy_srcs=[digest(slices[0].name), keyword])
            for keyword in PLACE
        }
        by_uid: dict[str, SliceHeader] = {}
        for header in slices:  # emptied and shared UIDs, and those of frames, cannot tell slices apart
            known = header.instance_uid not in ("", *by_uid)
            new_uid = "" if known else generate_uid(entropy_srcs=[digest(header.name), str(len(by_uid))])
            by_uid[new_uid or header.instance_uid] = header
    shared |= {keyword: first.get(keyword, "") for keyword in tags[len(PLACE) :]}
    return tuple(_header(header, uid, shared) for uid, header in by_uid.items())


def _digest(tree: FileTree, name: str) -> str:
    """Of a file, to make UIDs of that are missing: the same ones at each reading."""
    with tree.open_file(name) as file:
        return hashlib.sha256(file.read()).hexdigest()


def _header(stored: SliceHeader, instance_uid: str, shared: dict) -> pydicom.Dataset:
    header = pydicom.Dataset()
    header.SOPClassUID = CTImageStorage if stored.modality == "ct" else MRImageStorage
    header.Modality = stored.modality.upper()
    header.SOPInstanceUID, header.SeriesInstanceUID = instance_uid, stored.series_uid
    header.Rows, header.Columns = stored.shape
    header.ImagePositionPatient = _decimals(stored.position_mm)
    header.ImageOrientationPatient = _decimals(stored.directions.ravel())
    header.PixelSpacing = _decimals(stored.pixel_spacing_mm)
    header.SliceThickness = None if stored.thickness_mm is None else _decimals([stored.thickness_mm])[0]
    for keyword, value in shared.items():
        setattr(header, keyword, value)
    return header


def _decimals(values: Sequence[float]) -> list[pydicom.valuerep.DSfloat]:
    """Numbers as DICOM writes them, in at most 16 characters."""
    return [pydicom.valuerep.DSfloat(float(value), auto_format=True) for value in values]
