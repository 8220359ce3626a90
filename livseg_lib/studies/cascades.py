"""Cascades put together from trained parts, and what the random forest of system H learns from.

A network makes fewer false alarms on patients that it learnt from than on others, and a forest that learnt
from those would filter too little (Chlebus et al. 2017, arXiv:1706.00842). So patients serve for one thing:

training     cut into parts by patient; the forest learns from the candidates of each part, which come from
             a lesion network that learnt from the other parts, inside the true liver
validation   their candidates, as the finished cascade finds them, choose the forest's threshold
test         is not read here
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from livseg_lib.datasets.case import Case, read_each
from livseg_lib.errors import InputError
from livseg_lib.evaluation.statistics import compare, holm
from livseg_lib.inference.cascade import (
    LEARNT,
    Cascade,
    NetworkPart,
    Step,
    build_cascade,
    load_cascade,
    run_cascade,
    save_cascade,
    stages,
)
from livseg_lib.inference.evaluate import Evaluation, evaluate_labels, lits_rows
from livseg_lib.labels import diagnose_slices, fullest_slice, structure_mask
from livseg_lib.models import keras
from livseg_lib.outputs import replace_systems
from livseg_lib.postprocessing.candidates import (
    FEATURES,
    LEAST_RECALL,
    candidate_features,
    choose_forest_threshold,
    match_candidates,
)
from livseg_lib.postprocessing.forest import TREES, Forest, fit_forest
from livseg_lib.preprocessing.extraction import extract_dataset
from livseg_lib.preprocessing.geometry import case_around_liver
from livseg_lib.preprocessing.recipe import Recipe, channel_windows
from livseg_lib.preprocessing.windows import apply_window
from livseg_lib.provenance import name_of
from livseg_lib.reporting.pictures import cascade_stages
from livseg_lib.runs import NotebookRun, RunFolders, derived_seed
from livseg_lib.studies.training import TrainingPlan, record_evaluations, train_network, train_system
from livseg_lib.systems import CASCADES, SYSTEMS, published_rows
from livseg_lib.training.model_folder import TrainedModel
from livseg_lib.volumes import keep_prediction


def assemble_cascade(system: str, folders: RunFolders) -> Cascade:
    """Copy the run's trained parts of the system's steps into `models/<system>/` and load it from there."""
    plans = SYSTEMS[system].steps
    sources = {plan.using: folders.model(plan.using) for plan in plans if plan.part in LEARNT}
    training = training_of_parts(list(sources.values()))
    return load_cascade(save_cascade(folders.model(system), system, plans, sources, training))


def training_of_parts(parts: Sequence[Path]) -> dict:
    """What the tables say of a cascade's training: the most patients of a part, the seconds of all."""
    files = [next(part.glob("model.json"), part / "forest.json") for part in parts]
    facts = {file.parent.name: json.loads(file.read_bytes())["training"] for file in files}
    patients, seconds = ([each[name] for each in facts.values()] for name in ("n_train_patients", "seconds"))
    return {"n_train_patients": max(patients), "seconds": sum(seconds), "parts": facts}


def evaluate_cascade(cascade: Cascade, cases: Iterable[Case], folders: RunFolders, seed: int) -> Evaluation:
    """Predict and score test patients; predictions, the tables of scores and cascades.csv follow."""
    predictions = folders.predictions(cascade.system)
    evaluation = evaluate_labels(cascade, cascade.predict, cases, predictions)
    record_cascade(cascade, evaluation, folders, seed)
    return evaluation


def record_cascade(cascade: Cascade, evaluation: Evaluation, folders: RunFolders, seed: int) -> None:
    """Bring the tables of scores up to date, and the cascade's row of cascades.csv: seconds of all steps in
    memory, without reading and scoring; the error of the tumour burden (system I), NaN where no tumours are
    found."""
    record_evaluations([(cascade, evaluation)], folders, seed)
    seconds = pd.DataFrame(evaluation.patients).groupby("case")["predict_seconds"].first()
    burden = {row["structure"]: row for row in lits_rows(cascade, evaluation)}.get("tumor", {})
    rows = published_rows().set_index("metric")
    published = rows[rows["source"] == SYSTEMS[cascade.system].source.letter]["value"]
    livers = pd.DataFrame(evaluation.case_scores)["liver_prediction_voxels"]
    row = {
        "system": cascade.system,
        "steps": len(cascade.steps),
        "seconds_a_volume": seconds.mean(),
        "slowest_seconds": seconds.max(),
        "published_seconds": published.get("seconds_per_volume", np.nan),
        "tumor_burden_rmse": burden.get("tumor_burden_rmse", np.nan),
        "published_burden_rmse": published.get("tumor_burden_rmse", np.nan),
        "cases_without_liver_found": (livers == 0).sum(),
    }
    replace_systems(folders.tables / "cascades.csv", pd.DataFrame([row]))


