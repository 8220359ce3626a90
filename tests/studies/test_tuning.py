"""Who is trained on, scored, never opened; what is suggested and pruned, and what survives a kill."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import stored_cases
from stored_cases import store_case

from livseg_lib.errors import InputError
from livseg_lib.studies import tuning
from livseg_lib.studies.training import TrainingPlan
from livseg_lib.training.fit import Stage
from livseg_lib.training.losses import get_loss

START = TrainingPlan("tuned", "unet", "liver", (Stage(2, 0.001),), batch_size=8, seed=7)
LOSSES = ("bce_dice", "focal", "weighted_bce_dice")
SPACE = tuning.SearchSpace((1e-4, 1e-2), batch_size=(4, 8, 16), loss=LOSSES, positive_weight=(1.0, 20.0))
TUNING = tuning.TuningPlan(START, SPACE, folds=(0, 1), made_by={"slices": "made up"})


class MadeUpScore:
    """Best at a rate of 0.003; keeps its calls."""

    def __init__(self) -> None:
        self.calls = []

    def __call__(self, plan: TrainingPlan, fold: int) -> pd.DataFrame:
        self.calls.append((plan, fold))
        dice = 0.8 - 0.1 * abs(math.log10(plan.stages[0].learning_rate / 0.003)) - 0.02 * fold
        return pd.DataFrame({"patient": [f"{fold}-{number}" for number in range(3)], "dice": dice})


def finished(study) -> pd.DataFrame:
    """Values and scores of complete and pruned trials, in order."""
    table = tuning.trials_table(study)
    columns = ["state", "dice", "folds_done", *tuning.PARAMETERS]
    return table[table.state.isin(("complete", "pruned"))][columns].reset_index(drop=True)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    """A study of twelve trials in one go, and the calls that it made."""
    score = MadeUpScore()
    return tuning.tune(TUNING, score, 12, tmp_path_factory.mktemp("unbroken") / "study.db"), score.calls


def test_trials_are_counted_over_sessions_and_seeds_decide(unbroken, tmp_path):
    for n_trials in (1, 3, 2, 5):
        study = tuning.tune(TUNING, MadeUpScore(), n_trials, tmp_path / "study.db")
        study.ask()  # as a session leaves it that is killed in the middle of a trial
    pd.testing.assert_frame_equal(finished(study), finished(unbroken[0]).head(5), check_dtype=False)
    assert (tuning.trials_table(study).state == "stopped").sum() == 3
    other = replace(TUNING, start=replace(START, seed=8))
    found = finished(tuning.tune(other, MadeUpScore(), 3, tmp_path / "study.db"))
    assert not set(found.learning_rate[1:]) & set(finished(unbroken[0]).learning_rate)


def test_the_start_comes_first_and_the_search_finds_better(unbroken):
    study, calls = unbroken
    assert calls[0][0] == START and tuning.trials_table(study).is_start.tolist() == [True] + 11 * [False]
    assert study.best_value > finished(study).dice[0]
    assert tuning.with_values(START, study.best_params) in [plan for plan, _ in calls]


@pytest.mark.parametrize(
    "fourth, state, folds_done", [((0.01, 0.01), "pruned", 1), ((0.6, 0.01), "complete", 2)]
)
def test_a_planted_bad_trial_is_pruned_but_never_after_its_last_fold(tmp_path, fourth, state, folds_done):
    class BadFourth(MadeUpScore):
        def __call__(self, plan, fold):
            rows, plans = super().__call__(plan, fold), {p.stages for p, _ in self.calls}
            return rows.assign(dice=(fourth if len(plans) == 4 else (0.5, 0.9))[fold])

    table = tuning.trials_table(tuning.tune(TUNING, BadFourth(), 4, tmp_path / "study.db"))
    assert table.state.tolist() == ["complete", "complete", "complete", state]
    assert table.folds_done.tolist() == [2, 2, 2, folds_done]


@pytest.mark.parametrize(("bad", "state"), [(2, "complete"), (3, "pruned")])
def test_nothing_is_pruned_before_two_trials_are_whole(tmp_path, bad, state):
    class Bad(MadeUpScore):
        def __call__(self, plan, fold):
            rows, plans = super().__call__(plan, fold), {p.stages for p, _ in self.calls}
            return rows.assign(dice=0.01 if len(plans) == bad else 0.5)

    table = tuning.trials_table(tuning.tune(TUNING, Bad(), bad, tmp_path / "study.db"))
    assert table.state.tolist() == [*["complete"] * (bad - 1), state]


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
    assert tuning.with_values(focal, tuning.values_of(focal)) == focal
    assert tuning.with_values(focal, tuning.values_of(START)).loss_options == {}
    assert tuning.values_of(replace(START, loss="weighted_bce"))["positive_weight"] == 5.0  # the loss's own


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
        tuning.tune(replace(TUNING, folds=(0, -1)), score, 1, tmp_path / "study.db")
    per_structure = {"loss": "weighted_bce_dice", "loss_options": {"positive_weight": (1.0, 2.0)}}
    outside = {"batch_size": {"batch_size": 5}, "loss": {"loss": "mse"}, "positive_weight": per_structure}
    for name, values in outside.items():
        with pytest.raises(InputError, match=f"{name}: starts at .* outside the search space"):
            tuning.tune(replace(TUNING, start=replace(START, **values)), score, 1, tmp_path / "study.db")
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
        tuning.tune(TUNING, broken, 2, tmp_path / "study.db")
    study = tuning.tune(TUNING, MadeUpScore(), 2, tmp_path / "study.db")
    assert tuning.trials_table(study).state.tolist() == ["complete", "stopped", "complete"]
    study = tuning.tune(replace(TUNING, made_by={"slices": "others"}), diverging, 2, tmp_path / "study.db")
    last = tuning.trials_table(study).iloc[-1]
    assert last.state == "pruned" and np.isnan(last.dice) and "diverged" in last.reason


def test_the_best_is_compared_patient_by_patient_apart_from_those_who_chose_it():
    start = pd.DataFrame({"fold": [0, 0, 1, 1, 2, 2], "patient": list("abcdef"), "structure": "liver"})
    start, best = start.assign(dice=0.5), start.assign(dice=[0.7, 0.9, 0.6, 0.5, 0.5, 0.4])
    shuffled = best.sample(frac=1, random_state=0)
    rows = tuning.best_against_start(start, shuffled, (0,), seed=0).set_index("folds")
    assert rows.n_patients.to_dict() == {"searched": 2, "fresh": 4}
    assert rows.difference["searched"] == pytest.approx(0.3) and rows.difference["fresh"] == pytest.approx(0)
    assert rows.difference_low["fresh"] < 0 < rows.difference_high["fresh"] and rows.p["fresh"] == 1
    assert list(tuning.best_against_start(start, best, (0, 1, 2), seed=0).folds) == ["searched"]


PLAN = replace(stored_cases.PLAN, slice_choice="all")
FOLDS = {"0": 0, "1": 0, "2": 1, "3": 1, "4": 2, "5": -1}


@pytest.fixture
def extracted(tmp_path):
    """Six patients of four 16-pixel slices in three folds, the last one in test; patient 2 has two cases.

    Grey 100 is liver, 200 tumour; patient 4 has no tumour.
    """
    tables = []
    for case, patient in enumerate("0122345"):
        masks = np.zeros((4, 16, 16), np.uint8)
        masks[1:3, 4:12, 4:12] = 1
        masks[2, 6:9, 6:9] = 1 if patient == "4" else 2
        who = {"patient": patient, "split": "test" if patient == "5" else "train", "fold": FOLDS[patient]}
        tables.append(store_case(tmp_path, f"volume-{case}", masks, 100 * masks, **who))
    return tmp_path, pd.concat(tables, ignore_index=True)


class ThresholdNetwork:
    """Finds every liver; calls every pixel of the brighter half of it a tumour, and so sees them all."""

    output_shape = (None, 16, 16, 2)

    def predict_on_batch(self, pictures):
        return np.concatenate([pictures > 0.2, pictures > 0.6], axis=-1).astype(np.float32)


@pytest.fixture
def trainings(monkeypatch):
    """In place of training: a list of (plan, training slices, validation slices) that grows."""
    calls = []
    note = calls.append  # the list itself would count as a value of the code around it, and it grows

    def train(plan, seen, validation, folder, checkpoints):
        note((plan, seen, validation))
        (checkpoints / "weights").mkdir(parents=True)
        return ThresholdNetwork(), pd.DataFrame({"loss": [0.9, 0.5], "seconds": [1.0, 2.0]})

    monkeypatch.setattr(tuning, "train_network", train)
    return calls


def test_every_patient_outside_test_is_scored_once_by_a_network_that_never_saw_it(extracted, trainings):
    folder, slices = extracted
    for name in ("images.npy", "masks.npy"):
        (folder / "volume-6" / name).unlink()  # the test patient's: opening it would fail
    scores = tuning.cross_validate(PLAN, slices, tuning.list_folds(slices), folder, folder / "checkpoints")
    assert sorted(scores[scores.structure == "liver"].patient) == ["0", "1", "2", "3", "4"]
    assert dict(zip(scores.patient, scores.fold, strict=True)) == {p: f for p, f in FOLDS.items() if f >= 0}
    for fold, (_, seen, validation) in enumerate(trainings):
        held_out = {patient for patient, other in FOLDS.items() if other == fold}
        assert set(seen.patient) == set("01234") - held_out
        assert validation is None  # the fold held out chooses no epoch


def test_scores_are_dice_of_a_patient_over_all_its_cases(extracted, trainings):
    folder, slices = extracted
    masks = np.load(folder / "volume-2" / "masks.npy", allow_pickle=False)
    images = masks[..., None] * np.uint8(100)
    images[1, 4:12, 4:12] = 255  # 64 pixels of one of patient 2's cases look like tumour and are not
    np.save(folder / "volume-2" / "images.npy", images)
    scores = tuning.cross_validate(PLAN, slices, (1, 2), folder, folder / "checkpoints")
    dice = scores.set_index(["patient", "structure"]).dice
    assert dice["2", "liver"] == dice["3", "tumor"] == 1
    assert dice["2", "tumor"] == pytest.approx(2 * 18 / (18 + 18 + 64))
    assert dice["4", "tumor"] == 1 and scores[scores.is_empty].patient.tolist() == ["4"]
    assert (scores.training_loss == 0.5).all() and (scores.seconds == 3).all()
    assert scores[scores.fold == 1].n_train_patients.unique() == [3]


def test_a_scored_fold_is_not_trained_again_but_another_plan_is(extracted, trainings):
    folder, slices = extracted
    first = tuning.validate_fold(PLAN, slices, 0, folder, folder / "checkpoints")
    again = tuning.validate_fold(PLAN, slices, 0, folder, folder / "checkpoints")
    pd.testing.assert_frame_equal(first, again)
    assert len(trainings) == 1
    assert {path.suffix for path in (folder / "checkpoints").iterdir()} == {".csv", ".json"}
    tuning.validate_fold(replace(PLAN, loss="focal"), slices, 0, folder, folder / "checkpoints")
    moved = slices.assign(fold=slices.fold.where(slices.patient != "3", 0))
    tuning.validate_fold(PLAN, moved, 0, folder, folder / "checkpoints")
    assert len(trainings) == 3


def test_a_fold_that_stopped_before_it_was_scored_goes_on_from_its_checkpoint(extracted, monkeypatch):
    folder, slices = extracted
    monkeypatch.setattr(tuning, "score_patients", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        tuning.validate_fold(PLAN, slices, 0, folder, folder / "checkpoints")
    (kept,) = (folder / "checkpoints").iterdir()
    assert (kept / "last.safetensors").exists()
    monkeypatch.undo()
    written = pd.read_csv(kept / "history.csv").seconds.sum()
    scores = tuning.validate_fold(PLAN, slices, 0, folder, folder / "checkpoints")
    assert scores.seconds.iloc[0] == pytest.approx(written)  # the very epochs of before
    assert not kept.exists()


def test_patients_on_two_sides_are_refused(extracted):
    _, slices = extracted
    with pytest.raises(InputError, match="leak: patient 2"):
        tuning.development_slices(slices.assign(fold=[*slices.fold[:8], 0, *slices.fold[9:]]))
    with pytest.raises(InputError, match="patient 5 both into test and into a fold"):
        tuning.development_slices(slices.assign(fold=slices.fold.replace(-1, 2)))
    with pytest.raises(InputError, match="leak: array volume-0"):
        tuning.development_slices(slices.assign(array="volume-0"))


@pytest.mark.parametrize("fold", [-1, 3])
def test_a_fold_without_patients_and_the_test_patients_are_refused(extracted, fold):
    folder, slices = extracted
    with pytest.raises(InputError, match="Choose of 0, 1, 2"):
        tuning.validate_fold(PLAN, slices, fold, folder, folder / "checkpoints")
