"""What finishes predictions: filled, cleaned, augmented, combined.

What several systems have said of one case, read from disk once each and cut to where anything is.

Which ways to finish labels help a system? Asked of validation patients, one way after the other.

Test-time augmentation on validation patients: what it gains in Dice, and what it takes in seconds.

The chosen finishes on the test patients: what they change, and how they become part of a cascade.

Labels come from disk, no network is asked again, unless an earlier run of the study has finished them
already: then they are predicted anew, so that the study always starts from what the cascade found itself.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
from tqdm import tqdm

from livseg_lib.datasets.case import Case
from livseg_lib.evaluation.masks import Box, foreground_box, structure_dice
from livseg_lib.evaluation.statistics import compare_pairs, patient_scores, verdict
from livseg_lib.inference.cascade import Cascade, chosen_finishes, load_cascade, load_unfinished, set_finishes
from livseg_lib.inference.evaluate import Evaluation, ScoredSystem, evaluate_labels
from livseg_lib.inference.predict import predict_volume
from livseg_lib.inference.systems import System, outline
from livseg_lib.inference.variants import AugmentedNetwork, choose_variants
from livseg_lib.postprocessing.components import FINISHES, finish_labels
from livseg_lib.runs import RunFolders
from livseg_lib.studies.cascades import cascade_row
from livseg_lib.studies.records import record_evaluations
from livseg_lib.tables import read_table, replace_systems
from livseg_lib.training.model_folder import TrainedModel
from livseg_lib.volumes import Volume, load_prediction


def stored_labels(
    folders: RunFolders, systems: Sequence[str], case: Case, volume: Volume, *others: np.ndarray
) -> tuple[list[np.ndarray], Box]:
    """What each system says, uint8 (d, h, w), in the smallest box with all labels, and that box.

    The box holds the labels of `others` (D, H, W) too. One whole prediction in memory at a time.
    """
    cut, boxes = [], [foreground_box(other) for other in others]
    for system in systems:
        labels = load_prediction(volume, folders.predictions(system), case.case_id)
        boxes.append(foreground_box(labels))
        cut.append((labels[boxes[-1]].copy(), boxes[-1]))
    hull = _hull(boxes)
    return [_widened(labels, box, hull) for labels, box in cut], hull


def _hull(boxes: Sequence[Box]) -> Box:
    """The smallest box around all `boxes` that are not empty; an empty one where all are."""
    filled = [box for box in boxes if all(side.stop > side.start for side in box)]
    if not filled:
        return boxes[0]
    sides = zip(*filled, strict=True)
    return tuple(slice(min(s.start for s in side), max(s.stop for s in side)) for side in sides)


def _widened(labels: np.ndarray, box: Box, hull: Box) -> np.ndarray:
    """`labels` of `box` in an array of the size of `hull`."""
    whole = np.zeros([side.stop - side.start for side in hull], np.uint8)
    if labels.size:
        inside = (slice(s.start - h.start, s.stop - h.start) for s, h in zip(box, hull, strict=True))
        whole[tuple(inside)] = labels
    return whole


SMALLEST_GAIN = 1e-4
"""Of the mean Dice: what gains less is left out, as every step takes time and may do harm elsewhere."""


@dataclass(frozen=True)
class Outlined:
    """What a system found in one case, and the truth, cut to where either is."""

    patient: str
    labels: np.ndarray
    """0/1/2, uint8 (d, h, w)."""
    reference: np.ndarray
    spacing_mm: tuple[float, float, float]


def outline_cases(system: System, cases: Iterable[Case]) -> list[Outlined]:
    """`system` on each of `cases` with labels; one whole volume in memory at a time."""
    found = []
    for case in tqdm(list(cases), system.system, unit="patient"):
        volume = case.read_volume()
        labels, reference = outline(system, volume), case.read_labels(volume)
        box = foreground_box(labels, reference)
        cut = labels[box].copy(), reference[box].copy()
        found.append(Outlined(case.patient, *cut, volume.spacing_mm))
    return found


def choose_finishes(
    outlined: Sequence[Outlined], structures: Sequence[str]
) -> tuple[tuple[str, ...], pd.DataFrame]:
    """The finishes that help, in the order of `FINISHES`, and what each one does.

    Each is tried by itself on the labels as those kept so far have left them, and kept where the mean Dice
    (over `structures`, each over patients) rises by more than `SMALLEST_GAIN`. Columns, a row a finish and
    structure: finish, structure, n_patients, n_changed (patients with any other label), dice_before,
    dice_after, change, kept, reason. Never call it with test patients.
    """
    kept, rows = [], []
    before = _mean_dice(outlined, structures)
    for name, finish in FINISHES.items():
        finished = [replace(each, labels=finish(each.labels, each.spacing_mm)) for each in outlined]
        after = _mean_dice(finished, structures)
        verdict = _judge(after.mean() - before.mean(), changed := _changed_patients(outlined, finished))
        rows += [
            {
                "finish": name,
                "structure": structure,
                "n_patients": len({each.patient for each in outlined}),
                "n_changed": changed,
                "dice_before": before[structure],
                "dice_after": after[structure],
                "change": after[structure] - before[structure],
                **verdict,
            }
            for structure in structures
        ]
        if verdict["kept"]:
            outlined, before = finished, after
            kept.append(name)
    return tuple(kept), pd.DataFrame(rows)


def _judge(gain: float, changed: int) -> dict:
    """Whether a finish stays that gains so much of the mean Dice, and why."""
    if not changed:
        return {"kept": False, "reason": "changes nothing"}
    if abs(gain) <= SMALLEST_GAIN:
        return {"kept": False, "reason": "changes next to nothing"}
    return {"kept": gain > 0, "reason": "helps" if gain > 0 else "harms"}


def _changed_patients(before: Sequence[Outlined], after: Sequence[Outlined]) -> int:
    pairs = zip(before, after, strict=True)
    return len({one.patient for one, other in pairs if not np.array_equal(one.labels, other.labels)})


def _mean_dice(outlined: Sequence[Outlined], structures: Sequence[str]) -> pd.Series:
    """Mean Dice over patients, a structure; the cases of one patient are averaged first."""
    scores = pd.DataFrame(
        [{s: structure_dice(each.labels, each.reference, s) for s in structures} for each in outlined]
    )
    return scores.groupby([each.patient for each in outlined]).mean().mean()


PLAIN = "none"
DIFFERENCE = ("difference", "difference_low", "difference_high", "p", "p_holm")
VERDICTS = {1: "better", -1: "worse", 0: "no difference shown"}


def score_variants(trained: TrainedModel, cases: Sequence[Case], names: Sequence[str]) -> pd.DataFrame:
    """Dice and seconds of `trained` by itself ("none") and with each of the variants `names` alone.

    A row a case, variant and structure: patient, case, variant, structure, dice, seconds (prediction of
    the volume in memory). Thresholds stay as they are. Each case is read once; the first is predicted once
    before any clock runs, as a network is compiled at its first picture.
    """
    systems = {name: replace(trained, network=AugmentedNetwork(trained.network, (name,))) for name in names}
    systems = {PLAIN: trained} | systems
    rows = []
    for number, case in enumerate(tqdm(list(cases), "test-time augmentation", unit="patient")):
        volume = case.read_volume()
        reference = case.read_labels(volume)
        if number == 0:
            predict_volume(trained, volume)
        for name, system in systems.items():
            began = time.perf_counter()
            labels = predict_volume(system, volume)
            seconds = time.perf_counter() - began
            whose = {"patient": case.patient, "case": case.case_id, "variant": name}
            for structure in trained.structures:
                dice = structure_dice(labels, reference, structure)
                rows.append(whose | {"structure": structure, "dice": dice, "seconds": seconds})
    return pd.DataFrame(rows)


def summarize_variants(scores: pd.DataFrame, seed: int) -> pd.DataFrame:
    """A row a structure and variant of `score_variants`, the plain prediction first.

    Columns: variant, structure, pictures (asked for each one), n_patients, dice, difference (from the plain
    prediction, paired), difference_low, difference_high (95 % bootstrap over patients), p and p_holm
    (corrected for the variants), seconds_a_volume, times (its seconds over the plain ones), verdict.
    """
    parts = []
    for structure, group in scores.groupby("structure", sort=False):
        table = patient_scores(group.rename(columns={"variant": "system"}))
        found = compare_pairs(table, [(name, PLAIN) for name in table if name != PLAIN], seed=seed)
        means = {
            "variant": list(table),
            "structure": structure,
            "pictures": [len(choose_variants([name])) for name in table],
            "n_patients": table.notna().sum().to_numpy(),
            "dice": table.mean().to_numpy(),
        }
        found = found.assign(verdict=verdict(found).map(VERDICTS), variant=found["first"])
        parts.append(pd.DataFrame(means).merge(found[["variant", *DIFFERENCE, "verdict"]], "left"))
    summary = pd.concat(parts, ignore_index=True).fillna({"verdict": ""})
    seconds = scores.groupby(["variant", "case"], sort=False).seconds.first().groupby("variant").mean()
    took = summary.variant.map(seconds)
    return summary.assign(seconds_a_volume=took, times=took / seconds[PLAIN], verdict=summary.pop("verdict"))


EFFECT_COLUMNS = (
    "system",
    "structure",
    "finishes",
    "n_patients",
    "dice_before",
    "dice_after",
    "difference",
    "difference_low",
    "difference_high",
    "p",
)


@dataclass(frozen=True)
class FinishStored:
    """Stands in for a system that predicts: stored labels, finished; for `evaluate_labels`."""

    predictions: Path
    finishes: Sequence[str]
    seconds: dict[str, float] = field(default_factory=dict)
    """What finishing took, a case; reading left out."""

    def __call__(self, case: Case, volume: Volume) -> np.ndarray:
        """Labels 0/1/2, uint8 (D, H, W), on the grid of `volume`."""
        labels = load_prediction(volume, self.predictions, case.case_id)
        began = time.perf_counter()
        finished = finish_labels(labels, volume.spacing_mm, self.finishes)
        self.seconds[case.case_id] = time.perf_counter() - began
        return finished


def unfinished_cascade(name: str, folders: RunFolders, cases: Sequence[Case], seed: int) -> Cascade:
    """The run's cascade with its own steps; model folder, predictions and tables are those of these steps.

    Where an earlier run has finished it, the test patients `cases` are predicted and scored again.
    """
    folder = folders.model(name)
    cascade = load_unfinished(folder)
    if chosen_finishes(folder):
        _record(
            cascade,
            evaluate_labels(cascade, cascade.predict, cases, folders.predictions(name)),
            folders,
            seed,
        )
        set_finishes(folder, ())  # last: until then all of this is done again
    return cascade


def try_finishes(
    system: ScoredSystem, finishes: Sequence[str], cases: Sequence[Case], folders: RunFolders
) -> Evaluation:
    """Scores of the stored labels of `system`, finished; nothing is kept."""
    finish = FinishStored(folders.predictions(system.system), finishes)
    with TemporaryDirectory() as scratch:
        return evaluate_labels(system, finish, cases, Path(scratch))


def adopt_finishes(
    cascade: Cascade, finishes: Sequence[str], cases: Sequence[Case], folders: RunFolders, seed: int
) -> Evaluation:
    """`finishes` become the last steps of the run's unfinished `cascade`: model.json, predictions, tables.

    `predict_seconds` is what the prediction took before and the finishing now.
    """
    name = cascade.system
    before = prediction_seconds(stored_scores(name, folders))
    set_finishes(folders.model(name), finishes)  # first: `unfinished_cascade` mends what follows, if killed
    finish = FinishStored(folders.predictions(name), finishes)
    evaluation = evaluate_labels(cascade, finish, cases, folders.predictions(name))
    set_seconds(evaluation, {case: before.get(case, np.nan) + took for case, took in finish.seconds.items()})
    _record(load_cascade(folders.model(name)), evaluation, folders, seed)
    return evaluation


def compare_finished(
    before: pd.DataFrame, after: Evaluation, finishes: Sequence[str], seed: int
) -> pd.DataFrame:
    """A row a structure (EFFECT_COLUMNS): Dice of the test patients before and after, paired.

    `before` are the system's rows of patients.csv. The difference is after - before, its interval a 95 %
    bootstrap over patients, p that of the two-sided `sign_flip_test`, not corrected: `holm`
    does it, once all systems are compared.
    """
    rows = []
    for structure, scores in pd.DataFrame(after.patients).groupby("structure", sort=False):
        earlier = before[before.structure == structure].assign(system="before")
        both = pd.concat([earlier, scores.assign(system="after")])
        table = patient_scores(both.assign(patient=both.patient.astype(str)))
        [found] = compare_pairs(table, [("after", "before")], seed=seed).to_dict("records")
        whose = {"system": after.system, "structure": structure, "finishes": ", ".join(finishes)}
        rows.append(found | whose | {f"dice_{side}": table[side].mean() for side in table})
    return pd.DataFrame(rows, columns=list(EFFECT_COLUMNS))


def stored_scores(system: str, folders: RunFolders) -> pd.DataFrame:
    """The rows of `system` in patients.csv."""
    table = read_table(folders.tables / "patients.csv")
    return table[table.system == system]


def prediction_seconds(scores: pd.DataFrame) -> pd.Series:
    """Seconds a case of one system's rows of patients.csv; NaN where an earlier version kept none."""
    seconds = scores.reindex(columns=["case", "predict_seconds"]).groupby("case").predict_seconds.first()
    return seconds.rename(index=str)


def set_seconds(evaluation: Evaluation, seconds: Mapping[str, float]) -> None:
    """Put what each case took into the rows of `evaluation`: its labels were read from disk."""
    for row in evaluation.patients:
        row["predict_seconds"] = seconds[row["case"]]


def _record(cascade: Cascade, evaluation: Evaluation, folders: RunFolders, seed: int) -> None:
    record_evaluations([(cascade, evaluation)], folders, seed)
    row = pd.DataFrame([cascade_row(cascade, evaluation)])
    replace_systems(folders.tables / "cascades.csv", row)
