"""What is counted of whom in one pass over a toy run, what the tables make of it, and system D's metrics."""

from dataclasses import replace
from itertools import product
from types import SimpleNamespace

import keras
import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import accuracy_score, jaccard_score, precision_score, recall_score
from solids import labelled
from stored_cases import store_case

from livseg_lib.datasets.case import Case
from livseg_lib.errors import InputError
from livseg_lib.evaluation.probabilities import calibration_scores
from livseg_lib.labels import TARGETS
from livseg_lib.models import build_model
from livseg_lib.preprocessing.recipe import OWN_PICTURE, Recipe
from livseg_lib.runs import RunFolders
from livseg_lib.sampling.batches import SliceBatches, encode_target
from livseg_lib.studies import score_checks
from livseg_lib.studies.score_checks import D_METRICS, pooled_scores, published_scores, scores_as_published
from livseg_lib.training.fit import FitSettings, Stage, dice_metrics, fit
from livseg_lib.training.model_folder import TrainedModel
from livseg_lib.volumes import Volume, keep_prediction

SIZE = 32
SPLITS = {"v0": "validation", "v1": "validation", "t0": "test", "t1": "test", "t2": "test", "l0": "train"}


def truth(case: str) -> np.ndarray:
    """A liver in slices 1 to 3, with one tumour but for patient t2."""
    tumors = [np.s_[1:4, 10:14, 10:14]] if case != "t2" else []
    return labelled((5, SIZE, SIZE), *tumors, liver=np.s_[1:4, 8:24, 8:24])


def planes(case: str) -> np.ndarray:
    """A network that is 0.8 sure of every liver and tumour, and of a tumour outside the liver; 0.6 sure of a
    false one in each liver."""
    labels = truth(case)
    liver, tumor = (0.8 * (labels >= 1), 0.8 * (labels == 2))
    tumor[2, 18:21, 18:21] = 0.6
    tumor[2, 28:31, 28:31] = 0.8
    return np.rint(np.stack([liver, tumor], axis=-1) * 255).astype(np.uint8)


def network(**changes) -> SimpleNamespace:
    """Stands for a `TrainedModel`."""
    thresholds = {"liver": 0.5, "tumor": 0.7}
    facts = {"system": "toy", "structures": tuple(thresholds), "thresholds": thresholds, "network": None}
    return SimpleNamespace(**facts | {"recipe": Recipe(size=SIZE), "inputs": OWN_PICTURE} | changes)


@pytest.fixture
def run(tmp_path, monkeypatch):
    folders = RunFolders(tmp_path, "toy-quick")
    for number, case in enumerate(SPLITS):
        store_case(folders.slices, case, truth(case), np.full((5, SIZE, SIZE), number), Recipe(size=SIZE))

    def predict(network, pictures, n_slices, overlap):
        return planes(list(SPLITS)[next(iter(pictures))[0, 0, 0]])

    monkeypatch.setattr(score_checks, "predict_stack", predict)
    rows = [{"split": split, "patient": f"p-{case}", "case": case} for case, split in SPLITS.items()]
    slices = pd.DataFrame(rows).loc[lambda table: table.index.repeat(5)]
    return SimpleNamespace(folders=folders, slices=slices)


@pytest.fixture
def checked(run):
    return score_checks.ask_network(network(), run.slices, run.folders.slices, True)


def test_every_pixel_is_counted_once_and_training_patients_never(checked):
    assert len(checked.of_split("validation", "liver", "picture")) == 2
    regions = score_checks.CALIBRATION_REGIONS
    assert [len(checked.of_split("test", "tumor", region)) for region in regions] == [3, 3]
    whole, near = (checked.of_split("test", "tumor", region)[0] for region in ("picture", "near"))
    assert whole.foreground.sum() == near.foreground.sum() == 48
    assert whole.background.sum() + 48 == 5 * SIZE**2 and near.background.sum() + 48 == 3 * 256
    assert "p-l0" not in {patient for *_, patient in checked.histograms}


def test_tumours_outside_the_liver_that_is_found_are_no_candidates(checked):
    with_tumor, healthy = checked.candidates["p-t0"], checked.candidates["p-t2"]
    assert with_tumor.found.tolist() == [204] and with_tumor.false_positives.tolist() == [153]
    assert (healthy.n_tumors, healthy.false_positives.tolist()) == (0, [153])
    assert len(checked.outlined["p-t0"].found) == 1 and len(checked.outlined["p-t0"].false_positives) == 0


def test_without_volumes_no_tumours_are_looked_for(run):
    checked = score_checks.ask_network(network(), run.slices, run.folders.slices, False)
    assert not checked.candidates and len(checked.of_split("test", "tumor", "picture")) == 3
    assert score_checks.froc_table([checked], {}, 0).empty


