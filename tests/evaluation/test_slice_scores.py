from __future__ import annotations

import numpy as np
import pytest

from livseg_lib.errors import InputError
from livseg_lib.evaluation.slices import score_slices, summarize_slices

PROBABILITIES = np.array(
    [
        [[0.9, 0.6], [0.2, 0.1]],  # two predicted, one of them right, none missed
        [[0.4, 0.1], [0.1, 0.1]],  # present by 0.30 but not predicted by 0.5; there is something
        [[0.1, 0.1], [0.1, 0.1]],  # nothing, rightly
        [[0.35, 0.0], [0.0, 0.0]],  # present by 0.30, but there is nothing
    ]
)
REFERENCE = np.array(
    [[[1, 0], [0, 0]], [[1, 1], [0, 0]], [[0, 0], [0, 0]], [[0, 0], [0, 0]]],
    bool,
)


@pytest.mark.parametrize(
    "planes", [PROBABILITIES, np.rint(PROBABILITIES * 255).astype(np.uint8)], ids=["float", "uint8"]
)
def test_hand_values(planes):
    rows = score_slices(planes, REFERENCE, threshold=0.5)
    nan = np.nan
    expected = {
        "dice": [2 / 3, 0, nan, nan],
        "iou": [1 / 2, 0, nan, nan],
        "pixel_accuracy": [3 / 4, 1 / 2, 1, 1],
        "precision": [1 / 2, nan, nan, nan],
        "recall": [1, 0, nan, nan],
        "n_reference": [1, 2, 0, 0],
        "n_predicted": [2, 0, 0, 0],
        "present_reference": [True, True, False, False],
        "present_predicted": [True, True, False, True],
    }
    assert list(rows) == list(expected)
    for column, values in expected.items():
        np.testing.assert_allclose(rows[column].astype(float), values, err_msg=column)


def test_summary_counts_what_is_undefined():
    summary = summarize_slices(score_slices(PROBABILITIES, REFERENCE, threshold=0.5))
    assert (summary["n_slices"], summary["n_slices_present"], summary["presence_accuracy"]) == (4, 2, 0.75)
    assert (summary["dice"], summary["n_undefined_dice"]) == (pytest.approx(1 / 3), 2)
    assert (summary["precision"], summary["n_undefined_precision"]) == (0.5, 3)
    assert (summary["pixel_accuracy"], summary["n_undefined_pixel_accuracy"]) == (pytest.approx(13 / 16), 0)


def test_presence_follows_its_own_threshold():
    rows = score_slices(PROBABILITIES, REFERENCE, threshold=0.5, presence_threshold=0.38)
    assert rows["present_predicted"].tolist() == [True, True, False, False]
    assert summarize_slices(rows)["presence_accuracy"] == 1


def test_no_slice_gives_no_score():
    summary = summarize_slices(score_slices(np.zeros((0, 4, 4), np.uint8), np.zeros((0, 4, 4), bool), 0.5))
    assert summary["n_slices"] == 0 and np.isnan([summary["dice"], summary["presence_accuracy"]]).all()


def test_other_shapes_are_refused():
    with pytest.raises(InputError, match="shape"):
        score_slices(PROBABILITIES, REFERENCE[:2], 0.5)
