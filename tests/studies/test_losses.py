"""A study of losses: only the loss differs, nobody is scored by a network that saw him, test stays unread."""

import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from solids import labelled
from stored_cases import PLAN, store_case

from livseg_lib.datasets.case import Case
from livseg_lib.errors import InputError
from livseg_lib.preprocessing.recipe import Recipe
from livseg_lib.studies import losses
from livseg_lib.studies.training import TrainingPlan
from livseg_lib.training.fit import Stage
from livseg_lib.volumes import Volume

FEWER = {"stages": (Stage(1, 0.003),), "slices_per_epoch": 4}
BASE = replace(PLAN, system="class_imbalance", target="tumor", **FEWER)
SIZE = 128
FOLDS = {"0": 0, "1": 1, "2": 2, "3": 3, "4": -1}


def labels_of_a_patient() -> np.ndarray:
    """Four slices of liver with two tumours, the second of them one slice of one row."""
    tumors = np.s_[1:3, 30:50, 30:50], np.s_[2, 90, 90:100]
    return labelled((4, SIZE, SIZE), *tumors, liver=np.s_[1:3, 20:110, 20:110])


@pytest.fixture
def cohort(tmp_path):
    """(slices, cases, folder) of five patients, the fourth without tumours, the last in test, unread."""
    tables, cases, labels = [], [], labels_of_a_patient()
    hu = np.select([labels == 2, labels == 1], [90, 100], -100).astype(np.int16)
    volume, recipe = Volume(hu, (3.0, 1.0, 1.0)), Recipe(windows=("liver",), size=SIZE)
    for patient, fold in FOLDS.items():
        own = labels.clip(max=1) if patient == "3" else labels
        who = {"patient": patient, "split": "test" if fold < 0 else "train", "fold": fold}
        tables.append(store_case(tmp_path, f"volume-{patient}", own, 100 * own, recipe, **who))
        cases.append(Case(f"volume-{patient}", patient, (), lambda: volume, lambda _, own=own: own))
    shutil.rmtree(tmp_path / "volume-4")
    return pd.concat(tables, ignore_index=True), cases[:-1], tmp_path


def plans(*losses: str) -> dict[str, TrainingPlan]:
    return {loss: replace(BASE, loss=loss) for loss in losses}


class Oracle:
    """Stands for a network: sure of the first tumour, unsure of the second, and inventing one if bold."""

    def __init__(self, second: float, invented: float) -> None:
        self.second, self.invented = second, invented
        self.output_shape = (None, SIZE, SIZE, 1)

    def predict_on_batch(self, pictures: np.ndarray) -> np.ndarray:
        tumor = pictures > 0.7  # labels times 100 of 255
        maps = np.where(tumor, 0.95, 0.0)
        maps[:, 80:] = np.where(tumor[:, 80:], self.second, 0.0)
        maps[:, 60:64, 60:64] = self.invented * tumor.any(axis=(1, 2, 3), keepdims=True)
        return maps


@pytest.fixture
def oracles(monkeypatch):
    """Trainings give oracles: "bce" is shy, "weighted_bce" bold. Yields what each training saw."""
    seen = []

    def train(plan, slices, validation, folder, checkpoints):
        seen.append((plan.loss, frozenset(slices.patient), checkpoints))
        shy, bold = Oracle(0.4, 0.05), Oracle(0.6, 0.6)
        history = pd.DataFrame({"epoch": [1], "loss": [0.5], "tumor_dice": [0.1], "seconds": [1.0]})
        return {"bce": shy, "weighted_bce": bold}[plan.loss], history

    monkeypatch.setattr(losses, "train_network", train)
    return seen


