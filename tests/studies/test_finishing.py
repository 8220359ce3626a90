"""Labels finished, networks asked again, votes taken: what is kept, what comes out, what tables say of it."""

from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
import pytest
from solids import labelled

from livseg_lib.datasets.case import Case
from livseg_lib.errors import InputError
from livseg_lib.inference.cascade import PARTS, Cascade, chosen_finishes, load_cascade, save_cascade
from livseg_lib.inference.variants import majority_vote
from livseg_lib.outputs import SYSTEMS_COLUMNS
from livseg_lib.preprocessing.recipe import Recipe
from livseg_lib.runs import RunFolders
from livseg_lib.studies import finishing
from livseg_lib.studies.cascades import evaluate_cascade
from livseg_lib.studies.training import record_evaluations
from livseg_lib.systems import StepPlan
from livseg_lib.training.model_folder import TrainedModel
from livseg_lib.volumes import Volume, keep_prediction, load_prediction

SPACING_MM = (5.0, 2.0, 2.0)  # 0.02 ml a voxel
BOTH = ("liver", "tumor")


def case_of(name: str, hu: np.ndarray, labels: np.ndarray) -> Case:
    """Of a patient called by the last letter of its name."""
    return Case(name, name[-1], (), partial(Volume, hu.astype(np.int16), SPACING_MM), lambda _: labels)


def truth() -> np.ndarray:
    return labelled((6, 20, 20), np.s_[2:4, 4:8, 4:8], liver=np.s_[1:5, 2:14, 2:14])


def outlined(
    labels: np.ndarray, patient: str = "a", reference: np.ndarray | None = None
) -> finishing.Outlined:
    return finishing.Outlined(patient, labels, truth() if reference is None else reference, SPACING_MM)


def reasons(table: pd.DataFrame) -> dict[str, str]:
    return table.drop_duplicates("finish").set_index("finish").reason.to_dict()


def test_what_helps_is_kept_in_order_and_what_changes_nothing_is_not():
    flawed = truth()
    flawed[1:3, 17:19, 17:19] = 1  # a blob beside the liver
    flawed[3, 12, 12] = 0  # a hole in it
    flawed[3, 10, 3:6] = 2  # three voxels that are no tumour
    kept, table = finishing.choose_finishes([outlined(flawed)], BOTH)
    assert kept == ("keep_largest_liver", "fill_liver", "drop_small_tumors")
    assert reasons(table)["fill_tumors"] == reasons(table)["keep_tumors_in_liver"] == "changes nothing"
    assert len(table) == 10 and (table.kept == table.finish.isin(kept)).all()
    liver = table[table.structure == "liver"]
    # each begins where those kept before it have ended
    assert (liver.dice_before.iloc[1:].to_numpy() == liver.dice_after.iloc[:-1].to_numpy()).all()
    assert table.dice_after.iloc[-2:].tolist() == [1.0, 1.0]
    assert table.change.to_numpy() == pytest.approx((table.dice_after - table.dice_before).to_numpy())


def test_what_harms_is_left_out_and_leaves_no_trace():
    small = labelled((6, 20, 20), np.s_[3, 5, 5:8], liver=np.s_[1:5, 2:14, 2:14])  # a true tumour of 0.06 ml
    kept, table = finishing.choose_finishes([outlined(small.copy(), reference=small)], BOTH)
    assert kept == () and reasons(table)["drop_small_tumors"] == "harms"
    harm = table[(table.finish == "drop_small_tumors") & (table.structure == "tumor")].iloc[0]
    assert (harm.dice_before, harm.dice_after, harm.kept) == (1.0, 0.0, False)


@pytest.mark.parametrize(
    ("pixels", "reason"), [(0, "changes nothing"), (1, "changes next to nothing"), (200, "helps")]
)
def test_a_gain_of_next_to_nothing_is_none(monkeypatch, pixels, reason):
    reference = np.ones((10, 100, 10), np.uint8)

    def mend(labels, spacing_mm, step=0):
        mended = labels.copy()
        mended.ravel()[:pixels] = 1
        return mended

    broken = reference.copy()
    broken.ravel()[:400] = 0
    monkeypatch.setattr(finishing, "FINISHES", {"mend": mend})
    cases = [outlined(broken, "a", reference), outlined(reference, "b", reference)]
    kept, table = finishing.choose_finishes(cases, ("liver",))
    assert table.reason.tolist() == [reason] and kept == (("mend",) if reason == "helps" else ())
    assert table.n_patients.tolist() == [2] and table.n_changed.tolist() == [int(pixels > 0)]


def test_cases_of_one_patient_count_once():
    perfect, empty = outlined(truth(), "a"), outlined(np.zeros_like(truth()), "a")
    _, table = finishing.choose_finishes([perfect, empty, outlined(truth(), "b")], BOTH)
    assert table.dice_before.iloc[0] == 0.75 and table.n_patients.iloc[0] == 2


