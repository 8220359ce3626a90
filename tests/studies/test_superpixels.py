"""System J's classifier from patients to its checks: resumable, judged on validation, shown in pictures."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from solids import ball, dice, scan

from livseg_lib.datasets.case import Case
from livseg_lib.errors import InputError
from livseg_lib.postprocessing.superpixels import CandidateRecipe, PatchExtraction, PatchRecipe
from livseg_lib.studies import superpixels
from livseg_lib.training.fit import Stage
from livseg_lib.training.model_folder import TrainedClassifier
from livseg_lib.volumes import Volume

SPACING, SHAPE = (3.0, 2.0, 2.0), (26, 40, 40)
RECIPES = CandidateRecipe((12.0, 20.0), 2.0), PatchRecipe((40, 40, 40), (6, 12, 12))
EXTRACTION = PatchExtraction(*RECIPES, most_of_a_kind=12)
SMALL = {"filters": 2, "columns": 2, "stages": 2}
PLAN = superpixels.ClassifierPlan((Stage(1, 0.001),), SMALL, extraction=EXTRACTION, batch_size=8, seed=4)
SPLIT = pd.Series({"a": "train", "b": "train", "c": "validation", "d": "test"})


def case(name: str, tumor_mm: float) -> Case:
    liver, tumor = ball(SHAPE, (39, 40, 40), 30, SPACING), ball(SHAPE, (39, 34, 44), tumor_mm, SPACING)
    labels = np.where(tumor, 2, liver).astype(np.uint8)
    volume = Volume(scan(liver, tumor, noise_hu=8), SPACING)
    return Case(name, f"patient {name}", (), lambda: volume, lambda volume: labels.copy())


CASES = [case("a", 12), case("b", 10), case("c", 12), case("d", 12)]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Patches, the folder they lie in, the classifier and its history."""
    folder = tmp_path_factory.mktemp("j")
    patches = superpixels.extract_split(CASES, SPLIT, PLAN, folder, workers=1)
    found = superpixels.train_classifier(PLAN, patches, folder, folder / "training", "run")
    return patches, folder, *found


def test_test_patients_give_no_patches(trained):
    patches, folder, _, _ = trained
    assert set(patches.case) == {"a", "b", "c"} and set(patches.split) == {"train", "validation"}
    assert not (folder / "d").exists()


def test_a_training_is_balanced_and_goes_on_where_it_was(trained):
    patches, folder, classifier, history = trained
    facts = classifier.training
    assert facts["n_train_patients"] == 2 and facts["n_slices"] == 3 * facts["n_tumor_patches"]
    assert len(history) == 1 and {"accuracy", "val_loss", "val_accuracy"} <= set(history)
    again, _ = superpixels.train_classifier(PLAN, patches, folder, folder / "training", "run")
    for one, other in zip(classifier.network.get_weights(), again.network.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_nothing_to_find_in_training_is_refused(trained):
    patches, folder, _, _ = trained
    with pytest.raises(InputError):
        none = patches[patches.region == "liver"]
        superpixels.train_classifier(PLAN, none, folder, folder / "none", "run")


class DarkIsTumor:
    """Stands in for a trained network, as sure as its superpixel (last channel) is dark (first channel)."""

    def predict_on_batch(self, patches: np.ndarray) -> np.ndarray:
        mask = patches[..., -1]
        grey = (patches[..., 0] * mask).sum(axis=(1, 2, 3)) / mask.sum(axis=(1, 2, 3)).clip(1)
        tumor = (1 - 1.5 * grey).clip(0, 1)
        return np.stack([1 - tumor, tumor], axis=-1).astype(np.float32)


SEER = TrainedClassifier("j", "none", {}, DarkIsTumor(), *RECIPES, threshold=0.5)


def test_the_threshold_suits_the_validation_patients():
    threshold = superpixels.choose_superpixel_threshold(SEER, CASES[2:3])
    [painted] = superpixels.paint_cases(SEER, CASES[2:3])
    tumor = painted.truth == 2

    def found(at: float) -> float:
        return dice(painted.levels >= 255 * at, tumor)

    assert found(threshold) == max(found(at) for at in (0.1, 0.2, 0.3, 0.5, 0.7, 0.9, threshold)) > 0.5


def test_the_contours_effect_is_measured_beside_the_ceiling():
    seer = replace(SEER, threshold=superpixels.choose_superpixel_threshold(SEER, CASES[2:3]))
    effect = superpixels.contour_effect(seer, CASES[2:4])
    assert effect.case.tolist() == ["c", "d"] and effect.patient.iloc[0] == "patient c"
    tumor = ball(SHAPE, (39, 34, 44), 12, SPACING)
    assert effect.tumor_ml.iloc[0] == pytest.approx(tumor.sum() * 12 / 1000)
    assert (effect.dice_after > effect.dice_before).all() and (effect.faultless_dice > 0.5).all()
