"""A phantom patient seen twice, with growth planted in between: what a system tells of it and the truth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from livseg_lib.datasets.case import Case
from livseg_lib.datasets.phantom import (
    Lesion,
    make_phantom_follow_up,
    painted_lesions,
    phantom_numbers,
)
from livseg_lib.evaluation.over_time.follow_up import FollowUp, TimePoint, compare_scans
from livseg_lib.experiments.patients.clinic_measures import TRUTH
from livseg_lib.inference.systems import load_system, outline
from livseg_lib.labels import STRUCTURES
from livseg_lib.paths import RunFolders
from livseg_lib.predictions import load_prediction
from livseg_lib.preprocessing import Recipe
from livseg_lib.preprocessing.prepare import channel_windows
from livseg_lib.preprocessing.windows import apply_window
from livseg_lib.reporting.studies.follow_up import TwoScans
from livseg_lib.volumes import Volume

Labels = tuple[np.ndarray, np.ndarray]
"""0/1/2, uint8 (D, H, W), of the earlier and of the later scan."""

NEW_CONTRAST_HU = -40.0


def plan_growth(lesions: pd.DataFrame, factors: Sequence[float]) -> dict[int, float]:
    """Factors on the diameters of a patient's tumours, from the largest on: lesion number -> factor.

    `lesions` as `painted_lesions` gives them; tumours beyond the factors stay as they are.
    """
    tumors = lesions[lesions.kind == "tumor"].sort_values("diameter_mm", ascending=False)
    return {int(number): float(factor) for number, factor in zip(tumors.lesion, factors, strict=False)}


class TwoVisits(NamedTuple):
    """Two scans of a phantom patient with their truth: labels 0/1/2, uint8 (D, H, W)."""

    case_id: str
    volumes: tuple[Volume, Volume]
    truth: tuple[np.ndarray, np.ndarray]


def scan_twice(folder: Path, case: Case, factors: Sequence[float], new_mm: Sequence[float]) -> TwoVisits:
    """A case of a phantom folder, and its second scan: tumours grown by `plan_growth` and new ones."""
    growth = plan_growth(painted_lesions(folder, case.case_id), factors)
    new = [Lesion("tumor", float(diameter), NEW_CONTRAST_HU, diffuse=False) for diameter in new_mm]
    seed, index, site = phantom_numbers(folder, case.case_id)
    second = make_phantom_follow_up(seed, index, growth, new, site)
    first = case.read_volume()
    volumes = first, Volume(second.voxels, second.spacing_mm)
    return TwoVisits(case.case_id, volumes, (case.read_labels(first), second.labels))


def outline_twice(
    visits: TwoVisits, folders: RunFolders, systems: Mapping[str, Sequence[str]]
) -> dict[str, Labels]:
    """What each system outlines in both scans, those of `systems` (name -> structures) that can be asked.

    They have a model and outline liver and tumours. The first scan's labels are those on disk.
    """
    outlined = {}
    for name, structures in systems.items():
        if set(structures) == set(STRUCTURES) and (folders.model(name) / "model.json").exists():
            stored = load_prediction(visits.volumes[0], folders.predictions(name), visits.case_id)
            outlined[name] = stored, outline(load_system(folders.model(name)), visits.volumes[1])
    return outlined


def compare_all(visits: TwoVisits, outlined: Mapping[str, Labels], days: float) -> dict[str, FollowUp]:
    """The follow-up by the truth and by each system; those that find no liver in a scan are not in it."""
    found = {}
    for name, labels in {TRUTH: visits.truth, **outlined}.items():
        if all(each.any() for each in labels):
            points = (
                TimePoint(each, volume.spacing_mm)
                for each, volume in zip(labels, visits.volumes, strict=True)
            )
            found[name] = compare_scans(*points, days=days)
    return found


def slices_of_changes(
    visits: TwoVisits,
    outlined: Mapping[str, Labels],
    found: Mapping[str, FollowUp],
    recipe: Recipe,
    count: int = 3,
) -> list[TwoScans]:
    """The tumours whose volume changed most by the truth, with the first system's outlines beside it."""
    others = next(iter(outlined.values()), (None, None))
    changes = found[TRUTH].changes
    largest = changes.reindex(changes.growth_ml.abs().sort_values(ascending=False).index).head(count)
    rows = []
    for row in largest.itertuples():
        places = _slices_of(row, found[TRUTH], visits)
        pictures = []
        for index, volume, truth, other in zip(places, visits.volumes, visits.truth, others, strict=True):
            grey = apply_window(volume.voxels[index], channel_windows(volume.voxels, recipe)[0])
            pictures.append((grey, truth[index], None if other is None else other[index]))
        rows.append(TwoScans(f"{row.kind}, {row.growth_ml:+.1f} ml".replace("-", "−"), *pictures))
    return rows


def _slices_of(row, found: FollowUp, visits: TwoVisits) -> tuple[int, int]:
    """Index of the slice to show at each time; where a tumour is not there, that of the same place."""
    spacings = [volume.spacing_mm[0] for volume in visits.volumes]
    ids = [
        [int(number) for number in text.split(" + ") if number]
        for text in (row.tumors_before, row.tumors_after)
    ]
    tables = [table[table.tumor.isin(each)] for table, each in zip(found.tumors, ids, strict=True)]
    indices = [None if t.empty else int(t.sort_values("volume_ml").slice.iloc[-1]) for t in tables]
    shift = found.matching.shift_mm[0]
    if indices[0] is None:
        indices[0] = round((indices[1] * spacings[1] - shift) / spacings[0])
    if indices[1] is None:
        indices[1] = round((indices[0] * spacings[0] + shift) / spacings[1])
    sizes = [len(volume.voxels) for volume in visits.volumes]
    return tuple(min(max(index, 0), size - 1) for index, size in zip(indices, sizes, strict=True))


def most_tumors(patients: pd.DataFrame) -> str:
    """The case with most tumours, of equals that with most ml, in the truth's rows of `PATIENT_COLUMNS`."""
    return patients.sort_values(["n_tumors", "tumor_ml"], ascending=False).case.iloc[0]


def change_rows(found: Mapping[str, FollowUp]) -> pd.DataFrame:
    """follow_up.csv: a row a group of tumours and whoever outlined them, `outlined_by` and CHANGE_COLUMNS."""
    tables = [each.changes.assign(outlined_by=name) for name, each in found.items()]
    table = pd.concat(tables, ignore_index=True)
    return table[["outlined_by", *tables[0].drop(columns="outlined_by")]]


def response_rows(found: Mapping[str, FollowUp]) -> pd.DataFrame:
    """follow_up_response.csv: a row for whoever outlined the tumours: category, sums, livers, alignment."""
    rows = []
    for name, each in found.items():
        livers = each.livers.set_index("scan")
        response = each.response._asdict() | {"targets": len(each.response.targets)}
        row = {"outlined_by": name, **response, "liver_dice": each.matching.liver_dice}
        for scan, sums in livers.iterrows():
            row |= {f"liver_{scan}_ml": sums.liver_ml, f"tumor_{scan}_ml": sums.tumor_ml}
            row |= {f"n_tumors_{scan}": int(sums.n_tumors)}
        shift = dict(zip(("d", "h", "w"), each.matching.shift_mm, strict=True))
        rows.append(row | {f"shift_{axis}_mm": float(np.round(mm, 3)) for axis, mm in shift.items()})
    return pd.DataFrame(rows).rename(columns={"targets": "n_targets"})
