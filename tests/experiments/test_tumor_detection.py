"""System A: pictures called tumour or no tumour by a segmentation network."""

from __future__ import annotations

import json

import keras
import numpy as np
import pandas as pd
import pytest
from keras import layers

from livseg_lib.errors import InputError
from livseg_lib.evaluation.probabilities import PresenceRule
from livseg_lib.preprocessing.recipe import Recipe
from livseg_lib.studies.detection import (
    AREAS,
    candidate_areas,
    choose_detector,
    detect,
    detection_row,
    examples,
)
from livseg_lib.training.model_folder import TrainedModel

RECIPE = Recipe(windows=("stored",), size=128)


def trained(target: str = "tumor") -> TrainedModel:
    """A network whose probability of tumour is the grey of the pixel."""
    picture = keras.Input((128, 128, 1))
    maps = [picture] if target != "both" else [layers.Rescaling(0.0, name="no_liver")(picture), picture]
    output = layers.Concatenate(name="maps")(maps) if len(maps) > 1 else layers.Identity(name="map")(picture)
    return TrainedModel("unet_mse", "unet", {}, keras.Model(picture, output), RECIPE, target, {})


@pytest.fixture
def extracted(tmp_path):
    """Two patients of five slices. Tumours are 36 pixels of grey 200; everywhere is one pixel of 250."""
    rows = []
    for patient in range(2):
        case = f"volume-{patient}"
        images, masks = np.zeros((5, 128, 128, 1), np.uint8), np.zeros((5, 128, 128), np.uint8)
        images[:, 100, 100] = 250
        images[3:, 40:46, 40:46], masks[3:, 40:46, 40:46] = 200, 2
        (tmp_path / case).mkdir()
        np.save(tmp_path / case / "images.npy", images)
        np.save(tmp_path / case / "masks.npy", masks)
        (tmp_path / case / "case.json").write_text(json.dumps({"request": {"recipe": RECIPE.to_dict()}}))
        rows += [
            {
                "patient": str(patient),
                "case": case,
                "array_index": index,
                "class": 2 * (index > 2),
                "split": "test",
            }
            for index in range(5)
        ]
    return tmp_path, pd.DataFrame(rows)


@pytest.mark.parametrize("target", ["tumor", "both"])
def test_bright_specks_are_told_from_tumours(extracted, target):
    folder, slices = extracted
    rule = choose_detector(trained(target), slices, folder)
    assert 1 < rule.smallest_area <= 36 and rule.threshold <= 0.75
    answers = detect(trained(target), rule, slices, folder)
    assert (answers.predicted == answers.truth).all() and answers.truth.sum() == 4
    assert answers.probability[answers.truth].round(2).unique().tolist() == [0.78]  # grey 200 of 255


def test_answers_stay_with_their_slices_whatever_the_order(extracted):
    folder, slices = extracted
    shuffled = slices.sample(frac=1, random_state=1)
    answers = detect(trained(), PresenceRule(0.5, 4), shuffled, folder)
    assert answers.index.tolist() == shuffled.index.tolist()
    assert (answers.predicted == (answers.array_index > 2)).all()


def test_a_row_of_the_table_by_hand(extracted):
    folder, slices = extracted
    blind = detect(trained(), PresenceRule(0.9, 4), slices, folder)  # finds none of 4 of 10
    row = detection_row("unet_mse", PresenceRule(0.9, 4), blind, seed=0)
    assert (row["split"], row["n_patients"], row["n_pictures"]) == ("test", 2, 10)
    assert row["accuracy"] == row["accuracy_low"] == row["accuracy_high"] == row["majority_share"] == 0.6
    assert (row["sensitivity"], row["specificity"], row["balanced_accuracy"]) == (0, 1, 0.5)
    assert row["published_accuracy"] == 0.68 and row["smallest_area_pixels"] == 4


def test_examples_show_every_kind_of_answer(extracted):
    folder, slices = extracted
    answers = detect(trained(), PresenceRule(0.5, 4), slices, folder)
    answers.loc[0, "predicted"], answers.loc[3, "predicted"] = True, False
    shown = list(examples(answers, folder, each=2, seed=0))
    titles = [title for *_, title in shown]
    assert titles[:2] == ["right: tumour (0.78)"] * 2 and titles[2].startswith("wrong: none")
    assert titles[3].startswith("wrong: tumour") and titles[4:] == ["right: none (0.00)"] * 2
    for grey, labels, _ in shown:
        assert grey.shape == (128, 128) and (labels == 2).any() == (grey.max() == 250 and grey[42, 42] == 200)


def test_areas_are_shares_of_the_picture():
    assert candidate_areas(128) == AREAS and candidate_areas(512) == tuple(16 * area for area in AREAS)


def test_a_network_for_livers_is_refused(extracted):
    folder, slices = extracted
    with pytest.raises(InputError, match="liver only"):
        choose_detector(trained("liver"), slices, folder)
