"""Kept finishes become part of a cascade: model.json, predictions and tables agree, also after a kill."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
import pytest

from livseg_lib.datasets.case import Case
from livseg_lib.inference.cascade import PARTS, chosen_finishes, load_cascade, save_cascade
from livseg_lib.inference.evaluate import evaluate_labels
from livseg_lib.runs import RunFolders
from livseg_lib.studies import finishing
from livseg_lib.studies.finishing import (
    adopt_finishes,
    compare_finished,
    stored_scores,
    try_finishes,
    unfinished_cascade,
)
from livseg_lib.studies.records import record_evaluations
from livseg_lib.systems import StepPlan
from livseg_lib.volumes import Volume, load_prediction

SPACING_MM = (5.0, 2.0, 2.0)
NAME = "cascade_25d"


@dataclass(frozen=True)
class Bright:
    """Bright is liver, brighter is tumour."""

    structures: tuple[str, ...] = ("liver", "tumor")
    parameters: int = 7

    def __call__(self, volume: Volume, labels: np.ndarray) -> np.ndarray:
        return ((volume.voxels > 50).view(np.uint8) + (volume.voxels > 100)).astype(np.uint8)


def case(number: int) -> Case:
    """A liver with a tumour; what is seen as bright has a hole and a blob beside it, too."""
    labels = np.zeros((4, 16, 16), np.uint8)
    labels[1:, 2:12, 2:12] = 1
    labels[1:3, 4:8, 4 : 8 + number] = 2
    hu = (labels * 60).astype(np.int16)
    hu[2, 9, 9], hu[1, 14, 14] = 0, 60
    return Case(f"volume-{number}", str(number), (), partial(Volume, hu, SPACING_MM), lambda _: labels)


CASES = [case(number) for number in range(3)]


@pytest.fixture
def folders(tmp_path, monkeypatch) -> RunFolders:
    """A run with one cascade, predicted and scored."""
    monkeypatch.setitem(PARTS, "bright", lambda folder, using: Bright())
    folders = RunFolders(tmp_path, "run")
    training = {"n_train_patients": 3, "seconds": 1.0}
    save_cascade(folders.model(NAME), NAME, [StepPlan("bright", "bright", "x")], {}, training)
    cascade = load_cascade(folders.model(NAME))
    evaluation = evaluate_labels(cascade, cascade.predict, CASES, folders.predictions(NAME))
    for row in evaluation.patients:
        row["predict_seconds"] = 10.0
    folders.tables.mkdir(parents=True)
    record_evaluations([(cascade, evaluation)], folders, seed=1)
    return folders


def stored(folders: RunFolders) -> list[np.ndarray]:
    return [load_prediction(each.read_volume(), folders.predictions(NAME), each.case_id) for each in CASES]


FINISHES = ("keep_largest_liver", "fill_liver")


def test_adopted_finishes_are_in_model_predictions_and_tables(folders):
    cascade = unfinished_cascade(NAME, folders, CASES, seed=1)
    before = stored_scores(NAME, folders)
    evaluation = adopt_finishes(cascade, FINISHES, CASES, folders, seed=1)
    finished = load_cascade(folders.model(NAME))
    assert len(finished.steps) == 3 and chosen_finishes(folders.model(NAME)) == FINISHES
    for labels, each in zip(stored(folders), CASES, strict=True):
        np.testing.assert_array_equal(labels, finished.predict(each, each.read_volume()))
    after = stored_scores(NAME, folders)
    assert (after.dice > before.dice.to_numpy()).sum() == 3 and (after.dice == 1).all()
    assert after.predict_seconds.between(10, 11, inclusive="neither").all()
    rows = pd.read_csv(folders.tables / "systems.csv")
    assert rows.dice_per_case.tolist() == [1, 1] and (rows.parameters == 7).all()
    [row] = pd.read_csv(folders.tables / "cascades.csv").to_dict("records")
    assert row["steps"] == 3 and row["seconds_a_volume"] > 10
    table = compare_finished(before, evaluation, FINISHES, seed=1).set_index("structure")
    assert table.difference["liver"] > 0 and table.difference_low["liver"] > 0
    assert (table.finishes == "keep_largest_liver, fill_liver").all()
    assert table.n_patients.tolist() == [3, 3] and table.difference["tumor"] == 0


def test_a_second_study_starts_from_what_the_cascade_found_itself(folders):
    found = stored(folders)
    adopt_finishes(load_cascade(folders.model(NAME)), FINISHES, CASES, folders, seed=1)
    cascade = unfinished_cascade(NAME, folders, CASES, seed=1)
    assert len(cascade.steps) == 1 and chosen_finishes(folders.model(NAME)) == ()
    for labels, again in zip(found, stored(folders), strict=True):
        np.testing.assert_array_equal(labels, again)
    assert (stored_scores(NAME, folders).query("structure == 'liver'").dice < 1).all()


def test_a_kill_between_predictions_is_mended(folders, monkeypatch):
    found = stored(folders)
    with monkeypatch.context() as patched:
        patched.setattr(finishing, "_record", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            adopt_finishes(load_cascade(folders.model(NAME)), FINISHES, CASES, folders, seed=1)
    unfinished_cascade(NAME, folders, CASES, seed=1)
    for labels, again in zip(found, stored(folders), strict=True):
        np.testing.assert_array_equal(labels, again)


def test_trying_keeps_nothing(folders):
    found, table = stored(folders), (folders.tables / "patients.csv").read_bytes()
    evaluation = try_finishes(load_cascade(folders.model(NAME)), FINISHES, CASES, folders)
    assert all(row["dice"] == 1 for row in evaluation.patients)
    assert (folders.tables / "patients.csv").read_bytes() == table
    assert chosen_finishes(folders.model(NAME)) == ()
    for labels, again in zip(found, stored(folders), strict=True):
        np.testing.assert_array_equal(labels, again)
