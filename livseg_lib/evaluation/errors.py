"""Every tumour that a system missed or invented, with what may explain it.

A *false negative* is a true tumour of which no voxel is predicted, a *false positive* a predicted one that
shares no voxel with a true one. (`count_detections` at overlap 0 counts more: of tumours that one joins all
but one are missed, of pieces of one all but one are surplus.) Tumours are label 2, connected by voxel faces,
numbered as in `lesions`.

System B names two classes: a *bright texture* is a false positive whose mean lies at least BRIGHT_HU above
the patient's liver and whose voxels differ by more than TEXTURE_SD_HU; *low contrast* is a missed tumour
whose mean lies within CONTRAST_EDGES_HU[0] of the liver around it. Errors of unknown brightness or contrast
are "undefined", and counted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial

import edt
import numpy as np
import pandas as pd
from scipy.ndimage import binary_erosion, find_objects

from livseg_lib.evaluation.lesions import LesionOverlap, detected_pairs, lesion_overlap, size_class
from livseg_lib.evaluation.masks import BoxSlices, require_label_volumes
from livseg_lib.evaluation.statistics import mean_with_interval, stacked
from livseg_lib.labels import BACKGROUND, LIVER, TUMOR, structure_mask
from livseg_lib.postprocessing.components import label_components
from livseg_lib.postprocessing.measures import axial_diameters
from livseg_lib.preprocessing.geometry import widened

FALSE_POSITIVE, FALSE_NEGATIVE = "false positive", "false negative"
OBJECT_FEATURES = (
    *("voxels", "volume_ml", "diameter_mm", "longest_diameter_mm", "mean_hu", "sd_hu", "above_liver_hu"),
    *("rim_hu", "contrast_hu", "border_distance_mm", "outside_share", "is_beside_tumor", "is_really"),
    "neighbour",
)
"""Of `describe_objects`, which tells what they are."""

TUMOR_RIM_MM = 5.0  # liver within this distance of a tumour is what a reader compares it with


@dataclass(frozen=True, eq=False)
class TrueCase:
    """What predictions of one case are held against; all arrays (D, H, W) of one grid."""

    labels: np.ndarray  # the truth, 0/1/2
    spacing_mm: tuple[float, float, float]  # (D, H, W); NaN for pictures
    voxels: np.ndarray | None = None  # int16 HU; None for pictures, whose greys are no HU
    organs: np.ndarray | None = None  # what each voxel really is, uint8 codes; None where nobody knows
    organ_names: Mapping[int, str] = field(default_factory=dict)  # code -> name, for `organs`

    @cached_property
    def spacing(self) -> np.ndarray:
        return np.asarray(self.spacing_mm, float)

    @cached_property
    def tumors(self) -> pd.DataFrame:
        """`describe_objects` of the true tumours."""
        return describe_objects(label_components(structure_mask(self.labels, "tumor"))[0], self)

    @cached_property
    def liver_hu(self) -> float:
        """Median HU of the liver without its tumours; NaN without HU or such liver."""
        liver = self.labels == LIVER
        return float(np.median(self.voxels[liver])) if self.voxels is not None and liver.any() else np.nan

    @cached_property
    def border_mm(self) -> np.ndarray:
        """Distance in mm to the nearest border voxel of the true liver, whose tumours are liver too; float32.

        A border voxel is liver and has a face neighbour that is not; what lies beyond the scan is unknown and
        makes no border. Infinite where there is no border, NaN without spacing.
        """
        liver = structure_mask(self.labels, "liver")
        border = liver & ~binary_erosion(liver, border_value=1)
        if np.isnan(self.spacing).any() or not border.any():
            return np.full(liver.shape, np.nan if np.isnan(self.spacing).any() else np.inf, np.float32)
        return edt.edt(~border, anisotropy=tuple(self.spacing))


@dataclass(frozen=True, eq=False)
class CaseErrors:
    """What `find_errors` found in one case."""

    objects: pd.DataFrame
    """A row an error: error (FALSE_POSITIVE or FALSE_NEGATIVE), object (its number on its own side), then
    OBJECT_FEATURES."""
    tumors: pd.DataFrame
    """A row a true tumour: object and OBJECT_FEATURES, found_share, hit, detected (`lesion_hits`), is_fused
    (a predicted tumour covers it and another one) and pieces (predicted tumours that touch it)."""
    fusing: int  # predicted tumours that cover parts of more than one true one
    predicted: int  # predicted tumours


def find_errors(prediction: np.ndarray, case: TrueCase) -> CaseErrors:
    """Compare integer labels (D, H, W) with a case. Raises InputError for arrays of other kinds or shapes."""
    require_label_volumes(prediction, case.labels)
    lesions = lesion_overlap(structure_mask(prediction, "tumor"), structure_mask(case.labels, "tumor"))
    ids = np.arange(lesions.n_prediction + 1, dtype=lesions.prediction_components.dtype)
    components = np.where(np.append(False, lesions.untouched), ids, 0)[lesions.prediction_components]
    tumors = case.tumors.merge(lesion_hits(lesions).rename(columns={"lesion": "object"}), on="object")
    touched = lesions.table[1:, 1:] > 0
    fusing = touched.sum(axis=1) > 1
    tumors = tumors.assign(is_fused=touched[fusing].sum(axis=0) > 0, pieces=touched.sum(axis=0))
    sides = {FALSE_POSITIVE: describe_objects(components, case), FALSE_NEGATIVE: tumors[~tumors.hit]}
    objects = stacked([table.assign(error=error) for error, table in sides.items()])
    objects = objects[["error", "object", *OBJECT_FEATURES]]
    return CaseErrors(objects, tumors, int(fusing.sum()), lesions.n_prediction)


def lesion_hits(lesions: LesionOverlap) -> pd.DataFrame:
    """A row a true tumour, in the order of its id, and what was found of it: `found_share` of its voxels, 0
    to 1; whether it is `hit` (more than nothing), and `detected`: in a pair of IoU > 0.5
    (`count_detections`)."""
    found = lesions.table[1:, 1:].sum(axis=0) / lesions.reference_voxels[1:]
    detected = [lesion for pair in detected_pairs(lesions)[0] for lesion in pair.reference_ids]
    ids = np.arange(1, lesions.n_reference + 1)
    hits = {"found_share": found, "hit": found > 0, "detected": np.isin(ids, detected)}
    return pd.DataFrame({"lesion": ids} | hits)


def describe_objects(components: np.ndarray, case: TrueCase) -> pd.DataFrame:
    """A row an object of `components` (ids, 0 outside; (D, H, W) as the case): object, OBJECT_FEATURES.

    `diameter_mm` is that of the ball of the same volume, `longest_diameter_mm` that of `axial_diameters`.
    `mean_hu` and `sd_hu` are over its voxels, `above_liver_hu` is the mean minus the median of the liver
    without tumours: positive where it is brighter. `rim_hu` is the mean of the liver (label 1) within
    TUMOR_RIM_MM of it, and `contrast_hu` is `rim_hu` minus `mean_hu`: positive where it is darker, NaN where
    no such liver is near. `border_distance_mm` is the shortest from one of its voxels to the liver's border,
    0 where it holds a part of it. `outside_share` of its voxels are not liver, 0 to 1. `is_beside_tumor`: a
    true tumour, another one, lies within TUMOR_RIM_MM. With `organs`, `is_really` names what most of it is,
    and `neighbour` what most of that within TUMOR_RIM_MM of it is, liver parenchyma left out ("none" if that
    is all); otherwise both are None. Without spacing or HU what needs them is NaN.
    """
    rows = [
        {"object": number} | _described(components, number, box, case)
        for number, box in enumerate(find_objects(components), start=1)
        if box is not None
    ]
    return pd.DataFrame(rows, columns=["object", *OBJECT_FEATURES])


def room_around(box: BoxSlices, shape: tuple[int, ...], spacing_mm: np.ndarray) -> BoxSlices:
    """`box` widened by TUMOR_RIM_MM on every side; `box` itself where the spacing is unknown."""
    return box if np.isnan(spacing_mm).any() else widened(box, shape, spacing_mm, TUMOR_RIM_MM)


def _described(components: np.ndarray, number: int, box: BoxSlices, case: TrueCase) -> dict:
    """OBJECT_FEATURES of one object in its box, but for those that nobody knows."""
    around = room_around(box, case.labels.shape, case.spacing)
    inside, labels = components[around] == number, case.labels[around]
    near = np.zeros_like(inside)  # within the rim; nobody knows it without spacing
    if not np.isnan(case.spacing).any():
        near = (edt.edt(~inside, anisotropy=case.spacing_mm) <= TUMOR_RIM_MM) & ~inside
    voxels = int(inside.sum())
    volume_ml = voxels * float(case.spacing.prod()) / 1000.0
    row = {
        "voxels": voxels,
        "volume_ml": volume_ml,
        "diameter_mm": (6000.0 * volume_ml / np.pi) ** (1 / 3),
        "longest_diameter_mm": axial_diameters(inside, case.spacing_mm).longest_mm,
        "border_distance_mm": float(case.border_mm[around][inside].min()),
        "outside_share": float((labels[inside] == BACKGROUND).mean()),
    }
    if not np.isnan(case.spacing).any():
        row["is_beside_tumor"] = bool((labels[near] == TUMOR).any())
    if case.voxels is not None:
        hu, rim = case.voxels[around], near & (labels == LIVER)
        mean_hu = float(hu[inside].mean())
        rim_hu = float(hu[rim].mean()) if rim.any() else np.nan
        row |= {"mean_hu": mean_hu, "sd_hu": float(hu[inside].std())}
        row |= {"above_liver_hu": mean_hu - case.liver_hu, "rim_hu": rim_hu, "contrast_hu": rim_hu - mean_hu}
    if case.organs is not None:
        organs, names = case.organs[around], case.organ_names
        liver = [code for code, name in names.items() if name == "liver"]
        row["is_really"] = _commonest(organs[inside], names)
        row["neighbour"] = _commonest(organs[near & ~np.isin(organs, liver)], names)
    return row


def _commonest(codes: np.ndarray, names: Mapping[int, str]) -> str:
    """Name of the code that comes most often, "none" of none; of equals the lowest code."""
    return names[int(np.bincount(codes).argmax())] if codes.size else "none"


def match_painted(
    components: np.ndarray,
    spacing_mm: Sequence[float],
    painted: pd.DataFrame,
    corner: Sequence[int] = (0, 0, 0),
) -> pd.DataFrame:
    """A row a true tumour: object (its id in `components`, (D, H, W)), painted (how many), and edge: "sharp"
    or "diffuse" as its painted lesions are, "mixed" of both kinds, "unknown" of none.

    `painted` are tumours of the phantom's lesions.csv: diameter_mm, diffuse, center_d_mm, center_h_mm,
    center_w_mm from the first voxel of the scan, of which `components` begins at voxel `corner`. A lesion
    belongs to the tumour at its centre, or else to the nearest one within its radius (a later lesion may have
    been painted over its centre); to none if there is none.
    """
    places_mm = np.argwhere(components) * np.asarray(spacing_mm, float)
    ids = components[components > 0]
    centres = painted[["center_d_mm", "center_h_mm", "center_w_mm"]].to_numpy(float)
    centres = centres - np.asarray(corner) * np.asarray(spacing_mm, float)
    diffuse: dict[int, list[bool]] = {int(each): [] for each in np.unique(ids)}
    for centre, lesion in zip(centres, painted.itertuples(), strict=True):
        distances = np.linalg.norm(places_mm - centre, axis=1)
        if distances.min(initial=np.inf) <= lesion.diameter_mm / 2:
            diffuse[int(ids[distances.argmin()])].append(bool(lesion.diffuse))
    edges = {(): "unknown", (True,): "diffuse", (False,): "sharp", (False, True): "mixed"}
    rows = [(each, len(kinds), edges[tuple(sorted(set(kinds)))]) for each, kinds in diffuse.items()]
    return pd.DataFrame(rows, columns=["object", "painted", "edge"])


CONTRAST_EDGES_HU = (20.0, 40.0)
"""One and two standard deviations of the noise in abdominal CT, about 20 HU (18 to 20 in 3D-IRCADb and
CHAOS, 19 to 30 in LiTS, measured): below the first a tumour's mean lies within the noise of one voxel."""

