"""Superpixels as a step of a cascade: with a stand-in that calls dark ones tumours, and from its folder."""

from __future__ import annotations

import numpy as np
import pytest

from livseg_lib.errors import InputError
from livseg_lib.evaluation.masks import dice, overlap_counts
from livseg_lib.inference.cascade import (
    ContourPart,
    Step,
    SuperpixelPart,
    load_cascade,
    run_cascade,
    save_cascade,
    tumor_levels,
)
from livseg_lib.models.classifiers import build_classifier
from livseg_lib.postprocessing.superpixels import CandidateRecipe, PatchRecipe
from livseg_lib.systems import StepPlan
from livseg_lib.training.model_folder import TrainedClassifier, save_model
from livseg_lib.volumes import Volume

SPACING, SHAPE = (3.0, 1.5, 1.5), (30, 64, 60)
PATCH = PatchRecipe((48, 48, 48), (8, 16, 16))


class DarkIsTumor:
    """Stands in for a network: tumour where the superpixel (last channel) is dark (first channel)."""

    def predict_on_batch(self, patches: np.ndarray) -> np.ndarray:
        assert patches.shape[1:] == (8, 16, 16, 4) and patches.max() <= 1.0
        mask = patches[..., -1]
        grey = (patches[..., 0] * mask).sum(axis=(1, 2, 3)) / mask.sum(axis=(1, 2, 3)).clip(1)
        dark = (grey < 0.3).astype(np.float32)
        return np.stack([1 - dark, dark], axis=-1)

    def count_params(self) -> int:
        return 1


def classifier(network=None) -> TrainedClassifier:
    candidates = CandidateRecipe((8.0, 12.0, 18.0))
    return TrainedClassifier("j", "none", {}, network or DarkIsTumor(), candidates, PATCH, threshold=0.4)


def ball(center_mm, radius_mm: float) -> np.ndarray:
    grid = np.ogrid[tuple(slice(size) for size in SHAPE)]
    return sum((g * mm - c) ** 2 for g, mm, c in zip(grid, SPACING, center_mm, strict=True)) <= radius_mm**2


@pytest.fixture(scope="module")
def patient() -> tuple[Volume, np.ndarray]:
    liver, tumor = ball((45, 48, 45), 38), ball((42, 36, 40), 12)
    labels = np.where(tumor, 2, liver).astype(np.uint8)
    noise = np.random.default_rng(0).normal(0, 8, SHAPE)
    return Volume((np.array([-100, 100, 50])[labels] + noise).astype(np.int16), SPACING), labels


def tumor_dice(labels: np.ndarray, truth: np.ndarray) -> float:
    return float(dice(overlap_counts(labels == 2, truth == 2)))


def test_tumours_are_found_inside_the_liver_and_drawn_to_their_edges(patient):
    volume, truth = patient
    part = SuperpixelPart(classifier())
    liver = (truth > 0).astype(np.uint8)
    found = part(volume, liver)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found > 0, truth > 0)
    steps = (Step("superpixels", part, "box", 6.0), Step("contour", ContourPart(3.0), "box", 6.0))
    refined = run_cascade(volume, (Step("liver", lambda v, labels: liver), *steps))
    assert tumor_dice(refined, truth) > 0.85 > 0.6 < tumor_dice(found, truth)
    assert tumor_dice(refined, truth) > tumor_dice(found, truth)


def test_levels_are_the_mean_over_the_scales(patient):
    volume, truth = patient
    levels = tumor_levels(classifier(), volume, truth > 0)
    assert set(np.unique(levels)) == {0, 85, 170, 255} and not levels[truth == 0].any()
    assert np.median(levels[ball((42, 36, 40), 6)]) == 255


def test_what_was_called_tumour_before_is_judged_anew(patient):
    volume, truth = patient
    all_tumor = np.where(truth > 0, 2, 0).astype(np.uint8)
    part = SuperpixelPart(classifier())
    np.testing.assert_array_equal(part(volume, all_tumor), part(volume, (truth > 0).astype(np.uint8)))
    assert part.structures == ("tumor",) and part.parameters == 1


def test_an_empty_liver_and_one_without_candidates_stay_as_they_are(patient):
    volume, truth = patient
    part = SuperpixelPart(classifier())
    assert not part(volume, np.zeros_like(truth)).any()
    even = Volume(np.full(SHAPE, 100, np.int16), SPACING)
    liver = (truth > 0).astype(np.uint8)
    np.testing.assert_array_equal(part(even, liver), liver)


def test_a_single_slice_and_a_liver_that_fills_the_scan():
    hu = np.full((1, 64, 64), 100, np.int16)
    hu[0, 20:32, 20:32] = 50
    found = SuperpixelPart(classifier())(Volume(hu, (8.0, 1.5, 1.5)), np.ones(hu.shape, np.uint8))
    assert found.shape == hu.shape and (found > 0).all()
    assert float(dice(overlap_counts(found == 2, hu == 50))) > 0.7


def test_pictures_without_spacing_are_refused(patient):
    volume, truth = patient
    with pytest.raises(InputError, match="spacing"):
        SuperpixelPart(classifier())(Volume(volume.voxels, (np.nan,) * 3), (truth > 0).astype(np.uint8))


def test_a_cascade_reads_it_from_its_folder(patient, tmp_path):
    volume, truth = patient
    options = {"filters": 2, "columns": 2, "stages": 2}
    network = build_classifier("fractal3d", (*PATCH.voxels, PATCH.channels), 2, **options)
    candidates = CandidateRecipe((12.0, 18.0))
    trained = TrainedClassifier("j", "fractal3d", options, network, candidates, PATCH, threshold=0.3)
    save_model(trained, tmp_path / "part")
    plans = [StepPlan("superpixels", "superpixels", "classifier", "box", 10.0)]
    folder = save_cascade(tmp_path / "j", "j", plans, {"classifier": tmp_path / "part"}, {})
    cascade = load_cascade(folder)
    liver = (truth > 0).astype(np.uint8)
    assert cascade.parameters == network.count_params() and cascade.structures == ("liver", "tumor")
    np.testing.assert_array_equal(
        cascade.steps[0].part(volume, liver), SuperpixelPart(trained)(volume, liver)
    )
