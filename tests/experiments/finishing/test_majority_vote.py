"""All systems as one: who votes, what comes out, and what the tables say of it."""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd
import pytest

from livseg_lib.datasets.case import Case
from livseg_lib.errors import InputError
from livseg_lib.inference.variants import majority_vote
from livseg_lib.runs import RunFolders
from livseg_lib.studies.agreement import (
    assemble_vote,
    evaluate_vote,
    find_members,
    lesion_rows,
    study_agreement,
    summarize_agreement,
)
from livseg_lib.studies.records import record_evaluations
from livseg_lib.tables import SYSTEMS_COLUMNS
from livseg_lib.volumes import Volume, keep_prediction, load_prediction

SHAPE, SPACING_MM = (4, 20, 20), (5.0, 2.0, 2.0)  # 0.02 ml a voxel
MEMBERS = ("unet", "manet", "unet3d")


def labels(*tumors: slice, liver: slice = slice(2, 18)) -> np.ndarray:
    """A liver with a tumour in its second slice for each of the given columns."""
    found = np.zeros(SHAPE, np.uint8)
    found[1:3, liver, 2:18] = 1
    for columns in tumors:
        found[1, 4:8, columns] = 2
    return found


TRUE, ALARM = slice(4, 8), slice(12, 16)
TRUTHS = {"volume-1": labels(TRUE), "volume-2": labels()}
PREDICTIONS = {
    "unet": {"volume-1": labels(TRUE, ALARM), "volume-2": labels(ALARM)},
    "manet": {"volume-1": labels(TRUE, ALARM), "volume-2": labels()},
    "unet3d": {"volume-1": labels(slice(4, 6), liver=slice(6, 18)), "volume-2": np.zeros(SHAPE, np.uint8)},
    "threshold": {"volume-1": labels(), "volume-2": labels()},
}


def case(name: str) -> Case:
    read = partial(Volume, np.zeros(SHAPE, np.int16), SPACING_MM)
    return Case(name, name[-1], (), read, lambda _: TRUTHS[name])


CASES = [case(name) for name in TRUTHS]


@pytest.fixture
def folders(tmp_path) -> RunFolders:
    folders = RunFolders(tmp_path, "run")
    folders.tables.mkdir(parents=True)
    for system, found in PREDICTIONS.items():
        for each in CASES:
            keep_prediction(
                found[each.case_id], each.read_volume(), folders.predictions(system), each.case_id
            )
        if system != "threshold":
            folders.model(system).mkdir(parents=True)
            (folders.model(system) / "model.json").write_text("{}")
    rows = [
        {"system": system, "patient": name[-1], "case": name, "structure": structure, "predict_seconds": 2.0}
        for system in PREDICTIONS
        for name in TRUTHS
        for structure in ("liver", "tumor")
    ]
    pd.DataFrame(rows).to_csv(folders.tables / "patients.csv", index=False)
    facts = {"split_by": "patient", "n_train_patients": 9, "train_seconds": 10.0, "parameters": 100}
    systems = [{"system": s, "target": t} | facts for s in PREDICTIONS for t in ("liver", "tumor")]
    pd.DataFrame(systems, columns=list(SYSTEMS_COLUMNS)).to_csv(folders.tables / "systems.csv", index=False)
    return folders


def test_members_have_a_model_both_structures_and_every_case(folders):
    assert find_members(folders, CASES) == list(MEMBERS)
    path = folders.tables / "patients.csv"
    patients = pd.read_csv(path)
    missing = (patients.system == "manet") & (patients.case == "volume-2") & (patients.structure == "tumor")
    patients[~missing].to_csv(path, index=False)
    assert find_members(folders, CASES) == ["unet", "unet3d"]
    with pytest.raises(InputError, match="no majority"):
        assemble_vote(folders, ["unet", "unet3d"])