def test_pictures_are_found_by_their_recipe(run):
    folder, other = run.folders.slices, network(recipe=Recipe(size=64))
    assert score_checks.extracted_for(network(), folder, "t0") == folder
    assert score_checks.extracted_for(other, folder, "t0") is None
    store_case(folder / "size-64", "t0", truth("t0"), truth("t0"), other.recipe)
    assert score_checks.extracted_for(other, folder, "t0") == folder / "size-64"


def test_tables(checked):
    by_region = [checked.of_split("test", "liver", region) for region in score_checks.CALIBRATION_REGIONS]
    whole, near = map(calibration_scores, by_region)
    assert whole["ece"] == pytest.approx(0.2 * 3 * 256 / (5 * SIZE**2)) and whole["roc_auc"] == 1
    assert np.isnan(whole["true_when_sure"]), "0.8 is not in the highest bin"
    assert near["ece"] > whole["ece"]
    froc = score_checks.froc_table([checked], {"labels": checked.outlined}, 0).set_index("system")
    assert froc.loc["toy", ["n_patients", "n_tumors", "froc_score", "recall_at_1"]].tolist() == [3, 2, 1, 1]
    assert froc.loc["toy", ["recall", "false_positives"]].tolist() == [1, 0]
    assert froc.loc["labels", ["recall", "false_positives"]].tolist() == [1, 0]
    assert np.isnan(froc.loc["labels", "froc_score"])


def test_thresholds_land_where_they_do(checked):
    """At 0.7 false tumours in the liver are gone, at 0.5 they are not; those outside stay at both."""
    table = score_checks.threshold_table([checked], 0).set_index("structure")
    tumor = table.loc["tumor"]
    dice = 2 * 48 / (2 * 48 + 9)
    assert tumor.dice_validation == pytest.approx(dice) and tumor.dice_test == pytest.approx(2 * dice / 3)
    gain = 2 / 3 * (dice - 2 * 48 / (2 * 48 + 18))
    assert tumor.gain == pytest.approx(gain) and tumor.gain_low <= gain <= tumor.gain_high
    assert tumor.p_holm == tumor.p == 0.5  # of three patients one differs not, two the same way: 2 / 2^2
    both = score_checks.threshold_table([checked, checked], 0)
    assert both[both.structure == "tumor"].p_holm.tolist() == [1, 1]
    for row in (tumor, table.loc["liver"]):
        assert row.regret == 0 and row.hindsight_threshold == row.threshold, "of equals the chosen one"
    bold = score_checks.CheckedNetwork("bold", {"tumor": 0.5}, checked.histograms)
    assert score_checks.threshold_table([bold], 0).regret.tolist() == pytest.approx([gain])
    odd = score_checks.CheckedNetwork("odd", {"tumor": 0.6543}, checked.histograms)
    assert score_checks.threshold_table([odd], 0).threshold.tolist() == [0.6543], "not on the grid"


def test_stored_labels_are_asked_the_same(run):
    def case(name: str, patient: str) -> Case:
        volume = Volume(np.zeros((5, SIZE, SIZE), np.int16), (5.0, 1.0, 1.0))
        keep_prediction(truth("t0") * np.uint8(name != "t1"), volume, run.folders.predictions("vote"), name)
        return Case(name, patient, (), lambda: volume, lambda _: truth(name))

    cases = [case("t0", "a"), case("t1", "a"), case("t2", "b")]
    found = score_checks.stored_tumors(["vote"], cases, run.folders)["vote"]
    assert found["a"].n_tumors == 2
    assert len(found["a"].found) == 1 and len(found["b"].false_positives) == 1


RECIPE = Recipe(windows=("liver",), size=128)
SKLEARN = {"pixel_accuracy": accuracy_score, "iou": jaccard_score}
SKLEARN |= {"precision": precision_score, "recall": recall_score}


@pytest.fixture
def stored(tmp_path):
    """Seven noisy 16-pixel slices with liver and tumour, and their table."""
    generator = np.random.default_rng(0)
    masks = np.zeros((7, 16, 16), np.uint8)
    masks[1:, 4:12, 4:12], masks[3:5, 6:9, 6:9] = 1, 2
    images = generator.integers(0, 60, (7, 16, 16)) + np.array([0, 150, 80])[masks]
    return store_case(tmp_path, "volume-0", masks, images), tmp_path


def system(target: str = "both", architecture: str = "unet", **options) -> TrainedModel:
    keras.utils.set_random_seed(1)
    options = options or {"filters": 4, "levels": 2}
    network = build_model(architecture, (16, 16, 1), len(TARGETS[target]), **options)
    thresholds = {"liver": 0.45, "tumor": 0.52}
    thresholds = {name: thresholds[name] for name in TARGETS[target]}
    facts = {"loss": "bce_dice"}
    return TrainedModel("tiny", architecture, options, network, RECIPE, target, thresholds, facts)


