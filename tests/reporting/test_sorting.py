"""Sorted slices as pictures, and the sorter's place among the systems of a report."""

from __future__ import annotations

import cv2
import numpy as np
import pandas as pd

from livseg_lib.outputs import update_systems_table
from livseg_lib.reporting.cards import cohort_sentence, headline_cards, systems_view
from livseg_lib.reporting.pictures import PatientStrip, reading_tiles, region_strips
from livseg_lib.volumes import Volume


def pixels(figure) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(figure._repr_png_(), np.uint8), cv2.IMREAD_COLOR)


def test_strips_show_truth_prediction_and_what_is_let_through():
    truth = ["below_liver"] * 2 + ["liver"] * 3 + ["above_liver"]
    opened = np.array([False, True, True, True, False, True])
    figure = region_strips(
        [PatientStrip("7", truth, truth, opened), PatientStrip("8", ["", "liver"], truth[:2], opened[:2])]
    )
    assert [ax.get_ylabel() for ax in figure.axes] == ["7", "8"]
    truth, called, passing = figure.axes[0].images[0].get_array()
    assert truth.tolist() == called.tolist() == [0, 0, 1, 1, 1, 3]
    assert passing.tolist() == [5, 4, 4, 4, 5, 4]
    assert figure.axes[1].images[0].get_array()[0].tolist() == [5, 1]  # what has no name is left white
    assert pixels(figure).std() > 10 and pixels(region_strips([])).size


def test_tiles_follow_the_reading_order():
    voxels = np.array([0, 50, 100, 200], np.int16)[:, None, None] * np.ones((1, 8, 8), np.int16)
    order = pd.DataFrame(
        {
            "place": [1, 2, 3],
            "slice": [12, 10, 13],
            "array_index": [2, 0, 3],
            "region": ["liver_with_tumor", "liver", "above_liver"],
        }
    )
    shown = reading_tiles(Volume(voxels, (1.0, 1.0, 1.0)), order, count=2)
    assert [tile.title for tile in shown] == ["1: slice 12\nliver with tumour", "2: slice 10\nliver"]
    assert [int(tile.picture[0, 0]) for tile in shown] == [100, 0] and shown[0].picture.dtype == np.uint8


def test_a_system_that_outlines_nothing_has_a_row_and_no_card(tmp_path):
    patients = {"split_by": "patient", "n_train_patients": 18, "n_test_patients": 8}
    sorter = {"system": "slice_sorter", "source": "F", "target": "slices", **patients, "parameters": 9}
    sorter |= {"published_metric": "accuracy, test slices", "published_value": 0.931}
    alone = update_systems_table(tmp_path / "systems.csv", [sorter])
    assert headline_cards(alone) == [] and len(systems_view(alone).rows) == 1
    unet = {"system": "unet", "target": "liver", **patients, "dice_per_case": 0.9}
    both = update_systems_table(tmp_path / "systems.csv", [unet])
    assert [card.foot for card in headline_cards(both)] == ["unet, 8 test patients"]
    cells = {cell.text: cell for row in systems_view(both).rows for cell in row}
    assert cells["0.931"].small == "Accuracy, test slices" and cells["slices"].interval is None
    assert cohort_sentence(both) == "2 systems, trained on 18 patients and tested on 8 others."