def test_each_patient_is_scored_once_by_networks_that_never_saw_it(cohort, oracles, tmp_path):
    slices, cases, folder = cohort
    study = losses.compare_losses(plans("bce", "weighted_bce"), slices, cases, folder, tmp_path, 2)
    assert len({place for _, _, place in oracles}) == len(oracles) == 4
    assert {patients for _, patients, _ in oracles} == {frozenset("02"), frozenset("13")}
    for row in study.patients.itertuples():
        trained_on = {patients for loss, patients, place in oracles if place.name == f"part{row.part}"}
        assert all(row.patient not in patients for patients in trained_on)
    at_half = study.patients[study.patients.threshold == 0.5]
    assert sorted(at_half.patient) == sorted("0123" * 2)  # once a loss; patient 4 is in test


def test_hits_false_alarms_and_dice_follow_the_threshold(cohort, oracles, tmp_path):
    slices, cases, folder = cohort
    study = losses.compare_losses(plans("bce", "weighted_bce"), slices, cases, folder, tmp_path, 2)
    first = study.lesions[study.lesions.patient == "0"].set_index(["loss", "threshold", "lesion"])
    found = {point: list(first.hit.loc[point]) for point in first.index.droplevel("lesion").unique()}
    assert found["bce", 0.5] == [True, False] != found["bce", 0.3] == found["weighted_bce", 0.5]
    assert list(first.voxels.loc["bce", 0.5]) == [2 * 20 * 20, 10]
    assert (first.contrast == "low").all() and (first.contrast_hu == 10).all()
    scores = study.patients[study.patients.patient == "0"].set_index(["loss", "threshold"])
    assert scores.false_alarms["bce", 0.1] == 0 and scores.false_alarms["weighted_bce", 0.5] == 1
    assert scores.dice["bce", 0.5] == pytest.approx(2 * 800 / (800 + 810))
    assert scores.dice["weighted_bce", 0.5] == pytest.approx(2 * 810 / (810 + 810 + 2 * 16))
    healthy = study.patients[(study.patients.patient == "3") & (study.patients.loss == "bce")]
    assert (healthy.dice == 1).all() and (healthy.false_alarms == 0).all()  # nothing there, nothing found
    assert (labels_of_a_patient() == 2).sum() == 810 and scores.dice["bce", 0.3] == 1


def test_thresholds_come_from_the_other_parts():
    rows = [("a", 0, "x", t, d) for t, d in ((0.1, 0.9), (0.5, 0.2))]
    rows += [("a", 1, "y", t, d) for t, d in ((0.1, 0.3), (0.5, 0.4))]
    rows += [("b", part, "x", t, 0.5) for part in (0, 1) for t in (0.1, 0.5, 0.9)]
    patients = pd.DataFrame(rows, columns=["loss", "part", "patient", "threshold", "dice"])
    chosen = losses.chosen_thresholds(patients).set_index(["loss", "part"]).threshold
    assert chosen["a", 0] == 0.5 and chosen["a", 1] == 0.1
    assert chosen["b", 0] == chosen["b", 1] == 0.5  # all alike: the one in the middle
    study = losses.LossStudy(patients.assign(lesion=1), patients.assign(false_alarms=0), pd.DataFrame())
    points = dict(losses.operating_points(study))
    assert set(points["0.5"].patients.threshold) == {0.5}
    assert list(points["chosen"].patients.query("loss == 'a'").dice) == [0.2, 0.3]
    assert len(points["chosen"].lesions) == 4


def test_fewer_than_two_parts_are_refused(cohort, tmp_path):
    slices, cases, folder = cohort
    with pytest.raises(InputError, match="at least 2"):
        losses.compare_losses({}, slices, cases, folder, tmp_path, parts=1)


CONTRASTS = {"low": 10.0, "middle": 30.0, "none": np.nan}