def test_cases_are_cut_to_what_matters_and_may_be_empty():
    finder = Cascade("finder", BOTH, (), 0)
    voxels = np.zeros((6, 20, 20), np.int16)
    voxels[1:5, 2:14, 2:15] = 100
    cases = [case_of("a", voxels, truth()), case_of("b", 0 * voxels, 0 * truth())]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(finishing, "outline", lambda _, volume: (volume.voxels > 0).astype(np.uint8))
        found = finishing.outline_cases(finder, cases)
    assert [each.labels.shape for each in found] == [(4, 12, 13), (0, 0, 0)]
    kept, table = finishing.choose_finishes(found, BOTH)
    assert kept == () and table.n_patients.iloc[0] == 2


@dataclass(frozen=True)
class Bright:
    """Bright is liver, brighter is tumour."""

    structures: tuple[str, ...] = BOTH
    parameters: int = 7

    def __call__(self, volume: Volume, labels: np.ndarray) -> np.ndarray:
        return ((volume.voxels > 50).view(np.uint8) + (volume.voxels > 100)).astype(np.uint8)


def scan(number: int) -> Case:
    """A liver with a tumour; what is seen as bright has a hole and a blob beside it, too."""
    labels = labelled((4, 16, 16), np.s_[1:3, 4:8, 4 : 8 + number], liver=np.s_[1:, 2:12, 2:12])
    hu = labels * np.int16(60)
    hu[2, 9, 9], hu[1, 14, 14] = 0, 60
    return case_of(f"volume-{number}", hu, labels)


NAME, FINISHES = "cascade_25d", ("keep_largest_liver", "fill_liver")
SCANS = [scan(number) for number in range(3)]


@pytest.fixture
def finishable(folders, monkeypatch) -> RunFolders:
    """A run with one cascade, predicted and scored; each prediction took ten seconds."""
    monkeypatch.setitem(PARTS, "bright", lambda folder, using: Bright())
    training = {"n_train_patients": 3, "seconds": 1.0}
    save_cascade(folders.model(NAME), NAME, [StepPlan("bright", "bright", "x")], {}, training)
    evaluate_cascade(load_cascade(folders.model(NAME)), SCANS, folders, seed=1)
    patients_of(folders).assign(predict_seconds=10.0).to_csv(folders.tables / "patients.csv", index=False)
    return folders


def patients_of(folders: RunFolders) -> pd.DataFrame:
    return pd.read_csv(folders.tables / "patients.csv")


def stored(folders: RunFolders) -> list[np.ndarray]:
    return [load_prediction(each.read_volume(), folders.predictions(NAME), each.case_id) for each in SCANS]


def test_adopted_finishes_are_in_model_predictions_and_tables(finishable):
    cascade, before = finishing.unfinished_cascade(NAME, finishable, SCANS, seed=1), patients_of(finishable)
    table = finishing.finish_test_patients(cascade, FINISHES, SCANS, finishable, seed=1)
    table = table.set_index("structure")
    finished = load_cascade(finishable.model(NAME))
    assert len(finished.steps) == 3 and chosen_finishes(finishable.model(NAME)) == FINISHES
    predicted = [finished.predict(each, each.read_volume()) for each in SCANS]
    np.testing.assert_array_equal(stored(finishable), predicted)
    after = patients_of(finishable)
    assert (after.dice > before.dice).sum() == 3 and (after.dice == 1).all()
    assert after.predict_seconds.between(10, 11, inclusive="neither").all()
    rows = pd.read_csv(finishable.tables / "systems.csv")
    assert rows.dice_per_case.tolist() == [1, 1] and (rows.parameters == 7).all()
    [row] = pd.read_csv(finishable.tables / "cascades.csv").to_dict("records")
    assert row["steps"] == 3 and row["seconds_a_volume"] > 10
    means = before.groupby("structure").dice.mean()
    assert table.dice_before["liver"] == pytest.approx(means["liver"]) and (table.dice_after == 1).all()
    assert table.difference["liver"] == pytest.approx(1 - means["liver"])
    assert (table.finishes == "keep_largest_liver, fill_liver").all() and (table.system == NAME).all()
    assert table.n_patients.tolist() == [3, 3] and table.difference["tumor"] == 0


@pytest.mark.parametrize("is_killed", [False, True])
def test_a_second_study_starts_from_what_the_cascade_found_itself(finishable, monkeypatch, is_killed):
    found, cascade = stored(finishable), load_cascade(finishable.model(NAME))
    with monkeypatch.context() as patched:
        if is_killed:
            patched.setattr(finishing, "record_cascade", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError) if is_killed else nullcontext():
            finishing.finish_test_patients(cascade, FINISHES, SCANS, finishable, seed=1)
    cascade = finishing.unfinished_cascade(NAME, finishable, SCANS, seed=1)
    assert len(cascade.steps) == 1 and chosen_finishes(finishable.model(NAME)) == ()
    np.testing.assert_array_equal(stored(finishable), found)
    assert (patients_of(finishable).query("structure == 'liver'").dice < 1).all()


