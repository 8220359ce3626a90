"""Errors sorted: system B's two classes counted by hand, and what the fast count says of the same."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from livseg_lib.evaluation.error_causes import (
    add_causes,
    contrast_class,
    count_bright_textures,
    count_causes,
    count_classes,
    count_fusions,
    missed_by_contrast,
    volume_found,
)
from livseg_lib.evaluation.errors import OBJECT_FEATURES, TrueCase, find_errors
from livseg_lib.evaluation.lesions import lesion_overlap

DEFAULTS = {"is_beside_tumor": False, "is_really": "liver", "neighbour": "none", "outside_share": 0.0}


def objects(*rows: dict) -> pd.DataFrame:
    filled = [{name: DEFAULTS.get(name, 10.0) for name in OBJECT_FEATURES} | row for row in rows]
    return pd.DataFrame(filled)


def invented(above_liver_hu: float, sd_hu: float, **others) -> dict:
    return {"error": "false positive", "above_liver_hu": above_liver_hu, "sd_hu": sd_hu, **others}


def missed(contrast_hu: float, **others) -> dict:
    return {"error": "false negative", "contrast_hu": contrast_hu, **others}


def test_system_bs_classes_take_edges_as_said():
    rows = [invented(20.0, 30.1), invented(19.9, 50), invented(40, 30.0), invented(np.nan, np.nan)]
    rows += [missed(-19.9), missed(20.0), missed(np.nan), missed(19.9, above_liver_hu=40.0, sd_hu=40.0)]
    classes = list(add_causes(objects(*rows)).error_class)
    assert classes[:4] == ["bright texture", "other", "other", "undefined"]
    assert classes[4:] == ["low contrast", "other", "undefined", "low contrast"]


def test_place_and_size_in_words():
    rows = [
        invented(0, 0, border_distance_mm=5.1, longest_diameter_mm=9.9),
        invented(0, 0, border_distance_mm=5.0, longest_diameter_mm=10.0),
        invented(0, 0, outside_share=0.5, border_distance_mm=0.0, longest_diameter_mm=50.0),
        invented(0, 0, outside_share=0.51, border_distance_mm=0.0, longest_diameter_mm=51.0),
        invented(0, 0, border_distance_mm=np.nan, longest_diameter_mm=np.nan, is_beside_tumor=None),
    ]
    table = add_causes(objects(*rows, invented(0, 0, outside_share=0.01)))
    assert table.place[5] == "across its border"
    contrast = contrast_class(pd.Series([0.0, -19.9, 20.0, -39.0, 40.0, -80.0, np.nan]))
    assert list(contrast[:6]) == ["low", "low", "middle", "middle", "high", "high"] and pd.isna(contrast[6])
    assert list(table.place[:4]) == ["deep in the liver", "at its border", "across its border", "outside it"]
    assert list(table["size"][:4]) == ["< 10 mm", "10 to 20 mm", "20 to 50 mm", "> 50 mm"]
    assert table.iloc[4][["place", "size", "beside"]].isna().all()


def test_shares_are_of_all_errors_and_of_the_kind_with_intervals_over_patients():
    errors = [invented(50, 50, patient="a"), invented(0, 0, patient="a"), invented(0, 0, patient="b")]
    errors += [missed(5, patient="b")]
    table = add_causes(objects(*errors)).assign(system="unet")
    tumors = pd.DataFrame(
        {"system": ["unet", "silent"], "patient": "b", "contrast": "low", "hit": [False, True]}
    )
    found = count_classes(table, tumors, seed=1).set_index(["system", "error_class"])
    bright, low = found.loc[("unet", "bright texture")], found.loc[("unet", "low contrast")]
    assert (bright.n, bright.n_of_kind, bright.n_errors) == (1, 3, 4)
    assert (bright.share_of_errors, bright.share_of_kind) == (0.25, pytest.approx(1 / 3))
    assert (bright.share_of_kind_low, bright.share_of_kind_high) == (0, 0.5)  # b alone, a alone
    assert (low.share_of_errors, low.share_of_kind) == (0.25, 1) and np.isnan(low.share_of_kind_low)
    silent = found.loc[("silent", "bright texture")]
    assert silent.n == silent.n_errors == 0 and np.isnan(silent.share_of_errors)


def test_faint_tumours_against_the_others():
    tumors = pd.DataFrame(
        {
            "system": "unet",
            "patient": list("aabbb"),
            "contrast": ["low", "low", "middle", "high", None],
            "hit": [True, False, True, False, False],
        }
    )
    row = missed_by_contrast(tumors, seed=1).iloc[0]
    assert (row.n_low_contrast, row.n_other, row.n_undefined) == (2, 2, 1)
    assert (row.missed_low_contrast, row.missed_other) == (0.5, 0.5)


def test_causes_add_up_and_undefined_ones_are_counted():
    errors = [invented(50, 50, is_really="cyst"), invented(0, 0, is_really="cyst"), invented(np.nan, np.nan)]
    table = add_causes(objects(*errors)).assign(system="unet", patient=["a", "b", "b"], neighbour=None)
    counts = count_causes(table, seed=1)
    assert (counts.groupby(["error", "cause"]).n.sum() == 3).all()
    really = counts[counts.cause == "is_really"].set_index("value")
    assert really.n.to_dict() == {"cyst": 2, "liver": 1} and really.share["cyst"] == pytest.approx(2 / 3)
    brightness = counts[counts.cause == "brightness"].set_index("value").n.to_dict()
    assert brightness == {"bright": 1, "not bright": 1, "undefined": 1}
    assert "neighbour" not in set(counts.cause)  # undefined for all


def test_diffuse_tumours_against_sharp_ones():
    tumors = pd.DataFrame(
        {
            "system": "unet",
            "patient": list("aabbb"),
            "edge": ["diffuse", "sharp", "diffuse", "sharp", "mixed"],
            "hit": [True, True, False, True, True],
            "found_share": [0.4, 0.8, 0.0, 0.6, 0.1],
        }
    )
    found = volume_found(tumors, seed=1).set_index("edge")
    assert found.n_tumors.to_dict() == {"diffuse": 2, "sharp": 2} and found.hit_rate["diffuse"] == 0.5
    assert found.volume_found["diffuse"] == 0.4 and found.volume_found["sharp"] == pytest.approx(0.7)


def test_fusions_are_counted_on_both_sides():
    tumors = pd.DataFrame(
        {
            "system": "unet",
            "patient": "a",
            "is_fused": [True, True, False],
            "is_beside_tumor": [True, True, None],
            "pieces": [1, 1, 2],
            "painted": [1, 2, 1],
        }
    )
    patients = pd.DataFrame({"system": ["unet", "unet", "manet"], "fusing": [1, 0, 5]})
    row = count_fusions(tumors, patients, seed=1).iloc[0]
    assert (row.n_fused, row.n_beside, row.n_fusing, row.n_split, row.n_touching) == (2, 2, 1, 1, 1)
    assert np.isnan(count_fusions(tumors.assign(painted=np.nan), patients, seed=1).n_touching[0])


def test_the_fast_count_of_bright_textures_says_what_the_objects_say():
    rng = np.random.default_rng(3)
    shape = (6, 40, 40)
    truth = np.ones(shape, np.uint8)
    truth[2:4, 2:6, 2:6] = 2
    hu = rng.normal(100, 8, shape)
    prediction = np.zeros(shape, np.uint8)
    for column, (mean, sd) in enumerate(((160, 60), (160, 5), (100, 60), (40, 60)), start=1):
        place = np.s_[1:5, 20:28, 8 * column : 8 * column + 6]
        prediction[place] = 2
        hu[place] = rng.normal(mean, sd, hu[place].shape)
    prediction[2:4, 3:6, 3:6] = 2  # of the true tumour, which does not count
    hu[2:4, 2:6, 2:6] = rng.normal(200, 80, (2, 4, 4))
    hu = hu.astype(np.int16)
    case = TrueCase(truth, (3.0, 1.0, 1.0), hu)
    slow = (add_causes(find_errors(prediction, case).objects).error_class == "bright texture").sum()
    overlap = lesion_overlap(prediction == 2, truth == 2)
    assert count_bright_textures(overlap, hu, case.liver_hu) == slow == 1
    nothing = lesion_overlap(np.zeros(shape, bool), truth == 2)
    assert count_bright_textures(nothing, hu, case.liver_hu) == 0