BRIGHT_HU = CONTRAST_EDGES_HU[0]  # above the liver: clearly brighter, as is a vessel
TEXTURE_SD_HU = 30.0  # most of the noise measured (see above): what varies more is no even tissue
BRIGHT_TEXTURE, LOW_CONTRAST, OTHER, UNDEFINED = "bright texture", "low contrast", "other", "undefined"


def contrast_class(contrast_hu: pd.Series) -> pd.Series:
    """ "low", "middle" or "high" by the size of the contrast, darker or brighter alike; NaN of NaN.

    A contrast on an edge belongs to the upper class.
    """
    bins = [0.0, *CONTRAST_EDGES_HU, np.inf]
    return pd.cut(contrast_hu.abs(), bins, right=False, labels=["low", "middle", "high"]).astype(object)


def add_causes(objects: pd.DataFrame) -> pd.DataFrame:
    """`objects` (columns `error` and those of `describe_objects`) with brightness, texture, contrast, size,
    place, beside and `error_class` in words; None where HU, spacing or organs are unknown."""
    places = ("outside it", "across its border", "at its border", "deep in the liver")
    numbers = objects[["above_liver_hu", "sd_hu", "outside_share", "border_distance_mm"]].astype(float)
    above, sd, outside, border = numbers.to_dict("series").values()
    table = objects.assign(
        brightness=_first([above >= BRIGHT_HU, above < BRIGHT_HU], ("bright", "not bright")),
        texture=_first([sd > TEXTURE_SD_HU, sd <= TEXTURE_SD_HU], ("textured", "even")),
        contrast=contrast_class(objects.contrast_hu.astype(float)),
        size=objects.longest_diameter_mm.astype(float).map(size_class).replace("", None),
        place=_first([outside > 0.5, outside > 0, border <= TUMOR_RIM_MM, border > TUMOR_RIM_MM], places),
        beside=objects.is_beside_tumor.map({True: "beside a true tumour", False: "by itself"}),
    )
    invented = table.error == FALSE_POSITIVE
    bright_texture = (table.brightness == "bright") & (table.texture == "textured")
    unknown = table.brightness.where(invented, table.contrast).isna()
    classes = [unknown, invented & bright_texture, ~invented & (table.contrast == "low")]
    names = (UNDEFINED, BRIGHT_TEXTURE, LOW_CONTRAST)
    return table.assign(error_class=_first(classes, names).fillna(OTHER))


