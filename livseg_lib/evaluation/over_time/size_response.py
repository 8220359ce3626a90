"""How a patient's liver tumours changed in size, put into the words of RECIST 1.1: arithmetic, no assessment.

RECIST 1.1 (Eisenhauer et al. 2009, doi:10.1016/j.ejca.2008.10.026) looks at the whole patient: up to five
targets in all organs, other lesions, lymph nodes, and every earlier scan. Here are two scans and one organ:
at most two targets, as the rules allow an organ, and the earlier scan stands for the smallest sum so far.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import pandas as pd

MEASURABLE_MM = 10.0
"""Longest diameter of a target at least, on slices of up to 5 mm; on thicker ones twice their thickness."""

MOST_TARGETS = 2
THICK_SLICE_MM = 5.0
SHRUNK_TO, GROWN_TO, GROWN_BY_MM = 0.7, 1.2, 5.0
"""Part of the earlier sum of diameters for a partial response (30 % less) and for progression (20 % more),
which also needs some mm."""

RESPONSES = (
    "no tumour",
    "complete response",
    "partial response",
    "stable disease",
    "progressive disease",
    "neither response nor progression",
)


class SizeResponse(NamedTuple):
    """What the arithmetic says, and of what."""

    category: str
    """One of RESPONSES; the last where tumours remain of which none was a target."""
    targets: tuple[int, ...]
    """Earlier ids of the tumours that are added up, largest first."""
    sum_before_mm: float
    sum_after_mm: float
    change: float
    """Of the sum, relative to the earlier one; NaN without targets."""
    n_new: int


def measurable_mm(slice_spacing_mm: float) -> float:
    """Smallest longest diameter of a target, by the slice spacing of the earlier scan."""
    return 2 * slice_spacing_mm if slice_spacing_mm > THICK_SLICE_MM else MEASURABLE_MM


def choose_targets(tumors: pd.DataFrame, smallest_mm: float = MEASURABLE_MM) -> tuple[int, ...]:
    """Ids of the up to two tumours of the earlier `measure_tumors` that are longest, if long enough."""
    large = tumors[tumors.longest_diameter_mm >= smallest_mm]
    return tuple(large.sort_values("longest_diameter_mm", ascending=False).tumor.head(MOST_TARGETS).tolist())


def categorize(
    targets: tuple[int, ...], sum_before_mm: float, sum_after_mm: float, n_new: int, n_after: int
) -> SizeResponse:
    """The category of a sum of diameters before and after, of `n_new` new tumours and `n_after` in all."""
    change = sum_after_mm / sum_before_mm - 1 if targets else math.nan
    grown = sum_after_mm >= GROWN_TO * sum_before_mm and sum_after_mm - sum_before_mm >= GROWN_BY_MM
    if n_new or (targets and grown):
        category = "progressive disease"
    elif n_after == 0:
        category = "complete response"
    elif not targets:
        category = "neither response nor progression"
    else:
        category = "partial response" if sum_after_mm <= SHRUNK_TO * sum_before_mm else "stable disease"
    return SizeResponse(category, targets, sum_before_mm, sum_after_mm, change, n_new)


def doubling_days(volume_before: float, volume_after: float, days: float) -> float:
    """Days in which a tumour doubles its volume, growing exponentially between two scans `days` apart.

    Schwartz 1961, doi:10.1002/1097-0142(196111/12)14:6<1272::AID-CNCR2820140618>3.0.CO;2-H. NaN where it
    did not grow, where it is new, and where `days` is unknown.
    """
    if not (0 < volume_before < volume_after and days > 0):
        return math.nan
    return days * math.log(2) / math.log(volume_after / volume_before)
