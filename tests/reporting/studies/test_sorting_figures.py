from __future__ import annotations

import cv2
import numpy as np
import pandas as pd
import pytest

from livseg_lib.reporting.cards import cohort_sentence, headline_cards, systems_view
from livseg_lib.reporting.studies.sorting import (
    PatientStrip,
    confusion_matrices,
    reading_tiles,
    region_strips,
)
from livseg_lib.tables import update_systems_table
from livseg_lib.volumes import Volume

REGIONS = ("below_liver", "liver", "liver_with_tumor", "above_liver")


def pixels(figure) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(figure._repr_png_(), np.uint8), cv2.IMREAD_COLOR)


def confusion(counts) -> pd.DataFrame:
    return pd.DataFrame(counts, index=REGIONS, columns=REGIONS)


def test_counts_and_shares_of_each_row_are_written():
    counts = [[9, 1, 0, 0], [0, 6, 2, 0], [0, 5, 5, 0], [0, 0, 0, 0]]
    figure = confusion_matrices({"validation": confusion(counts), "test": confusion(np.eye(4, dtype=int))})
    assert [ax.get_title(loc="left") for ax in figure.axes] == ["validation", "test"]
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert texts[:2] == ["9\n90%", "1\n10%"] and texts[12:] == ["0"] * 4  # an empty row divides by nothing
    assert pixels(figure).std() > 10


def test_strips_show_truth_prediction_and_what_is_let_through():
    truth = ["below_liver"] * 2 + ["liver"] * 3 + ["above_liver"]
    opened = np.array([False, True, True, True, False, True])
    figure = region_strips(
        [PatientStrip("7", truth, truth, opened), PatientStrip("8", ["", "liver"], truth[:2], opened[:2])]
    )
    assert [ax.get_ylabel() for ax in figure.axes] == ["7", "8"]
    spans = [tuple(line.get_xdata()) for line in figure.axes[0].lines]
    assert spans == [(1, 4), (5, 6)]
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["below the liver", "liver", "above the liver", "let through by the gate"]


@pytest.mark.parametrize("draw", [lambda: region_strips([]), lambda: confusion_matrices({})])
def test_nothing_to_show_is_still_a_figure(draw):
    assert pixels(draw()).size


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
    tiles = reading_tiles(Volume(voxels, (1.0, 1.0, 1.0)), order, count=2)
    assert [title for _, _, title in tiles] == ["1: slice 12\nliver with tumour", "2: slice 10\nliver"]
    assert [int(grey[0, 0]) for grey, _, _ in tiles] == [100, 0] and tiles[0][0].dtype == np.uint8


def test_a_system_that_outlines_nothing_has_a_row_and_no_card(tmp_path):
    patients = {"split_by": "patient", "n_train_patients": 18, "n_test_patients": 8}
    sorter = {"system": "slice_sorter", "source": "F", "target": "slices", **patients, "parameters": 9}
    sorter |= {"published_metric": "accuracy, test slices", "published_value": 0.931}
    alone = update_systems_table(tmp_path / "systems.csv", [sorter])
    assert headline_cards(alone) == [] and len(systems_view(alone).rows) == 1
    unet = {"system": "unet", "target": "liver", **patients, "dice_per_case": 0.9}
    both = update_systems_table(tmp_path / "systems.csv", [unet])
    assert [card.foot for card in headline_cards(both)] == ["unet, 8 test patients"]
    cells = {cell.text: cell for cell in systems_view(both).rows[0]}
    assert cells["0.931"].small == "Accuracy, test slices" and cells["slices"].interval is None
    assert cohort_sentence(both) == "2 systems, trained on 18 patients and tested on 8 others."
