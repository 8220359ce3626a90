"""Who the forest of system H learns from: no patient whom its network had seen, and none who judges it."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from solids import labelled

from livseg_lib.datasets.case import Case
from livseg_lib.errors import InputError
from livseg_lib.evaluation.cases import score_case
from livseg_lib.evaluation.lesions import count_detections, tumor_overlap
from livseg_lib.inference.cascade import ForestPart, Step, run_cascade
from livseg_lib.inference.evaluate import Evaluation
from livseg_lib.labels import structure_mask
from livseg_lib.models import build_model
from livseg_lib.postprocessing.candidates import FEATURES
from livseg_lib.postprocessing.forest import Forest, load_forest, permutation_importance, save_forest
from livseg_lib.preprocessing.recipe import Recipe
from livseg_lib.studies import cascades
from livseg_lib.studies.training import TrainingPlan, train_system
from livseg_lib.training.fit import Stage
from livseg_lib.training.model_folder import TrainedModel, save_model
from livseg_lib.volumes import Volume

RECIPE = Recipe(windows=("liver",), size=128)
SHAPE, SPACING_MM = (5, 40, 44), (4.0, 2.0, 2.0)
OPTIONS = {"filters": 2, "levels": 2, "patch": 4}
WHICH = {"batch_size": 4, "slices_per_epoch": 4, "augmentation": "none", "seed": 7}
PLAN = TrainingPlan("unet_lesions", "unet", "tumor", (Stage(1, 0.003),), OPTIONS, **WHICH)
SPLITS = {"a": "train", "b": "train", "c": "train", "d": "train", "v": "validation", "t": "test"}


def scan_of(patient: str) -> tuple[Volume, np.ndarray]:
    """A liver with a dark tumour, and a dark cyst that is none; patients differ in noise."""
    labels = labelled(SHAPE, np.s_[2, 10:16, 10:16], liver=np.s_[1:4, 6:34, 6:38])
    cyst = np.zeros(SHAPE, bool)
    cyst[2, 24:27, 20:34] = True
    hu = np.array([-100, 110, 40])[np.where(cyst, 2, labels)]
    noise = np.random.default_rng(ord(patient)).normal(0, 5, SHAPE)
    return Volume((hu + noise).astype(np.int16), SPACING_MM), labels


def case_of(name: str) -> Case:
    volume, labels = scan_of(name[0])
    return Case(name, name[0], (), lambda: volume, lambda _: labels)


@pytest.fixture
def cohort(tmp_path):
    """(slices of the regions, cases, their folder); patient b was scanned twice."""
    names = [*SPLITS, "b2"]
    rows = pd.DataFrame({"case": names, "class": 2, "split": [SPLITS[n[0]] for n in names], "fold": 0})
    cases = [case_of(name) for name in names]
    where = RECIPE, tmp_path / "slices", "box", 15.0
    slices, folder = cascades.extract_around_liver(cases, rows, *where, workers=1)
    return slices, cases, folder


def dark_is_tumor(volume: Volume, labels: np.ndarray) -> np.ndarray:
    """Finds the tumour, and takes the cyst for one."""
    return np.where((labels > 0) & (volume.voxels < 75), 2, labels).astype(np.uint8)


FINDER = (Step("tumours", dark_is_tumor, "box", 15.0),)


def test_candidates_are_described_with_their_truth_as_the_cascade_sees_them(monkeypatch):
    case = case_of("a")
    table = cascades.describe_candidates(FINDER, [case, case_of("b")], in_true_liver=True)
    assert list(table.columns) == ["patient", "case", "candidate", "is_tumor", *FEATURES]
    assert table.patient.tolist() == list("aabb") and table.is_tumor.tolist() == [True, False] * 2
    volume = case.read_volume()
    liver = structure_mask(case.read_labels(volume), "liver")
    forest, _ = cascades.train_forest(table.head(0), NETWORKS, table.head(0), seed=3)
    seen = []
    monkeypatch.setattr(Forest, "predict", lambda self, rows: seen.append(rows) or np.ones(len(rows)))
    labels = run_cascade(volume, (*FINDER, Step("forest", ForestPart(forest, 0.0), "box", 15.0)), liver)
    np.testing.assert_array_equal(labels, run_cascade(volume, FINDER, liver))  # everything is kept
    np.testing.assert_allclose(seen[0][list(FEATURES)], table[table.case == "a"][list(FEATURES)])


def test_a_case_without_candidates_gives_no_rows():
    nothing = (Step("nothing", lambda volume, labels: np.minimum(labels, 1)),)
    table, checked = (cascades.describe_candidates(nothing, [case_of(name)]) for name in "av")
    assert len(table) == 0 and table.is_tumor.dtype == bool
    forest, description = cascades.train_forest(table, NETWORKS, checked, seed=3)
    assert description["threshold"] == 0 and len(forest.predict(checked)) == 0
    assert permutation_importance(forest, checked, checked.is_tumor, seed=3).auc_drop.isna().all()


def test_patients_are_dealt_whole_and_tumours_spread():
    names = [f"p{number}" for number in range(9)]
    slices = pd.DataFrame({"patient": names * 2, "split": "train", "class": [2] * 4 + [1] * 5 + [0] * 9})
    slices.loc[len(slices)] = ["v", "validation", 2]
    parts = cascades.deal_parts(slices, 2, seed=1)
    assert sorted(parts.index) == names and sorted(parts.value_counts()) == [4, 5]
    assert sorted(parts[names[:4]]) == [0, 0, 1, 1]
    again = cascades.deal_parts(slices.sample(frac=1, random_state=0), 2, seed=1)
    pd.testing.assert_series_equal(parts, again)
    for impossible in (1, 10):
        with pytest.raises(InputError, match="at most one a patient"):
            cascades.deal_parts(slices, impossible, seed=1)
    with pytest.raises(InputError, match="two patients with tumour"):
        cascades.deal_parts(slices.assign(**{"class": 1}), 2, seed=1)


def test_no_candidate_comes_from_a_network_that_had_seen_its_patient(cohort, tmp_path, monkeypatch):
    slices, cases, folder = cohort
    network, seen = build_model("unet", (128, 128, 1), 1, **PLAN.options), {}

    def train(plan, given, place, checkpoints, run_name):
        number = len(seen)
        seen[checkpoints] = given
        training = {"n_train_patients": given[given.split == "train"].patient.nunique(), "seconds": 2.0}
        trained = TrainedModel(plan.system, "unet", {}, network, RECIPE, "tumor", {"tumor": 0.5}, training)
        return replace(trained, system=f"network {number}"), pd.DataFrame()

    def find(steps, of_part, overlap, in_true_liver):
        assert in_true_liver and steps[0].region == "box" and steps[0].margin_mm == 15
        rows = [{"patient": c.patient, "case": c.case_id, "is_tumor": True} for c in of_part]
        return pd.DataFrame(rows).assign(by=steps[0].part.trained.system)

    monkeypatch.setattr(cascades, "train_system", train)
    monkeypatch.setattr(cascades, "describe_candidates", find)
    given = PLAN, slices, cases, folder, tmp_path / "training"
    found, networks = cascades.out_of_fold_candidates(*given, parts=2)
    assert sorted(found.case) == ["a", "b", "b2", "c", "d"]  # each case once, no v, no t
    for part, given in enumerate(seen.values()):
        of_part = found[found.by == f"network {part}"]
        assert not set(of_part.patient) & set(given.patient) and (of_part.part == part).all()
        assert set(of_part.patient) | set(given.patient) == set("abcdv")
    assert len(seen) == 2 and networks.n_train_patients.tolist() == [2, 2]
    assert networks.n_patients.tolist() == [2, 2] and networks.seconds.sum() == 4


def candidates(patients: str, count: int = 6, seed: int = 0) -> pd.DataFrame:
    """Half of each patient's candidates are tumours, larger in every feature."""
    random = np.random.default_rng(seed)
    rows = pd.DataFrame(random.normal(size=(count * len(patients), len(FEATURES))), columns=list(FEATURES))
    is_tumor = np.arange(len(rows)) % 2 == 0
    rows += 8 * is_tumor[:, None]
    return rows.assign(is_tumor=is_tumor, patient=np.repeat(list(patients), count), case="x", candidate=1)


