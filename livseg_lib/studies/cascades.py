"""Cascades trained step by step, and the forest that filters their candidates.

The cascades of systems E, G, H, I and J as lists of steps, and what puts their trained parts together.

Slices of nothing but the liver and its surroundings, for networks that come later in a cascade.

What the random forest of system H learns from, and who chooses its threshold (Chlebus et al. 2017,
arXiv:1706.00842).

A network makes fewer false alarms on the patients that it learnt from than on others. A forest that learnt
from those would filter too little. So each patient serves for one thing:

training     cut into parts by patient; the forest learns from the candidates of each part, which come from
             a lesion network that learnt from the other parts, inside the true liver
validation   their candidates, as the finished cascade finds them, choose the forest's threshold
test         is not read here

What a filter of candidates does to test patients: false alarms, tumours found, Dice, before and after.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from livseg_lib.datasets.case import Case
from livseg_lib.errors import InputError
from livseg_lib.evaluation.statistics import compare_pairs, holm, patient_scores
from livseg_lib.inference.cascade import (
    LEARNT,
    Cascade,
    NetworkPart,
    Step,
    build_cascade,
    load_cascade,
    run_cascade,
    save_cascade,
)
from livseg_lib.inference.evaluate import Evaluation, lits_rows
from livseg_lib.labels import diagnose_slices, structure_mask
from livseg_lib.postprocessing.candidates import (
    FEATURES,
    LEAST_RECALL,
    ForestThreshold,
    candidate_features,
    choose_forest_threshold,
    match_candidates,
)
from livseg_lib.postprocessing.forest import TREES, Forest, fit_forest
from livseg_lib.preprocessing.extraction import extract_dataset
from livseg_lib.preprocessing.geometry import case_around_liver
from livseg_lib.preprocessing.recipe import Recipe
from livseg_lib.runs import RunFolders, derived_seed
from livseg_lib.studies.training import TrainingPlan, train_system
from livseg_lib.systems import CASCADES, published_rows
from livseg_lib.training.model_folder import TrainedModel


def assemble_cascade(system: str, folders: RunFolders) -> Cascade:
    """Copy the run's trained parts of `CASCADES[system]` into `models/<system>/` and load it from there."""
    plans = CASCADES[system]
    sources = {plan.using: folders.model(plan.using) for plan in plans if plan.part in LEARNT}
    training = training_of_parts(list(sources.values()))
    return load_cascade(save_cascade(folders.model(system), system, plans, sources, training))


def training_of_parts(parts: list[Path]) -> dict:
    """What the tables say of a cascade's training: the most patients of a part, the seconds of all."""
    facts = [_training(part) for part in parts]
    return {
        "n_train_patients": max(each["n_train_patients"] for each in facts),
        "seconds": sum(each["seconds"] for each in facts),
        "parts": {part.name: each for part, each in zip(parts, facts, strict=True)},
    }


def _training(part: Path) -> dict:
    name = "model.json" if (part / "model.json").exists() else "forest.json"
    return json.loads((part / name).read_text())["training"]


