"""Each patient is answered for by networks that never saw the patient, and scored as counted by hand."""

import os
import signal
import threading
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest
from stored_cases import store_case

from livseg_lib.labels import LIVER, TUMOR
from livseg_lib.studies import every_patient, training
from livseg_lib.studies.training import TrainingPlan
from livseg_lib.training.fit import Stage

FOLDS, SIZE = 3, 8


@pytest.fixture
def stored(tmp_path):
    tables = []
    for patient in range(6):
        masks = np.full((2, SIZE, SIZE), LIVER, np.uint8)
        masks[:, patient, :2] = TUMOR
        who = {"patient": f"{patient}", "slice": range(2), "spacing_z_mm": np.nan}
        tables.append(store_case(tmp_path, f"c{patient}", masks, np.zeros_like(masks), **who))
    slices = pd.concat(tables, ignore_index=True)
    return slices.assign(fold=slices.patient.astype(int) % FOLDS, region="liver_with_tumor"), tmp_path


def _note(plan, chosen, validation, folder, checkpoints):
    """In place of a training: writes down whom it saw."""
    assert validation is None
    checkpoints.mkdir(parents=True, exist_ok=True)
    with (checkpoints / "seen.txt").open("a") as lines:
        print(*sorted(set(chosen.patient)), file=lines)
    return int(checkpoints.name), None


def _answer(network, pictures):
    return np.full((len(list(pictures)), SIZE, SIZE, 2), network, np.uint8)


def test_the_networks_of_a_fold_never_saw_its_patients_and_are_asked_once(stored, tmp_path, monkeypatch):
    slices, folder = stored
    monkeypatch.setattr(training, "train_network", _note)
    monkeypatch.setattr(training, "predict_planes", _answer)

    def ask(epochs):
        plan = TrainingPlan("unet", "unet", "both", (Stage(epochs, 0.01),))
        answers = every_patient.held_out_answers({"a": plan, "b": plan}, slices, folder, tmp_path / "kept")
        places = [tmp_path / "kept" / name / f"{k}" for name in "ab" for k in range(FOLDS)]
        seen = np.reshape([(place / "seen.txt").read_text() for place in places], (2, FOLDS)).tolist()
        assert seen[0] == seen[1] and (answers["a"] == answers["b"]).all()
        return answers["a"], seen[0]

    levels, seen = ask(1)
    assert seen == ["1 2 4 5\n", "0 2 3 5\n", "0 1 3 4\n"]
    assert levels[:, 0, 0, 0].tolist() == [0] * 4 + [1] * 4 + [2] * 4  # in the order of the folds
    again, seen_again = ask(1)
    assert seen_again == seen and (again == levels).all()
    assert ask(2)[1] == [line * 2 for line in seen]  # another plan is another answer


@pytest.mark.slow
def test_networks_learn_side_by_side_as_one_after_another_and_a_loss_of_a_cell_stays_here(stored, tmp_path):
    slices, folder = stored
    small = {"filters": 2, "levels": 2}

    def of_a_cell(truth, probability):  # no other process could import it
        return keras.ops.mean((truth - probability) ** 2)

    for loss in ("mse", of_a_cell):
        options = {"options": small, "slices_per_epoch": 8, "loss": loss}
        plans = {"unet": TrainingPlan("unet", "unet", "both", (Stage(1, 0.01),), **options)}
        one, two = (
            every_patient.held_out_answers(plans, slices, folder, tmp_path / f"{workers} {loss}", workers)
            for workers in (1, 2)
        )
        assert one["unet"].tobytes() == two["unet"].tobytes() and one["unet"].any()


def _end_one(cluster, ended: threading.Event, killed: list[int]) -> None:
    """Kill the first worker that is found at a training."""
    while not killed and not ended.wait(0.1):
        for nanny in cluster.workers.values():
            known = cluster.scheduler.workers.get(nanny.worker_address)
            if not killed and known and known.processing and list(Path.cwd().rglob("last.safetensors")):
                killed.append(nanny.pid)
                os.kill(nanny.pid, signal.SIGKILL)


@pytest.mark.slow
def test_systems_and_folds_go_to_a_cluster_and_a_lost_worker_costs_nothing(stored, tmp_path, monkeypatch):
    distributed = pytest.importorskip("distributed", reason="Dask is missing: pip install livseg[cluster]")
    slices, folder = stored
    monkeypatch.chdir(tmp_path)
    small = {"filters": 2, "levels": 2}
    plans = {
        name: TrainingPlan(name, name, "both", (Stage(6, 0.01),), small, slices_per_epoch=8)
        for name in ("unet", "residual_unet")
    }
    alone = every_patient.held_out_answers(plans, slices, folder, tmp_path / "alone")
    ended, killed = threading.Event(), []
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster:
        thread = threading.Thread(target=_end_one, args=(cluster, ended, killed))
        for left in (tmp_path / "alone").rglob("last.safetensors"):
            left.unlink()
        thread.start()
        try:
            address = cluster.scheduler_address
            spread = every_patient.held_out_answers(plans, slices, folder, tmp_path / "spread", address)
        finally:
            ended.set()
            thread.join()
    assert killed
    for name in plans:
        assert spread[name].tobytes() == alone[name].tobytes()


