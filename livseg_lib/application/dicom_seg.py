"""Labels as a DICOM segmentation that lies over its scan.

DICOM wants a patient in every object. Unless the scan's headers carry an identity (`--keep-identity`), the
patient is called ANONYMOUS, and of the scan only those UIDs are repeated that lay the one over the other.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Sequence
from copy import deepcopy
from itertools import product
from pathlib import Path

import numpy as np
from highdicom import UID, AlgorithmIdentificationSequence
from highdicom.color import CIELabColor
from highdicom.seg import SegmentAlgorithmTypeValues, Segmentation, SegmentationTypeValues, SegmentDescription
from pydicom import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import generate_uid

from livseg_lib import WARNING
from livseg_lib.application.scan import IDENTITY
from livseg_lib.labels import structure_mask
from livseg_lib.volumes import Volume

ANONYMOUS = {"PatientName": "ANONYMOUS^", "PatientID": "ANONYMOUS"}
SERIES_NUMBER = 9000  # far from the numbers of scanners

SEGMENTS = {
    "liver": ("Liver with its tumours", codes.SCT.AnatomicalStructure, codes.SCT.Liver, (86, 180, 233)),
    "tumor": ("Liver tumours", codes.SCT.MorphologicallyAbnormalStructure, codes.SCT.Neoplasm, (230, 159, 0)),
}
"""Structure -> label, category and type (SNOMED CT); red, green and blue of `reporting.style`."""


def write_dicom_seg(
    labels: np.ndarray,
    volume: Volume,
    headers: Sequence[Dataset],
    structures: Sequence[str],
    algorithm: tuple[str, str],
    path: Path,
) -> Path:
    """Write labels 0/1/2 (D, H, W) on the grid of `volume`, a binary segment a structure.

    `headers`: one a slice of the scan, in the order of its stored slices (`scan.Scan`). `algorithm` is name
    and version. Slices that show nothing are left out, as the standard allows.
    """
    stored = volume.native.to_stored(labels).transpose(2, 1, 0)  # slice, row, column
    masks = np.stack([structure_mask(stored, name) for name in structures], axis=-1).view(np.uint8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they quote names
        anonymous = [deepcopy(each) for each in headers]
        for header, keyword in product(anonymous, IDENTITY):  # the standard asks for a patient: nobody
            setattr(header, keyword, ANONYMOUS.get(keyword, ""))
        segmentation = _segmentation(masks, anonymous, structures, algorithm)
        for keyword in IDENTITY:
            if keyword in headers[0]:
                setattr(segmentation, keyword, headers[0][keyword].value)
    if "PatientID" not in headers[0]:
        segmentation.PatientIdentityRemoved = "YES"
        segmentation.DeidentificationMethod = "livseg repeats UIDs of the scan and nothing else"
    segmentation.save_as(path)
    return path


def _segmentation(
    masks: np.ndarray, headers: Sequence[Dataset], structures: Sequence[str], algorithm: tuple[str, str]
) -> Segmentation:
    """masks: uint8 0/1, (slice, row, column, structure). Equal content has equal UIDs, whenever made."""
    name, version = algorithm
    content = [*(str(header.SOPInstanceUID) for header in headers), *structures, *algorithm]
    content.append(hashlib.sha256(masks.tobytes()).hexdigest())
    series, instance, dimensions = (generate_uid(entropy_srcs=[*content, use]) for use in "sid")
    identity = AlgorithmIdentificationSequence(
        name=f"livseg {name}", version=version, family=codes.DCM.ArtificialIntelligence, source="livseg"
    )
    segmentation = Segmentation(
        source_images=headers,
        pixel_array=masks,
        segmentation_type=SegmentationTypeValues.BINARY,
        segment_descriptions=[_segment(n, each, identity) for n, each in enumerate(structures, start=1)],
        series_instance_uid=UID(series),
        series_number=SERIES_NUMBER,
        sop_instance_uid=UID(instance),
        instance_number=1,
        manufacturer="livseg",
        manufacturer_model_name=name,
        software_versions=version,
        device_serial_number="none",
        content_label="LIVER_TUMOURS",
        content_description=WARNING,
        content_creator_name="livseg^",
        series_description=f"livseg {name}. {WARNING}",
    )
    for item in (*segmentation.DimensionOrganizationSequence, *segmentation.DimensionIndexSequence):
        item.DimensionOrganizationUID = dimensions  # highdicom draws one
    return segmentation


def _segment(number: int, structure: str, identity: AlgorithmIdentificationSequence) -> SegmentDescription:
    label, category, kind, colour = SEGMENTS[structure]
    return SegmentDescription(
        segment_number=number,
        segment_label=label,
        segmented_property_category=category,
        segmented_property_type=kind,
        algorithm_type=SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=identity,
        anatomic_regions=[codes.SCT.Liver] if structure == "tumor" else None,
        display_color=CIELabColor.from_rgb(*colour),
    )
