"""What may be done with trained systems without training: finish labels, ask again, take a vote.

Ways to finish labels are chosen on validation patients, one after the other, and become the last steps of a
cascade. Then labels of test patients come from disk, and no network is asked again, unless an earlier run of
the study has finished them already: so that the study always starts from what the cascade found itself.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
from scipy.stats import permutation_test, rankdata, spearmanr
from sklearn.metrics import roc_auc_score

from livseg_lib.datasets.case import Case, read_each
from livseg_lib.errors import InputError
from livseg_lib.evaluation.masks import BoxSlices, foreground_box, structure_dice
from livseg_lib.evaluation.statistics import compare, verdict
from livseg_lib.inference import variants
from livseg_lib.inference.cascade import (
    Cascade,
    System,
    chosen_finishes,
    load_cascade,
    load_unfinished,
    outline,
    set_finishes,
)
from livseg_lib.inference.evaluate import Evaluation, ScoredSystem, evaluate_labels
from livseg_lib.inference.predict import predict_volume
from livseg_lib.labels import STRUCTURES, structure_mask
from livseg_lib.outputs import read_table
from livseg_lib.postprocessing.components import FINISHES, finish_labels, label_components
from livseg_lib.runs import RunFolders, derived_seed
from livseg_lib.studies.cascades import evaluate_cascade, record_cascade
from livseg_lib.training.model_folder import TrainedModel
from livseg_lib.volumes import Volume, load_prediction

EFFECT_COLUMNS = ("system", "structure", "finishes", "n_patients", "dice_before", "dice_after", "difference")
EFFECT_COLUMNS += ("difference_low", "difference_high", "p")
SMALLEST_GAIN = 1e-4  # of the mean Dice: steps that gain less take time, and may do harm elsewhere


@dataclass(frozen=True)
class Outlined:
    """What a system found in one case, and the truth, cut to where either is."""

    patient: str
    labels: np.ndarray  # 0/1/2, uint8 (d, h, w)
    reference: np.ndarray
    spacing_mm: tuple[float, float, float]


def outline_cases(system: System, cases: Iterable[Case]) -> list[Outlined]:
    """`system` on each of `cases` with labels; one whole volume in memory at a time."""
    found = []
    for case, volume, reference in read_each(cases, system.system):
        labels = outline(system, volume)
        box = foreground_box(labels, reference)
        found.append(Outlined(case.patient, labels[box].copy(), reference[box].copy(), volume.spacing_mm))
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
    kept, tables, before = [], [], _mean_dice(outlined, structures)
    for name, finish in FINISHES.items():
        finished = [replace(each, labels=finish(each.labels, each.spacing_mm)) for each in outlined]
        pairs = zip(outlined, finished, strict=True)
        changed = {a.patient for a, b in pairs if not np.array_equal(a.labels, b.labels)}
        after = _mean_dice(finished, structures)
        gain = after.mean() - before.mean()
        reason = "helps" if gain > 0 else "harms"
        if not changed or abs(gain) <= SMALLEST_GAIN:
            reason = "changes next to nothing" if changed else "changes nothing"
        facts = {"finish": name, "structure": list(structures)}
        facts |= {"n_patients": len({each.patient for each in outlined}), "n_changed": len(changed)}
        facts |= {"dice_before": before, "dice_after": after, "change": after - before}
        tables.append(pd.DataFrame(facts | {"kept": reason == "helps", "reason": reason}))
        if reason == "helps":
            outlined, before = finished, after
            kept.append(name)
    return tuple(kept), pd.concat(tables, ignore_index=True)


def _mean_dice(outlined: Sequence[Outlined], structures: Sequence[str]) -> pd.Series:
    """Mean Dice over patients, a structure; the cases of one patient are averaged first."""
    scores = [{s: structure_dice(each.labels, each.reference, s) for s in structures} for each in outlined]
    return pd.DataFrame(scores).groupby([each.patient for each in outlined]).mean().mean()


def unfinished_cascade(name: str, folders: RunFolders, cases: Sequence[Case], seed: int) -> Cascade:
    """The run's cascade with its own steps; model folder, predictions and tables are those of these steps.

    Where an earlier run has finished it, the test patients `cases` are predicted and scored again.
    """
    folder = folders.model(name)
    cascade = load_unfinished(folder)
    if chosen_finishes(folder):
        evaluate_cascade(cascade, cases, folders, seed)
        set_finishes(folder, ())  # last: until then all of this is done again
    return cascade


def _evaluate_finished(
    system: ScoredSystem, finishes: Sequence[str], cases: Iterable[Case], folders: RunFolders, kept: Path
) -> Evaluation:
    """Scores of the system's stored labels, finished; `kept` holds what came out.

    `predict_seconds` is what the prediction took before and the finishing now; reading is left out.
    """
    seconds = seconds_of(folders, [system.system])

    def finish(case: Case, volume: Volume) -> np.ndarray:
        labels = load_prediction(volume, folders.predictions(system.system), case.case_id)
        began = time.perf_counter()
        finished = finish_labels(labels, volume.spacing_mm, finishes)
        seconds[case.case_id] = seconds.get(case.case_id, np.nan) + time.perf_counter() - began
        return finished

    evaluation = evaluate_labels(system, finish, cases, kept)
    for row in evaluation.patients:
        row["predict_seconds"] = seconds[row["case"]]
    return evaluation


def finish_test_patients(
    system: System, finishes: Sequence[str], cases: Sequence[Case], folders: RunFolders, seed: int
) -> pd.DataFrame:
    """What `finishes` do to stored labels of test patients: adopted by a cascade, only tried of a network.

    An unfinished cascade takes them as its last steps: in model.json, predictions and tables. A row a
    structure (EFFECT_COLUMNS), after - before as by `compare`; p is to be corrected (`holm`) for all systems.
    """
    name = system.system
    before = read_table(folders.tables / "patients.csv").query("system == @name")
    if isinstance(system, Cascade):
        model = folders.model(name)
        set_finishes(model, finishes)  # first: `unfinished_cascade` mends what follows, if killed
        after = _evaluate_finished(system, finishes, cases, folders, folders.predictions(name))
        record_cascade(load_cascade(model), after, folders, seed)
    else:
        with TemporaryDirectory() as scratch:
            after = _evaluate_finished(system, finishes, cases, folders, Path(scratch))
    sides = [before.assign(side="before"), pd.DataFrame(after.patients).assign(side="after")]
    scores = pd.concat(sides).astype({"patient": str})
    bootstrap_seed = derived_seed(seed, "bootstrap")
    effect = compare(scores, "before", by=["structure"], between="side", seed=bootstrap_seed)
    means = scores.groupby(["structure", "side", "patient"]).dice.mean().groupby(["structure", "side"]).mean()
    means = means.unstack().add_prefix("dice_").reset_index()
    effect = effect.merge(means).assign(system=name, finishes=", ".join(finishes))
    return effect[list(EFFECT_COLUMNS)]


def seconds_of(folders: RunFolders, systems: Sequence[str]) -> pd.Series:
    """Seconds a case (the index) that `systems` took together by patients.csv; NaN where one lacks them."""
    rows = read_table(folders.tables / "patients.csv")
    rows = rows[rows.system.isin(systems)].drop_duplicates(["system", "case"])
    seconds = rows.reindex(columns=["case", "predict_seconds"]).groupby("case").predict_seconds
    return seconds.sum(min_count=len(systems)).rename(index=str)


PLAIN, VERDICTS = "none", {1: "better", -1: "worse", 0: "no difference shown"}


def score_variants(trained: TrainedModel, cases: Sequence[Case], names: Sequence[str]) -> pd.DataFrame:
    """Dice and seconds of `trained` by itself ("none") and with each of the variants `names` alone.

    A row a case, variant and structure: patient, case, variant, structure, dice, seconds (of predicting in
    memory). Thresholds stay. Each case is read once; the first is predicted once before any clock runs.
    """
    plain, rows = trained.network, []
    networks = {PLAIN: plain} | {name: variants.AugmentedNetwork(plain, (name,)) for name in names}
    for case, volume, reference in read_each(cases, "test-time augmentation"):
        if not rows:
            predict_volume(trained, volume)
        for name, network in networks.items():
            began = time.perf_counter()
            labels = predict_volume(replace(trained, network=network), volume)
            seconds = time.perf_counter() - began
            identity = {"patient": case.patient, "case": case.case_id, "variant": name}
            for structure in trained.structures:
                dice = structure_dice(labels, reference, structure)
                rows.append(identity | {"structure": structure, "dice": dice, "seconds": seconds})
    return pd.DataFrame(rows)


def summarize_variants(scores: pd.DataFrame, seed: int) -> pd.DataFrame:
    """A row a structure and variant of `score_variants`, the plain prediction first.

    Columns: variant, structure, pictures (asked for each one), n_patients, dice, difference (from the plain
    prediction, paired), difference_low, difference_high (95 % bootstrap over patients), p and p_holm
    (corrected for the variants), seconds_a_volume, times (its seconds over the plain ones), verdict.
    """
    found = compare(scores, PLAIN, by=["structure"], between="variant", seed=seed)
    found = found.rename(columns={"first": "variant"}).assign(verdict=verdict(found).map(VERDICTS))
    keys = ["variant", "structure"]
    per_patient = scores.groupby([*keys, "patient"], sort=False).dice.mean()
    means = per_patient.groupby(keys, sort=False).agg(n_patients="count", dice="mean").reset_index()
    means.insert(2, "pictures", [len(variants.choose_variants([name])) for name in means.variant])
    seconds = scores.groupby(["variant", "case"], sort=False).seconds.first().groupby("variant").mean()
    summary = means.sort_values("structure", kind="stable")
    summary = summary.merge(found[[*keys, *EFFECT_COLUMNS[-4:], "p_holm", "verdict"]], "left")
    took = summary.variant.map(seconds)
    verdicts = summary.pop("verdict").fillna("")
    return summary.assign(seconds_a_volume=took, times=took / seconds[PLAIN], verdict=verdicts)


def predictions_in_box(
    folders: RunFolders, systems: Sequence[str], case: Case, volume: Volume, *others: np.ndarray
) -> tuple[list[np.ndarray], BoxSlices]:
    """What each system says, uint8 (d, h, w), in the smallest box with all labels, and that box.

    The box holds the labels of `others` (D, H, W) too. One whole prediction in memory at a time.
    """
    marked, kept = np.zeros(volume.voxels.shape, bool), []
    for other in others:
        marked |= other > 0
    for system in systems:
        labels = load_prediction(volume, folders.predictions(system), case.case_id)
        marked |= labels > 0
        own = foreground_box(labels)
        kept.append((own, labels[own].copy()))
    box = foreground_box(marked)
    found = [np.zeros(marked[box].shape, np.uint8) for _ in systems]
    for labels, (own, part) in zip(found, kept, strict=True):
        place = zip(own, box, strict=True)
        labels[tuple(slice(each.start - side.start, each.stop - side.start) for each, side in place)] = part
    return found, box


@dataclass(frozen=True)
class MajorityVote:
    """All systems of a run as one: a voxel is what more than half of them say. See `ScoredSystem`."""

    folders: RunFolders
    members: tuple[str, ...]  # systems whose predictions of the test patients lie on disk
    training: dict  # the most training patients of a member, and the seconds of all
    parameters: int  # of all members; parts that they share are counted for each
    structures: tuple[str, ...] = STRUCTURES
    system: str = "majority_vote"

    def predict(self, case: Case, volume: Volume) -> np.ndarray:
        """Labels 0/1/2, uint8 (D, H, W), on the grid of `volume`, from the members' predictions on disk."""
        volumes, box = predictions_in_box(self.folders, self.members, case, volume)
        labels = np.zeros(volume.voxels.shape, np.uint8)
        labels[box] = variants.majority_vote(volumes)
        return labels