def stages_of_patient(cascade: Cascade, case: Case, run: NotebookRun, recipe: Recipe) -> Figure:
    """What each step has found, on the slice with most tumour, or else most liver; in the report, too."""
    volume = case.read_volume()
    reference = case.read_labels(volume)
    index = fullest_slice(reference)
    grey = apply_window(volume.voxels[index], channel_windows(volume.voxels, recipe)[0])
    found = {step.name: labels[index].copy() for step, labels in stages(volume, cascade.steps)}
    caption = f"{cascade.system}: what each step has found in {case.case_id}, slice {index}."
    figure = cascade_stages(grey, reference[index], found)
    return run.figure(f"cascade_stages_{cascade.system}", figure, caption)


def extract_around_liver(
    cases: Sequence[Case],
    slices: pd.DataFrame,
    recipe: Recipe,
    folder: Path,
    region: str,
    margin_mm: float,
    workers: int = 2,
) -> tuple[pd.DataFrame, Path]:
    """Extract the regions around the true livers of the training and validation patients.

    `slices` are the run's classified ones; cases without liver are left alone, as are test patients. Returns
    the classified slices of the regions, with split and fold, and the folder below `folder` of their arrays.
    """
    known = slices.groupby("case").agg({"class": "max", "split": "first", "fold": "first"})
    usable = known[(known["class"] > 0) & known["split"].isin(["train", "validation"])]
    regions = [case_around_liver(case, region, margin_mm) for case in cases if case.case_id in usable.index]
    target = folder / f"liver-{region}-{margin_mm:g}mm-{recipe.size}"
    rows = diagnose_slices(extract_dataset(regions, recipe, target, workers, write_png=False))
    return rows.join(usable[["split", "fold"]], on="case"), target


def outline_given_livers(
    plan: TrainingPlan,
    learn: pd.DataFrame,
    folder: Path,
    checkpoints: Path,
    recipe: Recipe,
    held_out: Iterable[Case],
    margin_mm: float,
    predictions: Callable[[str], Path],
) -> None:
    """Train the plan's network on slices of regions and outline tumours in the true livers of other cases.

    `learn` are slices as `extract_around_liver` gives them, `folder` holds their arrays. Thresholds are one
    half. Labels go to `predictions(plan.system)`. Raises InputError for a case on both sides.
    """
    held_out = list(held_out)
    if common := {case.case_id for case in held_out} & set(learn.case):
        raise InputError(min(common), "is learnt from and held out.", "Deal whole cases to one side.")
    keras.utils.clear_session()  # else the graphs of all trainings stay in memory
    network, _ = train_network(plan, plan.choose(learn), None, folder, checkpoints)
    described, half = (plan.options, network, recipe, plan.target), dict.fromkeys(plan.structures, 0.5)
    trained = TrainedModel(plan.system, name_of(plan.architecture), *described, half, inputs=plan.inputs)
    step = Step(plan.system, NetworkPart(trained), "box", margin_mm)
    for case, volume, labels in read_each(held_out, plan.system):
        found = run_cascade(volume, (step,), structure_mask(labels, "liver"))
        keep_prediction(found, volume, predictions(plan.system), case.case_id)


SYSTEM, UNFILTERED = "cascade_forest", "cascade_unfiltered"  # system H, and the same without its last step
OVERLAP = 0.25
"""A candidate is a true tumour where more than this share of its voxels is: to drop it lowers the Dice where
that is above half the Dice, and these networks start from about 0.5."""
LEAST_OF_A_KIND = 5  # true tumours, and false alarms, below which no forest is grown


