"""Where systems err: every error on the test patients, from the predictions on disk."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from tqdm import tqdm

from livseg_lib.datasets.case import Case
from livseg_lib.datasets.phantom.body import Organ
from livseg_lib.datasets.phantom.writing import is_phantom, painted_lesions, remake_organs
from livseg_lib.evaluation.errors import (
    FALSE_NEGATIVE,
    TrueCase,
    add_causes,
    find_errors,
    match_painted,
    room_around,
)
from livseg_lib.evaluation.statistics import stacked
from livseg_lib.labels import structure_mask
from livseg_lib.postprocessing.components import label_components
from livseg_lib.preprocessing.recipe import Recipe, channel_windows
from livseg_lib.preprocessing.windows import apply_window
from livseg_lib.reporting.pictures import Tile, tiles
from livseg_lib.reporting.style import ORANGE, SKY_BLUE
from livseg_lib.runs import RunFolders
from livseg_lib.studies.cascades import SYSTEM as FILTERED
from livseg_lib.studies.cascades import UNFILTERED
from livseg_lib.studies.finishing import predictions_in_box
from livseg_lib.volumes import Volume

ORGAN_NAMES = {organ.value: organ.name.lower().replace("_", " ") for organ in Organ}


@dataclass(frozen=True)
class ErrorStudy:
    """Tables over all systems and cases; objects of each carry their causes (`add_causes`)."""

    objects: pd.DataFrame  # a row an error: system, patient, case, then `CaseErrors.objects`
    tumors: pd.DataFrame
    """A row a system and true tumour: system, patient, case, then `CaseErrors.tumors`, and on the phantom
    `painted` and `edge` (`match_painted`)."""
    patients: pd.DataFrame
    """Of each system and case how many: tumors, predicted, missed, invented, fused, fusing, split."""


def systems_with_predictions(
    patients: pd.DataFrame, folders: RunFolders, cases: Sequence[Case], structure: str
) -> list[str]:
    """Systems of patients.csv scored on `structure` whose predictions of all `cases` lie on disk.

    The best mean Dice first. After the cascade with a filter comes the one without, which has no row.
    """
    scored = patients[patients.structure == structure]
    names = list(scored.groupby("system").dice.mean().sort_values(ascending=False).index)
    if FILTERED in names:
        names.insert(names.index(FILTERED) + 1, UNFILTERED)
    stored = {name: {path.name for path in folders.predictions(name).glob("*")} for name in names}
    files = [{f"{case.case_id}.nii.gz", f"{case.case_id}.npy"} for case in cases]
    return [name for name in names if all(either & stored[name] for either in files)]


def study_errors(
    systems: Sequence[str], cases: Sequence[Case], folders: RunFolders, source: Path, modality: str = "ct"
) -> ErrorStudy:
    """Compare the stored predictions of `systems` with the truth of `cases`; each file is read once.

    `source` is the folder of the scans: a phantom's seeds tell what each object really is. Of another
    `modality` than "ct" brightness and contrast are undefined, as in pictures. One case in memory at a time.
    """
    objects, tumors, patients = [], [], []
    for case in tqdm(list(cases), "errors", unit="case"):
        true, found, edges = _read_case(systems, case, folders, source, modality)
        for system, labels in found:
            each = find_errors(labels, true)
            identity = {"system": system, "patient": case.patient, "case": case.case_id}
            objects.append(each.objects.assign(**identity))
            tumors.append(each.tumors.merge(edges, on="object").assign(**identity))
            missed = int((~each.tumors.hit).sum())
            row = identity | {"tumors": len(each.tumors), "predicted": each.predicted, "missed": missed}
            row |= {"invented": len(each.objects) - missed, "fused": int(each.tumors.is_fused.sum())}
            patients.append(row | {"fusing": each.fusing, "split": int((each.tumors.pieces > 1).sum())})
    described = add_causes(_table(tumors).assign(error=FALSE_NEGATIVE))
    described = described.drop(columns=["error", "error_class"])
    return ErrorStudy(add_causes(_table(objects)), described, pd.DataFrame(patients))


def _read_case(
    systems: Sequence[str], case: Case, folders: RunFolders, source: Path, modality: str
) -> tuple[TrueCase, Iterator[tuple[str, np.ndarray]], pd.DataFrame]:
    """The truth and what each system says, in the box of all labels and a rim; `match_painted`."""
    volume = case.read_volume()
    reference = case.read_labels(volume)
    found, hull = predictions_in_box(folders, systems, case, volume, reference)
    room = room_around(hull, reference.shape, np.asarray(volume.spacing_mm, float))
    is_hu, is_painted = volume.native is not None and modality == "ct", is_phantom(source)
    voxels = volume.voxels[room].copy() if is_hu else None
    organs = remake_organs(source, case.case_id)[room] if is_painted else None
    true = TrueCase(reference[room].copy(), volume.spacing_mm, voxels, organs, ORGAN_NAMES)
    margins = [(h.start - r.start, r.stop - h.stop) for h, r in zip(hull, room, strict=True)]
    padded = ((name, np.pad(labels, margins)) for name, labels in zip(systems, found, strict=True))
    components, count = label_components(structure_mask(true.labels, "tumor"))
    edges = pd.DataFrame({"object": range(1, count + 1), "painted": np.nan, "edge": None})
    if is_painted:
        painted = painted_lesions(source, case.case_id).query("kind == 'tumor'")
        corner = tuple(side.start for side in room)
        edges = match_painted(components, true.spacing_mm, painted, corner)
    return true, padded, edges


def _table(tables: list[pd.DataFrame]) -> pd.DataFrame:
    """All rows; system, patient and case first."""
    table, first = stacked(tables), ["system", "patient", "case"]
    return table[[*first, *table.columns.drop(first)]]


def worst_cases(patients: pd.DataFrame, system: str, structure: str, count: int) -> pd.Series:
    """Case -> Dice: the lowest `count` of a system among cases that have the structure, worst first.

    Then the case without it where most of it is invented, if any is. `patients` as patients.csv.
    """
    rows = patients[(patients.system == system) & (patients.structure == structure)]
    rows = rows.assign(case=rows.case.astype(str)).set_index("case")
    without = rows.is_empty.astype(bool)
    invented = rows[without & (rows.precision == 0)].sort_values("prediction_ml", ascending=False).head(1)
    return pd.concat([rows[~without].dice.sort_values(kind="stable").head(count), invented.dice])


MISSED, INVENTED = to_rgba(ORANGE, 0.75), to_rgba(SKY_BLUE, 0.75)


def error_strip(
    volume: Volume, truth: np.ndarray, prediction: np.ndarray, structure: str, recipe: Recipe, count: int
) -> Figure:
    """Truth, prediction and what differs, a row each, on `slices_with_error`; labels 0/1/2 (D, H, W)."""
    true, found = structure_mask(truth, structure), structure_mask(prediction, structure)
    chosen = slices_with_error(true, found, count)
    around = ((truth[chosen] > 0) | found[chosen]).any(axis=0)
    window, rows = channel_windows(volume.voxels, recipe)[0], ([], [], [])
    for k in chosen:
        grey = apply_window(volume.voxels[k], window)
        error = np.zeros((*grey.shape, 4))
        error[true[k] & ~found[k]], error[found[k] & ~true[k]] = MISSED, INVENTED
        rows[0].append(Tile(grey, f"slice {k}, truth", truth=truth[k], around=around))
        rows[1].append(Tile(grey, "prediction", prediction=prediction[k], around=around))
        rows[2].append(Tile(grey, "error", heat=error, around=around))
    keys = [Patch(color=MISSED, label="missed"), Patch(color=INVENTED, label="invented")]
    return tiles([tile for row in rows for tile in row], columns=len(chosen), keys=keys)


def slices_with_error(true: np.ndarray, found: np.ndarray, count: int) -> list[int]:
    """At most `count` slices of masks (D, H, W), ascending: of each stretch that with most error.

    Slices that show anything in either are cut into `count` stretches alike.
    """
    shown = np.flatnonzero((true | found).any(axis=(1, 2)))
    error = (true != found).sum(axis=(1, 2))
    return [int(part[error[part].argmax()]) for part in np.array_split(shown, count) if len(part)]