def find_members(folders: RunFolders, cases: Sequence[Case]) -> list[str]:
    """Systems with a model (no baseline, no vote) that were scored on both structures of all `cases`."""
    needed = {(case.case_id, structure) for case in cases for structure in STRUCTURES}
    rows = read_table(folders.tables / "patients.csv").astype({"case": str}).set_index(["case", "structure"])
    whole = [name for name, group in rows.groupby("system", sort=False) if needed <= set(group.index)]
    return [name for name in whole if (folders.model(name) / "model.json").exists()]


def assemble_vote(folders: RunFolders, members: Sequence[str]) -> MajorityVote:
    """The vote of `members`, with what systems.csv tells of them. Raises InputError for less than three."""
    if len(members) < 3:
        problem = f"are no majority: {', '.join(members) or 'none'}."
        raise InputError("members", problem, "Train and evaluate at least three systems.")
    rows = read_table(folders.tables / "systems.csv").query("split_by == 'patient'")
    facts = rows[rows.system.isin(members)].groupby("system")
    training = {
        "n_train_patients": facts.n_train_patients.max().max(),
        "seconds": facts.train_seconds.max().sum(min_count=len(members)),
    }
    return MajorityVote(folders, tuple(members), training, int(facts.parameters.max().sum()))


def evaluate_vote(vote: MajorityVote, cases: Sequence[Case]) -> Evaluation:
    """`evaluate_labels` of the vote; seconds are those of all its members' predictions."""
    evaluation = evaluate_labels(vote, vote.predict, cases, vote.folders.predictions(vote.system))
    seconds = seconds_of(vote.folders, vote.members)
    for row in evaluation.patients:
        row["predict_seconds"] = seconds[row["case"]]
    return evaluation


