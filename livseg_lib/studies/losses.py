"""Losses against the rarity of tumours: the same network, slices and order, only the loss differs.

Cross-validated, so that every development patient is scored by networks that never saw it; test patients
are not touched. Any network finds more at a lower threshold: tumours are looked for at several, and losses
are compared at 0.5 and at the threshold that the *other* parts choose. Whatever is resampled or paired is a
patient, never a tumour: tumours of one patient look alike.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from livseg_lib.datasets.case import Case
from livseg_lib.errors import InputError
from livseg_lib.evaluation.errors import TrueCase, contrast_class, lesion_hits
from livseg_lib.evaluation.lesions import tumor_overlap
from livseg_lib.evaluation.statistics import compare, summarize
from livseg_lib.inference.predict import labels_from_planes, predict_planes, stored_pictures
from livseg_lib.models import keras
from livseg_lib.preprocessing.recipe import Recipe
from livseg_lib.studies.training import TrainingPlan, train_network
from livseg_lib.studies.tuning import development_slices

THRESHOLDS = (0.1, 0.3, 0.5, 0.7, 0.9)
LIVER_THRESHOLD = 0.5  # where a network outlines the liver too, tumours count inside it


@dataclass(frozen=True)
class LossStudy:
    """What the networks of each loss found; the same columns whether at all thresholds or at one."""

    lesions: pd.DataFrame
    """A row a loss, threshold and true tumour: loss, part, patient, case, threshold, volume_ml, diameter_mm,
    tumor_hu, rim_hu and contrast_hu of `describe_objects`, contrast (its class), then `lesion_hits`."""
    patients: pd.DataFrame
    """A row a loss, threshold and case: loss, part, patient, case, threshold, dice (of tumours; two empty: 1,
    as system K has it), false_alarms (predicted tumours that touch no true one)."""
    histories: pd.DataFrame  # a row a loss, part and epoch; what the loss came to is `training_loss`


def compare_losses(
    plans: dict[str, TrainingPlan],
    slices: pd.DataFrame,
    cases: Iterable[Case],
    folder: Path,
    checkpoints: Path,
    parts: int = 2,
) -> LossStudy:
    """Train each plan once a part, on all other development patients, and score the patients left out.

    `slices` are the classified ones; their folds are joined into `parts`. `folder` holds their arrays,
    `cases` their scans. One volume is in memory at a time, scored on its own grid. Trainings resume from
    `checkpoints`. Raises InputError for fewer than 2 parts, and where patients are on two sides.
    """
    if parts < 2:
        raise InputError("parts", f"is {parts}.", "Give at least 2: one to learn from, one to score.")
    development = development_slices(slices)
    part = development.fold % parts
    case_of = {case.case_id: case for case in cases}
    lesions, patients, histories = [], [], []
    for number in sorted(part.unique()):
        networks = {}
        for loss, plan in plans.items():
            learn, checkpoint = plan.choose(development[part != number]), checkpoints / loss / f"part{number}"
            networks[loss], history = train_network(plan, learn, None, folder, checkpoint)
            history = history.rename(columns={"loss": "training_loss"})
            histories.append(history.assign(loss=loss, part=number))
        for case_id in development[part == number].case.unique():
            found = _score_case(networks, plans, case_of[case_id], folder)
            for table, rows in zip((lesions, patients), found, strict=True):
                table.append(rows.assign(part=number))
    return LossStudy(*(pd.concat(tables, ignore_index=True) for tables in (lesions, patients, histories)))


def _score_case(
    networks: dict[str, keras.Model], plans: dict[str, TrainingPlan], case: Case, folder: Path
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Rows of `LossStudy.lesions` and `.patients` for one case."""
    volume = case.read_volume()
    labels = case.read_labels(volume)
    true = TrueCase(labels, volume.spacing_mm, volume.voxels)
    columns = ["object", "voxels", "volume_ml", "diameter_mm", "mean_hu", "rim_hu", "contrast_hu"]
    described = true.tumors[columns].astype(float).astype({"object": int, "voxels": int})
    described = described.rename(columns={"object": "lesion", "mean_hu": "tumor_hu"})
    described["contrast"] = contrast_class(described.contrast_hu)
    recipe, pictures = Recipe.of_case(folder / case.case_id), stored_pictures(folder, case.case_id)
    lesions, patients = [], []
    for loss, network in networks.items():
        planes, structures = predict_planes(network, pictures), plans[loss].structures
        for threshold in THRESHOLDS:
            cut = {name: threshold if name == "tumor" else LIVER_THRESHOLD for name in structures}
            overlap = tumor_overlap(labels_from_planes(planes, volume, recipe, cut), labels)
            voxels = overlap.prediction_voxels[1:].sum() + overlap.reference_voxels[1:].sum()
            dice = 2 * overlap.table[1:, 1:].sum() / voxels if voxels else 1.0
            identity = {"loss": loss, "patient": case.patient, "case": case.case_id, "threshold": threshold}
            lesions.append(described.merge(lesion_hits(overlap), on="lesion").assign(**identity))
            patients.append(identity | {"dice": dice, "false_alarms": int(overlap.untouched.sum())})
    return pd.concat(lesions, ignore_index=True), pd.DataFrame(patients)


