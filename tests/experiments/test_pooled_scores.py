"""System D's metrics: against scikit-learn, against what fit printed, and in the shape of D's table."""

from __future__ import annotations

from dataclasses import replace

import keras
import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import accuracy_score, jaccard_score, precision_score, recall_score

from livseg_lib.errors import InputError
from livseg_lib.labels import TARGETS
from livseg_lib.models import build_model
from livseg_lib.preprocessing.recipe import Recipe
from livseg_lib.sampling.batches import SliceBatches, encode_target
from livseg_lib.studies.score_checks import METRICS, pooled_scores, published_scores, scores_as_published
from livseg_lib.training.fit import FitSettings, Stage, dice_metrics, fit
from livseg_lib.training.model_folder import TrainedModel

RECIPE = Recipe(windows=("liver",), size=128)
SKLEARN = {
    "pixel_accuracy": accuracy_score,
    "iou": jaccard_score,
    "precision": precision_score,
    "recall": recall_score,
}


@pytest.fixture
def stored(tmp_path):
    """Seven noisy 16-pixel slices with liver and tumour, and their table."""
    generator, folder = np.random.default_rng(0), tmp_path / "volume-0"
    folder.mkdir()
    masks = np.zeros((7, 16, 16), np.uint8)
    masks[1:, 4:12, 4:12], masks[3:5, 6:9, 6:9] = 1, 2
    images = generator.integers(0, 60, (7, 16, 16, 1)) + np.array([0, 150, 80])[masks][..., None]
    np.save(folder / "images.npy", images.astype(np.uint8))
    np.save(folder / "masks.npy", masks)
    return pd.DataFrame({"array": "volume-0", "array_index": range(7)}), tmp_path


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


@pytest.mark.parametrize(
    ("architecture", "options"),
    [("unet", {"filters": 4, "levels": 2}), ("unet++", {"filters": 4, "levels": 3})],
)
def test_the_loss_is_the_one_that_fit_prints(stored, tmp_path, architecture, options):
    slices, folder = stored
    trained = system("both", architecture, **options)
    training = SliceBatches(slices, folder, "both", 4)
    validation = SliceBatches(slices, folder, "both", 4, shuffle=False)
    settings = FitSettings(stages=(Stage(2, 0.003),), loss="bce_dice")
    history = fit(
        trained.network,
        training,
        validation,
        lambda: dice_metrics(("liver", "tumor")),
        settings,
        tmp_path / "t",
    )
    found = pooled_scores(trained, validation)
    np.testing.assert_allclose(found.loss, history.val_loss.min(), rtol=1e-4)


def test_batches_change_nothing_but_the_loss(stored):
    trained, (slices, folder) = system(), stored
    small, large = (
        pooled_scores(trained, SliceBatches(slices, folder, "both", n, shuffle=False)) for n in (2, 7)
    )
    pd.testing.assert_frame_equal(small.drop(columns="loss"), large.drop(columns="loss"))


def test_one_structure_has_one_row_and_undefined_is_nan(stored):
    slices, folder = stored
    trained = replace(system("tumor"), thresholds={"tumor": 1.1})
    found = pooled_scores(trained, SliceBatches(slices[:1], folder, "tumor", 1, shuffle=False))
    assert found.structure.tolist() == ["tumor"]
    assert found.pixel_accuracy[0] == 1 and found[["iou", "precision", "recall"]].isna().all(axis=None)


def test_pictures_of_another_size_are_refused(stored):
    slices, folder = stored
    trained = replace(system(), network=build_model("unet", (32, 32, 1), 2, filters=4, levels=2))
    with pytest.raises(InputError, match="tiny"):
        pooled_scores(trained, SliceBatches(slices, folder, "both", 2, shuffle=False))


def ours(systems=("unet", "unet++"), structures=("liver", "tumor", "both")) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {"system": name, "set": side, "structure": structure} | dict.fromkeys(METRICS, 0.5)
            for name in systems
            for side in ("train", "validation")
            for structure in structures
        ]
    )


def test_published_figures_are_all_thirty():
    assert len(published_scores()) == 30


def part(table: pd.DataFrame, side: str, structure: str) -> pd.DataFrame:
    """The rows of one set and structure, by metric."""
    return table.reset_index().query("set == @side and structure == @structure").set_index("metric")


def test_ds_table_sets_published_figures_beside_ours():
    table = scores_as_published(ours())
    assert table.index.names == ["set", "structure", "metric"]
    assert table.columns[:3].tolist() == ["unet", "unet++", "unet++_published"]
    assert part(table, "train", "both").index.tolist() == list(METRICS)
    assert part(table, "validation", "both").loc["recall", "unet++_published"] == 0.949
    assert part(table, "train", "both").loc["precision", "deeplabv3+_published"] == 0.483
    assert part(table, "train", "liver")["unet++_published"].isna().all()
    assert (table[["unet", "unet++"]] == 0.5).all(axis=None) and len(table) == 2 * 3 * 5


def test_a_liver_run_keeps_the_published_rows_empty_on_our_side():
    together = part(scores_as_published(ours(("unet",), ("liver",))), "train", "both")
    assert together["unet"].isna().all() and together.loc["iou", "manet_published"] == 0.926
