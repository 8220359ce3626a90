"""Why a result may be worse than the report of its system promises: sentences, for the reader of a case."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from livseg_lib.application.predictor import Predictor, hu_seen, networks_of, training_runs
from livseg_lib.application.scan import Scan
from livseg_lib.datasets.findings import liver_hu_findings, volume_findings
from livseg_lib.postprocessing.tumor_measures import mean_liver_hu
from livseg_lib.preprocessing.prepare import picture_code

LITS_PIXEL_MM, LITS_STEP_MM = (0.56, 1.0), (0.45, 6.0)
"""Spacing within and between slices in the LiTS benchmark (system K: Bilic et al. 2023,
doi 10.1016/j.media.2022.102680), which most systems here are made for."""
PORTAL_VENOUS_HU = (80.0, 130.0)
"""Of the liver, as in `preprocessing.windows`."""
PHASE_TOLERANCE_HU = 15.0
WHOLE_LIVER_SLICES = 16
"""A liver of 160 mm in steps of 10 mm, the coarsest that scans are made in."""


def cautions(scan: Scan, labels: np.ndarray, predictor: Predictor) -> list[str]:
    """What speaks for caution with the `labels` (D, H, W) that `predictor` found in this scan."""
    found = [_about_training(training_runs(predictor.system)), _about_pictures(predictor)]
    if scan.is_picture:
        found += [_about_picture(scan, hu_seen(predictor.system))]
    else:
        found += [_about_slices(scan), *_about_spacing(scan)]
        found += [verdict.message for verdict in volume_findings(scan.volume, predictor.modality)]
        if predictor.modality == "ct" and "liver" in predictor.structures:
            found += [verdict.message for verdict in liver_hu_findings(scan.volume, labels)]
            found += [_about_phase(scan, labels)]
    if not labels.any():
        found += ["Nothing was found: the mask is empty."]
    return [sentence for sentence in found if sentence]


def _about_training(runs: Sequence[str]) -> str:
    phantoms = [run for run in runs if "phantom" in run]
    if not phantoms:
        return ""
    return (
        f"The system was trained on synthetic phantoms (run {', '.join(phantoms)}): "
        "on a real scan it shows how the program works, and nothing more."
    )


def _about_pictures(predictor: Predictor) -> str:
    today = picture_code()
    others = [
        trained.system
        for trained in networks_of(predictor.system)
        if trained.training.get("picture_code", today) != today
    ]
    if not others:
        return ""
    return f"The code that makes pictures of scans is not the one that {', '.join(others)} was trained with."


def _about_picture(scan: Scan, seen_hu: tuple[float, float]) -> str:
    low, high = scan.window.lower, scan.window.upper
    if low <= seen_hu[0] and seen_hu[1] <= high:
        return ""
    return (
        f"The system was trained to see {seen_hu[0]:g} to {seen_hu[1]:g} HU. "
        f"A picture of {low:g} to {high:g} HU has lost what lay beyond."
    )


def _about_slices(scan: Scan) -> str:
    depth = len(scan.volume.voxels)
    if depth >= WHOLE_LIVER_SLICES:
        return ""
    return f"The scan has {depth} slices: volumes are those of what it shows, not of a whole liver."


def _about_spacing(scan: Scan) -> Iterator[str]:
    step, *pixels = scan.volume.spacing_mm
    for what, values, (low, high) in (
        ("The slices are {} mm apart", [step], LITS_STEP_MM),
        ("The pixels are {} mm wide", pixels, LITS_PIXEL_MM),
    ):
        if not all(low <= round(value, 2) <= high for value in values):
            yield f"{what.format(f'{values[0]:.2f}')}; in the LiTS benchmark it is {low:g} to {high:g} mm."


def _about_phase(scan: Scan, labels: np.ndarray) -> str:
    mean, (low, high) = mean_liver_hu(scan.volume.voxels, labels), PORTAL_VENOUS_HU
    if np.isnan(mean) or low - PHASE_TOLERANCE_HU <= mean <= high + PHASE_TOLERANCE_HU:
        return ""
    likely = "a scan without contrast medium" if mean < low else "another phase of contrast"
    return (
        f"What was outlined as liver has {mean:.0f} HU on average, in the portal-venous phase it has "
        f"{low:.0f} to {high:.0f}: {likely}, or not the liver alone."
    )
