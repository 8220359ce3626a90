"""Two scans of one patient: what became of each liver tumour, in ml and mm, and of all together.

Where tumours merged, the diameter of what they became is set against the sum of theirs; where one fell
apart, the diameters of its parts are added (RECIST 1.1, doi:10.1016/j.ejca.2008.10.026).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from livseg_lib.errors import InputError
from livseg_lib.evaluation.over_time.size_response import (
    SizeResponse,
    categorize,
    choose_targets,
    doubling_days,
    measurable_mm,
)
from livseg_lib.evaluation.over_time.tumor_matching import Matching, TumorGroup, match_tumors
from livseg_lib.postprocessing.tumor_measures import measure_liver, measure_tumors

CHANGE_COLUMNS = (
    "kind",
    "tumors_before",
    "tumors_after",
    "position",
    "volume_before_ml",
    "volume_after_ml",
    "growth_ml",
    "growth_percent",
    "doubling_days",
    "diameter_before_mm",
    "diameter_after_mm",
    "diameter_change_mm",
    "diameter_change_percent",
    "is_target",
)


@dataclass(frozen=True)
class TimePoint:
    """The outlined liver and tumours of one scan."""

    labels: np.ndarray
    """Integers 0, 1, 2, (D, H, W)."""
    spacing_mm: Sequence[float]


@dataclass(frozen=True)
class FollowUp:
    """What changed between two scans."""

    changes: pd.DataFrame
    """A row a group of tumours that are the same, CHANGE_COLUMNS; `position` as in the earlier scan, of new
    ones in the later."""
    tumors: tuple[pd.DataFrame, pd.DataFrame]
    """`measure_tumors` of the earlier and of the later scan."""
    livers: pd.DataFrame
    """A row a scan, "before" and "after": `measure_liver`."""
    matching: Matching
    response: SizeResponse
    days: float


def compare_scans(before: TimePoint, after: TimePoint, days: float = np.nan) -> FollowUp:
    """Match the tumours of two scans of one patient and measure what became of them.

    `days` lie between the scans (NaN: unknown). Ids of tumours are those of `measure_tumors`. Of a vanished
    tumour volume and diameter are 0 afterwards, of a new one before; its relative growth is undefined, NaN.
    Raises InputError for labels that cannot be measured, without a liver or without a known spacing, and
    for days that are not positive.
    """
    if days <= 0:
        raise InputError("days", f"is {days:g}.", "Give the days from the earlier to the later scan.")
    scans = (before, after)
    matching = match_tumors(before.labels, before.spacing_mm, after.labels, after.spacing_mm)
    measured = tuple(measure_tumors(None, scan.labels, scan.spacing_mm) for scan in scans)
    tumors = [table.set_index("tumor") for table in measured]
    livers = [measure_liver(None, scan.labels, scan.spacing_mm) for scan in scans]
    targets = choose_targets(measured[0], measurable_mm(before.spacing_mm[0]))
    rows = [_change(group, *tumors, targets, days) for group in matching.groups]
    changes = pd.DataFrame(rows, columns=list(CHANGE_COLUMNS))
    return FollowUp(
        changes=changes,
        tumors=measured,
        livers=pd.DataFrame(livers).drop(columns="liver_hu").assign(scan=("before", "after")),
        matching=matching,
        response=_response(changes, tumors, targets),
        days=days,
    )


def _change(
    group: TumorGroup, before: pd.DataFrame, after: pd.DataFrame, targets: tuple[int, ...], days: float
) -> dict:
    """A row of CHANGE_COLUMNS."""
    earlier, later = before.loc[list(group.before)], after.loc[list(group.after)]
    volumes = float(earlier.volume_ml.sum()), float(later.volume_ml.sum())
    diameters = float(earlier.longest_diameter_mm.sum()), float(later.longest_diameter_mm.sum())
    largest = max((earlier if len(earlier) else later).itertuples(), key=lambda row: row.volume_ml)
    return {
        "kind": group.kind,
        "tumors_before": " + ".join(map(str, group.before)),
        "tumors_after": " + ".join(map(str, group.after)),
        "position": largest.position,
        "volume_before_ml": volumes[0],
        "volume_after_ml": volumes[1],
        "growth_ml": volumes[1] - volumes[0],
        "growth_percent": _percent(*volumes),
        "doubling_days": doubling_days(*volumes, days),
        "diameter_before_mm": diameters[0],
        "diameter_after_mm": diameters[1],
        "diameter_change_mm": diameters[1] - diameters[0],
        "diameter_change_percent": _percent(*diameters),
        "is_target": bool(set(group.before) & set(targets)),
    }


def _percent(before: float, after: float) -> float:
    return 100 * (after / before - 1) if before else np.nan


def _response(changes: pd.DataFrame, tumors: list[pd.DataFrame], targets: tuple[int, ...]) -> SizeResponse:
    """The targets' own diameters before, and those of what their groups became."""
    if tumors[0].empty and tumors[1].empty:
        return SizeResponse("no tumour", (), 0.0, 0.0, np.nan, 0)
    sum_before = float(tumors[0].longest_diameter_mm.loc[list(targets)].sum())
    sum_after = float(changes.diameter_after_mm[changes.is_target].sum())
    return categorize(targets, sum_before, sum_after, int((changes.kind == "new").sum()), len(tumors[1]))