NETWORKS = pd.DataFrame({"part": [0, 1], "n_patients": [2, 2], "seconds": [3.0, 4.0]})


def test_the_forest_learns_from_the_one_and_is_cut_by_the_other(tmp_path):
    learnt, checked = candidates("abcd"), candidates("vw", seed=1)
    found, told = cascades.train_forest(learnt, NETWORKS, checked, seed=3, trees=10)
    probability = found.predict(checked)
    assert (probability[checked.is_tumor] > probability[~checked.is_tumor].max()).all()
    choice = told["choice"]
    assert choice["note"] == "" and (choice["true_candidates"], choice["false_after"]) == (6, 0)
    other = checked.assign(is_tumor=~checked.is_tumor)
    turned, otherwise = cascades.train_forest(learnt, NETWORKS, other, seed=3, trees=10)
    assert otherwise["threshold"] != told["threshold"]  # of validation patients alone
    np.testing.assert_array_equal(turned.threshold, found.threshold)
    _, description = load_forest(save_forest(found, tmp_path, told))
    assert description["threshold"] == choice["threshold"]
    facts = description["training"]
    assert (facts["n_train_patients"], facts["n_tumors"], facts["n_false_alarms"]) == (4, 12, 12)
    assert 7 <= facts["seconds"] < 30