def _rows(fold, patient, scored=True):
    return pd.DataFrame({"fold": fold, "patient": patient, "scored": scored})


def test_thresholds_come_from_the_other_folds():
    labels = np.zeros((2, 1, 4), np.uint8)
    labels[:, 0, 0] = LIVER
    levels = np.zeros((2, 1, 4), np.uint8)
    levels[0, 0, :2] = (230, 180)  # right from 0.71 to 0.90 only
    levels[1, 0, :2] = (100, 30)  # right from 0.12 to 0.39 only
    rows = every_patient.score_answers(levels, labels, "liver", _rows([0, 1], ["a", "b"]))
    assert 0.11 < rows.threshold[0] < 0.40 and 0.70 < rows.threshold[1] < 0.91
    assert rows.predicted_pixels.tolist() == [2, 0]
    assert rows.common_pixels.tolist() == [1, 0]


def test_patients_that_do_not_count_choose_no_threshold():
    labels = np.full((3, 1, 2), LIVER, np.uint8)
    labels[:, 0, 1] = 0
    levels = np.array([[[200, 0]], [[200, 150]], [[40, 0]]], np.uint8)
    rows = _rows([0, 1, 1], ["a", "b", "c"], [True, True, False])
    assert every_patient.score_answers(levels, labels, "liver", rows).threshold[0] > 150 / 255


def test_pieces_of_tumours_are_counted_slice_by_slice():
    labels = np.full((2, 6, 9), LIVER, np.uint8)
    labels[0, 1, 1:5] = TUMOR  # half of it is found
    labels[0, 4, 1:3] = TUMOR  # missed
    labels[1, 1, 1:4] = TUMOR  # found whole
    levels = np.zeros(labels.shape, np.uint8)
    levels[0, 1, 3:5] = 255
    levels[1, 1, 1:4] = 255
    levels[1, 4, 6] = 255  # a false alarm
    rows = every_patient.score_answers(levels, labels, "tumor", _rows([0, 1], ["a", "b"]))
    assert rows.tumors.tolist() == [2, 1]
    assert rows.found.tolist() == [1, 1]
    assert rows.found_half.tolist() == [0, 1]
    assert rows.false_alarms.tolist() == [0, 1]
    found = every_patient.detection_row(rows, seed=1)
    assert every_patient.detection_row(rows.set_index(np.zeros(2, int)), seed=1) == found
    assert (found["n_tumors"], found["n_slices"]) == (3, 2)
    assert found["found"] == pytest.approx(2 / 3) and found["found_half"] == pytest.approx(1 / 3)
    assert found["false_alarms"] == pytest.approx(1 / 2)


def test_dice_of_a_patient_is_of_all_slices_and_undefined_without_the_structure():
    pixels = {
        "reference_pixels": [4, 0, 0, 0],
        "predicted_pixels": [2, 2, 0, 3],
        "common_pixels": [2, 0, 0, 0],
    }
    rows = pd.DataFrame({"system": "s", "structure": "tumor", "patient": ["a", "a", "b", "c"], **pixels})
    found = every_patient.dice_by_patient(rows).set_index("patient")
    assert found.dice["a"] == pytest.approx(2 * 2 / (4 + 4))
    assert found.dice[["b", "c"]].isna().all() and np.isnan(found.kept_clear["a"])
    assert found.kept_clear[["b", "c"]].tolist() == [1.0, 0.0]


def test_presence_is_judged_by_a_rule_of_the_other_folds():
    levels = np.zeros((8, 4, 4), np.uint8)
    truth = np.array([True, False] * 4)
    levels[truth, 0] = 200  # four pixels
    levels[~truth, 0, 0] = 255  # a brighter speck: only a rule that asks for more area is right
    rows = _rows(np.repeat([0, 1], 4), np.repeat(list("abcd"), 2))
    found = every_patient.presence_row(levels, truth, rows, seed=1)
    assert found["accuracy"] == 1 and found["majority_share"] == 0.5
    rows = rows.assign(scored=[True, True, False, False] * 2)
    assert every_patient.presence_row(levels, truth, rows, seed=1)["n_pictures"] == 4
