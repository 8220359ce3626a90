"""Cross-validation: who is trained on, who is scored, what is never opened, and what survives a stop."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from livseg_lib.errors import InputError
from livseg_lib.studies import tuning
from livseg_lib.studies.training import TrainingPlan
from livseg_lib.studies.tuning import (
    cross_validate,
    describe_slices,
    development_slices,
    list_folds,
    mean_dice,
    summarize_folds,
    validate_fold,
)
from livseg_lib.training.fit import Stage

PLAN = TrainingPlan(
    system="tiny",
    architecture="unet",
    target="both",
    stages=(Stage(2, 0.003),),
    options={"filters": 4, "levels": 2},
    batch_size=4,
    slices_per_epoch=8,
    slice_choice="all",
    seed=7,
)
FOLDS = {"0": 0, "1": 0, "2": 1, "3": 1, "4": 2, "5": -1}


@pytest.fixture
def extracted(tmp_path):
    """Six patients of four 16-pixel slices in three folds, the last one in test; patient 2 has two cases.

    Grey 100 is liver, 200 tumour; patient 4 has no tumour.
    """
    rows = []
    for case, patient in enumerate("0122345"):
        name = f"volume-{case}"
        masks = np.zeros((4, 16, 16), np.uint8)
        masks[1:3, 4:12, 4:12] = 1
        masks[2, 6:9, 6:9] = 1 if patient == "4" else 2
        (tmp_path / name).mkdir()
        np.save(tmp_path / name / "images.npy", masks[..., None] * np.uint8(100))
        np.save(tmp_path / name / "masks.npy", masks)
        rows += [
            {
                "patient": patient,
                "case": name,
                "array": name,
                "array_index": index,
                "class": int(masks[index].max()),
                "liver_pixels": int((masks[index] >= 1).sum()),
                "tumor_pixels": int((masks[index] == 2).sum()),
                "split": "test" if patient == "5" else "train",
                "fold": FOLDS[patient],
            }
            for index in range(4)
        ]
    return tmp_path, pd.DataFrame(rows)


class ThresholdNetwork:
    """Finds every liver; calls every pixel of the brighter half of it a tumour, and so sees them all."""

    output_shape = (None, 16, 16, 2)

    def predict_on_batch(self, pictures):
        return np.concatenate([pictures > 0.2, pictures > 0.6], axis=-1).astype(np.float32)


class Recorder:
    """Holds what grows, so that the code around it stays the same."""

    def __init__(self) -> None:
        self.calls = []


@pytest.fixture
def trainings(monkeypatch):
    """In place of training: a list of (plan, training slices, validation slices) that grows."""
    recorder = Recorder()

    def train(plan, seen, validation, folder, checkpoints):
        recorder.calls.append((plan, seen, validation))
        (checkpoints / "weights").mkdir(parents=True)
        return ThresholdNetwork(), pd.DataFrame({"loss": [0.9, 0.5], "seconds": [1.0, 2.0]})

    monkeypatch.setattr(tuning, "train_network", train)
    return recorder.calls


def test_every_patient_outside_test_is_scored_once_by_a_network_that_never_saw_it(extracted, trainings):
    folder, slices = extracted
    for name in ("images.npy", "masks.npy"):
        (folder / "volume-6" / name).unlink()  # the test patient's: opening it would fail
    scores = cross_validate(PLAN, slices, list_folds(slices), folder, folder / "checkpoints")
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
    scores = cross_validate(PLAN, slices, (1, 2), folder, folder / "checkpoints")
    dice = scores.set_index(["patient", "structure"]).dice
    assert dice["2", "liver"] == dice["3", "tumor"] == 1
    assert dice["2", "tumor"] == pytest.approx(2 * 18 / (18 + 18 + 64))
    assert dice["4", "tumor"] == 1 and scores[scores.is_empty].patient.tolist() == ["4"]
    assert (scores.training_loss == 0.5).all() and (scores.seconds == 3).all()
    assert scores[scores.fold == 1].n_train_patients.unique() == [3]


def test_a_scored_fold_is_not_trained_again_but_another_plan_is(extracted, trainings):
    folder, slices = extracted
    first = validate_fold(PLAN, slices, 0, folder, folder / "checkpoints")
    again = validate_fold(PLAN, slices.sample(frac=1, random_state=0), 0, folder, folder / "checkpoints")
    pd.testing.assert_frame_equal(first, again)
    assert len(trainings) == 1 and {path.suffix for path in (folder / "checkpoints").iterdir()} == {
        ".csv",
        ".json",
    }
    validate_fold(replace(PLAN, loss="focal"), slices, 0, folder, folder / "checkpoints")
    moved = slices.assign(fold=slices.fold.where(slices.patient != "3", 0))
    validate_fold(PLAN, moved, 0, folder, folder / "checkpoints")
    assert len(trainings) == 3


def test_a_fold_that_stopped_before_it_was_scored_goes_on_from_its_checkpoint(extracted, monkeypatch):
    folder, slices = extracted
    monkeypatch.setattr(tuning, "score_patients", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        validate_fold(PLAN, slices, 0, folder, folder / "checkpoints")
    (kept,) = (folder / "checkpoints").iterdir()
    assert (kept / "last.safetensors").exists()
    monkeypatch.undo()
    written = pd.read_csv(kept / "history.csv").seconds.sum()
    scores = validate_fold(PLAN, slices, 0, folder, folder / "checkpoints")
    assert scores.seconds.iloc[0] == pytest.approx(written)  # the very epochs of before
    assert not kept.exists()


def test_patients_on_two_sides_are_refused(extracted):
    _, slices = extracted
    with pytest.raises(InputError, match="leak: patient 2"):
        development_slices(slices.assign(fold=[*slices.fold[:8], 0, *slices.fold[9:]]))
    with pytest.raises(InputError, match="patient 5 both into test and into a fold"):
        development_slices(slices.assign(fold=slices.fold.replace(-1, 2)))
    with pytest.raises(InputError, match="leak: array volume-0"):
        development_slices(slices.assign(array="volume-0"))


@pytest.mark.parametrize("fold", [-1, 3])
def test_a_fold_without_patients_and_the_test_patients_are_refused(extracted, fold):
    folder, slices = extracted
    with pytest.raises(InputError, match="Choose of 0, 1, 2"):
        validate_fold(PLAN, slices, fold, folder, folder / "checkpoints")


def test_the_name_of_the_data_knows_folds_but_no_test_patients(extracted):
    _, slices = extracted
    assert describe_slices(slices) == describe_slices(slices[slices.split != "test"])
    assert describe_slices(slices) != describe_slices(slices.assign(fold=slices.fold.replace(2, 1)))


def test_summary_by_hand():
    scores = pd.DataFrame(
        {
            "fold": [0, 0, 1, 1],
            "patient": list("abcd"),
            "structure": "liver",
            "dice": [0.9, 0.7, 0.5, 0.7],
            "is_empty": [False, False, False, True],
        }
    )
    (row,) = summarize_folds(scores, seed=0).to_dict("records")
    assert (row["dice"], row["lowest_fold"], row["highest_fold"]) == pytest.approx((0.7, 0.6, 0.8))
    assert row["fold_sd"] == pytest.approx(0.2 / np.sqrt(2)) and row["n_empty"] == 1
    assert row["dice_low"] < 0.7 < row["dice_high"]


def test_a_mean_counts_patients_not_structures():
    scores = pd.DataFrame({"patient": ["a", "a", "b"], "structure": ["liver", "tumor", "liver"]})
    assert mean_dice(scores.assign(dice=[1.0, 0.5, 0.25])) == pytest.approx(0.5)