def test_a_patient_on_both_sides_is_refused():
    with pytest.raises(InputError, match="the patient d, who also chooses"):
        cascades.train_forest(candidates("abcd"), NETWORKS, candidates("vd"), seed=3)


@pytest.mark.parametrize("kept", ["is_tumor", "not is_tumor", "is_tumor and not is_tumor"])
@pytest.mark.parametrize("n_checked", [0, 6])
def test_too_few_of_a_kind_keep_everything_and_say_so(kept, n_checked, tmp_path):
    learnt = candidates("abcd").query(kept)
    checked = candidates("v", 6).head(n_checked)
    found, told = cascades.train_forest(learnt, NETWORKS, checked, seed=3)
    note = told["choice"]["note"]
    assert "too few of a kind: the forest keeps everything" in note and told["threshold"] == 0
    assert ("to choose a threshold on" in note) == (n_checked == 0)
    forest, description = load_forest(save_forest(found, tmp_path, told))
    assert ForestPart(forest, description["threshold"]).parameters == 0
    assert (forest.predict(candidates("x")) >= description["threshold"]).all()
    json.loads((tmp_path / "forest.json").read_text(), parse_constant=pytest.fail)  # no NaN in it


def test_the_cascade_without_its_forest_and_with_it(cohort, folders, tmp_path):
    slices, cases, folder = cohort
    lesions, _ = train_system(PLAN, slices, folder, tmp_path / "training", "run")
    save_model(cascades.at_probability(lesions, 1e-9), folders.model("unet_lesions"))
    network, both = build_model("unet", (128, 128, 1), 2, **OPTIONS), {"liver": 1e-9, "tumor": 1.0}
    training = {"n_train_patients": 3, "seconds": 1.0}
    liver = TrainedModel("unet", "unet", OPTIONS, network, RECIPE, "both", both, training)
    save_model(liver, folders.model("unet"))
    unfiltered = cascades.unfiltered_cascade(folders)
    assert unfiltered.system == cascades.UNFILTERED and unfiltered.training["n_train_patients"] == 4
    checked = cascades.describe_candidates(unfiltered.steps, [case for case in cases if case.patient == "v"])
    assert len(checked) == 1  # livers and tumours everywhere
    found = cascades.train_forest(candidates("abcd"), NETWORKS, checked, seed=3)
    save_forest(found[0], folders.model("candidate_forest"), found[1])
    cascade = cascades.assemble_cascade("cascade_forest", folders)
    names = [step.name for step in cascade.steps]
    assert names[:-1] == [step.name for step in unfiltered.steps] and names[-1] == "forest"
    labels = cascade.predict(None, cases[0].read_volume())
    np.testing.assert_array_equal(labels, unfiltered.predict(None, cases[0].read_volume()))  # threshold 0


