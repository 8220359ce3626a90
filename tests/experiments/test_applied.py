"""Systems on a scan of one's own: what is told of their labels, and which systems there are."""

from __future__ import annotations

import numpy as np
import pandas as pd

from livseg_lib.datasets.case import Case
from livseg_lib.inference.cascade import Cascade, Step
from livseg_lib.studies.applied import apply_systems, describe_labels, systems_of_run
from livseg_lib.volumes import Volume, load_prediction

SPACING = (10.0, 1.0, 1.0)  # a voxel is a hundredth of a millilitre


def scan() -> tuple[Volume, np.ndarray]:
    labels = np.zeros((3, 20, 20), np.uint8)
    labels[1, 5:15, 5:15] = 1
    labels[1, 6:8, 6:8], labels[1, 12, 12] = 2, 2
    hu = np.array([-50, 100, 40], np.int16)[labels]
    return Volume(hu, SPACING), labels


def test_volumes_in_ml_hu_and_tumours_are_those_inside_the_outlines():
    volume, labels = scan()
    told = describe_labels(labels, volume)
    assert np.isclose(told["liver_ml"], 1.0) and np.isclose(told["tumor_ml"], 0.05)
    assert np.isclose(told["liver_mean_hu"], 97.0) and told["tumor_mean_hu"] == 40.0
    assert told["tumor_deviation_hu"] == 0.0 and told["tumors"] == 2


def test_of_nothing_there_is_no_mean():
    volume, labels = scan()
    told = describe_labels(np.zeros_like(labels), volume)
    assert told["liver_ml"] == 0 and np.isnan(told["liver_mean_hu"]) and told["tumors"] == 0


def test_each_system_leaves_its_mask(tmp_path):
    volume, labels = scan()
    knows = Cascade("knows", ("liver", "tumor"), (Step("all", lambda *_: labels),), 0)
    blind = Cascade("blind", ("liver",), (Step("none", lambda *_: np.zeros_like(labels)),), 0)
    case = Case("me", "me", (), lambda: volume)
    found = list(apply_systems({"knows": knows, "blind": blind}, case, volume, None, tmp_path))
    assert [row["outlined_by"] for row, _ in found] == ["knows", "blind"]
    np.testing.assert_array_equal(load_prediction(volume, tmp_path / "knows", "me"), labels)
    assert not load_prediction(volume, tmp_path / "blind", "me").any()


def test_only_trained_systems_that_outline_something_are_tried(tmp_path):
    rows = [
        ("slice_sorter", "slices", "patient"),
        ("threshold", "liver", "patient"),
        ("unet", "liver", "patient"),
        ("unet", "tumor", "patient"),
        ("unet_audit", "tumor", "slice"),
    ]
    for name in ("slice_sorter", "unet", "unet_audit"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.json").touch()
    table = pd.DataFrame(rows, columns=["system", "target", "split_by"])
    assert systems_of_run(table, tmp_path) == ["unet"]