def _first(holds: Sequence[pd.Series], names: Sequence[str]) -> pd.Series:
    """Of each row the name of the first condition that holds, else None."""
    return pd.Series(np.select(holds, names, ""), holds[0].index, dtype=object).replace("", None)


def count_classes(objects: pd.DataFrame, tumors: pd.DataFrame, seed: int) -> pd.DataFrame:
    """A row a system and kind of error: how much of it is system B's class.

    `objects` (`add_causes`) and `tumors` (true ones with `contrast` and `hit`) have `system` and `patient`;
    `tumors` names every system, with errors or not. Columns: system, error, error_class, n_errors (of both
    kinds), n_of_kind, n (of the class), n_undefined, share_of_errors and share_of_kind (0 to 1).
    """
    share, rows = partial(mean_with_interval, pooled=True, seed=seed), []
    for system in tumors.system.unique():
        errors = objects[objects.system == system]
        for kind, name in ((FALSE_POSITIVE, BRIGHT_TEXTURE), (FALSE_NEGATIVE, LOW_CONTRAST)):
            of_kind = errors[errors.error == kind]
            row = {"system": system, "error": kind, "error_class": name, "n_errors": len(errors)}
            row |= {"n_of_kind": len(of_kind), "n": int((of_kind.error_class == name).sum())}
            row |= {"n_undefined": int((of_kind.error_class == UNDEFINED).sum())}
            row |= share("share_of_errors", errors.error_class == name, errors.patient)
            rows.append(row | share("share_of_kind", of_kind.error_class == name, of_kind.patient))
    return pd.DataFrame(rows)