FLAT = (3, 40, 40)


def with_boxes(*corners: tuple[int, int]) -> np.ndarray:
    """A liver with tumours of 1 x 4 x 4 voxels."""
    return labelled(FLAT, *(np.s_[1, row : row + 4, column : column + 4] for row, column in corners))


TRUTHS = {"a": with_boxes((5, 5), (20, 20)), "b": with_boxes((5, 5)), "healthy": with_boxes()}
BEFORE = {
    "a": with_boxes((5, 5), (21, 23), (30, 5), (30, 15)),  # one detected, one only touched, two false alarms
    "b": with_boxes((5, 5), (30, 30)),
    "healthy": with_boxes((10, 10)),
}
AFTER = {"a": with_boxes((5, 5), (30, 5)), "b": with_boxes((5, 5)), "healthy": with_boxes()}


def evaluation(system: str, predictions: dict[str, np.ndarray]) -> Evaluation:
    scores = [
        {"system": system, "patient": name, "case": name, **score_case(labels, TRUTHS[name], (3.0, 1.0, 1.0))}
        for name, labels in predictions.items()
    ]
    return Evaluation(system, case_scores=scores)


def test_candidates_are_counted_and_differences_paired_over_patients_who_have_the_score():
    sides = evaluation("before", BEFORE), evaluation("after", AFTER)
    found, patients = cascades.compare_filter(*sides, seed=1)
    assert list(found.measure) == ["false_alarms", "found", "false_positives", "detected", "dice"]
    own, table = patients.set_index(["measure", "patient"]), found.set_index("measure")
    assert own.before["false_alarms"].to_dict() == {"a": 2, "b": 1, "healthy": 1}
    assert own.before["false_positives"].to_dict() == {"a": 3, "b": 1, "healthy": 1}
    assert own.loc[("found", "a")].tolist() == [1, 0.5] and own.before["detected", "a"] == 0.5
    assert own.before["dice", "a"] == pytest.approx(2 * (16 + 3) / (4 * 16 + 2 * 16))
    counted = count_detections(tumor_overlap(BEFORE["a"], TRUTHS["a"]))
    assert counted.false_positives == own.before["false_positives", "a"]
    alarms, of_tumors = table.loc["false_alarms"], table.loc["found"]
    assert (alarms.before, alarms.after, alarms.difference) == pytest.approx((4 / 3, 1 / 3, -1))
    assert (alarms.difference_low, alarms.difference_high, alarms.n_patients) == (-1, -1, 3)
    assert (of_tumors.before, of_tumors.after, of_tumors.n_patients) == (1, 0.75, 2)
    # Three equal differences: p is 2 / 2^3, and five measures make it 1.
    assert alarms.p == 0.25 and (table.p_holm >= table.p).all() and alarms.p_holm == 1
    assert of_tumors.n_undefined == 1 and table.difference["dice"] > 0


def test_without_any_tumour_shares_are_undefined_and_false_alarms_are_not():
    healthy = [evaluation(name, {"healthy": each["healthy"]}) for name, each in (("x", BEFORE), ("y", AFTER))]
    table = cascades.compare_filter(*healthy, seed=1)[0].set_index("measure")
    assert table.n_patients["found"] == 0 and np.isnan(table.before["found"])
    assert (table.before["false_alarms"], table.after["false_alarms"]) == (1, 0)
    assert np.isnan(table.difference_low["false_alarms"])  # one patient has no interval