def study(
    hits: dict[str, dict[str, list[tuple[str, bool]]]], false_alarms: dict[str, list[int]]
) -> losses.LossStudy:
    """Loss -> patient -> (contrast, hit) of each tumour; loss -> false alarms of each patient."""
    lesions, patients = [], []
    for loss, of_patient in hits.items():
        for number, (patient, tumors) in enumerate(of_patient.items()):
            who = {"loss": loss, "patient": patient, "case": patient, "part": 0, "threshold": 0.5}
            patients.append({**who, "dice": 0.5, "false_alarms": false_alarms[loss][number]})
            for lesion, (contrast, hit) in enumerate(tumors, start=1):
                lesions.append({**who, "lesion": lesion, "contrast_hu": CONTRASTS[contrast], "hit": hit})
                lesions[-1]["contrast"] = np.nan if contrast == "none" else contrast
    return losses.LossStudy(pd.DataFrame(lesions), pd.DataFrame(patients), pd.DataFrame())


@pytest.fixture
def small() -> losses.LossStudy:
    """Two losses, three patients; the third has no low-contrast tumour."""
    plain, bold = (
        {
            "a": [("low", better), ("low", False), ("low", True), ("middle", True)],
            "b": [("low", better)],
            "c": [("middle", better), ("none", True)],
        }
        for better in (False, True)
    )
    return study({"plain": plain, "bold": bold}, {"plain": [0, 1, 0], "bold": [3, 1, 2]})


def test_misses_and_false_alarms_are_counted(small):
    summary = losses.summarize_losses(small, seed=0).set_index("loss")
    assert list(summary.index) == ["plain", "bold"]
    assert list(summary.n_low_contrast) == [4, 4] and list(summary.n_low_contrast_missed) == [3, 1]
    assert list(summary.false_negative_rate) == [0.75, 0.25]
    assert list(summary.n_tumors) == [7, 7] and list(summary.n_without_contrast) == [1, 1]
    assert summary.false_alarms_per_patient["bold"] == 2 and summary.n_patients["bold"] == 3
    # patients a and b have low-contrast tumours: resamples are {a, a}, {a, b} or {b, b}
    assert summary.false_negative_rate_low["plain"] == pytest.approx(2 / 3)
    assert summary.false_negative_rate_high["plain"] == 1


def test_differences_are_paired_over_patients(small):
    table = losses.differences_from("plain", small, seed=0).set_index("measure")
    assert list(table["first"]) == ["bold"] * 3 and list(table.second) == ["plain"] * 3
    assert table.difference["low_contrast_missed"] == -1 and table.n_patients["low_contrast_missed"] == 2
    assert table.difference["false_alarms"] == pytest.approx((3 + 0 + 2) / 3)
    assert table.n_patients["false_alarms"] == 3 and table.difference["dice"] == 0
    scanned_again = small.patients[small.patients.patient == "c"].assign(case="c, again")
    twice = replace(small, patients=pd.concat([small.patients, scanned_again]))
    table = losses.differences_from("plain", twice, seed=0).set_index("measure")
    means = losses.summarize_losses(twice, seed=0).set_index("loss").false_alarms_per_patient
    assert means["bold"] - means["plain"] == pytest.approx((3 + 0 + 4) / 3)
    assert table.difference["false_alarms"] == pytest.approx((3 + 0 + 4) / 3)


def test_a_clear_difference_is_shown_by_enough_patients():
    names = [str(number) for number in range(8)]
    plain, bold = ({name: [("low", hit)] for name in names} for hit in (False, True))
    many = study({"plain": plain, "bold": bold}, {"plain": [0] * 8, "bold": [0] * 8})
    table = losses.differences_from("plain", many, seed=0).set_index("measure")
    assert table.p_holm["low_contrast_missed"] == pytest.approx(2 / 2**8)
    assert table.p_holm["false_alarms"] == 1


def test_without_low_contrast_tumours_the_rate_is_undefined():
    clear = study({"plain": {"a": [("middle", True)]}}, {"plain": [0]})
    row = losses.summarize_losses(clear, seed=0).iloc[0]
    assert row.n_low_contrast == 0 and np.isnan(row.false_negative_rate)