def test_trying_keeps_nothing(finishable):
    found, single = stored(finishable), TrainedModel(NAME, "unet", {}, None, None, "both", {})
    table = finishing.finish_test_patients(single, FINISHES, SCANS, finishable, seed=1)
    assert (table.dice_after == 1).all() and (patients_of(finishable).predict_seconds == 10).all()
    assert chosen_finishes(finishable.model(NAME)) == ()
    np.testing.assert_array_equal(stored(finishable), found)


class Echo:
    """A network that answers with the picture itself."""

    input_shape, output_shape = (None, 32, 32, 1), (None, 32, 32, 1)
    asked = 0

    def predict_on_batch(self, images):
        Echo.asked += 1
        return images


def bar(number: int) -> Case:
    hu = np.full((3, 32, 32), -200)
    hu[:, 8:24, 8 : 22 + number] = 200
    return case_of(f"volume-{number}", hu, (hu > 0).astype(np.uint8))


def test_every_variant_is_asked_and_the_plain_one_comes_first():
    recipe = Recipe(windows=("liver",), size=32)
    trained = TrainedModel("bright", "unet", {}, Echo(), recipe, "liver", {"liver": 0.5})
    scores = finishing.score_variants(trained, [bar(number) for number in range(3)], ["shift", "rotate"])
    assert Echo.asked == 1 + 3 * (1 + 5 + 3)  # warm-up; plain, four shifts and plain, two turns and plain
    assert scores.variant.unique().tolist() == ["none", "shift", "rotate"] and (scores.seconds > 0).all()
    assert (scores[scores.variant == "none"].dice == 1).all() and trained.thresholds == {"liver": 0.5}
    table = finishing.summarize_variants(scores, seed=1).set_index("variant")
    assert table.pictures.to_dict() == {"none": 1, "shift": 5, "rotate": 3}
    assert table.verdict["none"] == "" and np.isnan(table.difference["none"])
    assert table.difference["rotate"] == pytest.approx(table.dice["rotate"] - 1)


SHAPE = (4, 20, 20)
MEMBERS = ("unet", "manet", "unet3d")


def labels(*tumors: slice, liver: slice = slice(2, 18)) -> np.ndarray:
    """A liver with a tumour in its second slice for each of the given columns."""
    return labelled(SHAPE, *(np.s_[1, 4:8, columns] for columns in tumors), liver=np.s_[1:3, liver, 2:18])


TRUE, ALARM = slice(4, 8), slice(12, 16)
TRUTHS = {"volume-1": labels(TRUE), "volume-2": labels()}
PREDICTIONS = {
    "unet": {"volume-1": labels(TRUE, ALARM), "volume-2": labels(ALARM)},
    "manet": {"volume-1": labels(TRUE, ALARM), "volume-2": labels()},
    "unet3d": {"volume-1": labels(slice(4, 6), liver=slice(6, 18)), "volume-2": np.zeros(SHAPE, np.uint8)},
    "threshold": {"volume-1": labels(), "volume-2": labels()},
}
CASES = [case_of(name, np.zeros(SHAPE), TRUTHS[name]) for name in TRUTHS]


@pytest.fixture
def voting(folders) -> RunFolders:
    for system, found in PREDICTIONS.items():
        for each in CASES:
            place = folders.predictions(system), each.case_id
            keep_prediction(found[each.case_id], each.read_volume(), *place)
        if system != "threshold":
            folders.model(system).mkdir(parents=True)
            (folders.model(system) / "model.json").write_text("{}")
    rows = [(system, name[-1], name, s) for system in PREDICTIONS for name in TRUTHS for s in BOTH]
    patients = pd.DataFrame(rows, columns=["system", "patient", "case", "structure"])
    patients.assign(predict_seconds=2.0).to_csv(folders.tables / "patients.csv", index=False)
    facts = {"split_by": "patient", "n_train_patients": 9, "train_seconds": 10.0, "parameters": 100}
    systems = [{"system": s, "target": t} | facts for s in PREDICTIONS for t in BOTH]
    pd.DataFrame(systems, columns=list(SYSTEMS_COLUMNS)).to_csv(folders.tables / "systems.csv", index=False)
    return folders