def cascade_row(cascade: Cascade, evaluation: Evaluation) -> dict:
    """A row of cascades.csv: what a volume takes in seconds, and how far the tumour burden is off.

    Seconds are those of all steps in memory, reading and scoring left out; the burden's error (system I) is
    NaN where the cascade finds no tumours.
    """
    seconds = pd.DataFrame(evaluation.patients).groupby("case")["predict_seconds"].first()
    burden = {row["structure"]: row for row in lits_rows(cascade, evaluation)}.get("tumor", {})
    published = published_rows().query("source == 'I'").set_index("metric")["value"]
    is_i = cascade.system == "cascade_cdnn"
    return {
        "system": cascade.system,
        "steps": len(cascade.steps),
        "seconds_a_volume": seconds.mean(),
        "slowest_seconds": seconds.max(),
        "published_seconds": published["seconds_per_volume"] if is_i else np.nan,
        "tumor_burden_rmse": burden.get("tumor_burden_rmse", np.nan),
        "published_burden_rmse": published["tumor_burden_rmse"] if is_i else np.nan,
        "cases_without_liver_found": sum(
            row["liver_prediction_voxels"] == 0 for row in evaluation.case_scores
        ),
    }


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

    `slices` are the run's classified ones; test patients are left alone, and so are cases without liver
    (`sampling.splits.cases_without_liver` lists them). Returns the classified slices of the regions,
    with split and fold, and the folder below `folder` that holds their arrays.
    """
    known = slices.groupby("case")[["class", "split", "fold"]].agg(
        {"class": "max", "split": "first", "fold": "first"}
    )
    usable = known[(known["class"] > 0) & known["split"].isin(["train", "validation"])]
    regions = [case_around_liver(case, region, margin_mm) for case in cases if case.case_id in usable.index]
    target = folder / f"liver-{region}-{margin_mm:g}mm-{recipe.size}"
    rows = diagnose_slices(extract_dataset(regions, recipe, target, workers, write_png=False))
    return rows.join(usable[["split", "fold"]], on="case"), target


SYSTEM, UNFILTERED = "cascade_forest", "cascade_unfiltered"
"""System H, and the same without its last step."""
OVERLAP = 0.25
"""A candidate is a true tumour where more than this share of its voxels is. Dropping one lowers Dice where
that share is above half the Dice, and these networks start from a Dice of about 0.5."""
LEAST_OF_A_KIND = 5
"""True tumours, and false alarms, below which no forest is grown."""


@dataclass(frozen=True)
class OutOfFold:
    """Candidates of all training patients, none from a network that had seen their patient."""

    candidates: pd.DataFrame
    """As `describe_candidates`, with `part`."""
    networks: pd.DataFrame
    """A row a part: part, n_train_patients, n_patients (of the part), n_candidates, threshold, seconds."""


@dataclass(frozen=True)
class CandidateForest:
    """A forest, and what is to be said of it."""

    forest: Forest
    choice: ForestThreshold
    note: str
    """Why it keeps everything, or could not be judged; empty where all went well."""
    training: dict

    @property
    def description(self) -> dict:
        """JSON-ready, for `save_forest`: what `ForestPart` and the tables want to know."""
        choice = self.choice._asdict() | {"note": self.note}
        choice["recall"] = None if np.isnan(self.choice.recall) else self.choice.recall
        return {"threshold": self.choice.threshold, "choice": choice, "training": self.training}


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
    if probability is None:
        return trained
    return replace(trained, thresholds=trained.thresholds | {"tumor": probability})


def out_of_fold_candidates(
    plan: TrainingPlan,
    slices: pd.DataFrame,
    cases: Iterable[Case],
    folder: Path,
    checkpoints: Path,
    parts: int = 2,
    overlap: float = OVERLAP,
    probability: float | None = None,
) -> OutOfFold:
    """Train `plan` once a part, on the training patients outside it, and describe the part's candidates.

    `slices` and `folder` are those of `extract_around_liver`, `cases` whole scans. Validation patients tell
    each network its best epoch and threshold (`probability` replaces it), as they do for the final one.
    Trainings resume from `checkpoints`; one volume is in memory at a time.
    """
    part_of, case_of = deal_parts(slices, parts, plan.seed), {case.case_id: case for case in cases}
    candidates, networks = [], []
    for part in range(parts):
        held_out = slices.patient.isin(part_of.index[part_of == part])
        system = train_system(plan, slices[~held_out], folder, checkpoints / f"part{part}", "out of fold")
        trained = at_probability(system.trained, probability)
        cases_of_part = [case_of[case_id] for case_id in slices[held_out].case.unique()]
        found = describe_candidates(_tumor_step(trained), cases_of_part, overlap, in_true_liver=True)
        candidates.append(found.assign(part=part))
        networks.append(
            {
                "part": part,
                "n_train_patients": trained.training["n_train_patients"],
                "n_patients": int((part_of == part).sum()),
                "n_candidates": len(found),
                "threshold": trained.thresholds["tumor"],
                "seconds": trained.training["seconds"],
            }
        )
    return OutOfFold(pd.concat(candidates, ignore_index=True), pd.DataFrame(networks))


def _tumor_step(trained: TrainedModel) -> tuple[Step, ...]:
    """The lesion network where it looks in the cascade."""
    [plan] = [plan for plan in CASCADES[SYSTEM] if plan.using == "unet_lesions"]
    return (Step(plan.name, NetworkPart(trained), plan.region, plan.margin_mm),)


def describe_candidates(
    steps: tuple[Step, ...], cases: Sequence[Case], overlap: float = OVERLAP, in_true_liver: bool = False
) -> pd.DataFrame:
    """The tumour candidates that `steps` find in each case, on the scan's own grid, with their truth.

    Columns patient, case, candidate, is_tumor (bool) and FEATURES. `in_true_liver` looks for tumours alone,
    inside the true liver; such a case has to have one.
    """
    tables = []
    for case in cases:
        volume = case.read_volume()
        truth = case.read_labels(volume)
        labels = run_cascade(volume, steps, structure_mask(truth, "liver") if in_true_liver else None)
        liver, tumor = (structure_mask(labels, structure) for structure in ("liver", "tumor"))
        features, ids = candidate_features(tumor, liver, volume.voxels, volume.spacing_mm)
        is_tumor = match_candidates(ids, structure_mask(truth, "tumor"), overlap)
        who = {"patient": case.patient, "case": case.case_id, "is_tumor": is_tumor}
        tables.append(features.reset_index().assign(**who))
    columns = ["patient", "case", "candidate", "is_tumor", *FEATURES]
    return pd.concat(tables, ignore_index=True)[columns]


def train_forest(
    learnt: OutOfFold,
    checked: pd.DataFrame,
    seed: int,
    least_recall: float = LEAST_RECALL,
    trees: int = TREES,
) -> CandidateForest:
    """Grow the forest on `learnt`; its threshold suits `checked`, candidates of validation patients.

    Where there are fewer than LEAST_OF_A_KIND true tumours or false alarms to learn from, the forest is one
    leaf that keeps everything, and its note says so. Raises InputError where a patient is in both tables.
    """
    rows = learnt.candidates
    shared = sorted(set(rows.patient) & set(checked.patient))
    if shared:
        problem = f"would learn from the patient {shared[0]}, who also chooses its threshold."
        raise InputError("forest", problem, "Give candidates of validation patients to choose it on.")
    began = time.monotonic()
    n_tumors, n_false_alarms = int(rows.is_tumor.sum()), int((~rows.is_tumor).sum())
    notes = []
    if min(n_tumors, n_false_alarms) < LEAST_OF_A_KIND:
        found = f"{n_tumors} true tumours and {n_false_alarms} false alarms"
        notes.append(f"There are {found} to learn from, too few of a kind: the forest keeps everything.")
        forest = keep_all_forest()
    else:
        forest = fit_forest(rows[list(FEATURES)], rows.is_tumor, derived_seed(seed, "forest"), trees)
    choice = choose_forest_threshold(forest.predict(checked), checked.is_tumor.to_numpy(bool), least_recall)
    training = {
        "n_train_patients": int(learnt.networks.n_patients.sum()),
        "seconds": float(learnt.networks.seconds.sum() + time.monotonic() - began),
        "parts": len(learnt.networks),
        "n_tumors": n_tumors,
        "n_false_alarms": n_false_alarms,
        "n_validation_candidates": len(checked),
    }
    return CandidateForest(forest, choice, " ".join(filter(None, [*notes, choice.note])), training)


def keep_all_forest() -> Forest:
    """One tree of one leaf, to which every candidate is a tumour."""
    leaf = np.zeros(1, np.int32)
    return Forest(tuple(FEATURES), leaf, leaf, leaf, leaf, np.zeros(1), np.zeros(1, bool), np.ones(1))


def unfiltered_cascade(folders: RunFolders) -> Cascade:
    """System H up to its forest, from the trained parts of the run."""
    plans = [plan for plan in CASCADES[SYSTEM] if plan.part != "forest"]
    parts = [folders.model(plan.using) for plan in plans if plan.part in LEARNT]
    return build_cascade(folders.model(""), UNFILTERED, plans, training_of_parts(parts))


MEASURES = ("false_alarms", "found", "false_positives", "detected", "dice")
"""A number a patient each. False alarms touch no true tumour, and a tumour is found where a candidate
touches it; it is detected at an IoU > 0.5 with a candidate, and other candidates are false positives
(`detect_lesions` at overlap 0 and 0.5). `found` and `detected` are shares of the patient's tumours."""


