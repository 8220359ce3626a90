"""Liver and tumours by thresholds and components alone, a few numbers chosen on training patients.

The liver is the largest connected part of what has its HU, after an opening that cuts the bridges to its
neighbours. Tumours are what is darker than the rest of that liver, away from its blurred edge.
Thresholds apply on slices of `PIXEL_MM`: an average over the noise, and a fraction of the voxels.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from math import prod

import cv2
import numpy as np

from livseg_lib.datasets.case import Case, read_each
from livseg_lib.errors import InputError
from livseg_lib.evaluation.masks import dice, overlap_counts
from livseg_lib.labels import LIVER, TUMOR, structure_mask
from livseg_lib.postprocessing.components import fill_holes, largest_component, remove_small_components
from livseg_lib.preprocessing.geometry import resize
from livseg_lib.preprocessing.windows import as_hu
from livseg_lib.volumes import Volume

PIXEL_MM = 2.0
_SMOOTHING_MM = 2.0  # standard deviation of the Gaussian filter within slices
LOWEST_HU, HIGHEST_HU = -100, 300  # cut here before smoothing, or lung and bone colour their neighbourhood
_SMALLEST_ML = 1.0  # a ball of 12 mm; smaller are mostly noise, and vessels before the contrast reaches them


@dataclass(frozen=True)
class LiverRule:
    """What counts as liver; HU, or grey levels of pictures."""

    lowest_hu: float
    highest_hu: float
    opening_mm: float  # radius: what is thinner than twice that is cut off


@dataclass(frozen=True)
class TumorRule:
    """What counts as tumour inside a liver."""

    cut_hu: float  # what is at most so bright
    margin_mm: float  # the outermost part of a liver is dark by its blur, and left out
    is_relative: bool = True
    """Whether `cut_hu` counts from the median of the liver at hand: contrast differs from scan to scan."""


@dataclass(frozen=True)
class SmoothScan:
    """A volume as the rules see it."""

    planes: np.ndarray  # float32 HU, (D, h, w), pixels of about PIXEL_MM
    voxel_volume_ml: float
    is_contiguous: bool  # whether neighbouring planes touch; single pictures of a patient do not

    @property
    def blocks(self) -> list[slice]:
        """Planes that belong together: all, or each picture by itself."""
        if self.is_contiguous:
            return [slice(None)]
        return [slice(index, index + 1) for index in range(len(self.planes))]


def smooth_scan(volume: Volume) -> SmoothScan:
    """Slices averaged to `PIXEL_MM` and smoothed, one after another. No full-size copy is made."""
    depth, height, width = volume.voxels.shape
    is_contiguous = bool(np.isfinite(volume.spacing_mm).all())
    assumed = 5.0, *[350.0 / max(height, width)] * 2  # mm, of pictures, which do not tell their spacing
    thickness_mm, *sides_mm = volume.spacing_mm if is_contiguous else assumed
    shape = tuple(max(round(n * mm / PIXEL_MM), 1) for n, mm in zip((height, width), sides_mm, strict=True))
    pixels_mm = (height * sides_mm[0] / shape[0], width * sides_mm[1] / shape[1])
    planes = np.empty((depth, *shape), np.float32)
    for plane, hu in zip(planes, volume.voxels, strict=True):
        small = resize(np.clip(hu, LOWEST_HU, HIGHEST_HU).astype(np.float32), shape)
        cv2.GaussianBlur(small, (0, 0), _SMOOTHING_MM / PIXEL_MM, dst=plane)
    return SmoothScan(planes, prod((thickness_mm, *pixels_mm)) / 1000.0, is_contiguous)


def liver_by_hu(scan: SmoothScan, rule: LiverRule) -> np.ndarray:
    """Mask bool (D, h, w); empty where nothing has a liver's HU."""
    in_range = (scan.planes >= rule.lowest_hu) & (scan.planes <= rule.highest_hu)
    opened = _by_plane(in_range, cv2.MORPH_OPEN, rule.opening_mm)
    return np.concatenate([fill_holes(largest_component(opened[block])) for block in scan.blocks])


def find_tumors(scan: SmoothScan, liver: np.ndarray, rule: TumorRule) -> np.ndarray:
    """Mask bool (D, h, w) inside `liver`, a mask of the same shape."""
    inner = _by_plane(liver, cv2.MORPH_ERODE, rule.margin_mm)
    found = np.zeros_like(liver)
    for block in scan.blocks:
        hu = scan.planes[block]
        if inner[block].any():
            zero_hu = np.median(hu[liver[block]]) if rule.is_relative else 0.0
            dark = inner[block] & (hu <= zero_hu + rule.cut_hu)
            found[block] = remove_small_components(dark, _SMALLEST_ML, scan.voxel_volume_ml)
    return found


def outline_by_hu(volume: Volume, liver_rule: LiverRule, tumor_rule: TumorRule | None = None) -> np.ndarray:
    """Labels 0/1/2, uint8 (D, H, W), on the grid of `volume`; no tumour without a rule for it."""
    scan = smooth_scan(volume)
    liver = liver_by_hu(scan, liver_rule)
    labels = np.where(_resized(liver, volume.voxels.shape[1:]), np.uint8(LIVER), np.uint8(0))
    if tumor_rule is not None:
        tumor = _resized(find_tumors(scan, liver, tumor_rule), volume.voxels.shape[1:])
        labels[tumor & (labels == LIVER)] = TUMOR
    return labels