def test_members_have_a_model_both_structures_and_every_case(voting):
    assert finishing.find_members(voting, CASES) == list(MEMBERS)
    patients = patients_of(voting)
    missing = (patients.system == "manet") & (patients.case == "volume-2") & (patients.structure == "tumor")
    patients[~missing].to_csv(voting.tables / "patients.csv", index=False)
    assert finishing.find_members(voting, CASES) == ["unet", "unet3d"]
    with pytest.raises(InputError, match="no majority"):
        finishing.assemble_vote(voting, ["unet", "unet3d"])


def test_stored_labels_are_cut_to_the_smallest_box_that_holds_them_all(voting):
    volume = CASES[1].read_volume()
    cut, box = finishing.predictions_in_box(voting, MEMBERS, CASES[1], volume)
    assert box == (slice(1, 3), slice(2, 18), slice(2, 18)) and not cut[2].any()
    other = np.zeros(SHAPE, np.uint8)
    other[3, 19, 0] = 1
    cut, box = finishing.predictions_in_box(voting, MEMBERS, CASES[1], volume, other)
    assert box == (slice(1, 4), slice(2, 20), slice(0, 18))
    for member, found in zip(MEMBERS, cut, strict=True):
        np.testing.assert_array_equal(found, PREDICTIONS[member]["volume-2"][box])
    [nothing], _ = finishing.predictions_in_box(voting, ["unet3d"], CASES[1], volume)
    assert nothing.size == 0


def test_the_vote_stands_in_the_tables_as_any_system(voting):
    vote = finishing.assemble_vote(voting, MEMBERS)
    assert vote.parameters == 300 and vote.training == {"n_train_patients": 9, "seconds": 30.0}
    evaluation = finishing.evaluate_vote(vote, CASES)
    for each in CASES:
        found = load_prediction(each.read_volume(), voting.predictions("majority_vote"), each.case_id)
        whole = majority_vote([PREDICTIONS[member][each.case_id] for member in MEMBERS])
        np.testing.assert_array_equal(found, whole)
    assert {row["predict_seconds"] for row in evaluation.patients} == {6.0}
    table = record_evaluations([(vote, evaluation)], voting, seed=1).set_index(["system", "target"])
    assert table.n_test_patients["majority_vote", "liver"] == 2
    # volume-1: 16 voxels right, 16 surplus, none missed; volume-2: no tumour, none voted for
    assert table.dice_per_case["majority_vote", "tumor"] == pytest.approx((2 * 16 / 48 + 1) / 2)
    assert finishing.find_members(voting, CASES) == list(MEMBERS)  # the vote does not vote


def test_agreement_is_compared_with_the_truth(voting):
    vote = finishing.assemble_vote(voting, MEMBERS)
    patients, lesions = finishing.study_agreement(vote, CASES)
    row = patients.set_index(["case", "structure"]).loc[("volume-1", "tumor")]
    volumes = np.array([32, 32, 8]) * 0.02
    assert (row.volume_ml, row.volume_ml_std) == pytest.approx((volumes.mean(), volumes.std()))
    assert (row.reference_ml, row.vote_ml, row.vote_dice) == pytest.approx((0.32, 0.64, 2 * 16 / 48))
    assert row.pairwise_dice == pytest.approx((1 + 2 * (16 / 40)) / 3)
    assert lesions.is_true.tolist() == [True, False] and lesions.case.tolist() == ["volume-1"] * 2
    assert lesions.lesion.tolist() == [1, 2] and lesions.volume_ml.tolist() == pytest.approx([0.32, 0.32])
    assert lesions.agreement.tolist() == pytest.approx([(8 * 1 + 8 * 2 / 3) / 16, 2 / 3])
    summary = finishing.summarize_agreement(patients, lesions, seed=1).set_index("level")
    assert summary.value["lesion"] == 1 and np.isnan(summary.value["patient"])  # two patients rank nothing
    assert summary.n.tolist() == [2, 2]


def test_patients_whose_agreement_orders_the_vote_give_a_rank_correlation_of_one():
    rows = [(str(n), "tumor", n / 9, (n / 9) ** 2) for n in range(8)] + [("none", "tumor", np.nan, 1.0)]
    patients = pd.DataFrame(rows, columns=["patient", "structure", "pairwise_dice", "vote_dice"])
    lesions = pd.DataFrame({"is_true": [True], "agreement": [1.0]})
    found = finishing.summarize_agreement(patients, lesions, seed=1).set_index("level")
    assert np.isnan(found.value["lesion"])
    found = found.loc["patient"]
    assert found.value == pytest.approx(1) and found.p < 0.001 and (found.n, found.n_undefined) == (8, 1)


def test_without_any_tumour_there_is_nothing_to_tell_apart():
    empty = np.zeros((0, 0, 0), np.uint8)
    assert finishing.voted_tumors([empty] * 3, empty, 0.02).empty
    assert finishing.voted_tumors([labels()] * 3, labels(TRUE), 0.02).empty