def deal_parts(slices: pd.DataFrame, parts: int, seed: int) -> pd.Series:
    """The part, 0 to `parts` - 1, of each training patient (the index), tumours spread evenly.

    `slices` have `patient`, `split` and `class`. Raises InputError for fewer than 2 parts, more of them than
    patients, or fewer than 2 patients with tumour: each network needs one who is not in its part.
    """
    training = slices[slices.split == "train"]
    has_tumor = (training.groupby("patient")["class"].max() == 2).sort_index()
    if not 2 <= parts <= len(has_tumor) or has_tumor.sum() < 2:
        problem = f"is {parts} for {len(has_tumor)} training patients, {has_tumor.sum()} with tumour."
        remedy = "Give at least 2, at most one a patient, and two patients with tumour or more."
        raise InputError("parts", problem, remedy)
    dealt = has_tumor.sample(frac=1, random_state=derived_seed(seed, "parts"))
    dealt = dealt.sort_values(ascending=False, kind="stable")
    return pd.Series(np.arange(len(dealt)) % parts, dealt.index, name="part")


def at_probability(trained: TrainedModel, probability: float | None) -> TrainedModel:
    """`trained` with that threshold for tumours; None leaves its own. A lower one finds more candidates."""
    chosen = {} if probability is None else {"tumor": probability}
    return replace(trained, thresholds=trained.thresholds | chosen)


