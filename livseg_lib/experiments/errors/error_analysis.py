"""Every error of every system of a run on the test patients, read from the predictions on disk."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from livseg_lib.datasets.case import Case
from livseg_lib.datasets.phantom import Organ, is_phantom, painted_lesions, remake_organs
from livseg_lib.evaluation.arrays import Box
from livseg_lib.evaluation.errors.error_causes import add_causes
from livseg_lib.evaluation.errors.error_objects import (
    FALSE_NEGATIVE,
    RIM_MM,
    CaseErrors,
    TrueCase,
    find_errors,
)
from livseg_lib.evaluation.errors.lesion_contrast import room_around
from livseg_lib.evaluation.errors.painted_tumors import match_painted
from livseg_lib.evaluation.errors.shared_errors import shared_false_positives, shared_misses
from livseg_lib.experiments.cascade_parts.candidate_training import SYSTEM as FILTERED
from livseg_lib.experiments.cascade_parts.candidate_training import UNFILTERED
from livseg_lib.experiments.stored_labels import stored_labels
from livseg_lib.labels import structure_mask
from livseg_lib.paths import RunFolders
from livseg_lib.postprocessing.components import label_components
from livseg_lib.reporting import read_table

ORGAN_NAMES = {organ.value: organ.name.lower().replace("_", " ") for organ in Organ}


@dataclass(frozen=True)
class ErrorStudy:
    """Tables over all systems and cases; objects of each carry their causes (`add_causes`)."""

    objects: pd.DataFrame
    """A row an error: system, patient, case, then `CaseErrors.objects`."""
    tumors: pd.DataFrame
    """A row a system and true tumour: system, patient, case, then `CaseErrors.tumors`, and on the phantom
    `painted` and `edge` (`match_painted`)."""
    patients: pd.DataFrame
    """A row a system and case: system, patient, case, tumors, predicted, missed, invented, fused, fusing
    and split, counts of objects."""
    shared: pd.DataFrame
    """A row a true tumour or place of false positives: patient, case, then SHARED_COLUMNS."""


def systems_with_predictions(folders: RunFolders, cases: Sequence[Case], structure: str) -> list[str]:
    """Systems scored on `structure` whose predictions of all `cases` lie on disk, best mean Dice first.

    After the cascade with a filter comes the one without, which has predictions but no row in patients.csv.
    """
    patients = read_table(folders.tables / "patients.csv")
    scored = patients[patients.structure == structure]
    names = list(scored.groupby("system").dice.mean().sort_values(ascending=False).index)
    if FILTERED in names:
        names.insert(names.index(FILTERED) + 1, UNFILTERED)
    return [name for name in names if all(_is_stored(folders.predictions(name), case) for case in cases)]


def _is_stored(folder: Path, case: Case) -> bool:
    return any((folder / f"{case.case_id}{suffix}").exists() for suffix in (".nii.gz", ".npy"))


def least_sharing(n_systems: int) -> int:
    """How many systems have to mark a place before it is said to be shared: half of them, at least two."""
    return max(2, -(-n_systems // 2))


def study_errors(
    systems: Sequence[str], cases: Sequence[Case], folders: RunFolders, source: Path, modality: str = "ct"
) -> ErrorStudy:
    """Compare the stored predictions of `systems` with the truth of `cases`; each file is read once.

    `source` is the folder of the scans: where it is a phantom, what each object really is comes from its
    seed. Voxels of another `modality` than "ct" are no HU: brightness and contrast are undefined there, as in
    pictures. One case in memory at a time.
    """
    objects, tumors, patients, shared = [], [], [], []
    for case in tqdm(list(cases), "errors", unit="case"):
        true, found, corner = _read_case(systems, case, folders, source, modality)
        errors = {system: find_errors(labels, true) for system, labels in found}
        whose = {"patient": case.patient, "case": case.case_id}
        edges = _edges(true, corner, source, case)
        for system, each in errors.items():
            objects.append(each.objects.assign(system=system, **whose))
            tumors.append(each.tumors.merge(edges, on="object").assign(system=system, **whose))
            patients.append({"system": system, **whose, **_counts(each)})
        masks = {system: each.false_positives for system, each in errors.items()}
        shared.append(shared_misses({system: each.tumors for system, each in errors.items()}).assign(**whose))
        shared.append(shared_false_positives(masks, true, least_sharing(len(systems))).assign(**whose))
    return ErrorStudy(
        add_causes(_table(objects)),
        add_causes(_table(tumors).assign(error=FALSE_NEGATIVE)).drop(columns=["error", "error_class"]),
        pd.DataFrame(patients),
        add_causes(_table(shared)),
    )


def _read_case(
    systems: Sequence[str], case: Case, folders: RunFolders, source: Path, modality: str
) -> tuple[TrueCase, Iterator[tuple[str, np.ndarray]], tuple[int, ...]]:
    """The truth and what each system says, in the box of all labels and RIM_MM more; where that begins."""
    volume = case.read_volume()
    reference = case.read_labels(volume)
    found, hull = stored_labels(folders, systems, case, volume, reference)
    room = room_around(hull, reference.shape, np.asarray(volume.spacing_mm, float), RIM_MM)
    organs = remake_organs(source, case.case_id)[room] if is_phantom(source) else None
    is_hu = volume.native is not None and modality == "ct"
    voxels = volume.voxels[room].copy() if is_hu else None
    true = TrueCase(reference[room].copy(), volume.spacing_mm, voxels, organs, ORGAN_NAMES)
    padded = ((name, _padded(each, hull, room)) for name, each in zip(systems, found, strict=True))
    return true, padded, tuple(side.start for side in room)


def _padded(labels: np.ndarray, hull: Box, room: Box) -> np.ndarray:
    """`labels` of `hull` in an array of the size of `room`, which holds it."""
    margins = [(h.start - r.start, r.stop - h.stop) for h, r in zip(hull, room, strict=True)]
    return np.pad(labels, margins)


def _edges(true: TrueCase, corner: tuple[int, ...], source: Path, case: Case) -> pd.DataFrame:
    """`match_painted` of a phantom; of other cases nothing is known of edges."""
    components, count = label_components(structure_mask(true.labels, "tumor"))
    if not is_phantom(source):
        return pd.DataFrame({"object": range(1, count + 1), "painted": np.nan, "edge": None})
    painted = painted_lesions(source, case.case_id).query("kind == 'tumor'")
    return match_painted(components, true.spacing_mm, painted, corner)


def _counts(errors: CaseErrors) -> dict[str, int]:
    tumors = errors.tumors
    return {
        "tumors": len(tumors),
        "predicted": errors.predicted,
        "missed": int((~tumors.hit).sum()),
        "invented": len(errors.objects) - int((~tumors.hit).sum()),
        "fused": int(tumors.is_fused.sum()),
        "fusing": errors.fusing,
        "split": int((tumors.pieces > 1).sum()),
    }


def _table(tables: list[pd.DataFrame]) -> pd.DataFrame:
    """All rows, system, patient and case first; empty tables would only change the types of columns."""
    table = pd.concat([each for each in tables if len(each)] or tables[:1], ignore_index=True)
    first = [name for name in ("system", "patient", "case", "error", "object") if name in table]
    return table[[*first, *(name for name in table if name not in first)]]
