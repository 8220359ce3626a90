"""Tuning: what is suggested, what is pruned, what survives a kill; the trainings are made up."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import optuna
import pandas as pd
import pytest
from killable_study import SPACE, START, TUNING, MadeUpScore
from optuna.trial import TrialState

from livseg_lib.errors import InputError
from livseg_lib.studies.tuning import (
    IMPORTANCE_NEEDS,
    PARAMETERS,
    best_against_start,
    describe_trial,
    parameter_importances,
    trials_table,
    tune,
    values_of,
    with_values,
)
from livseg_lib.training.losses import get_loss


def finished(study) -> pd.DataFrame:
    """Values and scores of complete and pruned trials, in order."""
    table = trials_table(study)
    columns = ["state", "dice", "folds_done", *PARAMETERS]
    return table[table.state.isin(("complete", "pruned"))][columns].reset_index(drop=True)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    """A study of twelve trials in one go, and the calls that it made."""
    score = MadeUpScore()
    return tune(TUNING, score, 12, tmp_path_factory.mktemp("unbroken") / "study.db"), score.calls


def test_a_study_killed_in_the_middle_of_a_trial_goes_on_as_if_it_had_not_been(unbroken, tmp_path):
    database, program = tmp_path / "study.db", Path(__file__).with_name("killable_study.py")
    calls = unbroken[1]
    kill_at = next(
        n for n, (_, fold) in enumerate(calls) if n > 12 and fold == 1
    )  # suggested by TPE, one fold done
    killed = subprocess.run([sys.executable, program, database, str(kill_at), "12"], capture_output=True)
    assert killed.returncode == -9, killed.stderr.decode()
    score = MadeUpScore()
    study = tune(TUNING, score, 12, database)
    pd.testing.assert_frame_equal(finished(study), finished(unbroken[0]))
    assert score.calls == calls[kill_at - 1 :]  # finished trials were kept, the killed one began anew
    table = trials_table(study)
    assert (table.state == "stopped").sum() == 1 and len(table) == 13


def test_trials_are_counted_over_sessions_and_seeds_decide(unbroken, tmp_path):
    for n_trials in (1, 3, 2, 5):
        study = tune(TUNING, MadeUpScore(), n_trials, tmp_path / "study.db")
    pd.testing.assert_frame_equal(finished(study), finished(unbroken[0]).head(5))
    other = replace(TUNING, start=replace(START, seed=8))
    found = finished(tune(other, MadeUpScore(), 3, tmp_path / "study.db"))
    assert not set(found.learning_rate[1:]) & set(finished(unbroken[0]).learning_rate)


def test_the_start_comes_first_and_the_search_finds_better(unbroken):
    study, calls = unbroken
    assert calls[0][0] == START and trials_table(study).is_start.tolist() == [True] + 11 * [False]
    assert study.best_value > finished(study).dice[0]
    assert with_values(START, study.best_params) in [plan for plan, _ in calls]


def test_a_planted_bad_trial_is_pruned_after_its_first_fold(tmp_path):
    class BadFourth(MadeUpScore):
        def __call__(self, plan, fold):
            plans = list(dict.fromkeys(p.stages for p, _ in self.calls))
            rows = super().__call__(plan, fold)
            return rows.assign(dice=0.01) if len(plans) >= 3 else rows.assign(dice=0.5 + 0.1 * len(plans))

    score = BadFourth()
    table = trials_table(tune(TUNING, score, 4, tmp_path / "study.db"))
    assert table.state.tolist() == ["complete", "complete", "complete", "pruned"]
    assert table.folds_done.tolist() == [2, 2, 2, 1] and len(score.calls) == 7


def test_values_stay_in_the_space_and_make_a_training(unbroken):
    assert finished(unbroken[0]).learning_rate.is_unique  # no trial repeats another
    for plan, _ in unbroken[1]:
        assert 1e-4 <= plan.stages[0].learning_rate <= 1e-2
        assert plan.batch_size in SPACE.batch_size and plan.loss in SPACE.loss
        assert ("positive_weight" in plan.loss_options) == (plan.loss == "weighted_bce_dice")
        assert all(1 <= weight <= 20 for weight in plan.loss_options.values())
        get_loss(plan.loss, **plan.loss_options)
        untouched = {"stages": START.stages, "batch_size": 8, "loss": START.loss, "loss_options": {}}
        assert replace(plan, **untouched) == START


def test_other_options_of_a_loss_stay_with_it():
    focal = replace(START, loss="focal", loss_options={"gamma": 3.0})
    assert with_values(focal, values_of(focal)) == focal
    assert with_values(focal, values_of(START)).loss_options == {}
    assert values_of(replace(START, loss="weighted_bce"))["positive_weight"] == 5.0  # the loss's own


def test_another_budget_space_start_or_data_is_another_study():
    others = [
        replace(TUNING, folds=(0, 2)),
        replace(TUNING, made_by={"slices": "others"}),
        replace(TUNING, space=replace(SPACE, loss=("bce_dice",))),
        replace(TUNING, start=replace(START, slices_per_epoch=64)),
        replace(TUNING, start=replace(START, seed=8)),
    ]
    assert len({plan.study_name for plan in [TUNING, *others]}) == 6


def test_test_patients_and_a_start_outside_the_space_are_refused(tmp_path):
    score = MadeUpScore()
    with pytest.raises(InputError, match="test patients"):
        tune(replace(TUNING, folds=(0, -1)), score, 1, tmp_path / "study.db")
    for start in (replace(START, batch_size=5), replace(START, loss="mse")):
        with pytest.raises(InputError, match="outside the search space"):
            tune(replace(TUNING, start=start), score, 1, tmp_path / "study.db")
    per_structure = replace(START, loss="weighted_bce_dice", loss_options={"positive_weight": (1.0, 2.0)})
    with pytest.raises(InputError, match="positive_weight"):
        tune(replace(TUNING, start=per_structure), score, 1, tmp_path / "study.db")
    assert not score.calls and not (tmp_path / "study.db").exists()


def test_divergence_prunes_and_says_so_while_other_errors_stop_and_are_made_good(tmp_path):
    class Diverging(MadeUpScore):
        def __call__(self, plan, fold):
            if len(self.calls) == 2:
                raise InputError(self.where, "diverged in epoch 1: the loss is nan.")
            return super().__call__(plan, fold)

    broken, diverging = Diverging(), Diverging()
    broken.where, diverging.where = "images.npy", "training"
    with pytest.raises(InputError, match=r"images\.npy"):
        tune(TUNING, broken, 2, tmp_path / "study.db")
    study = tune(TUNING, MadeUpScore(), 2, tmp_path / "study.db")
    assert trials_table(study).state.tolist() == ["complete", "stopped", "complete"]
    study = tune(replace(TUNING, made_by={"slices": "others"}), diverging, 2, tmp_path / "study.db")
    last = trials_table(study).iloc[-1]
    assert last.state == "pruned" and np.isnan(last.dice) and "diverged" in last.reason
    assert "diverged" in describe_trial(study.trials[-1])


def test_importances_wait_for_enough_trials(unbroken):
    complete = unbroken[0].get_trials(states=(TrialState.COMPLETE,))
    assert len(complete) < IMPORTANCE_NEEDS and parameter_importances(unbroken[0]) == {}
    longer = optuna.create_study(direction="maximize")
    longer.add_trials(complete * 3)
    shares = parameter_importances(longer)
    assert sum(shares.values()) == pytest.approx(1) and max(shares, key=shares.get) == "learning_rate"


def test_the_best_is_compared_patient_by_patient_apart_from_those_who_chose_it():
    start = pd.DataFrame({"fold": [0, 0, 1, 1, 2, 2], "patient": list("abcdef"), "structure": "liver"})
    start, best = start.assign(dice=0.5), start.assign(dice=[0.7, 0.9, 0.6, 0.5, 0.5, 0.4])
    rows = best_against_start(start, best.sample(frac=1, random_state=0), (0,), seed=0).set_index("folds")
    assert rows.n_patients.to_dict() == {"searched": 2, "fresh": 4}
    assert rows.difference["searched"] == pytest.approx(0.3) and rows.difference["fresh"] == pytest.approx(0)
    assert rows.difference_low["fresh"] < 0 < rows.difference_high["fresh"] and rows.p["fresh"] == 1
    assert list(best_against_start(start, best, (0, 1, 2), seed=0).folds) == ["searched"]
