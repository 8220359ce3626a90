"""Where systems err, and what would help.

Every error of every system of a run on the test patients, read from the predictions on disk.

The worst patients of a system as strips of slices.

What class weights, the focal loss and the candidate filter change in system B's two classes of errors.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from tqdm import tqdm

from livseg_lib.datasets.case import Case
from livseg_lib.datasets.phantom import Organ, is_phantom, painted_lesions, remake_organs
from livseg_lib.evaluation.error_causes import BRIGHT_TEXTURE, LOW_CONTRAST, add_causes
from livseg_lib.evaluation.errors import (
    FALSE_NEGATIVE,
    RIM_MM,
    CaseErrors,
    TrueCase,
    find_errors,
    match_painted,
    room_around,
    shared_false_positives,
    shared_misses,
)
from livseg_lib.evaluation.masks import Box
from livseg_lib.evaluation.statistics import compare_pairs, patient_scores
from livseg_lib.figures import save_figure
from livseg_lib.labels import structure_mask
from livseg_lib.models import MODELS
from livseg_lib.postprocessing.components import label_components
from livseg_lib.preprocessing.recipe import Recipe, channel_windows
from livseg_lib.preprocessing.windows import apply_window
from livseg_lib.reporting.studies.error_strips import StripSlice, choose_slices, error_strip
from livseg_lib.reporting.style import structure_name
from livseg_lib.runs import RunFolders
from livseg_lib.studies.cascades import SYSTEM as FILTERED
from livseg_lib.studies.cascades import UNFILTERED
from livseg_lib.studies.finishing import stored_labels
from livseg_lib.tables import read_table
from livseg_lib.volumes import load_prediction

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


def systems_to_show(patients: pd.DataFrame, structure: str, systems: Sequence[str]) -> list[str]:
    """Of `systems` that with the best mean Dice of a patient, and the best single network; one if the same.

    `patients` as patients.csv. Chosen by the test patients themselves: to look at, not to compare.
    """
    rows = patients[(patients.structure == structure) & patients.system.isin(systems)]
    means = rows.groupby(["system", "patient"]).dice.mean().groupby("system").mean()
    means = means.sort_values(ascending=False)
    networks = [name for name in means.index if name in MODELS]
    return list(dict.fromkeys([*means.index[:1], *networks[:1]]))


def worst_cases(patients: pd.DataFrame, system: str, structure: str, count: int) -> pd.Series:
    """Case -> Dice: the lowest `count` of a system among cases that have the structure, worst first.

    Then the case without it where most of it is invented, if any is. `patients` as patients.csv.
    """
    rows = patients[(patients.system == system) & (patients.structure == structure)]
    rows = rows.assign(case=rows.case.astype(str)).set_index("case")
    without = rows.is_empty.astype(bool)
    invented = rows[without & (rows.precision == 0)].sort_values("prediction_ml", ascending=False).head(1)
    worst = rows[~without].dice.sort_values(kind="stable").head(count)
    return pd.concat([worst, invented.dice])


def worst_patients(
    system: str,
    structure: str,
    dice: pd.Series,
    cases: Iterable[Case],
    folders: RunFolders,
    recipe: Recipe,
    slices: int = 6,
) -> Iterator[Figure]:
    """A saved figure for each case of `dice` (`worst_cases`), with at most that many slices."""
    by_id = {case.case_id: case for case in cases}
    for rank, (case_id, score) in enumerate(dice.items(), start=1):
        strip = _read_strip(by_id[case_id], system, structure, folders, recipe, slices)
        title = f"{system}, {case_id}: {structure_name(structure)} Dice {score:.2f}"
        figure = error_strip(strip, structure, title)
        caption = f"{title}, among the worst of the test patients; slices from feet to head."
        save_figure(figure, folders.figures, f"errors_worst_{system}_{rank}", caption)
        yield figure


def _read_strip(
    case: Case, system: str, structure: str, folders: RunFolders, recipe: Recipe, count: int
) -> list[StripSlice]:
    volume = case.read_volume()
    reference = case.read_labels(volume)
    prediction = load_prediction(volume, folders.predictions(system), case.case_id)
    window = channel_windows(volume.voxels, recipe)[0]
    return [
        StripSlice(k, apply_window(volume.voxels[k], window), reference[k].copy(), prediction[k].copy())
        for k in choose_slices(reference, prediction, structure, count)
    ]


REMEDY_COLUMNS = (
    "remedy",
    "compared_with",
    "patients",
    "error_class",
    "n_before",
    "n_after",
    "n_patients",
    "difference",
    "difference_low",
    "difference_high",
    "p",
)
"""`difference` is the mean of after - before a patient, with its 95 % interval over patients; `p` is that of
the two-sided `sign_flip_test`, which `holm` corrects once all remedies stand together."""

MEASURES = {"low_contrast_missed": LOW_CONTRAST, "bright_false_alarms": BRIGHT_TEXTURE}
"""Of the study of losses (`studies.losses`), and the class that each counts."""


def loss_remedies(summary: pd.DataFrame, differences: pd.DataFrame) -> pd.DataFrame:
    """Rows of REMEDY_COLUMNS from tables class_imbalance.csv and imbalance_differences.csv of notebook 23.

    Those are of other patients (development, cross-validated) and of a smaller network. Tables of an earlier
    version count no bright textures and give no row of them.
    """
    rows = []
    for row in differences[differences.measure.isin(MEASURES)].itertuples():
        at = summary[summary.threshold.astype(str) == str(row.threshold)].set_index("loss")
        before, after = (_count(at.loc[loss], row.measure) for loss in (row.second, row.first))
        rows.append(
            {
                "remedy": row.first,
                "compared_with": row.second,
                "patients": f"development, threshold {row.threshold}",
                "error_class": MEASURES[row.measure],
                "n_before": before,
                "n_after": after,
                **{name: getattr(row, name) for name in REMEDY_COLUMNS[6:]},
            }
        )
    return pd.DataFrame(rows, columns=list(REMEDY_COLUMNS))


def _count(row: pd.Series, measure: str) -> int:
    if measure == "low_contrast_missed":
        return int(row.n_low_contrast_missed)
    return round(row.bright_false_alarms_per_patient * row.n_patients)


def filter_remedy(objects: pd.DataFrame, patients: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Rows of REMEDY_COLUMNS from `ErrorStudy`: the cascade without its candidate filter, and with it.

    Patients without such errors count as 0. No rows where one of the two was not studied.
    """
    before, after = UNFILTERED, FILTERED
    if not {before, after} <= set(patients.system):
        return pd.DataFrame(columns=list(REMEDY_COLUMNS))
    everyone = patients[patients.system.isin([before, after])][["system", "patient"]].drop_duplicates()
    rows = []
    for error_class in (LOW_CONTRAST, BRIGHT_TEXTURE):
        of_class = objects[objects.error_class == error_class].groupby(["system", "patient"]).size()
        counts = everyone.merge(of_class.rename("n").reset_index(), "left").fillna({"n": 0})
        scores = patient_scores(counts, "n")
        [found] = compare_pairs(scores, [(after, before)], seed=seed).to_dict("records")
        row = {"remedy": "candidate filter", "compared_with": before, "patients": "test"}
        row |= {"error_class": error_class, "n_before": int(scores[before].sum())}
        rows.append(row | {"n_after": int(scores[after].sum())} | {n: found[n] for n in REMEDY_COLUMNS[6:]})
    return pd.DataFrame(rows, columns=list(REMEDY_COLUMNS))
