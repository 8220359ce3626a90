"""The audit finds the leak that was planted, finds none where there is none, and goes on after a kill."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from stored_cases import store_case

from livseg_lib.evaluation.slices import inflation_table
from livseg_lib.labels import TUMOR
from livseg_lib.outputs import update_systems_table, write_table
from livseg_lib.reporting.cards import headline_cards, is_by_patient
from livseg_lib.sampling.splits import audit_protocols, deal_protocols, mark_positives
from livseg_lib.studies.split_audit import (
    Copyist,
    NetworkPredictor,
    audit_questions,
    audit_systems_rows,
    fold_folder,
    own_slices,
    resemblance_pictures,
    run_audit,
    stored_rows,
)
from livseg_lib.studies.training import TrainingPlan
from livseg_lib.training.fit import Stage

PATIENTS, DEPTH, SIZE, FOLDS = 6, 6, 16, 3


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """Each patient has a grey and a place of the tumour of its own; the first two slices show none."""
    folder, tables = tmp_path_factory.mktemp("slices"), []
    for patient in range(PATIENTS):
        masks = np.zeros((DEPTH, SIZE, SIZE), np.uint8)
        masks[2:, 2 * patient : 2 * patient + 2, 4:12] = TUMOR
        who = {"patient": f"{patient}", "slice": range(DEPTH), "spacing_z_mm": 2.5}
        tables.append(store_case(folder, f"c{patient}", masks, np.full_like(masks, 40 * patient), **who))
    return folder, mark_positives(pd.concat(tables, ignore_index=True), "tumor")


@pytest.fixture(scope="module")
def folder(stored):
    return stored[0]


@pytest.fixture(scope="module")
def slices(stored):
    return stored[1]


@pytest.fixture(scope="module")
def protocols(slices):
    return audit_protocols(slices, "tumor")


@pytest.fixture(scope="module")
def dealt(slices, protocols):
    return deal_protocols(slices, protocols, FOLDS, 3)


class Memory:
    """Knows the tumour of a patient that it was shown, else `guess`es; may break off at its n-th call."""

    def __init__(self, folder, guess, name="memory", break_at=None):
        self.folder, self.guess, self.name, self.break_at, self.calls = folder, guess, name, break_at, 0

    def description(self):
        return {"name": self.name}

    def __call__(self, fold, checkpoints):
        if self.calls == self.break_at:
            raise KeyboardInterrupt
        self.calls += 1
        known = fold.held_out["patient"].isin(fold.training["patient"])
        truth = [labels == TUMOR for labels in stored_rows(fold.held_out, self.folder)]
        answers = [mask if sure else self.guess(mask) for mask, sure in zip(truth, known, strict=True)]
        return np.stack(answers).astype(np.uint8) * 255


def left_half(mask):
    half = mask.copy()
    half[:, 8:] = False
    return half


def audit(dealt, predict, folder, place):
    return run_audit(dealt, predict, "tumor", folder, place)


def test_a_planted_leak_yields_the_inflation_computed_by_hand(dealt, protocols, folder, tmp_path):
    own = own_slices(audit(dealt, Memory(folder, left_half), folder, tmp_path), protocols)
    found = inflation_table(own, audit_questions(protocols)).set_index(["question", "metric"])
    for question in ("the split, tumour only", "the split, all slices", "both together, as system C"):
        # Half a tumour has Dice 2/3, IoU and recall 1/2, precision 1; the whole one 1 throughout.
        differences = found.loc[question, "difference"]
        assert differences["dice"] == pytest.approx(100 / 3)
        assert differences["pooled_dice"] == pytest.approx(100 / 3)
        assert differences["iou"] == differences["recall"] == pytest.approx(50)
        assert differences["precision"] == differences["presence_accuracy"] == 0
        assert differences["loss"] < 0
    assert (
        found.loc["the choice of slices, by patient", "difference"].drop(["loss", "pixel_accuracy"]) == 0
    ).all()
    assert found.loc[("the split, all slices", "dice"), "n_patients"] == PATIENTS


def test_who_ignores_the_training_set_gains_nothing(dealt, protocols, folder, tmp_path):
    class Honest(Memory):
        def __call__(self, fold, checkpoints):
            halves = [left_half(labels == TUMOR) for labels in stored_rows(fold.held_out, folder)]
            return np.stack(halves).astype(np.uint8) * 255

    own = own_slices(audit(dealt, Honest(folder, None), folder, tmp_path), protocols)
    found = inflation_table(own, audit_questions(protocols)).set_index(["question", "metric"])
    for question in ("the split, tumour only", "the split, all slices"):
        assert (found.loc[question, "difference"] == 0).all()


def test_every_protocol_scores_the_same_slices_and_knows_the_distance(slices, dealt, folder, tmp_path):
    scores = audit(dealt, Memory(folder, left_half), folder, tmp_path)
    for name, rows in scores.groupby("protocol"):
        assert sorted(rows[["case", "slice"]].itertuples(index=False)) == sorted(
            slices[["case", "slice"]].itertuples(index=False)
        )
        assert rows["distance"].isna().all() == name.startswith("patient")
    known = scores["distance"].notna()
    assert (scores["distance_mm"][known] == 2.5 * scores["distance"][known]).all()
    assert set(own_slices(scores, audit_protocols(slices, "tumor")).groupby("protocol").size()) == {36, 24}


def test_the_copyist_lives_on_the_leak_alone(dealt, protocols, folder, tmp_path):
    scores = audit(dealt, Copyist("tumor", folder), folder, tmp_path)
    dice = own_slices(scores, protocols).groupby("protocol")["dice"].mean()
    assert dice["slice, tumour only"] == 1 and dice["patient, tumour only"] == 0


def test_the_most_alike_picture_is_shown_with_its_origin(slices, dealt, folder):
    pictures = resemblance_pictures(
        slices.loc[20], {name: dealt[name] for name in ("slice", "patient")}, folder
    )
    titles = [tile.title for tile in pictures]
    assert "patient 3, slice 2" in titles[0] and "dealt by slice: patient 3" in titles[1]
    assert "dealt by patient: patient" in titles[2] and "patient 3," not in titles[2]
    assert pictures[1].picture.mean() == pictures[0].picture.mean() == 120
    assert (pictures[0].truth == TUMOR).sum() == 16


def test_an_audit_that_was_killed_goes_on_where_it_was(dealt, folder, tmp_path):
    whole = audit(dealt, Memory(folder, left_half), folder, tmp_path / "whole")
    killed = Memory(folder, left_half, break_at=5)
    with pytest.raises(KeyboardInterrupt):
        audit(dealt, killed, folder, tmp_path / "killed")
    again = Memory(folder, left_half)
    scores = audit(dealt, again, folder, tmp_path / "killed")
    assert (killed.calls, again.calls) == (5, len(dealt) * FOLDS - 5)
    pd.testing.assert_frame_equal(scores, whole)


def test_kept_scores_count_only_for_the_same_predictor_and_slices(slices, protocols, dealt, folder, tmp_path):
    audit(dealt, Memory(folder, left_half), folder, tmp_path)
    other = Memory(folder, left_half, name="other")
    audit(dealt, other, folder, tmp_path)
    redealt = Memory(folder, left_half)
    audit(deal_protocols(slices, protocols, FOLDS, 4), redealt, folder, tmp_path)
    assert other.calls == redealt.calls == len(dealt) * FOLDS


def test_a_network_trains_its_whole_budget_and_leaves_no_weights_behind(dealt, folder, tmp_path):
    options = {"filters": 2, "levels": 2}
    stages = (Stage(2, 1e-3),)
    plan = TrainingPlan("unet_audit", "unet", "tumor", stages, options, batch_size=4, slices_per_epoch=8)
    network = NetworkPredictor(plan, folder)
    part = {"patient": dealt["patient"][:1]}
    scores = audit(part, network, folder, tmp_path)
    histories = [pd.read_csv(path) for path in tmp_path.rglob("history.csv")]
    assert [len(history) for history in histories] == [2]
    assert not list(tmp_path.rglob("*.safetensors"))
    assert scores["loss"].between(0, 10).all() and network.count_parameters(part["patient"][0].training) > 100
    own = scores.assign(protocol="patient")
    [row] = audit_systems_rows(own, part, "unet_audit", "tumor", tmp_path, 7, 0)
    assert row["train_seconds"] == pytest.approx(histories[0].seconds.sum()) and row["train_seconds"] > 0


def test_rows_by_slice_are_marked_and_never_headline(dealt, protocols, folder, tmp_path):
    own = own_slices(audit(dealt, Memory(folder, left_half), folder, tmp_path), protocols)
    for protocol in dealt:
        for number in range(FOLDS):
            history = pd.DataFrame({"seconds": [1.0, 2.0]})
            write_table(history, fold_folder(tmp_path, protocol, number) / "history.csv")
    rows = audit_systems_rows(own, dealt, "unet_audit", "tumor", tmp_path, 7, 0)
    systems = update_systems_table(tmp_path / "systems.csv", rows).set_index("split_by")
    assert list(systems.index) == [
        "slice, tumour only",
        "slice",
        "patient, tumour only (audit)",
        "patient (audit)",
    ]
    assert systems["dice_per_case"].tolist() == pytest.approx([1, 1, 2 / 3, 2 / 3])
    assert (systems["published_value"] == 0.85).all() and (systems["n_test_patients"] == PATIENTS).all()
    assert systems["n_train_patients"].tolist() == [PATIENTS, PATIENTS, 4, 4]
    assert (systems["train_seconds"] == 9).all()
    by_slice = systems.reset_index().iloc[:2]
    assert headline_cards(by_slice) == [] and not by_slice["split_by"].map(is_by_patient).any()
