"""The audit finds the leak that was planted, and finds none where there is none."""

import numpy as np
import pandas as pd
import pytest
from stored_cases import store_case

from livseg_lib.evaluation.slices import inflation_table
from livseg_lib.labels import TUMOR
from livseg_lib.outputs import update_systems_table
from livseg_lib.reporting.cards import headline_cards, is_by_patient
from livseg_lib.sampling.splits import audit_protocols, deal_protocols, mark_positives
from livseg_lib.studies import split_audit
from livseg_lib.studies.training import TrainingPlan, build_untrained, stored_rows
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


STAGES, SMALL = (Stage(2, 1e-3),), {"filters": 2, "levels": 2}
PLAN = TrainingPlan("unet_audit", "unet", "tumor", STAGES, SMALL, batch_size=4, slices_per_epoch=8)


@pytest.fixture
def audit(monkeypatch, dealt, folder):
    """The audit of one who knows the tumour of a patient that was shown in training, else half of it."""

    def of(remembers: bool) -> pd.DataFrame:
        def answer(plan, learn, asked, folder, place, name):
            known = asked["patient"].isin(learn["patient"]).to_numpy() & remembers
            truth = np.stack(list(stored_rows(asked, folder))) == TUMOR
            truth[~known, :, 8:] = False
            return truth[..., None] * np.uint8(255)

        monkeypatch.setattr(split_audit, "answer_held_out", answer)
        return split_audit.run_audit(dealt, "tumor", folder, PLAN)

    return of


def test_a_planted_leak_yields_the_inflation_computed_by_hand(audit, protocols):
    own = split_audit.own_slices(audit(remembers=True), protocols)
    found = inflation_table(own, split_audit.audit_questions(protocols)).set_index(["question", "metric"])
    for question in ("the split, tumour only", "the split, all slices", "both together, as system C"):
        # Half a tumour has Dice 2/3, IoU and recall 1/2, precision 1; the whole one 1 throughout.
        differences = found.loc[question, "difference"]
        assert differences["dice"] == pytest.approx(100 / 3)
        assert differences["pooled_dice"] == pytest.approx(100 / 3)
        assert differences["iou"] == differences["recall"] == pytest.approx(50)
        assert differences["precision"] == differences["presence_accuracy"] == 0
        assert differences["loss"] < 0
    choice = found.loc["the choice of slices, by patient", "difference"]
    assert (choice.drop(["loss", "pixel_accuracy"]) == 0).all()
    assert found.loc[("the split, all slices", "dice"), "n_patients"] == PATIENTS


def test_who_ignores_the_training_set_gains_nothing(audit, protocols):
    own = split_audit.own_slices(audit(remembers=False), protocols)
    found = inflation_table(own, split_audit.audit_questions(protocols)).set_index(["question", "metric"])
    for question in ("the split, tumour only", "the split, all slices"):
        assert (found.loc[question, "difference"] == 0).all()


def test_every_protocol_scores_the_same_slices_and_knows_the_distance(audit, slices, protocols):
    scores, places = audit(remembers=True), ["case", "slice"]
    for name, rows in scores.groupby("protocol"):
        of_rows, of_all = (sorted(each[places].to_records(False).tolist()) for each in (rows, slices))
        assert of_rows == of_all
        assert rows["distance"].isna().all() == name.startswith("patient")
    known = scores["distance"].notna()
    assert (scores["distance_mm"][known] == 2.5 * scores["distance"][known]).all()
    assert set(split_audit.own_slices(scores, protocols).groupby("protocol").size()) == {36, 24}


def test_the_copyist_lives_on_the_leak_alone(dealt, protocols, folder):
    own = split_audit.own_slices(split_audit.run_audit(dealt, "tumor", folder), protocols)
    dice = own.groupby("protocol")["dice"].mean()
    assert dice["slice, tumour only"] == 1 and dice["patient, tumour only"] == 0


def test_the_most_alike_picture_is_shown_with_its_origin(slices, dealt, folder):
    by_name = {name: dealt[name] for name in ("slice", "patient")}
    pictures = split_audit.resemblance_pictures(slices.loc[20], by_name, folder)
    titles = [tile.title for tile in pictures]
    assert "patient 3, slice 2" in titles[0] and "dealt by slice: patient 3" in titles[1]
    assert "dealt by patient: patient" in titles[2] and "patient 3," not in titles[2]
    assert pictures[1].picture.mean() == pictures[0].picture.mean() == 120
    assert (pictures[0].truth == TUMOR).sum() == 16


def test_networks_train_their_whole_budget_and_leave_no_weights_behind(dealt, folder, tmp_path):
    part = {"patient": dealt["patient"][:1]}
    scores = split_audit.run_audit(part, "tumor", folder, PLAN, tmp_path)
    [history] = [pd.read_csv(path) for path in tmp_path.rglob("history.csv")]
    assert len(history) == 2 and not list(tmp_path.rglob("*.safetensors"))
    assert scores["loss"].between(0, 10).all() and build_untrained(PLAN, (SIZE, SIZE, 1)).count_params() > 100
    own = scores.assign(protocol="patient")
    [row] = split_audit.audit_systems_rows(own, part, "unet_audit", "tumor", tmp_path, 7, 0)
    assert row["train_seconds"] == pytest.approx(history.seconds.sum()) and row["train_seconds"] > 0
    pd.testing.assert_frame_equal(split_audit.run_audit(part, "tumor", folder, PLAN, tmp_path), scores)


def test_rows_by_slice_are_marked_and_never_headline(audit, dealt, protocols, tmp_path, monkeypatch):
    own = split_audit.own_slices(audit(remembers=True), protocols)
    history = pd.DataFrame({"seconds": [1.0, 2.0]})
    monkeypatch.setattr(split_audit, "read_table", lambda path: history)
    rows = split_audit.audit_systems_rows(own, dealt, "unet_audit", "tumor", tmp_path, 7, 0)
    systems = update_systems_table(tmp_path / "systems.csv", rows).set_index("split_by")
    names = ["slice, tumour only", "slice", "patient, tumour only (audit)", "patient (audit)"]
    assert list(systems.index) == names
    assert systems["dice_per_case"].tolist() == pytest.approx([1, 1, 2 / 3, 2 / 3])
    assert (systems["published_value"] == 0.85).all() and (systems["n_test_patients"] == PATIENTS).all()
    assert systems["n_train_patients"].tolist() == [PATIENTS, PATIENTS, 4, 4]
    assert (systems["train_seconds"] == 9).all()
    by_slice = systems.reset_index().iloc[:2]
    assert headline_cards(by_slice) == [] and not by_slice["split_by"].map(is_by_patient).any()
