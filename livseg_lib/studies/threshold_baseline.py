"""The threshold baseline with its few numbers chosen on training patients."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from typing import TypeVar

import numpy as np
from tqdm import tqdm

from livseg_lib.datasets.case import Case
from livseg_lib.errors import InputError
from livseg_lib.evaluation.masks import dice, overlap_counts
from livseg_lib.labels import structure_mask
from livseg_lib.postprocessing.threshold import (
    LiverRule,
    SmoothScan,
    TumorRule,
    find_tumors,
    liver_by_hu,
    outline_by_hu,
    shrink_mask,
    smooth_scan,
)
from livseg_lib.preprocessing.windows import as_hu
from livseg_lib.volumes import Volume

BASELINE = "threshold"
"""The plain baseline, with one cut for all patients; with relative cuts "threshold_relative"."""

LOWEST_PERCENTILES, HIGHEST_PERCENTILE = (5, 10, 15), 99
"""Of the HU in smoothed livers. Their lower end is blurred edge and tumour, and how much of it to leave
out is a question; what is brighter than livers are vessels and kidneys."""
OPENINGS_MM = (8, 12, 16, 20)
CUTS_HU = {"relative": (-7.5, -10, -15, -20, -30), "fixed": (30, 40, 50, 60, 70, 80)}
"""From the median of each liver, which knows the patient's contrast, or the same for all patients."""
MARGINS_MM = (4, 8, 12, 16, 20)

Rule = TypeVar("Rule", LiverRule, TumorRule)
Find = Callable[[Rule], np.ndarray]
"""Rule -> mask of one scan, bool (D, h, w)."""


@dataclass(frozen=True)
class Baseline:
    """A system without a network; tables take it as a `ScoredSystem`."""

    structures: tuple[str, ...]
    liver_rule: LiverRule
    tumor_rule: TumorRule | None
    """None where tumours are not asked for."""
    training: dict
    """`n_train_patients`, `seconds`, and the mean Dice of the rules on those patients."""
    system: str
    modality: str = "ct"
    """Of the scans, "ct" or "mr": HU of the latter are those of `as_hu`."""

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

    `tumor_cut` is "relative" or "fixed" (see CUTS_HU). Each case is read three times, one volume in memory
    at a time. A patient without tumour counts 1 where none is found, else 0, as everywhere in the report.
    Raises InputError for another cut, or where no case shows liver.
    """
    if tumor_cut not in CUTS_HU:
        raise InputError("tumor_cut", f"is {tumor_cut!r}.", f"Choose one of {', '.join(CUTS_HU)}.")
    began = time.monotonic()
    cases = [
        replace(case, read_volume=partial(_read_as_hu, case, modality)) for case in _evenly(cases, most_cases)
    ]
    liver_rule, liver_dice = _best_rule(
        cases, "liver", _liver_rules(cases), lambda scan: partial(liver_by_hu, scan)
    )
    tumor_rule, training = None, {"liver_dice": liver_dice}
    if "tumor" in structures:
        rules = [
            TumorRule(cut_hu, margin_mm, tumor_cut == "relative")
            for cut_hu, margin_mm in product(CUTS_HU[tumor_cut], MARGINS_MM)
        ]
        tumor_rule, training["tumor_dice"] = _best_rule(
            cases, "tumor", rules, lambda scan: partial(find_tumors, scan, liver_by_hu(scan, liver_rule))
        )
    training["n_train_patients"] = len({case.patient for case in cases})
    training["seconds"] = time.monotonic() - began
    system = BASELINE if tumor_cut == "fixed" else f"{BASELINE}_{tumor_cut}"
    return Baseline(tuple(structures), liver_rule, tumor_rule, training, system, modality)


def _read_as_hu(case: Case, modality: str) -> Volume:
    return as_hu(case.read_volume(), modality)


def _evenly(cases: Sequence[Case], most: int) -> list[Case]:
    """At most so many, from the whole length of the row."""
    places = np.linspace(0, len(cases) - 1, min(most, len(cases)))
    return [cases[place] for place in places.round().astype(int)]


def _scans(cases: Sequence[Case], structure: str) -> Iterator[tuple[SmoothScan, np.ndarray]]:
    """Each case as the rules see it, with the true mask, bool (D, h, w)."""
    for case in tqdm(cases, f"{BASELINE}, {structure}", unit="patient"):
        volume = case.read_volume()
        scan = smooth_scan(volume)
        yield scan, shrink_mask(structure_mask(case.read_labels(volume), structure), scan)


def _liver_rules(cases: Sequence[Case]) -> list[LiverRule]:
    """One for each percentile and opening; every case counts alike in the percentiles."""
    percentiles = np.arange(101)
    curves = [
        np.percentile(scan.planes[liver], percentiles)
        for scan, liver in _scans(cases, "liver")
        if liver.any()
    ]
    if not curves:
        raise InputError("training patients", "show no liver.", "Check the labels (livseg check).")
    hu = np.concatenate(curves)
    highest_hu = float(np.percentile(hu, HIGHEST_PERCENTILE))
    lowest_hu = [float(np.percentile(hu, percentile)) for percentile in LOWEST_PERCENTILES]
    return [LiverRule(low, highest_hu, opening_mm) for low, opening_mm in product(lowest_hu, OPENINGS_MM)]


def _best_rule(
    cases: Sequence[Case], structure: str, rules: list[Rule], find: Callable[[SmoothScan], Find]
) -> tuple[Rule, float]:
    """The rule with the highest mean Dice, and that mean. `find(scan)` gives what makes masks of rules."""
    scores = []
    for scan, truth in _scans(cases, structure):
        mask_of = find(scan)
        found = [dice(overlap_counts(mask_of(rule), truth)) for rule in rules]
        scores.append(np.nan_to_num(found, nan=1.0))  # nothing there, nothing found
    means = np.mean(scores, axis=0)
    return rules[int(means.argmax())], float(means.max())
