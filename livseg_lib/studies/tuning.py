"""Cross-validation by patient, and the search for settings in which nobody is judged who was learnt from.

Each fold is scored by a network that saw none of its patients; test patients lie in no fold and are never
read. The fold held out decides nothing about the network that it scores: the budget is fixed beforehand, no
epoch is chosen by it, and a pixel counts from probability 0.5. A loss that shifts probabilities, such as the
focal one, is judged with that shift.

Settings are searched with Optuna (Akiba et al. 2019, arXiv:1907.10902; its sampler, TPE: Bergstra et al.
2011, "Algorithms for Hyper-Parameter Optimization"), as system E proposes. A trial whose mean so far lies
below the median of earlier ones is pruned. The study is an SQLite file, written by one process at a time. A
suggestion depends on the trials that finished and on the root seed, on nothing else: a study that was killed
in the middle of a trial suggests the same values again and goes on as if it had not been.
"""

from __future__ import annotations

import inspect
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import optuna
import pandas as pd
from optuna.trial import Trial, TrialState

from livseg_lib.errors import InputError
from livseg_lib.evaluation.probabilities import ProbabilityHistogram, dice_by_threshold
from livseg_lib.evaluation.statistics import compare
from livseg_lib.inference.predict import predict_planes, stored_labels, stored_pictures
from livseg_lib.labels import structure_mask
from livseg_lib.models import keras
from livseg_lib.outputs import write_table
from livseg_lib.provenance import changes, code_of, digest, keep_or_make
from livseg_lib.runs import derived_seed
from livseg_lib.sampling.splits import NO_FOLD, assert_no_leak
from livseg_lib.studies.training import REGISTRIES, TrainingPlan, made_by, train_network
from livseg_lib.training.losses import LOSSES, loss_options

_THRESHOLD = 0.5


def cross_validate(
    plan: TrainingPlan, slices: pd.DataFrame, folds: Iterable[int], folder: Path, checkpoints: Path
) -> pd.DataFrame:
    """`validate_fold` for each of `folds`, one below the other."""
    scores = (validate_fold(plan, slices, fold, folder, checkpoints) for fold in folds)
    return pd.concat(scores, ignore_index=True)


def validate_fold(
    plan: TrainingPlan, slices: pd.DataFrame, fold: int, folder: Path, checkpoints: Path
) -> pd.DataFrame:
    """Train on all other folds, score the patients of `fold`: a row a patient and structure.

    `slices` are the classified ones, with `split` and `fold`; `folder` holds their arrays. Columns: fold,
    patient, structure, dice, is_empty (nothing to find: Dice is 1 where nothing is predicted, else 0, as
    system K has it), n_train_patients, training_loss (of the last epoch), seconds (of the training).

    Killed and called again it goes on after the last whole epoch. Scores stay in `checkpoints`, under a name
    of plan and fold, and are read back while code, slices, pictures and libraries are the same. Raises
    InputError for a fold without patients, and for patients in two folds or in test and a fold.
    """
    development = development_slices(slices)
    held_out = development[development.fold == fold]
    if held_out.empty:
        numbers = ", ".join(str(number) for number in list_folds(slices))
        raise InputError(f"fold {fold}", "has no patients.", f"Choose of {numbers}.")
    name = digest([plan.description(), int(fold)])
    scores = checkpoints / f"{name}.csv"

    def score() -> None:
        learn = plan.choose(development[development.fold != fold])
        assert not set(learn.patient) & set(held_out.patient)
        network, history = train_network(plan, learn, None, folder, checkpoints / name)
        rows = score_patients(network, plan.structures, held_out, folder)
        rows.insert(0, "fold", fold)
        rows["n_train_patients"] = learn.patient.nunique()
        rows["training_loss"], rows["seconds"] = history.loss.iloc[-1], history.seconds.sum()
        write_table(rows, scores)

    code = plan.code() | {"validation": code_of(validate_fold, apart=REGISTRIES)}
    keep_or_make(scores, made_by(code, [development], folder), score, f"{plan.system}, fold {fold}")
    shutil.rmtree(checkpoints / name, ignore_errors=True)
    return pd.read_csv(scores, dtype={"patient": str}, float_precision="round_trip")


def development_slices(slices: pd.DataFrame) -> pd.DataFrame:
    """`slices` without those of test patients. Raises InputError where a patient stands on two sides."""
    sides = slices[["patient"]].assign(split=slices.fold)
    assert_no_leak(slices.drop(columns="split"), sides)
    torn = slices.patient[(slices.split == "test") != (slices.fold == NO_FOLD)]
    if len(torn):
        problem = f"put patient {torn.iloc[0]} both into test and into a fold, or into neither."
        remedy = "Mend splits.csv: test patients, and only they, have the fold -1."
        raise InputError("splits", problem, remedy)
    return slices[slices.fold != NO_FOLD]


def list_folds(slices: pd.DataFrame) -> list[int]:
    """Numbers of the folds that have patients, in order."""
    return sorted(development_slices(slices).fold.unique().tolist())


