"""One pass over the patients of a toy run: what is counted of whom, and what the tables make of it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from livseg_lib.datasets.case import Case
from livseg_lib.evaluation.froc import Candidates
from livseg_lib.preprocessing.recipe import OWN_PICTURE, Recipe
from livseg_lib.runs import RunFolders
from livseg_lib.studies import score_checks
from livseg_lib.studies import score_checks as score_tables
from livseg_lib.volumes import Volume, keep_prediction

SIZE = 32
SPLITS = {"v0": "validation", "v1": "validation", "t0": "test", "t1": "test", "t2": "test", "l0": "train"}


def truth(case: str) -> np.ndarray:
    """A liver in slices 1 to 3, with one tumour but for patient t2."""
    labels = np.zeros((5, SIZE, SIZE), np.uint8)
    labels[1:4, 8:24, 8:24] = 1
    if case != "t2":
        labels[1:4, 10:14, 10:14] = 2
    return labels


def planes(case: str) -> np.ndarray:
    """A network that is 0.8 sure of every liver and tumour, and of a tumour outside the liver; 0.6 sure of a
    false one in each liver."""
    labels = truth(case)
    liver, tumor = (0.8 * (labels >= 1), 0.8 * (labels == 2))
    tumor[2, 18:21, 18:21] = 0.6
    tumor[2, 28:31, 28:31] = 0.8
    return np.rint(np.stack([liver, tumor], axis=-1) * 255).astype(np.uint8)


@dataclass
class Network:
    """Stands for a `TrainedModel`."""

    system: str = "toy"
    structures: tuple = ("liver", "tumor")
    thresholds: dict = field(default_factory=lambda: {"liver": 0.5, "tumor": 0.7})
    recipe: Recipe = field(default_factory=lambda: Recipe(size=SIZE))
    inputs: object = OWN_PICTURE
    network: object = None


@pytest.fixture
def run(tmp_path, monkeypatch):
    folders = RunFolders(tmp_path, "toy-quick")
    for case in SPLITS:
        folder = folders.slices / case
        folder.mkdir(parents=True)
        pictures = np.full((5, SIZE, SIZE, 3), list(SPLITS).index(case), np.uint8)
        np.save(folder / "images.npy", pictures, allow_pickle=False)
        np.save(folder / "masks.npy", truth(case), allow_pickle=False)
        recipe = Recipe(size=SIZE).to_dict()
        (folder / "case.json").write_text(json.dumps({"request": {"recipe": recipe}}))

    def predict(network, pictures, n_slices, overlap):
        return planes(list(SPLITS)[next(iter(pictures))[0, 0, 0]])

    monkeypatch.setattr(score_checks, "predict_stack", predict)
    rows = [{"split": split, "patient": f"p-{case}", "case": case} for case, split in SPLITS.items()]
    slices = pd.DataFrame(rows).loc[lambda table: table.index.repeat(5)]
    return SimpleNamespace(folders=folders, slices=slices)


@pytest.fixture
def checked(run):
    return score_checks.check_network(Network(), run.slices, run.folders.slices, True)


def test_every_pixel_is_counted_once_and_training_patients_never(checked):
    assert len(checked.of_split("validation", "liver")) == 2
    assert [len(checked.of_split("test", "tumor", region)) for region in score_checks.REGIONS] == [3, 3]
    whole, near = (checked.of_split("test", "tumor", region)[0] for region in ("picture", "near"))
    assert whole.foreground.sum() == near.foreground.sum() == 48
    assert whole.background.sum() + 48 == 5 * SIZE**2 and near.background.sum() + 48 == 3 * 256
    assert "p-l0" not in {patient for found in checked.histograms.values() for patient in found}


def test_tumours_outside_the_liver_that_is_found_are_no_candidates(checked):
    with_tumor, healthy = checked.candidates["p-t0"], checked.candidates["p-t2"]
    assert with_tumor.found.tolist() == [204] and with_tumor.false_positives.tolist() == [153]
    assert (healthy.n_tumors, healthy.false_positives.tolist()) == (0, [153])
    assert len(checked.outlined["p-t0"].found) == 1 and len(checked.outlined["p-t0"].false_positives) == 0


def test_without_volumes_no_tumours_are_looked_for(run):
    checked = score_checks.check_network(Network(), run.slices, run.folders.slices, False)
    assert not checked.candidates and len(checked.of_split("test", "tumor")) == 3
    assert score_tables.froc_table([checked], {}, 0).empty


def test_pictures_are_found_by_their_recipe(run):
    folder, other = run.folders.slices, Network(recipe=Recipe(size=64))
    assert score_checks.extracted_for(Network(), folder, "t0") == folder
    assert score_checks.extracted_for(other, folder, "t0") is None
    own = folder / "size-64" / "t0"
    own.mkdir(parents=True)
    (own / "case.json").write_text(json.dumps({"request": {"recipe": other.recipe.to_dict()}}))
    assert score_checks.extracted_for(other, folder, "t0") == folder / "size-64"


def test_tables(checked):
    calibration = score_tables.calibration_table([checked], 0).set_index(["structure", "region"])
    liver = calibration.loc[("liver", "picture")]
    assert liver.ece == pytest.approx(0.2 * 3 * 256 / (5 * SIZE**2)) and liver.roc_auc == 1
    assert liver.true_when_sure != liver.true_when_sure, "0.8 is not in the highest bin"
    assert calibration.loc[("liver", "near")].ece > liver.ece
    found = score_tables.reliabilities([checked], calibration.reset_index(), "tumor")["toy"]
    assert len(found.patients) == 3 and found.error[0] == calibration.loc[("tumor", "near")].ece
    assert found.together.pixels.sum() == 3 * 3 * 256

    froc = score_tables.froc_table([checked], {"labels": checked.outlined}, 0).set_index("system")
    assert froc.loc["toy", ["n_patients", "n_tumors", "froc_score", "recall_at_1"]].tolist() == [3, 2, 1, 1]
    assert froc.loc["toy", ["recall", "false_positives"]].tolist() == [1, 0]
    assert froc.loc["labels", ["recall", "false_positives"]].tolist() == [1, 0]
    assert np.isnan(froc.loc["labels", "froc_score"])


def test_thresholds_land_where_they_do(checked):
    """At 0.7 false tumours in the liver are gone, at 0.5 they are not; those outside stay at both."""
    table = score_tables.threshold_table([checked], 0).set_index("structure")
    tumor = table.loc["tumor"]
    dice = 2 * 48 / (2 * 48 + 9)
    assert tumor.dice_validation == pytest.approx(dice) and tumor.dice_test == pytest.approx(2 * dice / 3)
    gain = 2 / 3 * (dice - 2 * 48 / (2 * 48 + 18))
    assert tumor.gain == pytest.approx(gain) and tumor.gain_low <= gain <= tumor.gain_high
    assert tumor.p_holm == tumor.p == 0.5  # of three patients one differs not, two the same way: 2 / 2^2
    both = score_tables.threshold_table([checked, checked], 0)
    assert both[both.structure == "tumor"].p_holm.tolist() == [1, 1]
    for row in (tumor, table.loc["liver"]):
        assert row.regret == 0 and row.hindsight_threshold == row.threshold, "of equals the chosen one"
    bold = score_checks.CheckedNetwork("bold", {"tumor": 0.5}, checked.histograms)
    assert score_tables.threshold_table([bold], 0).regret.tolist() == pytest.approx([gain])
    odd = score_checks.CheckedNetwork("odd", {"tumor": 0.6543}, checked.histograms)
    assert score_tables.threshold_table([odd], 0).threshold.tolist() == [0.6543], "not on the grid"


def test_stored_labels_are_asked_the_same(run):
    def case(name: str, patient: str) -> Case:
        volume = Volume(np.zeros((5, SIZE, SIZE), np.int16), (5.0, 1.0, 1.0))
        keep_prediction(truth("t0") * np.uint8(name != "t1"), volume, run.folders.predictions("vote"), name)
        return Case(name, patient, (), lambda: volume, lambda _: truth(name))

    cases = [case("t0", "a"), case("t1", "a"), case("t2", "b")]
    found = score_checks.outlined_tumors(["vote"], cases, run.folders)["vote"]
    assert found["a"] == Candidates(found["a"].found, found["a"].false_positives, 2)
    assert len(found["a"].found) == 1 and len(found["b"].false_positives) == 1