def study_agreement(vote: MajorityVote, cases: Sequence[Case]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Compare the vote's members with each other and with the truth; predictions come from disk.

    A row a case and structure: patient, case, structure, models, models_finding, volume_ml and volume_ml_std
    (over the models), reference_ml, vote_ml, pairwise_dice, vote_dice. And a row a tumour of the vote:
    patient, case, lesion, volume_ml, agreement (mean share of models over its voxels, above 0.5 to 1) and
    is_true (it touches a true tumour).
    """
    patients, lesions = {}, {}
    for case, volume, reference in read_each(cases, "agreement"):
        volumes, box = predictions_in_box(vote.folders, vote.members, case, volume, reference)
        truth, ml, voted = reference[box], volume.voxel_volume_ml, variants.majority_vote(volumes)
        rows = variants.volume_agreement(volumes, ml)
        for name, labels in (("reference_ml", truth), ("vote_ml", voted)):
            rows[name] = [np.count_nonzero(structure_mask(labels, s)) * ml for s in rows.structure]
        rows["vote_dice"] = [structure_dice(voted, truth, s) for s in rows.structure]
        patients[case.patient, case.case_id] = rows
        lesions[case.patient, case.case_id] = voted_tumors(volumes, truth, ml)
    tables = (pd.concat(each, names=["patient", "case"]) for each in (patients, lesions))
    return tuple(table.reset_index(level=[0, 1]).reset_index(drop=True) for table in tables)


def voted_tumors(
    volumes: Sequence[np.ndarray], reference: np.ndarray, voxel_volume_ml: float
) -> pd.DataFrame:
    """Lesions of `study_agreement` in one case; labels 0/1/2, uint8 (d, h, w), of one box."""
    ids, _ = label_components(structure_mask(variants.majority_vote(volumes), "tumor"))
    inside = ids > 0
    votes = np.sum([structure_mask(labels, "tumor")[inside] for labels in volumes], axis=0)
    is_true = structure_mask(reference, "tumor")[inside]
    weighed = (None, votes / len(volumes), is_true)
    voxels, agreeing, true = (np.bincount(ids[inside], weights)[1:] for weights in weighed)
    lesions = {"lesion": range(1, len(voxels) + 1), "volume_ml": voxels * voxel_volume_ml}
    return pd.DataFrame(lesions | {"agreement": agreeing / voxels, "is_true": true > 0})


def summarize_agreement(patients: pd.DataFrame, lesions: pd.DataFrame, seed: int) -> pd.DataFrame:
    """How well agreement tells what is right: level, question, measure, value, p, n, n_undefined.

    "patient": Spearman's rank correlation of the mean pairwise tumour Dice with the vote's tumour Dice, p by
    permutation of the patients (two-sided). "lesion": ROC-AUC of `agreement` for true tumours; n counts
    tumours, which of one patient are alike, so that it has no p. NaN where it is undefined.
    """
    tumors = patients[patients.structure == "tumor"]
    pairs = tumors.groupby("patient")[["pairwise_dice", "vote_dice"]].mean()
    defined, auc = pairs.dropna(), np.nan
    correlation, p = _rank_correlation(*defined.to_numpy().T, seed)
    if lesions.is_true.nunique() == 2:
        agreement = lesions.agreement.round(9)  # sums in another order would break ties
        auc = roc_auc_score(lesions.is_true.astype(bool), agreement)
    asked = (
        "the more models agree, the better the vote?",
        "the more models agree, the likelier a true tumour?",
    )
    rows = [
        ("patient", asked[0], "rank correlation", correlation, p, len(defined), len(pairs) - len(defined)),
        ("lesion", asked[1], "ROC-AUC", auc, np.nan, len(lesions), 0),
    ]
    return pd.DataFrame(rows, columns=["level", "question", "measure", "value", "p", "n", "n_undefined"])


def _rank_correlation(first: np.ndarray, second: np.ndarray, seed: int) -> tuple[float, float]:
    """Spearman's correlation and its two-sided p; NaN below three patients, or where one side is constant."""
    if len(first) < 3 or np.ptp(first) == 0 or np.ptp(second) == 0:
        return np.nan, np.nan
    order = np.lexsort([second, first])  # the order of patients decides nothing
    ranks, other_ranks = rankdata(first)[order], rankdata(second)[order]

    def statistic(shuffled: np.ndarray, axis: int) -> np.ndarray:
        return np.sum(shuffled * (other_ranks - other_ranks.mean()), axis=axis)

    options = {"permutation_type": "pairings", "vectorized": True, "rng": np.random.default_rng(seed)}
    found = permutation_test((ranks,), statistic, **options)
    return float(spearmanr(first, second).statistic), float(found.pvalue)