def chosen_thresholds(patients: pd.DataFrame) -> pd.DataFrame:
    """loss, part, threshold: that with the best mean Dice over the patients of all *other* parts, whose
    networks did learn from the patients of this one; among equals the one nearest 0.5."""
    rows = patients[["loss", "part"]].drop_duplicates()

    def best(row: pd.Series) -> float:
        other_parts = patients[(patients.loss == row.loss) & (patients.part != row.part)]
        means = other_parts.groupby("threshold").dice.mean()
        return means[sorted(means.index, key=lambda threshold: abs(threshold - 0.5))].idxmax()

    return rows.assign(threshold=rows.apply(best, axis=1)).reset_index(drop=True)


def operating_points(study: LossStudy) -> Iterator[tuple[str, LossStudy]]:
    """("0.5", the study at that threshold), where it was tried, and ("chosen", at the chosen ones)."""
    points = {"0.5": pd.DataFrame({"threshold": [0.5]}), "chosen": chosen_thresholds(study.patients)}
    for name, rows in points.items():
        patients = study.patients.merge(rows)
        if len(patients):
            yield name, replace(study, lesions=study.lesions.merge(rows), patients=patients)


_NAMES = {"false_alarms": "false_alarms_per_patient", "dice": "dice_per_case"}
"""Numbers of a patient, and what their means are called in tables."""

COUNTS = ("n_tumors", "n_without_contrast", "n_low_contrast", "n_low_contrast_missed")


def summarize_losses(study: LossStudy, seed: int) -> pd.DataFrame:
    """A row a loss: counts, and three scores each with its 95 % bootstrap interval over patients.

    Columns: loss, n_patients, COUNTS (without contrast: no liver around them), false_negative_rate (missed
    share of the tumours of low contrast), and _NAMES; the intervals end in _low and _high.
    """
    lesions, low = study.lesions, study.lesions.contrast == "low"
    marks = (lesions.hit.notna(), lesions.contrast_hu.isna(), low, low & ~lesions.hit)
    counts = pd.concat(marks, axis=1, keys=COUNTS).groupby(lesions.loss).sum()
    faint = lesions[low].assign(false_negative_rate=~lesions.hit[low])
    missed = summarize(faint, "loss", "false_negative_rate", pooled=True, seed=seed)
    means = summarize(_of_patients(study).rename(columns=_NAMES), "loss", list(_NAMES.values()), seed=seed)
    table = means.join(counts, "loss").merge(missed.iloc[:, :4], "left", "loss")
    first = ["loss", "n_patients", *COUNTS, *missed.columns[1:4]]
    return table[[*first, *(name for name in means if name not in (*first, "n_undefined"))]]


def _of_patients(study: LossStudy) -> pd.DataFrame:
    """loss, patient, and the numbers of _NAMES: the false alarms of all cases, the mean of their Dice."""
    patients = study.patients.groupby(["loss", "patient"], sort=False, as_index=False)
    return patients.agg({"false_alarms": "sum", "dice": "mean"})


def differences_from(baseline: str, study: LossStudy, seed: int) -> pd.DataFrame:
    """`compare` of each other loss with `baseline`, once a measure, which is the last column.

    Measures are low_contrast_missed, tumours (of patients who have any), and those of _NAMES. p values are
    corrected for the number of losses alone: the first measure is the question, the others say what it cost.
    """
    low = study.lesions[study.lesions.contrast == "low"]
    missed = (~low.hit).groupby([low.loss, low.patient]).sum().rename("value").reset_index()
    measures = _of_patients(study).melt(["loss", "patient"], list(_NAMES), "measure")
    rows = pd.concat([missed.assign(measure="low_contrast_missed"), measures])
    pairs = [(loss, baseline) for loss in study.patients.loss.unique() if loss != baseline]
    table = compare(rows, pairs, "value", by=["measure"], between="loss", seed=seed)
    return table[[*table.columns[1:], "measure"]]
