"""Dice of an epoch is that of all its pixels, counted by hand."""

from __future__ import annotations

import numpy as np
import pytest

from livseg_lib.training.fit import RegionDice, dice_metrics


def maps(*channels: list[float]) -> np.ndarray:
    """One row of pixels, a channel each, (1, 1, W, K)."""
    return np.array(channels, np.float32).T[None, None]


def test_counts_of_all_batches_make_one_dice():
    dice = RegionDice(0, "liver_dice")
    dice.update_state(maps([1, 1, 1, 0]), maps([0.9, 0.8, 0.2, 0.1]))  # 2 of 3 and 2
    dice.update_state(maps([1, 0, 0, 0]), maps([0.0, 0.9, 0.9, 0.9]))  # 0 of 1 and 3
    assert float(dice.result()) == pytest.approx(2 * 2 / (3 + 2 + 1 + 3))  # no mean of 0.8 and 0
    dice.reset_state()
    dice.update_state(maps([1, 0]), maps([1, 0]))
    assert float(dice.result()) == 1


def test_a_pixel_at_the_threshold_is_predicted():
    dice = RegionDice(0, "dice", threshold=0.25)
    dice.update_state(maps([1, 1, 0, 0]), maps([0.25, 0.2499, 0.25, 0.0]))
    assert float(dice.result()) == pytest.approx(2 * 1 / (2 + 2))
    half = RegionDice(0, "dice")
    half.update_state(maps([0.5, 0.49]), maps([0.5, 0.5]))  # truth that augmentation blurred
    assert float(half.result()) == pytest.approx(2 * 1 / (1 + 2))


@pytest.mark.parametrize(
    ("truth", "predicted", "dice"), [([0, 0], [0, 0], 1), ([0, 0], [1, 0], 0), ([1, 0], [0, 0], 0)]
)
def test_nothing_there_and_nothing_found_is_right(truth, predicted, dice):
    metric = RegionDice(0, "dice")
    metric.update_state(maps(truth), maps(predicted))
    assert float(metric.result()) == dice


def test_each_structure_has_its_channel_and_name():
    liver, tumor = dice_metrics(("liver", "tumor"))
    assert (liver.name, tumor.name) == ("liver_dice", "tumor_dice")
    for metric in (liver, tumor):
        metric.update_state(maps([1, 1, 1], [0, 0, 1]), maps([1, 1, 0], [1, 0, 1]))
    assert float(liver.result()) == pytest.approx(4 / 5) and float(tumor.result()) == pytest.approx(2 / 3)


def test_float16_pictures_are_counted_past_its_largest_number():
    truth = np.ones((4, 256, 256, 1), np.float16)  # 262 144 pixels, float16 ends at 65 504
    metric = RegionDice(0, "dice")
    metric.update_state(truth, truth)
    assert float(metric.result()) == 1