def out_of_fold_candidates(
    plan: TrainingPlan,
    slices: pd.DataFrame,
    cases: Iterable[Case],
    folder: Path,
    checkpoints: Path,
    parts: int = 2,
    overlap: float = OVERLAP,
    probability: float | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Train `plan` once a part, on the training patients outside it, and describe the part's candidates.

    `slices` and `folder` are those of `extract_around_liver`, `cases` whole scans. Validation patients choose
    epochs and thresholds (`probability` replaces these). Trainings resume from `checkpoints`; one volume is
    in memory at a time. Returns candidates as of `describe_candidates`, with `part`; and a row a part: part,
    n_train_patients, n_patients (of the part), n_candidates, threshold, seconds.
    """
    part_of, case_of = deal_parts(slices, parts, plan.seed), {case.case_id: case for case in cases}
    candidates, networks = [], []
    [step] = [plan for plan in CASCADES[SYSTEM] if plan.using == "unet_lesions"]
    for part, patients in part_of.groupby(part_of):
        held_out = slices.patient.isin(patients.index)
        trained, _ = train_system(plan, slices[~held_out], folder, checkpoints / f"part{part}", "out of fold")
        trained = at_probability(trained, probability)
        cases_of_part = [case_of[case_id] for case_id in slices[held_out].case.unique()]
        steps = (Step(step.name, NetworkPart(trained), step.region, step.margin_mm),)
        found = describe_candidates(steps, cases_of_part, overlap, in_true_liver=True)
        candidates.append(found.assign(part=part))
        facts = {"part": part, "n_patients": len(patients), "n_candidates": len(found)}
        networks.append(trained.training | facts | {"threshold": trained.thresholds["tumor"]})
    columns = ["part", "n_train_patients", "n_patients", "n_candidates", "threshold", "seconds"]
    return pd.concat(candidates, ignore_index=True), pd.DataFrame(networks)[columns]


def describe_candidates(
    steps: tuple[Step, ...], cases: Sequence[Case], overlap: float = OVERLAP, in_true_liver: bool = False
) -> pd.DataFrame:
    """The tumour candidates that `steps` find in each case, on the scan's own grid, with their truth.

    Columns patient, case, candidate, is_tumor (bool) and FEATURES. `in_true_liver` looks for tumours alone,
    inside the true liver; such a case has to have one.
    """
    tables = []
    for case, volume, truth in read_each(cases, "candidates"):
        labels = run_cascade(volume, steps, structure_mask(truth, "liver") if in_true_liver else None)
        liver, tumor = (structure_mask(labels, structure) for structure in ("liver", "tumor"))
        features, ids = candidate_features(tumor, liver, volume.voxels, volume.spacing_mm)
        is_tumor = match_candidates(ids, structure_mask(truth, "tumor"), overlap)
        identity = {"patient": case.patient, "case": case.case_id, "is_tumor": is_tumor}
        tables.append(features.reset_index().assign(**identity))
    columns = ["patient", "case", "candidate", "is_tumor", *FEATURES]
    return pd.concat(tables, ignore_index=True)[columns]


def train_forest(
    rows: pd.DataFrame,
    networks: pd.DataFrame,
    checked: pd.DataFrame,
    seed: int,
    least_recall: float = LEAST_RECALL,
    trees: int = TREES,
) -> tuple[Forest, dict]:
    """Grow the forest on `rows`, as `out_of_fold_candidates` gives them with `networks`; its threshold suits
    `checked`, candidates of validation patients.

    With fewer than LEAST_OF_A_KIND true tumours or false alarms to learn from it is one leaf that keeps
    everything. Returns the forest and its description for `save_forest`: threshold, choice (ForestThreshold,
    with a `note` why it keeps everything), training. Raises InputError for a patient in both tables.
    """
    if shared := set(rows.patient) & set(checked.patient):
        problem = f"would learn from the patient {min(shared)}, who also chooses its threshold."
        raise InputError("forest", problem, "Give candidates of validation patients to choose it on.")
    began, note = time.monotonic(), ""
    n_tumors, n_false_alarms = int(rows.is_tumor.sum()), int((~rows.is_tumor).sum())
    if min(n_tumors, n_false_alarms) < LEAST_OF_A_KIND:
        found = f"{n_tumors} true tumours and {n_false_alarms} false alarms"
        note = f"There are {found} to learn from, too few of a kind: the forest keeps everything."
        leaf = np.zeros(1, np.int32)  # one tree of one leaf, to which every candidate is a tumour
        forest = Forest(tuple(FEATURES), *[leaf] * 4, np.zeros(1), np.zeros(1, bool), np.ones(1))
    else:
        forest = fit_forest(rows[list(FEATURES)], rows.is_tumor, derived_seed(seed, "forest"), trees)
    choice = choose_forest_threshold(forest.predict(checked), checked.is_tumor.to_numpy(bool), least_recall)
    training = {
        "n_train_patients": int(networks.n_patients.sum()),
        "seconds": float(networks.seconds.sum() + time.monotonic() - began),
        "parts": len(networks),
        "n_tumors": n_tumors,
        "n_false_alarms": n_false_alarms,
        "n_validation_candidates": len(checked),
    }
    record = choice._asdict() | {"note": f"{note} {choice.note}".strip()}
    record["recall"] = None if np.isnan(choice.recall) else choice.recall  # JSON knows no NaN
    return forest, {"threshold": choice.threshold, "choice": record, "training": training}


def unfiltered_cascade(folders: RunFolders) -> Cascade:
    """System H up to its forest, from the trained parts of the run."""
    plans = [plan for plan in CASCADES[SYSTEM] if plan.part != "forest"]
    parts = [folders.model(plan.using) for plan in plans if plan.part in LEARNT]
    return build_cascade(folders.model(""), UNFILTERED, plans, training_of_parts(parts))


def compare_filter(before: Evaluation, after: Evaluation, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """What a filter of candidates does to test patients: its effect, and the patients' own scores.

    `count_detections` says how many tumours are `found` and how many candidates are `false_alarms` at any
    overlap, how many are `detected` and `false_positives` at an IoU > 0.5. `found` and `detected` are shares
    of the patient's tumours, NaN of none. The first table has a row a measure: measure,
    before, after (means of those with both scores), and the columns of `compare` (after - before); p_holm is
    corrected for all measures. The second: measure, patient, before, after; of patients with both.
    """
    scores = pd.DataFrame([*before.case_scores, *after.case_scores])
    tumors = scores.n_tumors_reference.replace(0, np.nan)
    measures = {
        "false_alarms": scores.false_positives_greater_zero,
        "found": 1 - scores.false_negatives_greater_zero / tumors,
        "false_positives": scores.false_positives,
        "detected": 1 - scores.false_negatives / tumors,
        "dice": scores.tumor_dice,
    }
    side = np.repeat(["before", "after"], [len(before.case_scores), len(after.case_scores)])
    rows = pd.DataFrame({"patient": scores.patient, "side": side, **measures})
    rows = rows.melt(["patient", "side"], list(measures), "measure")
    effect = compare(rows, [("after", "before")], "value", ["measure"], "side", seed=seed)
    means = rows.groupby(["measure", "patient", "side"], sort=False).value.mean().unstack().dropna()
    effect = effect.join(means.groupby("measure").mean(), "measure").assign(p_holm=holm(effect.p))
    kept = ["n_patients", "n_undefined", "difference", "difference_low", "difference_high", "p", "p_holm"]
    return effect[["measure", "before", "after", *kept]], means[["before", "after"]].reset_index()