def _by_plane(mask: np.ndarray, operation: int, radius_mm: float) -> np.ndarray:
    """Morphology with a disc, plane by plane; what lies beyond the picture counts as outside."""
    side = 2 * round(radius_mm / PIXEL_MM) + 1
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
    options = {"borderType": cv2.BORDER_CONSTANT, "borderValue": 0}
    planes = [cv2.morphologyEx(plane, operation, disc, **options) for plane in mask.view(np.uint8)]
    return np.stack(planes).astype(bool)


def _resized(mask: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Planes (D, ...) in another size, bool: covered by at least half."""
    return np.stack([resize(plane.astype(np.float32), shape) >= 0.5 for plane in mask])


BASELINE = "threshold"
"""The plain baseline, with one cut for all patients; with relative cuts "threshold_relative"."""

LOWEST_PERCENTILES, HIGHEST_PERCENTILE = (5, 10, 15), 99
"""Of the HU in smoothed livers. Their lower end is blurred edge and tumour, and how much of it to leave
out is a question; what is brighter than livers are vessels and kidneys."""
OPENINGS_MM = (8, 12, 16, 20)
CUTS_HU = {"relative": (-7.5, -10, -15, -20, -30), "fixed": (30, 40, 50, 60, 70, 80)}
MARGINS_MM = (4, 8, 12, 16, 20)


@dataclass(frozen=True)
class Baseline:
    """A system without a network; tables take it as a `ScoredSystem`."""

    structures: tuple[str, ...]
    liver_rule: LiverRule
    tumor_rule: TumorRule | None  # None where tumours are not asked for
    training: dict  # `n_train_patients`, `seconds`, and the mean Dice of the rules on those patients
    system: str
    modality: str = "ct"  # of the scans, "ct" or "mr": HU of the latter are those of `as_hu`

    @property
    def parameters(self) -> int:
        """Numbers that were chosen: three for the liver, two for tumours."""
        return 5 if self.tumor_rule else 3

    def predict(self, case: Case, volume: Volume) -> np.ndarray:
        """Labels 0/1/2, uint8 (D, H, W), on the grid of `volume`."""
        return outline_by_hu(as_hu(volume, self.modality), self.liver_rule, self.tumor_rule)


def fit_baseline(
    cases: Sequence[Case],
    structures: tuple[str, ...],
    tumor_cut: str = "fixed",
    most_cases: int = 12,
    modality: str = "ct",
) -> Baseline:
    """Choose the rules by their mean Dice over `cases` of training patients, `most_cases` of them at most.

    `tumor_cut` is "relative" or "fixed" (CUTS_HU). Each case is read three times, one in memory at a time. A
    patient without tumour counts 1 where none is found, else 0. Raises InputError without any liver.
    """
    if tumor_cut not in CUTS_HU:
        raise InputError("tumor_cut", f"is {tumor_cut!r}.", f"Choose one of {', '.join(CUTS_HU)}.")
    began = time.monotonic()
    indices = np.linspace(0, len(cases) - 1, min(most_cases, len(cases)))  # from the whole length of the row
    cases = [cases[index] for index in indices.round().astype(int)]
    scans = partial(_scans, cases, modality)
    livers = _liver_rules(scans("liver"))
    liver_rule, liver_dice = _best_rule(scans("liver"), livers, lambda scan: partial(liver_by_hu, scan))
    tumor_rule, training = None, {"liver_dice": liver_dice}
    if "tumor" in structures:
        pairs = product(CUTS_HU[tumor_cut], MARGINS_MM)
        tumors = [TumorRule(*pair, is_relative=tumor_cut == "relative") for pair in pairs]
        tumor_rule, training["tumor_dice"] = _best_rule(
            scans("tumor"), tumors, lambda scan: partial(find_tumors, scan, liver_by_hu(scan, liver_rule))
        )
    training["n_train_patients"] = len({case.patient for case in cases})
    training["seconds"] = time.monotonic() - began
    system = BASELINE if tumor_cut == "fixed" else f"{BASELINE}_{tumor_cut}"
    return Baseline(tuple(structures), liver_rule, tumor_rule, training, system, modality)


Scans = Iterable[tuple[SmoothScan, np.ndarray]]


def _scans(cases: Sequence[Case], modality: str, structure: str) -> Scans:
    """Each case as the rules see it, with the true mask, bool (D, h, w)."""
    for _, volume, labels in read_each(cases, f"{BASELINE}, {structure}"):
        scan = smooth_scan(as_hu(volume, modality))
        yield scan, _resized(structure_mask(labels, structure), scan.planes.shape[1:])


def _liver_rules(scans: Scans) -> list[LiverRule]:
    """One for each percentile and opening; every case counts alike in the percentiles."""
    curves = [np.percentile(scan.planes[liver], np.arange(101)) for scan, liver in scans if liver.any()]
    if not curves:
        raise InputError("training patients", "show no liver.", "Check the labels (livseg check).")
    *lowest_hu, highest_hu = np.percentile(curves, [*LOWEST_PERCENTILES, HIGHEST_PERCENTILE]).tolist()
    return [LiverRule(low, highest_hu, opening_mm) for low, opening_mm in product(lowest_hu, OPENINGS_MM)]


def _best_rule(
    scans: Scans, rules: list, find: Callable[[SmoothScan], Callable]
) -> tuple[LiverRule | TumorRule, float]:
    """The rule with the highest mean Dice, and that mean. `find(scan)` gives what makes masks of rules."""
    scores = []
    for scan, truth in scans:
        mask_of = find(scan)
        found = [dice(overlap_counts(mask_of(rule), truth)) for rule in rules]
        scores.append(np.nan_to_num(found, nan=1.0))  # nothing there, nothing found
    means = np.mean(scores, axis=0)
    return rules[int(means.argmax())], float(means.max())