def score_patients(
    network: keras.Model, structures: tuple[str, ...], slices: pd.DataFrame, folder: Path
) -> pd.DataFrame:
    """A row a patient and structure: patient, structure, dice, is_empty.

    Counted at picture size over all slices of the patients in `slices`, all their cases together.
    """
    rows = []
    for patient, cases in slices.groupby("patient", sort=True).case.unique().items():
        histograms = {structure: ProbabilityHistogram() for structure in structures}
        for case in cases:
            planes = predict_planes(network, stored_pictures(folder, case))
            labels = stored_labels(folder, case)
            for channel, (structure, histogram) in enumerate(histograms.items()):
                histogram.add(planes[..., channel], structure_mask(labels, structure))
        for structure, histogram in histograms.items():
            [dice], is_empty = dice_by_threshold(histogram, (_THRESHOLD,)), not histogram.foreground.any()
            rows.append((patient, structure, float(dice), is_empty))
    return pd.DataFrame(rows, columns=["patient", "structure", "dice", "is_empty"])


FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)
RANGES = ("learning_rate", "positive_weight")
PARAMETERS = ("learning_rate", "batch_size", "loss", "positive_weight")
Evaluate = Callable[[TrainingPlan, int], pd.DataFrame]
"""(plan, fold) -> rows with `patient` and `dice` of the fold's patients, as `validate_fold` gives them."""


@dataclass(frozen=True)
class SearchSpace:
    """What a study may try. Ranges are searched on a logarithmic scale, both ends included."""

    learning_rate: tuple[float, float]
    batch_size: tuple[int, ...]
    loss: tuple[str, ...]
    positive_weight: tuple[float, float]
    """Class weight: how often a structure's pixel counts, for the losses that have such a weight."""

    def suggest(self, trial: Trial) -> dict:
        """The trial's values by name."""
        values = {
            "learning_rate": trial.suggest_float("learning_rate", *self.learning_rate, log=True),
            "batch_size": trial.suggest_categorical("batch_size", self.batch_size),
            "loss": trial.suggest_categorical("loss", self.loss),
        }
        if (name := "positive_weight") in loss_options(values["loss"]):
            values[name] = trial.suggest_float(name, *self.positive_weight, log=True)
        return values

    def code(self) -> dict[str, str]:
        """Digests of the losses that may be tried."""
        return {f"loss {name}": code_of(LOSSES[name]) for name in self.loss}

    def require(self, values: dict) -> None:
        """Raise InputError unless `values` lie in this space."""
        for name, value in values.items():
            allowed = getattr(self, name)
            is_within = name in RANGES and np.ndim(value) == 0 and allowed[0] <= value <= allowed[1]
            if not (is_within or (name not in RANGES and value in allowed)):
                problem = f"starts at {value}, outside the search space {list(allowed)}."
                raise InputError(f"tuning of {name}", problem, "Widen the space or change the start.")


@dataclass(frozen=True)
class TuningPlan:
    """All that defines a study: where it starts, what it may change, on which folds of which slices."""

    start: TrainingPlan  # gives everything that is not searched; its own values are the first trial
    space: SearchSpace
    folds: tuple[int, ...]
    made_by: dict  # what else decides about a trial's scores, as `training.made_by` has it

    @property
    def question(self) -> str:
        """Another budget, space or start is another question."""
        return f"{self.start.system}-{digest([self.start, self.space, self.folds])}"

    @property
    def study_name(self) -> str:
        """A study of the same question by other code or on other data is another study."""
        return f"{self.question}-{digest(self.made_by)}"


def values_of(plan: TrainingPlan) -> dict:
    """What a plan has for the searched parameters."""
    rate = plan.stages[-1].learning_rate
    values = {"learning_rate": rate, "batch_size": plan.batch_size, "loss": plan.loss}
    if "positive_weight" in loss_options(plan.loss):
        default = inspect.signature(LOSSES[plan.loss]).parameters["positive_weight"].default
        values["positive_weight"] = plan.loss_options.get("positive_weight", default)
    return values


def with_values(plan: TrainingPlan, values: dict) -> TrainingPlan:
    """`plan` with these values, as `SearchSpace.suggest` gives them; the rate is that of all stages."""
    options = dict(plan.loss_options) if values["loss"] == plan.loss else {}
    if "positive_weight" in values:
        options["positive_weight"] = values["positive_weight"]
    stages = tuple(replace(stage, learning_rate=values["learning_rate"]) for stage in plan.stages)
    changed = {"batch_size": values["batch_size"], "loss": values["loss"], "loss_options": options}
    return replace(plan, stages=stages, **changed)