def filter_scores(evaluation: Evaluation) -> pd.DataFrame:
    """A row a case: system, patient, case, n_tumors and MEASURES; shares of no tumour are NaN."""
    scores = pd.DataFrame(evaluation.case_scores)
    tumors = scores.n_tumors_reference.replace(0, np.nan)
    return scores[["system", "patient", "case"]].assign(
        n_tumors=scores.n_tumors_reference,
        false_alarms=scores.false_positives_greater_zero,
        found=1 - scores.false_negatives_greater_zero / tumors,
        false_positives=scores.false_positives,
        detected=1 - scores.false_negatives / tumors,
        dice=scores.tumor_dice,
    )


def compare_filter(before: Evaluation, after: Evaluation, seed: int) -> pd.DataFrame:
    """A row for each of MEASURES: measure, before, after, and the paired difference (after - before).

    Means are over patients with the score on both sides (`n_patients`; `n_undefined` are without), the
    interval (`difference_low`, `difference_high`) is a 95 % bootstrap over them, p that of the two-sided
    `sign_flip_test`, p_holm corrected for the number of measures.
    """
    scores = pd.concat([filter_scores(before), filter_scores(after)], ignore_index=True)
    rows = []
    for measure in MEASURES:
        table = patient_scores(scores, measure)
        [found] = compare_pairs(table, [(after.system, before.system)], seed=seed).to_dict("records")
        means = table.dropna().mean()
        row = {"measure": measure, "before": means[before.system], "after": means[after.system]}
        kept = ("n_patients", "n_undefined", "difference", "difference_low", "difference_high", "p")
        rows.append(row | {name: found[name] for name in kept})
    return pd.DataFrame(rows).assign(p_holm=lambda table: holm(table.p))