def test_the_vote_is_that_of_whole_volumes(folders):
    vote = assemble_vote(folders, MEMBERS)
    for each in CASES:
        whole = majority_vote([PREDICTIONS[member][each.case_id] for member in MEMBERS])
        np.testing.assert_array_equal(vote.predict(each, each.read_volume()), whole)
    cut, box = vote.member_labels(CASES[1], CASES[1].read_volume())
    assert [side.stop - side.start for side in box] == [2, 16, 16] and not cut[2].any()


def test_the_vote_stands_in_the_tables_as_any_system(folders):
    vote = assemble_vote(folders, MEMBERS)
    assert vote.parameters == 300 and vote.training == {"n_train_patients": 9, "seconds": 30.0}
    evaluation = evaluate_vote(vote, CASES)
    assert {row["predict_seconds"] for row in evaluation.patients} == {6.0}
    table = record_evaluations([(vote, evaluation)], folders, seed=1).set_index(["system", "target"])
    assert table.n_test_patients["majority_vote", "liver"] == 2
    # volume-1: 16 voxels right, 16 surplus, none missed; volume-2: no tumour, none voted for
    assert table.dice_per_case["majority_vote", "tumor"] == pytest.approx((2 * 16 / 48 + 1) / 2)
    found = load_prediction(CASES[0].read_volume(), folders.predictions("majority_vote"), "volume-1")
    assert np.count_nonzero(found == 2) == 32
    assert find_members(folders, CASES) == list(MEMBERS)  # the vote does not vote


def test_agreement_is_compared_with_the_truth(folders):
    study = study_agreement(assemble_vote(folders, MEMBERS), CASES)
    row = study.patients.set_index(["case", "structure"]).loc[("volume-1", "tumor")]
    volumes = np.array([32, 32, 8]) * 0.02
    assert (row.volume_ml, row.volume_ml_std) == pytest.approx((volumes.mean(), volumes.std()))
    assert (row.reference_ml, row.vote_ml, row.vote_dice) == pytest.approx((0.32, 0.64, 2 * 16 / 48))
    assert row.pairwise_dice == pytest.approx((1 + 2 * (16 / 40)) / 3)
    lesions = study.lesions
    assert lesions.is_true.tolist() == [True, False] and lesions.case.tolist() == ["volume-1"] * 2
    assert lesions.agreement.tolist() == pytest.approx([(8 * 1 + 8 * 2 / 3) / 16, 2 / 3])
    shown = study.most_uncertain
    assert (shown.case, shown.index) == ("volume-1", 1) and shown.disagreement.shape == SHAPE[1:]
    assert shown.amount == pytest.approx((8 + 16) / 3, rel=1e-5)
    np.testing.assert_array_equal(shown.reference, TRUTHS["volume-1"][1])
    summary = summarize_agreement(study, seed=1).set_index("level")
    assert summary.value["lesion"] == 1 and np.isnan(summary.value["patient"])  # two patients rank nothing
    assert summary.n.tolist() == [2, 2]


def test_patients_whose_agreement_orders_the_vote_give_a_rank_correlation_of_one(folders):
    study = study_agreement(assemble_vote(folders, MEMBERS), CASES)
    rows = [
        {"patient": str(n), "structure": "tumor", "pairwise_dice": n / 9, "vote_dice": (n / 9) ** 2}
        for n in range(8)
    ]
    rows.append({"patient": "none", "structure": "tumor", "pairwise_dice": np.nan, "vote_dice": 1.0})
    object.__setattr__(study, "patients", pd.DataFrame(rows))
    found = summarize_agreement(study, seed=1).set_index("level").loc["patient"]
    assert found.value == pytest.approx(1) and found.p < 0.001 and (found.n, found.n_undefined) == (8, 1)


def test_without_any_tumour_there_is_nothing_to_tell_apart():
    empty = np.zeros((0, 0, 0), np.uint8)
    assert lesion_rows([empty] * 3, empty, 0.02) == []
    assert lesion_rows([labels()] * 3, labels(TRUE), 0.02) == []