def tune(tuning: TuningPlan, evaluate: Evaluate, n_trials: int, database: Path) -> optuna.Study:
    """Go on with the study of `tuning` in `database` until `n_trials` trials are complete or pruned.

    Counted over all sessions. What a killed session was at is marked as failed and done again. A trial
    whose training diverges counts as pruned and says why; any other error ends the study, which can go on
    when it is mended. Raises InputError for test patients among the folds or a start outside the space.
    """
    if NO_FOLD in tuning.folds:
        raise InputError(f"fold {NO_FOLD}", "is that of the test patients.", "Tune on other folds.")
    tuning.space.require(values_of(tuning.start))
    study = open_study(database, tuning)
    while (done := len(study.get_trials(states=FINISHED))) < n_trials:
        if not done and not study.get_trials(states=(TrialState.WAITING,)):
            study.enqueue_trial(values_of(tuning.start))
        study.sampler = optuna.samplers.TPESampler(seed=derived_seed(tuning.start.seed, "tuning", done))
        study.optimize(lambda trial: _objective(trial, tuning, evaluate), n_trials=1)
        last = trials_table(study).iloc[-1].dropna().to_dict()
        print(f"{done + 1} of {n_trials} trials: {last}", flush=True)
    return study


def open_study(database: Path, tuning: TuningPlan) -> optuna.Study:
    """The study of `tuning`, new where there is none; trials that a killed session left are failed.

    Says why it is new where the same question was studied before by other code or on other data.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    database.parent.mkdir(parents=True, exist_ok=True)
    pruner = optuna.pruners.MedianPruner(n_startup_trials=2)  # two are never pruned: their median is the bar
    storage = f"sqlite:///{database}"
    known = {each.study_name: each.user_attrs for each in optuna.get_all_study_summaries(storage)}
    earlier = [attributes for name, attributes in known.items() if name.startswith(f"{tuning.question}-")]
    if tuning.study_name not in known and earlier:
        reasons = changes(earlier[-1].get("made_by", {}), tuning.made_by)
        print(f"tuning begins anew, changed since: {', '.join(reasons)}", flush=True)
    options = {"direction": "maximize", "pruner": pruner, "load_if_exists": True}
    study = optuna.create_study(storage=storage, study_name=tuning.study_name, **options)
    study.set_user_attr("made_by", tuning.made_by)
    for trial in study.get_trials(states=(TrialState.RUNNING,)):
        study.tell(trial.number, state=TrialState.FAIL)
    return study


def _objective(trial: Trial, tuning: TuningPlan, evaluate: Evaluate) -> float:
    """Mean Dice over the patients of all folds; reported, and perhaps pruned, after each fold."""
    plan, scores = with_values(tuning.start, tuning.space.suggest(trial)), []
    for done, fold in enumerate(tuning.folds, start=1):
        try:
            scores.append(evaluate(plan, fold))
        except InputError as error:
            if error.where != "training":  # where `fit` says that the loss has diverged
                raise
            trial.set_user_attr("reason", str(error))
            raise optuna.TrialPruned from error
        of_patients = pd.concat(scores).groupby("patient").dice.mean()  # each the mean over its structures
        mean = float(of_patients.mean())
        trial.report(mean, done)
        if done < len(tuning.folds) and trial.should_prune():
            raise optuna.TrialPruned
    return mean


def trials_table(study: optuna.Study) -> pd.DataFrame:
    """A row a trial, stopped ones too: trial, state, dice, folds_done, seconds, PARAMETERS, is_start, reason.

    `dice` is the mean over the folds done, all of them where the state is "complete"; NaN before the first.
    """
    rows = []
    for trial in study.trials:
        reported = trial.intermediate_values
        state = "stopped" if trial.state == TrialState.FAIL else trial.state.name.lower()
        row = {"trial": trial.number, "state": state}
        row |= {"dice": reported[max(reported)] if reported else np.nan, "folds_done": len(reported)}
        row["seconds"] = trial.duration.total_seconds() if trial.duration else np.nan
        row |= {name: trial.params.get(name, np.nan) for name in PARAMETERS}
        row["is_start"] = "fixed_params" in trial.system_attrs
        rows.append(row | {"reason": trial.user_attrs.get("reason", "")})
    return pd.DataFrame(rows)


def best_against_start(
    start: pd.DataFrame, best: pd.DataFrame, searched: Iterable[int], seed: int
) -> pd.DataFrame:
    """The best trial minus the start on the same patients: a row for each of two kinds of folds.

    `start` and `best` are rows of `cross_validate`. "searched" are the folds that chose the best trial, and
    so flatter it; "fresh" are the others. Columns: folds, n_patients, difference (of Dice, each patient with
    the mean over its structures), difference_low, difference_high (95 %), p (two-sided, signs flipped) and
    p_holm, which is p: either kind of folds has one comparison.
    """
    rows = pd.concat([start.assign(system="start"), best.assign(system="best")])
    rows["folds"] = np.where(rows.fold.isin(list(searched)), "searched", "fresh")
    rows = rows.sort_values("folds", ascending=False, kind="stable")
    table = compare(rows, [("best", "start")], by=["folds"], seed=seed)
    return table[["folds", "n_patients", "difference", "difference_low", "difference_high", "p", "p_holm"]]