def test_scores_are_those_of_scikit_learn_over_all_pixels(stored):
    trained, (slices, folder) = system(), stored
    images = np.load(folder / "volume-0" / "images.npy", allow_pickle=False)
    masks = np.load(folder / "volume-0" / "masks.npy", allow_pickle=False)
    maps = np.asarray(trained.network.predict_on_batch(images.astype(np.float32) / 255))
    middle = np.median(maps, axis=(0, 1, 2))  # so that neither all nor nothing is predicted
    trained = replace(trained, thresholds=dict(zip(("liver", "tumor"), middle, strict=True)))
    found = pooled_scores(trained, SliceBatches(slices, folder, "both", 3, shuffle=False))
    assert found.structure.tolist() == ["liver", "tumor", "both"] and (found.n_slices == 7).all()
    truth, predicted = encode_target(masks, "both") > 0, maps >= middle
    channels = {"liver": np.s_[..., 0], "tumor": np.s_[..., 1], "both": np.s_[...]}
    for structure, channel in channels.items():
        row = found[found.structure == structure].iloc[0]
        for name, score in SKLEARN.items():
            expected = score(truth[channel].ravel(), predicted[channel].ravel())
            assert 0 < row[name] < 1 and row[name] == pytest.approx(expected), (structure, name)


def test_the_loss_is_the_one_that_fit_prints(stored, tmp_path):
    trained = system("both", "unet++", filters=4, levels=3)  # several heads
    training, validation = (SliceBatches(*stored, "both", 4, shuffle=shuffle) for shuffle in (True, False))
    settings = FitSettings(stages=(Stage(2, 0.003),), loss="bce_dice")
    how = (lambda: dice_metrics(("liver", "tumor"))), settings, tmp_path / "training"
    history = fit(trained.network, training, validation, *how)
    found = pooled_scores(trained, validation)
    np.testing.assert_allclose(found.loss, history.val_loss.min(), rtol=1e-4)


def test_batches_change_nothing_but_the_loss(stored):
    trained = system()
    batches = (SliceBatches(*stored, "both", n, shuffle=False) for n in (2, 7))
    small, large = (pooled_scores(trained, each) for each in batches)
    pd.testing.assert_frame_equal(small.drop(columns="loss"), large.drop(columns="loss"))


def test_a_loss_that_the_library_has_not_is_nan(stored):
    batches = SliceBatches(*stored, "both", 7, shuffle=False)
    found = pooled_scores(replace(system(), training={"loss": "my_loss"}), batches)
    assert found.loss.isna().all() and found.pixel_accuracy.notna().all()


def test_one_structure_has_one_row_and_undefined_is_nan(stored):
    slices, folder = stored
    trained = replace(system("tumor"), thresholds={"tumor": 1.1})
    found = pooled_scores(trained, SliceBatches(slices[:1], folder, "tumor", 1, shuffle=False))
    assert found.structure.tolist() == ["tumor"]
    assert found.pixel_accuracy[0] == 1 and found[["iou", "precision", "recall"]].isna().all(axis=None)


def test_pictures_of_another_size_are_refused(stored):
    trained = replace(system(), network=build_model("unet", (32, 32, 1), 2, filters=4, levels=2))
    with pytest.raises(InputError, match="tiny"):
        pooled_scores(trained, SliceBatches(*stored, "both", 2, shuffle=False))


def ours(systems=("unet", "unet++"), structures=("liver", "tumor", "both")) -> pd.DataFrame:
    rows = product(systems, ("train", "validation"), structures)
    return pd.DataFrame(rows, columns=["system", "set", "structure"]).assign(**dict.fromkeys(D_METRICS, 0.5))


def test_ds_table_sets_published_figures_beside_ours():
    assert len(published_scores()) == 30
    table = scores_as_published(ours())
    assert table.index.names == ["set", "structure", "metric"]
    assert table.columns[:3].tolist() == ["unet", "unet++", "unet++_published"]
    assert table.loc["train", "both"].index.tolist() == list(D_METRICS)
    assert table.loc[("validation", "both", "recall"), "unet++_published"] == 0.949
    assert table.loc[("train", "both", "precision"), "deeplabv3+_published"] == 0.483
    assert table.loc[("train", "liver"), "unet++_published"].isna().all()
    assert (table[["unet", "unet++"]] == 0.5).all(axis=None) and len(table) == 2 * 3 * 5


def test_a_liver_run_keeps_the_published_rows_empty_on_our_side():
    together = scores_as_published(ours(("unet",), ("liver",))).loc["train", "both"]
    assert together["unet"].isna().all() and together.loc["iou", "manet_published"] == 0.926
